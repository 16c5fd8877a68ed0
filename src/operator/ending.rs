//! Why the service ended last, if it did not end in order: for whoever asks while none runs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sealbridge_contract::Timestamp;
use serde::{Deserialize, Serialize};

use super::Failure;

/// The file's name in the state folder.
const FILE: &str = "ended.json";

/// Why, and when.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    pub(super) words: String,
}

/// Writes why it ends. What can't be written is in the log all the same.
pub(super) fn write(state: &Path, at: Timestamp, failure: &Failure) {
    let ended = serde_json::to_vec(&Ended { at, words: failure.words.clone() }).expect("a number and a text");
    if let Err(error) = put(state, &ended) {
        tracing::warn!(%error, "Why it ends can't be written for `sealbridge doctor`.");
    }
}

fn put(state: &Path, ended: &[u8]) -> io::Result<()> {
    forget(state);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(state.join(FILE))?.write_all(ended)
}

/// It runs again.
pub(super) fn forget(state: &Path) {
    // Where there is none, there is nothing to forget.
    let _ = fs::remove_file(state.join(FILE));
}

/// Why it ended last.
pub(super) fn read(state: &Path) -> Option<Ended> {
    serde_json::from_slice(&fs::read(state.join(FILE)).ok()?).ok()
}
