//! What only this engine promises, and the suite that every engine passes.

mod damage;
mod full;
mod model;
mod older;
mod power;
mod refusals;
mod secrecy;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sealbridge_contract::{Clock, RootKey, Vault};
use tempfile::TempDir;

use super::SqliteJournal;
use crate::store::{Journal, Limits, OpenError, suite::*};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is a place for temporary files"))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn file(&self) -> PathBuf {
        self.journal().join("journal.db")
    }
}

fn vault() -> Vault {
    Vault::new(RootKey::new([1; 32]))
}

impl Engine for Folder {
    fn open(&self, router: Arc<TestRouter>, limits: Limits, clock: Clock) -> Arc<dyn Journal> {
        Arc::new(SqliteJournal::open(&self.journal(), vault(), router, limits, clock).expect("it opens"))
    }
}

/// Opens a folder between conversations a and b, as [`Pair`] does.
fn open(folder: &Path, vault: Vault) -> Result<SqliteJournal, OpenError> {
    let router = TestRouter::linking(&[&at("one", "!a"), &at("two", "!b")]);
    SqliteJournal::open(folder, vault, router, Limits::default(), Clock::system())
}

mod suite {
    crate::store::suite::journal_suite!(super::Folder::new());
}
