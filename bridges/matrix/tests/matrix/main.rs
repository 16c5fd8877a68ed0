//! The transport against a real homeserver, and people with other clients.

mod bot;
mod conformance;
mod doctor;
mod files;
mod forwarded;
mod harness;
mod identities;
mod login;
mod limits;
mod losses;
mod other_library;
mod peer;
mod portraits;
mod readers;
mod refusals;
mod relations;
mod signals;
mod speech;
mod talk;
mod verifying;
