//! What a transport can do, as data.

use std::time::Duration;

use serde::Serialize;

/// A thing people do in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// Plain words.
    Text,
    /// Bold, lists, code.
    Formatting,
    /// "/me waves".
    Emote,
    /// Words of a machine.
    Notice,
    /// An answer to a certain message.
    Reply,
}

/// How well a transport carries a [`Verb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "level", content = "how")]
pub enum Ability {
    /// As it was meant.
    Full,
    /// In another form; the text says in which.
    Degrade(&'static str),
    /// Left out, while the message crosses without it.
    Drop,
    /// The message is refused, and its author can find out why.
    Reject,
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
    /// Each verb and how well it is carried. A verb that is missing is rejected.
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
}

impl Abilities {
    /// How well `verb` is carried.
    #[must_use]
    pub fn of(&self, verb: Verb) -> Ability {
        self.verbs.iter().find(|(known, _)| *known == verb).map_or(Ability::Reject, |(_, ability)| *ability)
    }
}
