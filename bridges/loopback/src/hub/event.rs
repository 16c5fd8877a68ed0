//! What the network's own events look like, before `translate` makes them ours.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sealbridge_contract::{
    Author, ConversationId, DeliveryError, DeliveryId, PersonId, PictureId, RemoteId, SenderTrust, Signal, Text,
    Timestamp, Trail,
    inbox::{Echo, Once},
};
use serde::{Deserialize, Serialize};

use super::{How, More};

/// What the server says of a conversation's encryption. Not to be believed once it was pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing yet.
    Nothing,
    /// It is encrypted.
    Encrypted,
    /// It is not.
    Plain,
}

/// What is inside the, played, ciphertext.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) how: How,
    pub(crate) plain: Text,
    pub(crate) html: Option<Text>,
    pub(crate) name: Option<Text>,
    pub(crate) reply_to: Option<RemoteId>,
    pub(crate) trail: Trail,
    pub(crate) more: Box<More>,
}

impl Content {
    /// Another copy, for another reader.
    pub(crate) fn copy(&self) -> Self {
        let again = |text: &Text| Text::new(text.as_str());
        Self {
            how: self.how,
            plain: again(&self.plain),
            html: self.html.as_ref().map(again),
            name: self.name.as_ref().map(again),
            reply_to: self.reply_to.clone(),
            trail: self.trail.clone(),
            more: self.more.clone(),
        }
    }
}

/// Whether our account can read a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    Now,
    WithKey(String),
    Untrusted,
}

/// One event in an account's log.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: RemoteId,
    pub(crate) conversation: ConversationId,
    pub(crate) sender: PersonId,
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Said { content: Content, encrypted: bool, readable: Readable, trust: SenderTrust, once: Option<Once> },
    Parcel(Bytes),
    Key(String),
    Signal(Signal),
    Joined(Says),
    Encryption(Says),
    Replaced,
    Left,
}

/// Bytes of a parcel.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

/// How far an account has read. Kept in its own store, committed with what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) said: u64,
    pub(crate) echoes: u64,
}

/// One answer of the network.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    pub(crate) items: Vec<Item>,
    pub(crate) echoes: Vec<Echo>,
    pub(crate) cursor: Cursor,
}

#[derive(Debug)]
pub(crate) enum Item {
    Event(Arc<Event>),
    /// Events between `until` and `from`, both exclusive, are left out here and can be read backwards.
    Gap {
        conversation: ConversationId,
        from: u64,
        until: u64,
    },
}

impl Item {
    pub(crate) fn event(&self) -> Option<&Arc<Event>> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap { .. } => None,
        }
    }
}

/// What is read of a gap, newest first.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) next: Option<u64>,
}

/// A delivery on its way to the network.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) conversation: ConversationId,
    pub(crate) delivery: DeliveryId,
    pub(crate) cargo: Cargo,
}

#[derive(Debug)]
pub(crate) enum Cargo {
    Words(Content),
    Parcel(Bytes),
}

/// The network as one account sees it.
#[async_trait]
pub(crate) trait Server: Send + Sync {
    /// What comes after `cursor`: waits until there is something, if `wait`.
    async fn poll(&self, cursor: Cursor, most: usize, wait: bool) -> std::io::Result<Polled>;
    /// The network may forget everything up to `cursor`.
    fn acknowledge(&self, cursor: Cursor);
    /// Reads a gap backwards.
    fn read_back(&self, conversation: &ConversationId, from: u64, until: u64, most: usize) -> Page;
    /// The network may forget what was in a gap.
    fn gap_closed(&self, conversation: &ConversationId, from: u64, until: u64);
    /// Takes a delivery.
    async fn put(&self, put: Put) -> Result<RemoteId, DeliveryError>;
    /// Looks for a delivery.
    async fn find(&self, delivery: DeliveryId) -> Result<Option<RemoteId>, DeliveryError>;
    /// Opens a direct conversation, or gives the one that exists.
    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError>;
    /// What people call a conversation, and how many are in it.
    fn about(&self, conversation: &ConversationId) -> (Option<String>, usize);
    /// Who is in a conversation, ourselves included. `None`: a folder has no people.
    fn people(&self, _conversation: &ConversationId) -> Option<Vec<Author>> {
        None
    }
    /// How much somebody may do in a conversation.
    fn standing(&self, _conversation: &ConversationId, _person: &PersonId) -> Option<i64> {
        None
    }
    /// A picture that somebody has now.
    fn picture(&self, of: &PictureId) -> Option<Vec<u8>>;
    /// Whether there is such a person.
    fn knows(&self, person: &PersonId) -> bool;
    /// Waits until a person asks to compare identities.
    async fn asked_to_compare(&self) -> PersonId;
    /// Identities were compared, and are the same: what waited for it can be read.
    fn compared(&self, with: &PersonId);
    /// Tells people what somebody does just now.
    fn signal(&self, conversation: &ConversationId, signal: &Signal);
    /// Who we are.
    fn identity(&self) -> PersonId;
}
