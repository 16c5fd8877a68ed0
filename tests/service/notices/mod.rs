//! What no person wrote: words of the operator, of pipes and of programs, into encrypted conversations.

mod alerts;
mod doors;
mod escalated;
mod gathered;
mod in_clear;
mod kept;
mod real_room;
mod mail;
mod mistyped;
mod paths;
mod requests;
mod scene;
mod senders;
mod sending;
mod several;
mod signed;
mod vigil;
