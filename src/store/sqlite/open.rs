//! Opening: the folder, the lock, and the four refusals.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, config::DbConfig, params};
use subtle::ConstantTimeEq;

use super::{
    count::Count,
    keys::{Keys, Place},
    schema,
};
use crate::store::OpenError;

/// What was opened.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// How often something was committed.
    pub(super) count: Count,
    /// Held as long as the writer runs.
    pub(super) lock: File,
    /// Whether the file is known to be sound, or new.
    pub(super) looked_over: bool,
}

/// What the key row holds, locked.
const KEY_CHECK: &[u8] = b"sealbridge journal";

/// Whether a folder that others can look into has nothing of theirs: it is ours, and empty or a service's already. One
/// that is shared is left as it is.
fn is_for_us_alone(folder: &Path) -> std::io::Result<bool> {
    const SHARED: u32 = 0o1000;
    let meta = fs::metadata(folder)?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & SHARED != 0 {
        return Ok(false);
    }
    if folder.join("journal.db").exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(folder)? {
        // What the service makes before its journal.
        let name = entry?.file_name();
        if name != "spool" && name != "accounts" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens or makes the journal. A file of up to `compare_up_to` bytes is compared with its indexes first. An older copy is
/// refused unless `any_age` says otherwise.
pub(super) fn open(folder: &Path, keys: &Keys, compare_up_to: u64, any_age: bool) -> Result<Opened, OpenError> {
    let unusable = |error: std::io::Error| OpenError::Unusable(error.to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    if fs::metadata(folder).map_err(unusable)?.mode() & 0o077 != 0 {
        if !is_for_us_alone(folder).map_err(unusable)? {
            let words =
                format!("others can look into {0}; name another folder, or run: chmod 700 {0}", folder.display());
            return Err(OpenError::Unusable(words));
        }
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(unusable)?;
    }
    let lock = private(&folder.join("journal.lock")).map_err(unusable)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse,
        TryLockError::Error(error) => unusable(error),
    })?;
    let path = folder.join("journal.db");
    // The files that SQLite makes beside it get the same mode.
    private(&path).map_err(unusable)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(refuse)?;
    configure(&connection).map_err(refuse)?;
    let (found, known) = (schema::version(&connection).map_err(refuse)?, schema::newest(schema::MIGRATIONS));
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    set_up_log(&connection).map_err(refuse)?;
    if connection.is_readonly("main").map_err(refuse)? {
        // We opened it for writing, and SQLite obeys a byte in its header.
        return Err(OpenError::Damaged("its header says that it can only be read".into()));
    }
    let small = fs::metadata(&path).is_ok_and(|file| file.len() <= compare_up_to);
    if found != 0 && small {
        compare(&connection)?;
    }
    let first = |connection: &Connection| make_key_check(connection, keys);
    schema::migrate(&mut connection, schema::MIGRATIONS, first).map_err(refuse)?;
    if schema::text(&connection).map_err(refuse)? != schema::expected_text(schema::MIGRATIONS).map_err(refuse)? {
        return Err(OpenError::Damaged("its schema was changed".into()));
    }
    check_key(&connection, keys)?;
    check_conversations(&connection, keys)?;
    let count = Count::open(folder, &connection, keys, any_age)?;
    Ok(Opened { connection, path, count, lock, looked_over: found == 0 || small })
}

/// A file that only we can read; kept if it is there.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Else a statement is prepared anew each time that a limit is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn set_up_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

fn compare(connection: &Connection) -> Result<(), OpenError> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(refuse)?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged(found)) }
}

pub(super) fn make_key_check(connection: &Connection, keys: &Keys) -> rusqlite::Result<()> {
    let locked = keys.vault.lock(Place::key_check().bytes(), KEY_CHECK);
    connection.execute(
        "INSERT INTO key_check (id, fingerprint, locked) VALUES (1, ?1, ?2)",
        params![keys.fingerprint(), keys.vault.to_row(&locked)],
    )?;
    Ok(())
}

/// Two witnesses, so that one changed byte in either is told from another key.
fn check_key(connection: &Connection, keys: &Keys) -> Result<(), OpenError> {
    let row = connection
        .query_row("SELECT fingerprint, locked FROM key_check", [], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()
        .map_err(refuse)?;
    let (fingerprint, locked) = row.ok_or_else(|| OpenError::Damaged("its key row is missing".into()))?;
    let same = bool::from(fingerprint.as_slice().ct_eq(&keys.fingerprint()));
    let opens = keys.vault.unlock(Place::key_check().bytes(), &keys.vault.from_row(locked)).is_ok();
    match (same, opens) {
        (true, true) => Ok(()),
        (false, false) => Err(OpenError::WrongKey),
        _ => Err(OpenError::Damaged("its key row was changed".into())),
    }
}

fn check_conversations(connection: &Connection, keys: &Keys) -> Result<(), OpenError> {
    let mut statement = connection.prepare("SELECT id, account, name, tag FROM conversation").map_err(refuse)?;
    let mut rows = statement.query([]).map_err(refuse)?;
    while let Some(row) = rows.next().map_err(refuse)? {
        let read = || -> rusqlite::Result<(i64, String, String, Vec<u8>)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        let (id, account, name, tag) = read().map_err(refuse)?;
        if !keys.fits(&Place::conversation(id, &account, &name), &tag) {
            return Err(OpenError::Damaged("the name of a conversation was changed".into()));
        }
    }
    Ok(())
}

/// Which refusal a failure is.
fn refuse(error: rusqlite::Error) -> OpenError {
    let code = error.sqlite_error_code();
    match code {
        Some(ErrorCode::DiskFull) => OpenError::Unusable("the disk is full".into()),
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory,
        ) => OpenError::Unusable(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse,
        _ => OpenError::Damaged(error.to_string()),
    }
}
