//! The engine against a real homeserver.

mod conversation;
mod crash;
mod faults;
mod identity;
mod peer;
mod proxy;
mod server;
mod trust;
mod verification;
