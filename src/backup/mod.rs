//! Backups: one sealed file, and what is made of it on another machine.
//!
//! Ratchets are in no backup, and no restored login goes on: what was restored is set up again as a new device, and what
//! may have been carried since the backup was made is not carried again by itself; see [`Restored`].

mod beneath;
mod create;
mod parts;
mod restore;
mod sealed;

#[cfg(test)]
mod fuzz;

use std::path::Path;

use sealbridge_contract::{RootKey, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::{
    beneath::Export,
    create::{JournalCopy, Made, Turn, write},
    restore::{RestoredTo, Restoring, adopt},
    sealed::{BackupKey, Unopened},
};
use crate::{
    config::{root_key, secrets},
    operator::{Failure, FailureKind},
    store::{Journal, JournalError},
};

/// Every named place here where the recovery suite kills the process, in order.
pub const FAILPOINTS: &[&str] = &["backup::copied", "backup::written", "backup::unpacked", "backup::ready"];

/// Which version of the schema a journal has; 0 if it is none.
fn version_of_journal(journal: &rusqlite::Connection) -> rusqlite::Result<u32> {
    journal.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The setting that says that the journal came out of a backup.
const RESTORED: &str = "restored";

/// That a journal came out of a backup. Whatever was said or waited before `at`, and is not known to have been delivered,
/// may have been carried by the service that the backup was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub taken: Timestamp,
    /// When it was restored.
    pub at: Timestamp,
}

impl Restored {
    /// Whether the journal came out of a backup, the last time.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn of(journal: &dyn Journal) -> Result<Option<Self>, JournalError> {
        let kept = journal.setting(RESTORED).await?;
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| damaged());
        kept.map(|bytes| read(bytes.expose())).transpose()
    }

    /// Writes it down.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn keep(self, journal: &dyn Journal) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(&self).map_err(|_| damaged())?;
        journal.set(RESTORED, bytes.into()).await
    }
}

fn damaged() -> JournalError {
    JournalError::Damaged("what says that it was restored can't be read".into())
}

/// Reads the key of backups.
///
/// # Errors
/// [`FailureKind::Config`] if it is missing, none, or readable by others.
pub fn key(path: &Path) -> Result<BackupKey, Failure> {
    let text = secrets::read_file(path)?;
    root_key::parse(&text, &path.display().to_string()).map(BackupKey::new).map_err(|_| {
        let words = format!("{} does not hold the key of a backup, which is 32 bytes in base64", path.display());
        Failure::new(FailureKind::Config, words)
    })
}

/// The same for who makes a backup: a new key if there is none. Says whether it made one.
///
/// # Errors
/// As [`key`].
pub fn key_or_new(path: &Path) -> Result<(BackupKey, bool), Failure> {
    if path.exists() {
        return Ok((key(path)?, false));
    }
    let new = RootKey::random();
    root_key::write_new(path, &root_key::text_of(&new))?;
    Ok((BackupKey::new(new), true))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("can't write {}: {error}", path.display()))
}
