//! What a transport can do, as data.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Kind, Message,
    message::{Change, Sort},
};

macro_rules! verbs {
    ($($(#[doc = $doc:literal])* $verb:ident, $name:literal, $degraded:expr;)*) => {
        /// A thing people do in a conversation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Verb {
            $($(#[doc = $doc])* $verb,)*
        }

        impl Verb {
            /// Every one, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$verb),*];

            /// What people call it, in the plural.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => $name,)*
                }
            }

            /// How it looks where it is not carried as it is; `None` if there is no other form of it.
            #[must_use]
            pub fn degraded(self) -> Option<&'static str> {
                match self {
                    $(Self::$verb => $degraded,)*
                }
            }
        }
    };
}

verbs! {
    /// Plain words.
    Text, "words", None;
    /// Bold, lists, code.
    Formatting, "formatting", Some("the plain words alone");
    /// "/me waves".
    Emote, "emotes", Some("words after an asterisk");
    /// Words of a machine.
    Notice, "notices", Some("ordinary words");
    /// Somebody is called by name.
    Mention, "mentions", Some("the name stays in the words, and nobody is called");
    /// An answer to a certain message.
    Reply, "replies", Some("a quotation before the words");
    /// A talk beside the talk.
    Thread, "threads", Some("a reply to the message that began the thread");
    /// New words for an earlier message.
    Edit, "edits", Some("a new message, marked as an edit");
    /// An earlier message is taken back.
    Redaction, "deletions", Some("a notice that a message was deleted");
    /// An emoji on an earlier message.
    Reaction, "reactions", Some("encrypted words that name them");
    /// A picture.
    Image, "images", Some("a file");
    /// A film.
    Video, "videos", Some("a file");
    /// Music or another recording.
    Audio, "audio files", Some("a file");
    /// A voice message.
    Voice, "voice messages", Some("an audio file");
    /// A file to be kept.
    File, "files", Some("a line with name, type and size; the content stays away");
    /// A sticker.
    Sticker, "stickers", Some("an image");
    /// A place.
    Location, "locations", Some("words with a geo: address");
    /// A question with answers.
    Poll, "polls", Some("readable words; votes are not carried");
    /// After how long messages disappear.
    Timer, "disappearing timers", Some("an encrypted notice");
    /// Somebody joins or leaves.
    Membership, "joins and leaves", Some("an encrypted notice");
    /// The conversation's name and picture.
    NameAndPicture, "conversation names and pictures", Some("an encrypted notice");
    /// Whatever this version can't read.
    Other, "anything else", Some("a notice that names it");
    /// How its author looks.
    Portrait, "pictures of people", None;
    /// Somebody writes just now.
    Typing, "typing", None;
    /// Somebody has read up to here.
    Receipt, "read receipts", None;
}

impl Verb {
    /// What a message is.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        match &message.kind {
            Kind::Text(_) => Self::Text,
            Kind::Emote(_) => Self::Emote,
            Kind::Notice(_) => Self::Notice,
            Kind::Edit(_) => Self::Edit,
            Kind::Redaction(_) => Self::Redaction,
            Kind::Reaction(_) => Self::Reaction,
            Kind::File(media) => match media.sort {
                Sort::Image => Self::Image,
                Sort::Video => Self::Video,
                Sort::Audio => Self::Audio,
                Sort::Voice => Self::Voice,
                Sort::File => Self::File,
                Sort::Sticker => Self::Sticker,
            },
            Kind::Absent(_) => Self::File,
            Kind::Location(_) => Self::Location,
            Kind::Poll(_) => Self::Poll,
            Kind::Change(Change::Timer(_)) => Self::Timer,
            Kind::Change(Change::Joined(_) | Change::Left(_)) => Self::Membership,
            Kind::Change(Change::Renamed(_) | Change::Picture) => Self::NameAndPicture,
            Kind::Unsupported { .. } => Self::Other,
        }
    }

    /// Whether it is part of a message, which can cross without it.
    #[must_use]
    pub fn is_part(self) -> bool {
        matches!(self, Self::Formatting | Self::Mention | Self::Reply | Self::Thread | Self::Portrait)
    }
}

/// How well a transport carries a [`Verb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "level", content = "how")]
pub enum Ability {
    /// As it was meant.
    Full,
    /// As it was meant, within limits of the network that the sentence names. The transport keeps to them by itself.
    Within(&'static str),
    /// As what it is, but for what the sentence says is lost on the way.
    Partly(&'static str),
    /// In the form that [`Verb::degraded`] names. It is put into that form before the transport gets it.
    Degrade,
    /// Left out. A message crosses without it where it is a part of one.
    Drop,
    /// The message is refused, and its author can find out why.
    Reject,
}

impl Ability {
    /// Whether the transport gets it as it is.
    #[must_use]
    pub fn is_native(self) -> bool {
        matches!(self, Self::Full | Self::Within(_) | Self::Partly(_))
    }
}

/// What happens when the same delivery is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deduplication {
    /// The network shows it twice.
    Never,
    /// The network remembers for this long, then shows it twice.
    For(Duration),
    /// The network, or the far bridge, never shows it twice.
    Always,
}

/// A transport's datasheet.
#[derive(Clone, Debug, Serialize)]
pub struct Abilities {
    /// The network's name in the config: `matrix`.
    pub network: &'static str,
    /// Each verb and how well it is carried. One that is missing is degraded if there is another form of it; words are
    /// rejected then, and pictures of people and signals dropped.
    pub verbs: &'static [(Verb, Ability)],
    /// What happens when the same delivery is sent twice.
    pub deduplication: Deduplication,
    /// Whether a delivery in doubt can be looked for, with `find`.
    pub finds: bool,
    /// Whether a message has a place for marks of bridges that other clients do not show. Without one, a loop is left
    /// to the circuit breaker.
    pub carries_marks: bool,
    /// The most bytes of words in one message.
    pub most_bytes: usize,
    /// The most bytes of one file.
    pub most_file: u64,
    /// Whether a server can read reactions. Then nothing but emoji of Unicode's own list is one; whatever else somebody
    /// reacts with crosses as encrypted words.
    pub reactions_in_clear: bool,
}

impl Abilities {
    /// How well `verb` is carried.
    #[must_use]
    pub fn of(&self, verb: Verb) -> Ability {
        let said = self.verbs.iter().find(|(known, _)| *known == verb).map(|(_, ability)| *ability);
        said.unwrap_or(match verb {
            Verb::Portrait | Verb::Typing | Verb::Receipt => Ability::Drop,
            verb if verb.degraded().is_some() => Ability::Degrade,
            _ => Ability::Reject,
        })
    }
}

/// The table of these datasheets, as Markdown: a line for each verb, a column for each network.
#[must_use]
pub fn table(sheets: &[Abilities]) -> String {
    let names: Vec<_> = sheets.iter().map(|sheet| sheet.network).collect();
    let mut table = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for verb in Verb::ALL {
        let cells: Vec<_> = sheets.iter().map(|sheet| cell(sheet, *verb)).collect();
        table.push_str(&format!("| {} | {} |\n", verb.name(), cells.join(" | ")));
    }
    table
}

fn cell(sheet: &Abilities, verb: Verb) -> String {
    let most = || crate::adapt::bytes(u64::try_from(sheet.most_bytes).unwrap_or(u64::MAX));
    match (sheet.of(verb), verb.degraded()) {
        (Ability::Full, _) if verb == Verb::Text => format!("full: within {}", most()),
        (Ability::Within(limits), _) if verb == Verb::Text => format!("full: within {}; {limits}", most()),
        (Ability::Full, _) => "full".to_owned(),
        (Ability::Within(limits), _) => format!("full: {limits}"),
        (Ability::Partly(lost), _) => format!("partly: {lost}"),
        (Ability::Degrade, Some(how)) => format!("degraded: {how}"),
        (Ability::Degrade, None) | (Ability::Reject, _) => "rejected".to_owned(),
        (Ability::Drop, _) => "dropped".to_owned(),
    }
}

/// What a link does with reactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reactions {
    /// As the network has them.
    #[default]
    Native,
    /// As encrypted words.
    Text,
    /// They don't cross.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verb_that_a_datasheet_does_not_name_is_degraded_where_that_is_possible() {
        let abilities = Abilities {
            network: "test",
            verbs: &[(Verb::Edit, Ability::Full)],
            deduplication: Deduplication::Never,
            finds: false,
            carries_marks: true,
            most_bytes: 1,
            most_file: 0,
            reactions_in_clear: false,
        };
        for (verb, ability) in [
            (Verb::Edit, Ability::Full),
            (Verb::Reaction, Ability::Degrade),
            (Verb::Text, Ability::Reject),
            (Verb::Typing, Ability::Drop),
        ] {
            assert_eq!(abilities.of(verb), ability);
        }
    }
}
