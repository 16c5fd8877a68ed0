//! What is no message: gone in a moment, never kept, and lost without harm.

use crate::{PersonId, RemoteId};

/// Something that somebody does, told while it is so. Off unless a link asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Somebody writes, or stopped.
    Typing {
        /// Who.
        person: PersonId,
        /// Whether they write now.
        typing: bool,
    },
    /// Somebody has read everything up to a message.
    Read {
        /// Who.
        person: PersonId,
        /// Up to which message.
        up_to: RemoteId,
    },
}
