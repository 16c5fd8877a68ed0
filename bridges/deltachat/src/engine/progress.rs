//! How far an engine has read its mailbox, as its own database has it. No method of the engine's says or changes that.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use sealbridge_child::CallError;
use serde::{Deserialize, Serialize};

use super::{Answer, Engine};

/// Where reading goes on in one folder of the mailbox: mail with lower numbers (RFC 9051 section 2.3.1.1) is not asked
/// for any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    transport: i64,
    folder: String,
    validity: i64,
    next: i64,
}

impl Place {
    /// Which of the account's mail accounts it is in.
    pub(crate) fn transport(&self) -> i64 {
        self.transport
    }

    /// Whether both are in one folder, whose mail still has the same numbers.
    pub(crate) fn is_in_the_same(&self, other: &Self) -> bool {
        let folder = |of: &Self| (of.transport, of.validity);
        folder(self) == folder(other) && self.folder == other.folder
    }
}

/// The database of an engine's account.
#[derive(Clone, Debug)]
pub(crate) struct Progress(PathBuf);

/// The database is not as it is in the versions that are known.
#[derive(Debug, thiserror::Error)]
#[error("the engine's database does not say how far it has read")]
pub(crate) struct Unreadable;

impl From<rusqlite::Error> for Unreadable {
    fn from(_: rusqlite::Error) -> Self {
        Self
    }
}

impl Progress {
    /// Of the account that runs.
    pub(crate) async fn of(engine: &Engine) -> Answer<Option<Self>> {
        let files = match engine.files().await {
            // One that does not say where its files are is used without this.
            Err(CallError::Refused { .. }) => None,
            files => files?,
        };
        let database = files.as_deref().and_then(Path::to_str).and_then(|files| files.strip_suffix("-blobs"));
        Ok(database.map(|database| Self(database.into())))
    }

    pub(crate) async fn read(&self) -> Result<Vec<Place>, Unreadable> {
        self.with(OpenFlags::SQLITE_OPEN_READ_ONLY, |database| {
            let mut read = database.prepare(
                "SELECT transport_id, folder, uidvalidity, uid_next FROM imap_sync ORDER BY transport_id, folder",
            )?;
            let place = |row: &rusqlite::Row<'_>| {
                Ok(Place { transport: row.get(0)?, folder: row.get(1)?, validity: row.get(2)?, next: row.get(3)? })
            };
            read.query_map((), place)?.collect()
        })
        .await
    }

    /// Goes back to where reading was, while the engine does not read. Says whether it had gone on since.
    pub(crate) async fn back_to(&self, places: Vec<Place>) -> Result<bool, Unreadable> {
        self.with(OpenFlags::SQLITE_OPEN_READ_WRITE, move |database| {
            let mut back = false;
            for Place { transport, folder, validity, next } in &places {
                let changed = database.execute(
                    "UPDATE imap_sync SET uid_next = ?4
                     WHERE transport_id = ?1 AND folder = ?2 AND uidvalidity = ?3 AND uid_next > ?4",
                    (transport, folder, validity, next),
                )?;
                back |= changed > 0;
            }
            Ok(back)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        how: OpenFlags,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unreadable> {
        let path = self.0.clone();
        let work = move || {
            let database = Connection::open_with_flags(path, how | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            database.busy_timeout(std::time::Duration::from_secs(10))?;
            // The engine's own writes wait for nobody, so the lock is not held over a flush. What is lost with the power
            // is a step back, and that is made again.
            database.pragma_update(None, "synchronous", "OFF")?;
            work(&database)
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(|_| Unreadable)??)
    }
}
