//! The transport against a real homeserver, and people whose client shares no code with ours.

mod bot;
mod conformance;
mod harness;
mod identities;
mod login;
mod limits;
mod losses;
mod refusals;
mod talk;
mod verifying;
