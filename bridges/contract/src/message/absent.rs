//! Files that stay behind, while what is said of them crosses.

use serde::{Deserialize, Serialize};

use super::{Body, FileName, Media, MediaType};
use crate::{Text, adapt::bytes};

/// A file whose content is not here, and why.
#[derive(Debug)]
pub struct Absent {
    /// Its name.
    pub name: FileName,
    /// What is in it, by its sender's word.
    pub mime: MediaType,
    /// Words beside it.
    pub caption: Option<Body>,
    /// Why it is not here.
    pub why: Absence,
}

/// Why a file does not cross. Whoever sent it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// It is larger than what is taken.
    TooLarge {
        /// The most that is, in bytes, where that is known.
        most: Option<u64>,
    },
    /// No files go there.
    NotCarried,
    /// The far server refuses it, and does not say that it is too large.
    Refused,
    /// Its hash is another than its sender said: it was changed, or ends early.
    NotAsSaid,
    /// It was sent without encryption.
    NotEncrypted,
    /// Where it is, or how it is encrypted, is said in no form that we know.
    NotUnderstood,
    /// It can't be fetched from where its sender put it.
    NotFetched,
    /// It was here, and what was kept of it can't be used.
    Damaged,
}

impl Absence {
    /// A word for each, without its numbers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotCarried => "not-carried",
            Self::Refused => "refused",
            Self::NotAsSaid => "not-as-said",
            Self::NotEncrypted => "not-encrypted",
            Self::NotUnderstood => "not-understood",
            Self::NotFetched => "not-fetched",
            Self::Damaged => "damaged",
        }
    }

    /// What would cross instead, for whoever sent it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TooLarge { most: Some(0) } | Self::NotCarried => "words cross",
            Self::TooLarge { .. } => "a smaller one crosses",
            Self::Refused => "words cross, and perhaps a smaller file, or one of another kind",
            Self::NotEncrypted => "one that is sent with encryption crosses",
            Self::NotUnderstood => "sent by another program it may cross",
            Self::NotAsSaid | Self::NotFetched | Self::Damaged => "sent once more it may cross",
        }
    }
}

/// The reason, for readers and for whoever sent it.
impl std::fmt::Display for Absence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge { most: Some(0) } | Self::NotCarried => "no files are carried there",
            Self::TooLarge { most: Some(most) } => {
                return write!(f, "it is larger than {}, the most that is taken", bytes(*most));
            }
            Self::TooLarge { most: None } => "it is larger than what the far server takes",
            Self::Refused => "the far server refuses it",
            Self::NotAsSaid => "it is not what its sender said, since its hash is another",
            Self::NotEncrypted => "it is not encrypted",
            Self::NotUnderstood => "where it is, or how it is encrypted, is not understood",
            Self::NotFetched => "it can't be fetched",
            Self::Damaged => "what was kept of it can't be used",
        })
    }
}

impl Absent {
    /// What is said in its place.
    pub(crate) fn in_words(&self) -> Body {
        let about = [" (", self.mime.as_str(), ")"].concat();
        line(&self.name, &about, &self.why, self.caption.as_ref())
    }

    pub(crate) fn copy(&self) -> Self {
        let caption = self.caption.as_ref().map(Body::copy);
        Self { name: self.name.copy(), mime: self.mime.clone(), caption, why: self.why }
    }
}

impl Media {
    /// What is said in its place where it does not cross.
    pub(crate) fn in_words_without(&self, why: Absence) -> Body {
        line(&self.name, &self.about(), &why, self.caption.as_ref())
    }

    /// Its type and size.
    pub(crate) fn about(&self) -> String {
        format!(" ({}, {})", self.mime.as_str(), bytes(self.content.size))
    }
}

fn line(name: &FileName, about: &str, why: &Absence, caption: Option<&Body>) -> Body {
    let why = format!(" did not cross: {why}");
    let before = Text::joined(&["📎 ", name.as_str(), about, &why, if caption.is_some() { "\n" } else { "" }]);
    caption.map_or_else(|| Body::plain(before.as_str()), |caption| caption.after(before.as_str()))
}
