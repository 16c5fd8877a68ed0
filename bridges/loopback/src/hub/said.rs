//! What people say, and what they hear.

use std::fmt;

use sealbridge_contract::{AccountName, ConversationId, DeliveryId, RemoteId, SenderTrust, Text, Timestamp, Trail};

use super::{Content, How, More, Readable};

/// A message that an account of the bridge brought.
#[derive(Debug)]
pub struct Heard {
    /// What the network calls it.
    pub id: RemoteId,
    /// Where.
    pub conversation: ConversationId,
    /// Which delivery it was.
    pub delivery: DeliveryId,
    /// Which account brought it.
    pub account: AccountName,
    /// Under which name it appears, if under another than the account's own.
    pub author: Option<Text>,
    /// Its words.
    pub words: Text,
    /// The same, formatted.
    pub html: Option<Text>,
    /// How it is said.
    pub how: How,
    /// What it answers.
    pub reply_to: Option<RemoteId>,
    /// Which bridges carried it.
    pub trail: Trail,
    /// When.
    pub at: Timestamp,
    /// Whatever else there is.
    pub more: More,
}

/// Bytes that a carrier brought.
#[derive(Clone)]
pub struct ParcelSeen {
    /// What the network calls it.
    pub id: RemoteId,
    /// Where.
    pub conversation: ConversationId,
    /// Which delivery it was.
    pub delivery: DeliveryId,
    /// As the network keeps them.
    pub bytes: Vec<u8>,
}

/// Something to be said.
#[derive(Debug)]
pub struct Saying {
    pub(super) content: Content,
    pub(super) encrypted: bool,
    pub(super) readable: Readable,
    pub(super) trust: SenderTrust,
}

impl Saying {
    /// Ordinary words.
    #[must_use]
    pub fn words(words: &str) -> Self {
        let content = Content { plain: words.into(), ..Content::default() };
        Self { content, encrypted: true, readable: Readable::Now, trust: SenderTrust::Proven }
    }

    /// Said in this way.
    #[must_use]
    pub fn how(mut self, how: How) -> Self {
        self.content.how = how;
        self
    }

    /// With formatting.
    #[must_use]
    pub fn html(mut self, html: &str) -> Self {
        self.content.html = Some(html.into());
        self
    }

    /// In answer to a message.
    #[must_use]
    pub fn reply_to(mut self, id: RemoteId) -> Self {
        self.content.reply_to = Some(id);
        self
    }

    /// With marks of bridges that carried it.
    #[must_use]
    pub fn trail(mut self, trail: Trail) -> Self {
        self.content.trail = trail;
        self
    }

    /// With whatever else there is.
    #[must_use]
    pub fn more(mut self, more: More) -> Self {
        self.content.more = Box::new(more);
        self
    }

    /// By a sender who is trusted so far.
    #[must_use]
    pub fn trust(mut self, trust: SenderTrust) -> Self {
        self.trust = trust;
        self
    }

    /// In clear, whatever the conversation is.
    #[must_use]
    pub fn in_clear(mut self) -> Self {
        self.encrypted = false;
        self
    }

    /// Not to be read before this key was shared.
    #[must_use]
    pub fn needs_key(mut self, key: &str) -> Self {
        self.readable = Readable::WithKey(key.to_owned());
        self
    }

    /// From a device that the policy does not read, until identities were compared with its owner.
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.readable = Readable::Untrusted;
        self
    }
}

impl fmt::Debug for ParcelSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParcelSeen({}, {} bytes)", self.delivery, self.bytes.len())
    }
}
