//! The journal in one SQLite file.
//!
//! One thread writes and commits for many callers at once; two read, so that nobody who reads waits for a disk. Only
//! the writer makes checkpoints: the bundled SQLite loses data when two connections do.

mod checkup;
mod count;
mod journal;
mod keys;
mod links;
mod open;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashSet,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    thread::{self, JoinHandle},
};

use rusqlite::{ErrorCode, ffi};
use sealbridge_contract::{Address, Clock, Vault};
use tokio::sync::{Notify, mpsc, oneshot};

pub use self::count::FILE as COUNT_FILE;
use self::{
    checkup::{Checkup, Found},
    read::Reader,
    write::Ledger,
};
use super::{JournalError, Limits, OpenError, Router};

/// What every step inside answers.
type Outcome<T> = Result<T, JournalError>;

/// Up to this size every index entry is compared with its row at every start, before anything else. A larger file is
/// only looked over in its structure, while it is in use.
const COMPARED_UP_TO: u64 = 64 << 20;

/// The journal in one SQLite file, in a folder of its own.
pub struct SqliteJournal {
    writer: Arc<Lane<write::Asked>>,
    heads: Arc<Lane<read::Asked>>,
    lists: Arc<Lane<read::Asked>>,
    checkup: Option<Arc<Checkup>>,
    woken: Arc<Woken>,
    limits: Limits,
}

impl SqliteJournal {
    /// Opens or makes the journal in `folder`. Blocks while it looks the file over.
    ///
    /// # Errors
    /// [`OpenError`]: four different troubles, each with its own way out.
    pub fn open(
        folder: &Path,
        vault: Vault,
        router: Arc<dyn Router>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Self::open_comparing((COMPARED_UP_TO, false), folder, vault, router, limits, clock)
    }

    /// The same for one that may be an older copy, for who knows what to do with it.
    ///
    /// # Errors
    /// As [`open`](Self::open), and never [`OpenError::Older`].
    pub fn open_of_any_age(
        folder: &Path,
        vault: Vault,
        router: Arc<dyn Router>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Self::open_comparing((COMPARED_UP_TO, true), folder, vault, router, limits, clock)
    }

    fn open_comparing(
        (up_to, any_age): (u64, bool),
        folder: &Path,
        vault: Vault,
        router: Arc<dyn Router>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let keys = Arc::new(keys::Keys::new(vault));
        let opened = open::open(folder, &keys, up_to, any_age)?;
        let (woken, found) = (Arc::new(Woken::default()), Found::default());
        let reader = |name| -> Result<Arc<Lane<read::Asked>>, OpenError> {
            let reader = Reader::open(&opened.path, Arc::clone(&keys), Arc::clone(&router), found.clone())
                .map_err(|error| OpenError::Unusable(error.to_string()))?;
            Lane::start(name, move |asked| read::serve(&reader, asked))
        };
        let (heads, lists) = (reader("journal-heads")?, reader("journal-lists")?);
        let checkup = match opened.looked_over {
            true => None,
            false => Some(Arc::new(Checkup::start(&opened.path, found.clone()).map_err(OpenError::Unusable)?)),
        };
        let ledger = Ledger::new(opened.connection, opened.count, keys, router, limits, clock)
            .and_then(|mut ledger| write::mend(&mut ledger).map(|()| ledger))
            .map_err(|error| match error {
                JournalError::Damaged(what) => OpenError::Damaged(what),
                error => OpenError::Unusable(error.to_string()),
            })?;
        let writer = write::Writer::new(ledger, opened.path, Arc::clone(&woken), found);
        let lock: File = opened.lock;
        let writer = Lane::start("journal-writer", move |asked| {
            writer.run(asked);
            drop(lock);
        })?;
        Ok(Self { writer, heads, lists, checkup, woken, limits })
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // The writer last: the last connection to close folds the write-ahead log into the file, and must be its own.
        if let Some(checkup) = &self.checkup {
            checkup.shut();
        }
        self.heads.shut();
        self.lists.shut();
        self.writer.shut();
    }
}

impl std::fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteJournal").finish_non_exhaustive()
    }
}

/// As many questions wait for a thread at most; who comes later waits to ask.
const WAITING: usize = 4096;

/// A thread that is asked things.
struct Lane<T> {
    asked: RwLock<Option<mpsc::Sender<T>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static> Lane<T> {
    fn start(name: &str, serve: impl FnOnce(mpsc::Receiver<T>) + Send + 'static) -> Result<Arc<Self>, OpenError> {
        let (asked, to_serve) = mpsc::channel(WAITING);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || serve(to_serve))
            .map_err(|error| OpenError::Unusable(error.to_string()))?;
        Ok(Arc::new(Self { asked: RwLock::new(Some(asked)), thread: Mutex::new(Some(thread)) }))
    }

    /// Asks, and waits for the answer.
    async fn ask<A>(&self, question: impl FnOnce(oneshot::Sender<Outcome<A>>) -> T) -> Outcome<A> {
        let asked = self.asked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (reply, answer) = oneshot::channel();
        asked.ok_or(JournalError::Closed)?.send(question(reply)).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Takes no more questions, and returns when those asked are answered and the thread has ended.
    fn shut(&self) {
        drop(self.asked.write().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread itself may drop the last hold on the journal; it can't wait for itself.
        if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id()) {
            let _ended = thread.join();
        }
    }
}

/// Conversations that may have something new in the outbox.
#[derive(Default)]
struct Woken {
    lanes: Mutex<HashSet<Address>>,
    bell: Notify,
    /// Something was said to the bridge itself.
    commanded: Notify,
    /// How often something was erased from the outbox.
    erasures: AtomicU64,
}

impl Woken {
    fn add(&self, lanes: impl IntoIterator<Item = Address>) {
        let mut all = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.extend(lanes);
        if all.len() > before {
            self.bell.notify_one();
        }
    }

    async fn take(&self) -> Vec<Address> {
        loop {
            let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
            if !lanes.is_empty() {
                return lanes.into_iter().collect();
            }
            self.bell.notified().await;
        }
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &error {
            E::SqliteFailure(failure, _) => match failure.code {
                // The log's index can't grow: the disk is full there too.
                ErrorCode::DiskFull => Self::Full,
                _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(error.to_string()),
                _ => Self::Failed(error.to_string()),
            },
            E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) => {
                Self::Damaged("a row can't be read".into())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// `received.state`.
mod received {
    pub(super) const WAITING: i64 = 0;
    pub(super) const ROUTED: i64 = 1;
    pub(super) const UNREADABLE: i64 = 2;
    pub(super) const DONE: i64 = 3;
}

/// `delivery.state`.
mod delivery {
    pub(super) const QUEUED: i64 = 0;
    pub(super) const HELD: i64 = 1;
    pub(super) const DEAD: i64 = 2;
    pub(super) const SETTLED: i64 = 3;
    pub(super) const ECHO: i64 = 4;
    pub(super) const QUARANTINED: i64 = 5;
    pub(super) const DROPPED: i64 = 6;
}

/// `command.state`.
mod command {
    pub(super) const WAITS: i64 = 0;
    pub(super) const BEGUN: i64 = 1;
    pub(super) const DONE: i64 = 2;
}

/// `unreadable.state`.
mod unreadable {
    pub(super) const WAITING: i64 = 0;
    pub(super) const DEAD: i64 = 1;
    pub(super) const QUARANTINED: i64 = 2;
}
