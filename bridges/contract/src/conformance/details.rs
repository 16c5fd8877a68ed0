//! What is said, heard and accepted beside words.

use std::fmt;

use super::{How, MemorySpool};
use crate::{
    Kind, Message, PersonId, RemoteId, Text,
    message::{Media, Sort},
};

/// What is said beside words.
#[derive(Clone, Default, PartialEq)]
pub struct Details {
    /// In the thread that begins with this.
    pub thread: Option<RemoteId>,
    /// What it changes, takes back or reacts to.
    pub about: Option<RemoteId>,
    /// All emoji of a reaction.
    pub emoji: Vec<String>,
    /// Who is called.
    pub calls: Vec<PersonId>,
    /// The answers of a poll, whose question is the words.
    pub answers: Vec<String>,
    /// A place, as a `geo:` address; the words say what is there.
    pub place: Option<String>,
    /// A file, whose caption is the words.
    pub file: Option<Sample>,
    /// How its author looks, if that is shown.
    pub portrait: Option<Vec<u8>>,
}

/// A file.
#[derive(Clone, Default, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its type.
    pub mime: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Width and height.
    pub dimensions: Option<(u32, u32)>,
    /// How long it plays, in milliseconds.
    pub milliseconds: Option<u64>,
    /// Whether its sender says another hash than it has.
    pub wrong_hash: bool,
}

impl How {
    /// Every one, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::Text,
        Self::Emote,
        Self::Notice,
        Self::Edit,
        Self::Redaction,
        Self::Reaction,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Voice,
        Self::File,
        Self::Sticker,
        Self::Location,
        Self::Poll,
    ];

    /// What a file is to its readers, if it is one.
    #[must_use]
    pub fn sort(self) -> Option<Sort> {
        Some(match self {
            Self::Image => Sort::Image,
            Self::Video => Sort::Video,
            Self::Audio => Sort::Audio,
            Self::Voice => Sort::Voice,
            Self::File => Sort::File,
            Self::Sticker => Sort::Sticker,
            _ => return None,
        })
    }

    /// The other way round.
    #[must_use]
    pub fn of_sort(sort: Sort) -> Self {
        match sort {
            Sort::Image => Self::Image,
            Sort::Video => Self::Video,
            Sort::Audio => Self::Audio,
            Sort::Voice => Self::Voice,
            Sort::File => Self::File,
            Sort::Sticker => Self::Sticker,
        }
    }

    pub(super) fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Text(_) => Self::Text,
            Kind::Emote(_) => Self::Emote,
            Kind::Notice(_) => Self::Notice,
            Kind::Edit(_) => Self::Edit,
            Kind::Redaction(_) => Self::Redaction,
            Kind::Reaction(_) => Self::Reaction,
            Kind::File(media) => Self::of_sort(media.sort),
            Kind::Location(_) => Self::Location,
            Kind::Poll(_) => Self::Poll,
            Kind::Absent(_) | Kind::Change(_) | Kind::Unsupported { .. } => return None,
        })
    }
}

/// The words of a message: what is said, a caption, a question, a description.
pub(super) fn words(message: &Message) -> &str {
    match &message.kind {
        Kind::Poll(poll) => poll.question.as_str(),
        Kind::Location(location) => location.description.as_ref().map_or("", Text::as_str),
        _ => message.body().map_or("", |body| body.plain.as_str()),
    }
}

impl Details {
    pub(super) fn of(message: &Message, spool: &MemorySpool) -> Self {
        let own = |texts: &[Text]| texts.iter().map(|text| text.as_str().to_owned()).collect();
        let mut details = Self {
            thread: message.thread.as_ref().map(|target| target.id.clone()),
            about: message.about().map(|target| target.id.clone()),
            calls: message.body().into_iter().flat_map(|body| &body.mentions).map(|m| m.person.clone()).collect(),
            ..Self::default()
        };
        match &message.kind {
            Kind::Reaction(reaction) => details.emoji = own(&reaction.all),
            Kind::Poll(poll) => details.answers = own(&poll.answers),
            Kind::Location(location) => details.place = Some(location.uri().as_str().to_owned()),
            Kind::File(media) => details.file = Some(Sample::of(media, spool)),
            _ => {}
        }
        details
    }
}

impl Sample {
    fn of(media: &Media, spool: &MemorySpool) -> Self {
        Self {
            name: media.name.as_str().to_owned(),
            mime: media.mime.as_str().to_owned(),
            content: spool.content(media.content.id).unwrap_or_default(),
            dimensions: media.dimensions.map(|dimensions| (dimensions.width, dimensions.height)),
            milliseconds: media.duration.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
            wrong_hash: false,
        }
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details").field("about", &self.about).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sample({} bytes)", self.content.len())
    }
}
