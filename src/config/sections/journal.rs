//! `[journal]`: how much is kept, and for how long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::units::{Period, Size},
    store::Limits,
};

/// How much the journal keeps, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Locked messages on disk at most. At this bound nothing more is accepted, and the networks keep what comes.
    pub most_payload: Size,
    /// Locked files on disk at most. At this bound no file is accepted, and the networks keep what comes.
    pub most_files: Size,
    /// How long a message that can't be read yet waits for its key.
    pub unreadable_for: Period,
    /// How long later messages of the same sender wait for it, at most.
    pub hold_sender_for: Period,
    /// How long a line without content is kept of each message that crossed.
    pub keep_lines_for: Period,
    /// How long a dead letter is kept, with its content, for somebody to retry it.
    pub dead_letters_for: Period,
}

impl Default for Journal {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            most_payload: Size(limits.payload_bytes),
            most_files: Size(limits.files_bytes),
            unreadable_for: Period(limits.unreadable_for),
            hold_sender_for: Period(limits.hold_sender_for),
            keep_lines_for: Period(limits.lines_for),
            dead_letters_for: Period(limits.dead_letters_for),
        }
    }
}

impl Journal {
    /// The same, for the journal.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            payload_bytes: self.most_payload.0,
            files_bytes: self.most_files.0,
            unreadable_for: self.unreadable_for.0,
            hold_sender_for: self.hold_sender_for.0,
            lines_for: self.keep_lines_for.0,
            dead_letters_for: self.dead_letters_for.0,
        }
    }
}
