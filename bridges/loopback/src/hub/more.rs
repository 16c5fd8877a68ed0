//! What is said beside words.

use std::fmt;

use sealbridge_contract::{PersonId, RemoteId, message::Sort};
use serde::{Deserialize, Serialize};

/// What is said beside words.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct More {
    /// In the thread that begins with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<RemoteId>,
    /// What it changes, takes back or reacts to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<RemoteId>,
    /// Words of what it answers or is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// All emoji of a reaction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emoji: Vec<String>,
    /// Who is called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PersonId>,
    /// The answers of a poll.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// A place, as a `geo:` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Box<SentFile>>,
    /// After how long messages disappear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How its author looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portrait: Option<Vec<u8>>,
}

/// A file, as this network has it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SentFile {
    /// Its name, as its sender wrote it.
    pub name: String,
    /// Its type.
    pub mime: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Width and height.
    pub dimensions: Option<(u32, u32)>,
    /// How long it plays.
    pub milliseconds: Option<u64>,
    /// How loud it is over its time.
    pub waveform: Vec<u16>,
    /// A small picture.
    pub thumbnail: Option<Vec<u8>>,
    /// The hash that its sender says it has, if that is another.
    pub wrong_hash: Option<[u8; 32]>,
}

/// How something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// Ordinary words.
    #[default]
    Text,
    /// "/me waves".
    Emote,
    /// A machine's words.
    Notice,
    /// New words for an earlier message.
    Edit,
    /// An earlier message is taken back.
    Redaction,
    /// Emoji on an earlier message.
    Reaction,
    /// A file, with the words as its caption.
    File(Sort),
    /// A place, with the words as what is there.
    Location,
    /// A question.
    Poll,
    /// Who says it joined.
    Joined,
    /// Who says it left.
    Left,
    /// The words are the conversation's new name.
    Renamed,
    /// Messages disappear, or no longer.
    Timer,
    /// Something that the contract does not carry: one of [`Kind::UNSUPPORTED`](sealbridge_contract::Kind::UNSUPPORTED).
    Unsupported(&'static str),
}

const NAMES: &[(How, &str)] = &[
    (How::Emote, "emote"),
    (How::Notice, "notice"),
    (How::Edit, "edit"),
    (How::Redaction, "redaction"),
    (How::Reaction, "reaction"),
    (How::File(Sort::Image), "image"),
    (How::File(Sort::Video), "video"),
    (How::File(Sort::Audio), "audio"),
    (How::File(Sort::Voice), "voice"),
    (How::File(Sort::File), "file"),
    (How::File(Sort::Sticker), "sticker"),
    (How::Location, "location"),
    (How::Poll, "poll"),
    (How::Joined, "joined"),
    (How::Left, "left"),
    (How::Renamed, "renamed"),
    (How::Timer, "timer"),
];

impl How {
    /// Its name in a line; none for ordinary words.
    #[must_use]
    pub fn name(self) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Unsupported(what) => Some(what.to_owned()),
            how => NAMES.iter().find(|(known, _)| *known == how).map(|(_, name)| (*name).to_owned()),
        }
    }

    /// The other way round.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self::Text };
        let known = NAMES.iter().find(|(_, known)| *known == name).map(|(how, _)| *how);
        known.unwrap_or_else(|| {
            let unsupported = sealbridge_contract::Kind::UNSUPPORTED.iter().find(|known| **known == name);
            Self::Unsupported(unsupported.copied().unwrap_or("something"))
        })
    }
}

impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("More").field("about", &self.about).finish_non_exhaustive()
    }
}

impl fmt::Debug for SentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentFile({} bytes)", self.content.len())
    }
}
