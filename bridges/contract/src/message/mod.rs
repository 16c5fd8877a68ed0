//! What people say: a closed set of kinds, with who said it, when, and in relation to what.

mod absent;
mod body;
mod change;
mod media;
mod place;
mod relation;
mod tally;

use crate::{PersonId, PictureId, Text, Timestamp, Trail};

pub use self::{
    absent::{Absence, Absent},
    body::{Body, Form, Mention},
    change::Change,
    media::{Dimensions, FileName, Media, MediaType, Sort, Thumbnail, Waveform},
    place::{Location, Poll},
    relation::{Edit, Quote, Reaction, Target, is_standard},
    tally::Tally,
};

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
    pub reply_to: Option<Target>,
    /// In the thread that begins with what.
    pub thread: Option<Target>,
    /// Which bridges carried it before.
    pub trail: Trail,
    /// What a reader must be told about how it came.
    pub caveats: Caveats,
    /// Which picture its author has, if they have one.
    pub portrait: Option<PictureId>,
}

/// Who said it. Identity rests on `id` alone; a name is only what they call themselves.
#[derive(Debug, PartialEq, Eq)]
pub struct Author {
    /// As the network proves it.
    pub id: PersonId,
    /// What they call themselves, if they do.
    pub name: Option<Text>,
}

/// The kinds of message. What a transport can't read arrives as [`Kind::Unsupported`] and is told, not dropped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Ordinary words.
    Text(Body),
    /// An action: "/me waves".
    Emote(Body),
    /// Words of a machine, which no bot may answer.
    Notice(Body),
    /// New words for an earlier message of the same author.
    Edit(Box<Edit>),
    /// An earlier message is taken back. Why, if anybody said so, never crosses.
    Redaction(Target),
    /// What somebody thinks of an earlier message.
    Reaction(Reaction),
    /// A picture, a recording or any other file.
    File(Box<Media>),
    /// A file that stays behind. What is said of it crosses in words, on every network.
    Absent(Box<Absent>),
    /// A place.
    Location(Location),
    /// A question with answers to choose from.
    Poll(Poll),
    /// Something about the conversation changed.
    Change(Change),
    /// Something that this version does not carry.
    Unsupported {
        /// Which kind of thing, in words from our own fixed list: "a call".
        what: &'static str,
    },
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
        "a contact",
        "an app",
        "a call",
        "the beginning of a call",
        "the end of a call",
        "a live location",
        "news of an app",
        "a pinned message",
        "a message that is not pinned any more",
        "a new description of the conversation",
        "something",
    ];

    /// The earlier message that it changes, takes back or reacts to.
    #[must_use]
    pub fn about(&self) -> Option<&Target> {
        match self {
            Self::Edit(edit) => Some(&edit.of),
            Self::Redaction(of) => Some(of),
            Self::Reaction(reaction) => Some(&reaction.to),
            _ => None,
        }
    }
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
    /// Something that `author` did, in no relation to anything, without trail or caveats.
    #[must_use]
    pub fn of(author: Author, sent_at: Timestamp, kind: Kind) -> Self {
        let (trail, caveats) = Default::default();
        Self { author, sent_at, kind, reply_to: None, thread: None, trail, caveats, portrait: None }
    }

    /// Words of `author`, without reply, trail or caveats.
    #[must_use]
    pub fn text(author: Author, sent_at: Timestamp, words: &str) -> Self {
        Self::of(author, sent_at, Kind::Text(Body::plain(words)))
    }

    /// A machine's words, from the bridge itself.
    #[must_use]
    pub fn notice(sent_at: Timestamp, words: &str) -> Self {
        let author = Author { id: PersonId::new(Author::BRIDGE), name: None };
        Self::of(author, sent_at, Kind::Notice(Body::plain(words)))
    }

    /// The words it has, if it has any: what is said, the new words of an edit, the caption of a file.
    #[must_use]
    pub fn body(&self) -> Option<&Body> {
        match &self.kind {
            Kind::Text(body) | Kind::Emote(body) | Kind::Notice(body) => Some(body),
            Kind::Edit(edit) => Some(&edit.body),
            Kind::File(media) => media.caption.as_ref(),
            Kind::Absent(absent) => absent.caption.as_ref(),
            _ => None,
        }
    }

    /// The earlier message that it changes, takes back or reacts to.
    #[must_use]
    pub fn about(&self) -> Option<&Target> {
        self.kind.about()
    }

    /// The file it has, if it has one.
    #[must_use]
    pub fn media(&self) -> Option<&Media> {
        match &self.kind {
            Kind::File(media) => Some(media),
            _ => None,
        }
    }

    /// Every text in it: they count towards its size.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text> {
        let mut texts: Vec<&Text> = Vec::new();
        match &self.kind {
            Kind::Reaction(reaction) => texts.extend(&reaction.all),
            Kind::File(media) => texts.push(media.name.as_text()),
            Kind::Absent(absent) => texts.push(absent.name.as_text()),
            Kind::Location(location) => texts.extend(&location.description),
            Kind::Poll(poll) => texts.extend(std::iter::once(&poll.question).chain(&poll.answers)),
            Kind::Change(Change::Renamed(name)) => texts.push(name),
            _ => {}
        }
        let targets = [self.reply_to.as_ref(), self.thread.as_ref(), self.about()];
        texts
            .extend(targets.into_iter().flatten().filter_map(|target| target.quote.as_ref()).map(|quote| &quote.words));
        texts.extend(self.body().into_iter().flat_map(|body| std::iter::once(&body.plain).chain(&body.html)));
        texts.into_iter()
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

    pub(crate) fn copy(&self) -> Self {
        Self { id: self.id.clone(), name: self.name.as_ref().map(Text::copy) }
    }
}
