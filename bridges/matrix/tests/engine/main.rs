//! The engine against a real homeserver, named by `SEALBRIDGE_TEST_HOMESERVER` and `SEALBRIDGE_TEST_SECRET`.

mod conversation;
mod crash;
mod faults;
mod identity;
mod peer;
mod proxy;
mod server;
mod trust;
mod verification;
