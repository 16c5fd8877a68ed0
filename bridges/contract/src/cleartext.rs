//! The two forms in which a message can be read.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use crate::{Message, PersonId, RemoteId, Timestamp, Trail, message::Caveats};

/// A message that we can read. Held by the journey's own steps; erased on drop; neither printed, serialised nor cloned.
///
/// Its words are out of reach here: only the gate lets them through, as [`Cleared`].
pub struct Cleartext(pub(crate) Message);

impl Cleartext {
    /// Takes what a transport decrypted, or what the bridge itself says.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self(message)
    }

    /// Who said it.
    #[must_use]
    pub fn author(&self) -> &PersonId {
        &self.0.author.id
    }

    /// Whether the bridge itself says it.
    #[must_use]
    pub fn is_from_bridge(&self) -> bool {
        self.0.author.is_bridge()
    }

    /// When, by the network's word.
    #[must_use]
    pub fn sent_at(&self) -> Timestamp {
        self.0.sent_at
    }

    /// What it answers, by its name in the conversation where it was written.
    #[must_use]
    pub fn reply_to(&self) -> Option<&RemoteId> {
        self.0.reply_to.as_ref().map(|reply| &reply.id)
    }

    /// Which bridges carried it.
    #[must_use]
    pub fn trail(&self) -> &Trail {
        &self.0.trail
    }

    /// What a reader must be told about how it came.
    #[must_use]
    pub fn caveats(&self) -> Caveats {
        self.0.caveats
    }

    /// The same message with these caveats.
    #[must_use]
    pub fn with_caveats(mut self, caveats: Caveats) -> Self {
        self.0.caveats = caveats;
        self
    }

    /// How many bytes of words it has, plain and formatted together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.body().map_or(0, |body| body.plain.len() + body.html.as_ref().map_or(0, crate::Text::len))
    }

    /// A hash of the last `tail` bytes of its plain words under a random key that the process forgets, to notice that
    /// the same words go round. `None` if it has fewer.
    #[must_use]
    pub fn tail_hash(&self, key: &RandomState, tail: usize) -> Option<u64> {
        let words = self.0.body()?.plain.as_str().as_bytes();
        Some(key.hash_one(&words[words.len().checked_sub(tail)?..]))
    }

    /// How many bytes of plain words it has.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.0.body().map_or(0, |body| body.plain.len())
    }
}

impl fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleartext(redacted)")
    }
}

/// A message that the gate let through, for the transport it was cleared for and for this one delivery. It borrows, so
/// it can't be queued.
pub struct Cleared<'a>(pub(crate) &'a Message);

impl Cleared<'_> {
    /// The message, to be encrypted for the network.
    #[must_use]
    pub fn message(&self) -> &Message {
        self.0
    }
}

impl fmt::Debug for Cleared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleared(redacted)")
    }
}
