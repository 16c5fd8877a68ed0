//! What people say: a closed set of kinds, with who said it, when, and in reply to what.

use crate::{PersonId, RemoteId, Text, Timestamp, Trail};

/// One message as its author meant it.
#[derive(Debug)]
pub struct Message {
    /// Who said it.
    pub author: Author,
    /// When, by the network's word.
    pub sent_at: Timestamp,
    /// What.
    pub kind: Kind,
    /// In reply to what.
    pub reply_to: Option<ReplyTo>,
    /// Which bridges carried it before.
    pub trail: Trail,
    /// What a reader must be told about how it came.
    pub caveats: Caveats,
}

/// Who said it. Identity rests on `id` alone; a name is only what they call themselves.
#[derive(Debug)]
pub struct Author {
    /// As the network proves it.
    pub id: PersonId,
    /// What they call themselves, if they do.
    pub name: Option<Text>,
}

/// The kinds of message. What a transport can't carry yet arrives as [`Kind::Unsupported`] and is told, not dropped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Ordinary words.
    Text(Body),
    /// An action: "/me waves".
    Emote(Body),
    /// Words of a machine, which no bot may answer.
    Notice(Body),
    /// Something that this version does not carry.
    Unsupported {
        /// Which kind of thing, in words from our own fixed list: "an image".
        what: &'static str,
    },
}

/// Words, plain and perhaps formatted.
#[derive(Debug, Default)]
pub struct Body {
    /// Plain text; never empty of meaning, since some networks carry only this.
    pub plain: Text,
    /// The same in Matrix's HTML subset, already sanitised by the transport that received it.
    pub html: Option<Text>,
}

impl Kind {
    /// Every `what` of [`Kind::Unsupported`].
    pub const UNSUPPORTED: &'static [&'static str] = &[
        "an image",
        "a video",
        "a voice or audio message",
        "a file",
        "a sticker",
        "a location",
        "a poll",
        "an edit",
        "a reaction",
        "a deletion",
        "something",
    ];
}

impl Body {
    /// Plain words.
    pub fn plain(words: impl Into<Text>) -> Self {
        Self { plain: words.into(), html: None }
    }
}

/// The message that this one answers.
#[derive(Debug)]
pub struct ReplyTo {
    /// Its name in the conversation where this message was written.
    pub id: RemoteId,
}

/// What a reader must be told about how a message came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// Its key came late: it was written before others that crossed earlier.
    pub late: bool,
    /// Its key came from a backup, so nobody can tell who wrote it.
    pub sender_not_proven: bool,
}

impl Message {
    /// Words of `author`, without reply, trail or caveats.
    #[must_use]
    pub fn text(author: Author, sent_at: Timestamp, words: &str) -> Self {
        Self {
            author,
            sent_at,
            kind: Kind::Text(Body::plain(words)),
            reply_to: None,
            trail: Trail::default(),
            caveats: Caveats::default(),
        }
    }

    /// A machine's words, from the bridge itself.
    #[must_use]
    pub fn notice(sent_at: Timestamp, words: &str) -> Self {
        let author = Author { id: PersonId::new(Author::BRIDGE), name: None };
        Self { kind: Kind::Notice(Body::plain(words)), ..Self::text(author, sent_at, "") }
    }

    /// The words it has, if it has any.
    #[must_use]
    pub fn body(&self) -> Option<&Body> {
        match &self.kind {
            Kind::Text(body) | Kind::Emote(body) | Kind::Notice(body) => Some(body),
            Kind::Unsupported { .. } => None,
        }
    }
}

impl Author {
    /// The id under which the bridge itself speaks. No network can give it to a person: every network's ids have
    /// more to them.
    pub const BRIDGE: &str = "sealbridge";

    /// Whether the bridge itself speaks.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.id.as_str() == Self::BRIDGE
    }
}
