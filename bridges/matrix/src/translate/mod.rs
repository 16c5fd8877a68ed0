//! Between an event's content and a message: what is read, and what is written.

mod read;
mod write;

pub(crate) use self::{
    read::{Reader, delivery},
    write::{MOST_BYTES, content},
};

/// The key, inside the ciphertext, of the delivery that an event is.
pub(crate) const DELIVERY: &str = "org.sealbridge.delivery";
/// The key, inside the ciphertext, of the marks of the bridges that carried it.
pub(crate) const TRAIL: &str = "org.sealbridge.trail";
