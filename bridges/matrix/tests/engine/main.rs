//! The engine against a real homeserver, named by `SEALBRIDGE_TEST_HOMESERVER` and `SEALBRIDGE_TEST_SECRET`.

mod conversation;
mod identity;
mod peer;
mod server;
mod verification;
