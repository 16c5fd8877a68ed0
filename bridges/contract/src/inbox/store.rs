//! An account's own small store in the journal.

use std::{fmt, sync::Arc, time::Duration};

use super::{Intake, NotAccepted};
use crate::{AccountName, SecretBytes};

/// A write to the account's own small store. Locked at rest.
#[derive(Debug)]
pub struct StoreWrite {
    /// Its key. Not secret: it is stored as it is.
    pub key: String,
    /// Its value; `None` deletes it.
    pub value: Option<SecretBytes>,
}

impl StoreWrite {
    /// Writes `value` under `key`.
    pub fn put(key: impl Into<String>, value: impl Into<SecretBytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// Deletes `key`.
    pub fn delete(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// What is kept of the entries under one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// As many at most: those that were written last.
    pub most: usize,
    /// None that was written longer ago.
    pub within: Duration,
}

/// An account's own small store in the journal: session, cursor, pins. Locked at rest.
#[derive(Clone)]
pub struct AccountStore {
    account: AccountName,
    intake: Arc<dyn Intake>,
}

impl AccountStore {
    /// The store of `account`.
    #[must_use]
    pub fn new(account: AccountName, intake: Arc<dyn Intake>) -> Self {
        Self { account, intake }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn read(&self, key: &str) -> Result<Option<SecretBytes>, NotAccepted> {
        self.intake.read(&self.account, key).await
    }

    /// Reads every entry whose key starts with `prefix`, in the order of keys.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn read_all(&self, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted> {
        self.intake.read_all(&self.account, prefix).await
    }

    /// Writes, and returns after the durable commit.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing was written.
    pub async fn write(&self, writes: Vec<StoreWrite>) -> Result<(), NotAccepted> {
        self.intake.write(&self.account, writes).await
    }

    /// Forgets entries whose key starts with `prefix` and that are too old or too many. Says how many.
    ///
    /// # Errors
    /// [`NotAccepted`]: some may have been forgotten.
    pub async fn prune(&self, prefix: &str, keep: Keep) -> Result<usize, NotAccepted> {
        let mut forgotten = 0;
        loop {
            match self.intake.prune(&self.account, prefix, keep).await? {
                0 => return Ok(forgotten),
                more => forgotten += more,
            }
        }
    }
}

impl fmt::Debug for AccountStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountStore").field("account", &self.account).finish_non_exhaustive()
    }
}
