//! Between an event's content and a message: what is read, and what is written.

mod media;
mod place;
mod read;
mod words;
mod write;

pub(crate) use self::{
    media::{Brought, Files, Taken},
    read::{Needs, Reader, annotated, delivery, replaced, state_change},
    write::{MOST_BYTES, content},
};

/// The key, inside the ciphertext, of the delivery that an event is.
pub(crate) const DELIVERY: &str = "org.sealbridge.delivery";
/// The key, inside the ciphertext, of the marks of the bridges that carried it.
pub(crate) const TRAIL: &str = "org.sealbridge.trail";
