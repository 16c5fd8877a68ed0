//! A backup is made, also while the service runs.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rusqlite::{Connection, OpenFlags};
use sealbridge_contract::{RootKey, SpoolId, Timestamp};

use super::{
    beneath::{self, Export},
    parts::{self, Part, SpoolIdText},
    sealed::{BackupKey, Sealer},
    unwritten,
};
use crate::{
    config::{Config, root_key},
    operator::{Failure, FailureKind},
};

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// How long the file is.
    pub bytes: u64,
    /// Files that waited to be carried, and are in it.
    pub files: usize,
}

/// The right to make a backup of a state folder: one at a time, since what each writes there has the same name.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the lock goes with it")] File);

impl Turn {
    /// Takes it.
    ///
    /// # Errors
    /// [`FailureKind::Temporary`] while another backup is being made; [`FailureKind::Config`] if there is no journal, or
    /// nothing can be written beside it.
    pub fn take(config: &Config) -> Result<Self, Failure> {
        if !config.journal_exists() {
            return Err(Failure::new(FailureKind::Config, "there is no journal to make a backup of"));
        }
        let path = config.service.state.join("backup.lock");
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let open = || {
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&path)
        };
        let file = open().map_err(|error| unwritten(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Failure::new(FailureKind::Temporary, "another backup of this state folder is being made"))
            }
            Err(fs::TryLockError::Error(error)) => Err(unwritten(&path, &error)),
        }
    }
}

/// The journal as it was at one moment: a copy as locked as the journal itself is. It has no name any more, so it goes
/// with this.
#[derive(Debug)]
pub struct JournalCopy {
    file: File,
    /// When.
    pub taken: Timestamp,
}

impl JournalCopy {
    /// Takes it, beside a service that goes on.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if there is no room for a copy of it.
    pub fn take(config: &Config, _turn: &Turn, now: Timestamp) -> Result<Self, Failure> {
        let path = config.service.state.join("journal.copy");
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Config, format!("the journal can't be copied: {error}"))
        };
        // One that a killed call left behind.
        remove(&path).map_err(|error| failed(&error))?;
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&error))?;
        let copied = copy(&config.journal_path(), &path);
        fail::fail_point!("backup::copied");
        remove(&path).map_err(|error| failed(&error))?;
        copied.map_err(|error| failed(&error))?;
        // Of what was opened, whoever put something else in its place meanwhile.
        if file.metadata().map_err(|error| failed(&error))?.len() == 0 {
            return Err(failed(&"the copy of it is empty"));
        }
        Ok(Self { file, taken: now })
    }
}

/// SQLite writes a whole, compact copy of one moment: nothing of what was deleted is in it. A link in the journal's place
/// is not followed; where the folder itself lies behind one, that is the operator's doing.
fn copy(journal: &Path, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (Some(folder), Some(name)) = (journal.parent(), journal.file_name()) else {
        return Err("it has no name".into());
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(folder.canonicalize()?.join(name), flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // An empty file in the journal's place would be copied as an empty one.
    if super::version_of_journal(&connection)? == 0 {
        return Err("it is none".into());
    }
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the backup. `config_text` is the config file as it is; it holds no secret, and the files that it names are not
/// in the backup.
///
/// # Errors
/// [`FailureKind::Usage`] if there is such a file already; [`FailureKind::Config`] if it can't be written. Then there is
/// none.
pub fn write(
    config: &Config,
    config_text: &str,
    inner: &RootKey,
    journal: JournalCopy,
    exports: &[Export],
    (file, key): (&Path, &BackupKey),
) -> Result<Made, Failure> {
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already: name another file", file.display())));
    }
    let half = file.with_added_extension("half");
    let content = Content { config, config_text, inner, journal, exports };
    let made = content.write_to(&half, key).and_then(|made| {
        fail::fail_point!("backup::written");
        // A second name, unlike a new one, is never put over a file that is there.
        fs::hard_link(&half, file)?;
        root_key::sync_folder_of(file)?;
        Ok(made)
    });
    let _left = fs::remove_file(&half);
    made.map_err(|error| unwritten(file, &error))
}

struct Content<'a> {
    config: &'a Config,
    config_text: &'a str,
    inner: &'a RootKey,
    journal: JournalCopy,
    exports: &'a [Export],
}

impl Content<'_> {
    fn write_to(mut self, path: &Path, key: &BackupKey) -> io::Result<Made> {
        // One that a killed call left behind. Whatever else takes its place is neither followed nor written into.
        remove(path)?;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut to = Sealer::begin(BufWriter::new(file), key)?;
        let about = Part::About { taken: self.journal.taken, version: env!("CARGO_PKG_VERSION").into() };
        parts::write(&mut to, about, 0, io::empty())?;
        let text = self.config_text.as_bytes();
        parts::write(&mut to, Part::Config, text.len() as u64, text)?;
        parts::write(&mut to, Part::Key, 32, self.inner.expose().as_slice())?;
        let journal = &mut self.journal.file;
        parts::write(&mut to, Part::Journal, journal.metadata()?.len(), journal)?;
        let files = spool(self.config, &mut to)?;
        for export in self.exports {
            let (length, content) = export.content()?;
            parts::write(&mut to, Part::Export { account: export.account.clone() }, length, content)?;
        }
        parts::write(&mut to, Part::End, 0, io::empty())?;
        let file = to.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Made { bytes: file.metadata()?.len(), files })
    }
}

/// The spool's whole files. One that goes meanwhile was delivered since the journal was copied.
fn spool(config: &Config, to: &mut impl io::Write) -> io::Result<usize> {
    let entries = match fs::read_dir(config.service.state.join("spool")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut files = 0;
    for entry in entries {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| SpoolId::parse(name).ok()) else { continue };
        let file = match beneath::open(&config.service.state, &Path::new("spool").join(entry.file_name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        parts::write(to, Part::File { id: SpoolIdText(id) }, file.metadata()?.len(), file)?;
        files += 1;
    }
    Ok(files)
}
