//! Who changed what, and when: a line for every change, in a file that only grows and holds no words of a message.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use sealbridge_contract::Timestamp;
use serde::Serialize;

use super::{Action, Actor, Failure, FailureKind};

/// The file's name in the state folder.
const FILE: &str = "audit.jsonl";

#[derive(Serialize)]
struct Line<'a, T> {
    at: Timestamp,
    by: &'a Actor,
    #[serde(flatten)]
    action: T,
    outcome: Option<FailureKind>,
}

/// What somebody said in a conversation and that came to no action.
#[derive(Serialize)]
#[serde(tag = "action", rename = "command")]
struct Refused<'a> {
    /// The first of their words, if it is one that is understood.
    word: Option<&'static str>,
    why: &'a str,
}

/// Writes the line of one change, whether it was done or not.
pub(super) fn write(state: &Path, at: Timestamp, by: &Actor, action: &Action, failure: Option<&Failure>) {
    let line = Line { at, by, action, outcome: failure.map(|failure| failure.kind) };
    tracing::info!(target: "sealbridge::audit", by = %by, action = action.name(), done = failure.is_none(), "Change.");
    put(state, &line);
}

/// Writes that something was refused which somebody said in a conversation.
pub(super) fn write_refused(state: &Path, at: Timestamp, by: &Actor, word: Option<&'static str>, why: &str) {
    let line = Line { at, by, action: Refused { word, why }, outcome: Some(FailureKind::Refused) };
    tracing::info!(target: "sealbridge::audit", by = %by, word, why, "Refused.");
    put(state, &line);
}

fn put<T: Serialize>(state: &Path, line: &Line<'_, T>) {
    let mut bytes = serde_json::to_vec(line).expect("an action is texts and numbers");
    bytes.push(b'\n');
    if let Err(error) = append(&state.join(FILE), &bytes) {
        tracing::error!(%error, "The audit line can't be written.");
    }
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    // One write, so that lines of two tasks don't mix.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(line)
}
