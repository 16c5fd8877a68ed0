//! The readers' side: nothing here changes the file, and nobody waits for the disk.

mod accounts;
mod commands;
mod head;
mod lists;
mod names;

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, config::DbConfig};
use sealbridge_contract::SecretBytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    Outcome,
    checkup::Found,
    keys::{Keys, Place},
};
use crate::store::{JournalError, Router};

pub(super) use self::{
    accounts::{read, read_all, tally},
    commands::commands,
    head::{called, head, lane_reports, lanes, said},
    lists::{counts, dead_letters, died_since, files, links, open_gaps, shares, unread, waiting, why, wrote},
};

/// A question on its way to a reader.
pub(super) struct Asked(Box<dyn FnOnce(&Reader) + Send>);

/// A question and where its answer goes.
pub(super) fn ask<T: Send + 'static>(
    question: impl FnOnce(&Reader) -> Outcome<T> + Send + 'static,
) -> impl FnOnce(oneshot::Sender<Outcome<T>>) -> Asked {
    move |reply| {
        Asked(Box::new(move |reader| {
            // Whoever went away needs no answer.
            let _gone = reply.send(reader.at_one_moment(question));
        }))
    }
}

/// Answers until nobody can ask any more.
pub(super) fn serve(reader: &Reader, mut asked: mpsc::Receiver<Asked>) {
    while let Some(Asked(question)) = asked.blocking_recv() {
        question(reader);
    }
}

/// A connection that can't write.
pub(super) struct Reader {
    connection: Connection,
    keys: Arc<Keys>,
    router: Arc<dyn Router>,
    found: Found,
}

impl Reader {
    pub(super) fn open(path: &Path, keys: Arc<Keys>, router: Arc<dyn Router>, found: Found) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -4 * 1024)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(Self { connection, keys, router, found })
    }

    /// Everything that one question reads is of one moment, and that moment is not before it was asked.
    fn at_one_moment<T>(&self, question: impl FnOnce(&Self) -> Outcome<T>) -> Outcome<T> {
        self.found.nothing()?;
        self.connection.prepare_cached("BEGIN")?.execute([])?;
        let answer = question(self);
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        answer
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Vec<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Opens what is locked, or says which place is damaged.
    fn unlock(&self, place: &Place, bytes: Vec<u8>, what: impl FnOnce() -> String) -> Outcome<SecretBytes> {
        let locked = self.keys.vault.from_row(bytes);
        self.keys
            .vault
            .unlock(place.bytes(), &locked)
            .map_err(|_| JournalError::Damaged(format!("{} does not open", what())))
    }
}
