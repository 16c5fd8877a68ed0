//! What only this engine promises, and the suite that every engine passes.

use std::{path::PathBuf, sync::Arc};

use sealbridge_contract::{Clock, RootKey, Vault};
use tempfile::TempDir;

use super::SqliteJournal;
use crate::store::{Journal, Limits, suite::*};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is a place for temporary files"))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
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

mod suite {
    crate::store::suite::journal_suite!(super::Folder::new());
}
