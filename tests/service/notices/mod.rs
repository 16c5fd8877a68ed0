//! What no person wrote: words of the operator, of pipes and of programs, into encrypted conversations.

mod alerts;
mod gathered;
mod gathered_there;
mod mail;
mod requests;
mod scene;
mod senders;
mod sending;
mod vigil;
