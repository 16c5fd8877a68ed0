//! What no person wrote: words of the operator, of pipes and of programs, into encrypted conversations.

mod alerts;
mod changed;
mod crowded;
mod doors;
mod escalated;
mod folded;
mod gathered;
mod in_clear;
mod kept;
mod real_room;
mod mail;
mod mistyped;
mod paths;
mod quiet_rooms;
mod requests;
mod scene;
mod secrets;
mod senders;
mod sending;
mod several;
mod signed;
mod vigil;
mod weighed;
