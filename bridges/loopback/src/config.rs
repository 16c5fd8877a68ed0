//! What the operator, here always a test, writes under `[accounts.NAME]`.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use sealbridge_contract::{Abilities, Ability, Deduplication, Fatal, Verb};
use serde::{Deserialize, Serialize};

/// An account's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The hub of this process to connect to: the same name is the same hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// A folder that stands for the server, so that another process can speak and listen. Holds words in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Must be true with `directory`.
    pub i_know_this_is_not_encrypted_on_disk: bool,
    /// Which kind of transport.
    pub kind: NetworkKind,
    /// Conversations that exist, encrypted, from the start, with the account in them.
    pub conversations: Vec<String>,
    /// What the network does with a delivery that it has already.
    pub deduplication: Deduplicates,
    /// How long it remembers, in seconds, with `deduplication = "for_a_while"`.
    pub remembers_seconds: u64,
    /// Whether deliveries in doubt can be looked for.
    pub finds: bool,
    /// What can be carried.
    pub datasheet: Datasheet,
    /// The most bytes of words in one message.
    pub most_bytes: usize,
    /// The most bytes of one file.
    pub most_file: u64,
    /// How many events one answer of the network has at most.
    pub batch: usize,
    /// How long an attempt may take before it is in doubt.
    pub timeout_ms: u64,
    /// How long each delivery takes.
    pub delay_ms: u64,
    /// Deliveries a second that the network takes; no limit if zero.
    pub rate_per_second: f64,
    /// Deliveries that it takes at once before `rate_per_second` counts.
    pub burst: u32,
    /// Every so many deliveries, the network takes one and its answer is lost; never if zero.
    pub lose_every: u64,
}

/// Which kind of transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// With its own end-to-end encryption.
    #[default]
    EndToEnd,
    /// Somebody else's server.
    Carrier,
}

/// What the network does with a delivery that it has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deduplicates {
    /// Shows it once.
    #[default]
    Always,
    /// Shows it once, for as long as it remembers.
    ForAWhile,
    /// Shows it twice.
    Never,
}

/// What can be carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Datasheet {
    /// Everything.
    #[default]
    Full,
    /// Plain words alone, as on a network of the nineties.
    Plain,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hub: None,
            directory: None,
            i_know_this_is_not_encrypted_on_disk: false,
            kind: NetworkKind::default(),
            conversations: Vec::new(),
            deduplication: Deduplicates::default(),
            remembers_seconds: 24 * 60 * 60,
            finds: true,
            datasheet: Datasheet::default(),
            most_bytes: 64 * 1024,
            most_file: 16 << 20,
            batch: 256,
            timeout_ms: 10_000,
            delay_ms: 0,
            rate_per_second: 0.0,
            burst: 10,
            lose_every: 0,
        }
    }
}

impl Settings {
    /// Settings for a hub of this process.
    pub fn hub(name: impl Into<String>) -> Self {
        Self { hub: Some(name.into()), ..Self::default() }
    }

    /// Settings for a folder that another process can look into.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        let directory = Some(path.into());
        Self { directory, i_know_this_is_not_encrypted_on_disk: true, ..Self::default() }
    }

    /// Says what can't be right, without asking anybody.
    ///
    /// # Errors
    /// [`Fatal::Policy`], in words for the operator.
    pub fn check(&self) -> Result<(), Fatal> {
        let wrong = match (&self.hub, &self.directory) {
            (Some(_), Some(_)) => "`hub` and `directory` exclude each other",
            (None, None) => "one of `hub` and `directory` is needed",
            (None, Some(_)) if !self.i_know_this_is_not_encrypted_on_disk => {
                "`directory` keeps words in clear and is for tests; say `i_know_this_is_not_encrypted_on_disk = true`"
            }
            _ if self.batch == 0 => "`batch` is at least 1",
            _ if self.rate_per_second < 0.0 || !self.rate_per_second.is_finite() => {
                "`rate_per_second` is a number from zero up"
            }
            _ => return Ok(()),
        };
        Err(Fatal::Policy(wrong.to_owned()))
    }

    pub(crate) fn remembers(&self) -> Deduplication {
        match self.deduplication {
            Deduplicates::Always => Deduplication::Always,
            Deduplicates::ForAWhile => Deduplication::For(Duration::from_secs(self.remembers_seconds)),
            Deduplicates::Never => Deduplication::Never,
        }
    }

    /// What the network that they describe can do.
    #[must_use]
    pub fn abilities(&self) -> Abilities {
        Abilities {
            network: "loopback",
            verbs: match (self.kind, self.datasheet) {
                (NetworkKind::Carrier, Datasheet::Full) => SEALED,
                (_, Datasheet::Full) => FULL,
                (_, Datasheet::Plain) => PLAIN,
            },
            deduplication: self.remembers(),
            finds: self.finds,
            carries_marks: true,
            most_bytes: self.most_bytes,
            most_file: self.most_file,
            reactions_in_clear: false,
        }
    }
}

const FULL: &[(Verb, Ability)] = &[
    (Verb::Text, Ability::Full),
    (Verb::Formatting, Ability::Full),
    (Verb::Emote, Ability::Full),
    (Verb::Notice, Ability::Full),
    (Verb::Mention, Ability::Within("people of this network can be called, and nobody else")),
    (Verb::Reply, Ability::Full),
    (Verb::Thread, Ability::Full),
    (Verb::Edit, Ability::Full),
    (Verb::Redaction, Ability::Full),
    (Verb::Reaction, Ability::Full),
    (Verb::Image, Ability::Full),
    (Verb::Video, Ability::Full),
    (Verb::Audio, Ability::Full),
    (Verb::Voice, Ability::Full),
    (Verb::File, Ability::Full),
    (Verb::Sticker, Ability::Full),
    (Verb::Location, Ability::Full),
    (Verb::Poll, Ability::Full),
    (Verb::Portrait, Ability::Full),
    (Verb::Typing, Ability::Full),
    (Verb::Receipt, Ability::Full),
];

/// A sealed parcel is one piece, so there is no room for files in it.
const SEALED: &[(Verb, Ability)] = &[
    (Verb::Text, Ability::Full),
    (Verb::Formatting, Ability::Full),
    (Verb::Emote, Ability::Full),
    (Verb::Notice, Ability::Full),
    (Verb::Mention, Ability::Full),
    (Verb::Reply, Ability::Full),
    (Verb::Thread, Ability::Full),
    (Verb::Edit, Ability::Full),
    (Verb::Redaction, Ability::Full),
    (Verb::Reaction, Ability::Full),
    (Verb::File, Ability::Degrade),
    (Verb::Location, Ability::Full),
    (Verb::Poll, Ability::Full),
];

/// One of each kind, so that whoever reads the table is seen to follow it.
const PLAIN: &[(Verb, Ability)] = &[
    (Verb::Text, Ability::Full),
    (Verb::Formatting, Ability::Drop),
    (Verb::Emote, Ability::Degrade),
    (Verb::Mention, Ability::Drop),
    (Verb::Reply, Ability::Drop),
    (Verb::Thread, Ability::Drop),
    (Verb::Notice, Ability::Reject),
    (Verb::Reaction, Ability::Drop),
    (Verb::Sticker, Ability::Reject),
];
