//! Between an event's content and a message: what is read, and what is written.

mod change;
mod media;
mod place;
mod read;
mod relation;
mod words;
mod write;

pub(crate) use self::{
    change::{name_before, state_change},
    media::{Brought, Files, Taken},
    read::{Needs, Reader},
    relation::{annotated, delivery, replaced},
    write::{MOST_BYTES, MOST_PAYLOAD, Uploads, content},
};

/// The key, inside the ciphertext, of the delivery that an event is.
pub(crate) const DELIVERY: &str = "org.sealbridge.delivery";
/// The key, inside the ciphertext, of the marks of the bridges that carried it.
pub(crate) const TRAIL: &str = "org.sealbridge.trail";
