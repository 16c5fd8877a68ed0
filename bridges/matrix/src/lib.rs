//! The Matrix transport, over our own engine.
//!
//! Read in this order:
//! 1. [`config`]: what the operator can set, and [`Setup`]: logging in.
//! 2. `transport`: what the service sees, and the tasks of a running account.
//! 3. Receiving: `incoming` (the sync loop), `intake` (one answer → one batch), `reading` (one event), `rooms` (what we
//!    know of each room); beside it `gaps`, `latekeys`, `fetch` (files, and what an event is about) and `invites`, each a
//!    task of its own; `prune` forgets what is remembered for a while.
//! 4. Sending: `outgoing`, with `budget` (one allowance, shared fairly), `files`, `deeds` (deletions and reactions, in
//!    clear), `portraits` (how people from elsewhere look), `finding` (was it delivered?), `direct`.
//! 5. `translate` and `profile`: between Matrix's words and ours.
//! 6. [`engine`]: keys, ciphertext and HTTP. Everything that leaves passes it.
//!
//! # What it promises
//! - Nothing is acknowledged to a homeserver before the journal has it: the sync token moves with the commit.
//! - No room event leaves except as ciphertext made for that room, and no key before its readers were looked at.
//! - A room seen encrypted is encrypted for ever here, whatever its homeserver says later.
//! - What a homeserver sends is read without trust: one strange event is one refused event.

mod age;
mod budget;
pub mod config;
mod core;
mod deeds;
mod direct;
mod doubts;
mod doctor;
pub mod engine;
mod ephemeral;
mod event;
#[cfg(test)]
mod fuzz;
mod fetch;
mod files;
mod finding;
mod gaps;
mod incoming;
mod intake;
mod invites;
mod latekeys;
mod notices;
mod outgoing;
mod portraits;
mod profile;
mod prune;
mod readers;
mod reading;
mod register;
mod rooms;
mod session_store;
mod setup;
mod sheet;
mod traffic;
mod translate;
mod transport;
mod verify;

use sealbridge_contract::{AnyTransport, Context, Fatal};

pub use self::{
    config::Settings,
    doctor::way_out,
    session_store::restored,
    setup::{Setup, is_set_up},
    sheet::SHEET,
    transport::{ABILITIES, Matrix},
};

/// Opens the account that [`Setup`] logged in.
///
/// # Errors
/// [`Fatal::Auth`] if nobody has logged in.
pub async fn connect(context: Context, settings: Settings) -> Result<AnyTransport, Fatal> {
    Ok(AnyTransport::EndToEnd(Matrix::connect(context, settings).await?))
}

/// Whether a text can be the id of a person.
#[must_use]
pub fn is_user(id: &str) -> bool {
    ruma::UserId::parse(id).is_ok()
}

/// Whether a text can be the master key of an identity: an Ed25519 key in unpadded base64.
#[must_use]
pub fn is_master_key(key: &str) -> bool {
    matrix_sdk_crypto::vodozemac::Ed25519PublicKey::from_base64(key).is_ok_and(|read| read.to_base64() == key)
}

/// Ways in which a test build leads its own engine to do what it must never do, to see that the egress guard stops it;
/// the last puts the guard to sleep, for the control.
pub const MISLEADING: &[&str] = &["matrix::cleartext", "matrix::stray-key", "matrix::stray-reader", "matrix::no-guard"];

/// Places where how old the stores are is written down, for the test of deaths in between; the last has it written at
/// once rather than after a minute.
pub const AGE_FAILPOINTS: &[&str] = &["age::looked", "age::kept", "age::beside-keys", "age::told", "age::soon"];

/// Every named place of this transport where the recovery suite kills the process.
pub const FAILPOINTS: &[&str] = &[
    "matrix::sync-answered",
    "matrix::crypto-fed",
    "matrix::before-accept",
    "matrix::after-accept",
    "matrix::before-share",
    "matrix::before-put",
    "matrix::after-put",
    "matrix::invite-joined",
];
