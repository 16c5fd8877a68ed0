//! The form of a message inside our own encryption. Private: nothing outside can serialise a message.
//!
//! What an earlier version wrote is read. What a later one wrote is not guessed at: it stays locked.

mod form;

use std::io;

use self::form::Wire;
use crate::{Message, SecretBytes, Slip};

/// The newest form that this version reads and writes.
const VERSION: u8 = 2;

/// A message as it was written where it came from.
pub(crate) fn encode(message: &Message) -> SecretBytes {
    write(&Wire::of(message))
}

/// A message for a far peer, which knows only the names of the conversation that it goes to.
pub(crate) fn encode_for(message: &Message, slip: &Slip) -> SecretBytes {
    let mut wire = Wire::of(message);
    wire.readdress(slip);
    write(&wire)
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let wire: Wire<'_> = serde_json::from_slice(bytes).ok()?;
    wire.into_message()
}

/// Measured first, so that no half-grown copy of the words is left behind unerased.
fn write(wire: &Wire<'_>) -> SecretBytes {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, wire).expect("a message has only texts and numbers");
    let mut out = Vec::with_capacity(length.0);
    serde_json::to_writer(&mut out, wire).expect("a message has only texts and numbers");
    SecretBytes::new(out)
}

struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
