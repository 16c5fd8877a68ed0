//! The transport against a real homeserver, and people whose client shares no code with ours.

mod bot;
mod login;
mod losses;
mod refusals;
mod talk;
