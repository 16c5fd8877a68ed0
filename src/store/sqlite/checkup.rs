//! A large file is looked over while it is already in use, since that takes seconds. What is found stops everything.

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};

use super::Outcome;
use crate::store::JournalError;

/// What a look found, for everybody who is about to use the file.
#[derive(Clone, Default)]
pub(super) struct Found(Arc<OnceLock<String>>);

impl Found {
    pub(super) fn nothing(&self) -> Outcome<()> {
        match self.0.get() {
            Some(what) => Err(JournalError::Damaged(what.clone())),
            None => Ok(()),
        }
    }
}

/// A look that goes on beside the work.
pub(super) struct Checkup {
    stop: InterruptHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkup {
    pub(super) fn start(path: &Path, found: Found) -> Result<Self, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
        let stop = connection.get_interrupt_handle();
        let thread = thread::Builder::new()
            .name("journal-checkup".into())
            .spawn(move || look(&connection, &found))
            .map_err(|error| error.to_string())?;
        Ok(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the look, done or not.
    pub(super) fn shut(&self) {
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            while !thread.is_finished() {
                // An interrupt that comes before the look has begun is forgotten.
                self.stop.interrupt();
                thread::yield_now();
            }
            let _ended = thread.join();
        }
    }
}

fn look(connection: &Connection, found: &Found) {
    let damage = match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => return,
        Ok(damage) => damage,
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => return,
        Err(error) => error.to_string(),
    };
    tracing::error!(%damage, "The journal is damaged.");
    let _told_before = found.0.set(damage);
}
