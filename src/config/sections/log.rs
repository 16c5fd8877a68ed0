//! `[log]`: what the service says of itself. Never words of a message.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the service says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people, or for machines.
    pub format: Format,
    /// How much.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// How much is logged.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What failed.
    Error,
    /// What needs a look.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    /// This level with `more` steps added, as `-v` and `-vv` do.
    #[must_use]
    pub fn louder(self, more: u8) -> Self {
        let all = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        let at = all.iter().position(|level| *level == self).unwrap_or(0) + usize::from(more);
        all[at.min(all.len() - 1)]
    }
}
