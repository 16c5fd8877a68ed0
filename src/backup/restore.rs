//! What is made of a backup: a state folder, whole or not at all, whose accounts are to be logged in anew.

use std::{
    fs::{self, DirBuilder},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OpenFlags};
use sealbridge_contract::{
    Address, Cleartext, Clock, DeliveryId, RemoteId, RootKey, SenderTrust, Timestamp, Vault, inbox::Parcel,
};
use zeroize::Zeroizing;

use super::{
    Restored, Unopened,
    parts::{self, Part},
    sealed::{BackupKey, Opener},
    unwritten,
};
use crate::{
    config::{Config, root_key},
    operator::{Failure, FailureKind},
    store::{Journal, Link, Routed, Router, sqlite::SqliteJournal},
};

/// A backup that was begun to be read.
#[derive(Debug)]
pub struct Restoring {
    file: PathBuf,
    from: Opener<fs::File>,
    taken: Timestamp,
    /// The config file's text as it was.
    pub config_text: String,
}

/// Where it was restored to.
#[derive(Debug)]
pub struct RestoredTo {
    /// Between which moments nobody knows what was carried.
    pub restored: Restored,
    /// The root key that opens it.
    pub root_key: root_key::Taken,
}

impl Restoring {
    /// Begins to read a backup. Nothing is written.
    ///
    /// # Errors
    /// [`FailureKind::Config`]: why it does not open.
    pub fn begin(file: &Path, key: &BackupKey) -> Result<Self, Failure> {
        let opened = fs::File::open(file).map_err(Unopened::from).and_then(|open| Opener::begin(open, key));
        let mut from = opened.map_err(|why| Failure::new(FailureKind::Config, format!("{}: {why}", file.display())))?;
        let unread = |error| unread(file, &error);
        let taken = match parts::read(&mut from).map_err(unread)? {
            (Part::About { taken, .. }, _) => taken,
            _ => return Err(misplaced(file)),
        };
        let config_text = match parts::read(&mut from).map_err(unread)? {
            (Part::Config, text) => String::from_utf8(parts::whole(text).map_err(unread)?.to_vec()),
            _ => return Err(misplaced(file)),
        };
        let config_text = config_text.map_err(|_| misplaced(file))?;
        Ok(Self { file: file.to_owned(), from, taken, config_text })
    }

    /// Makes the state folder of it. It is written beside its place, and gets its name when it is whole and on disk.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] if there is something in the state folder already; [`FailureKind::Config`] if the backup
    /// is damaged or the folder can't be written. Then nothing has changed.
    pub async fn into(self, config: &Config, clock: Clock) -> Result<RestoredTo, Failure> {
        let state = &config.service.state;
        refuse_unless_empty(state)?;
        let half = Half::make(state).map_err(|error| unwritten(state, &error))?;
        let file = self.file.clone();
        let (taken, inner) = (self.taken, self.unpack(&half.0)?);
        fail::fail_point!("backup::unpacked");
        let restored = Restored { taken, at: clock.now() };
        // A backup has no count beside it: it is older by what it is.
        let journal = SqliteJournal::open_of_any_age(
            &half.0,
            Vault::new(root_key::copy(&inner)),
            Arc::new(NoRouter),
            config.journal.limits(),
            clock,
        );
        let journal = journal.map_err(|error| Failure::from(error).while_doing(&file.display().to_string()))?;
        let marked = mark(&journal, config, restored, false).await;
        journal.close().await;
        drop(journal);
        marked?;
        let root_key = root_key::take_over(config, &half.0, &inner)?;
        fail::fail_point!("backup::ready");
        half.becomes(state).map_err(|error| unwritten(state, &error))?;
        Ok(RestoredTo { restored, root_key })
    }

    /// Writes the parts into a folder, up to the last. Gives what opens the journal.
    fn unpack(mut self, folder: &Path) -> Result<RootKey, Failure> {
        let file = self.file.clone();
        let unread = |error| unread(&file, &error);
        let mut inner = None;
        loop {
            let (part, content) = parts::read(&mut self.from).map_err(unread)?;
            match part {
                Part::Key => {
                    let bytes = parts::whole(content).map_err(unread)?;
                    let bytes: Zeroizing<[u8; 32]> =
                        Zeroizing::new(bytes.as_slice().try_into().map_err(|_| misplaced(&file))?);
                    inner = Some(RootKey::new(*bytes));
                }
                Part::Journal => put(&folder.join("journal.db"), content).map_err(unread)?,
                Part::File { id } => put(&folder.join("spool").join(id.0.to_string()), content).map_err(unread)?,
                Part::Export { account } => {
                    let path = folder.join("accounts").join(account.as_str()).join(crate::transports::IMPORT);
                    put(&path, content).map_err(unread)?;
                }
                Part::End => break,
                Part::About { .. } | Part::Config => return Err(misplaced(&file)),
            }
        }
        // The end of the file has to be seen too: only then nothing was taken from it.
        if io::copy(&mut self.from, &mut io::sink()).map_err(unread)? != 0 {
            return Err(misplaced(&file));
        }
        // An empty file would be opened as a new journal.
        let journal = folder.join("journal.db");
        let opened = Connection::open_with_flags(&journal, OpenFlags::SQLITE_OPEN_READ_ONLY);
        if !opened.and_then(|journal| super::version_of_journal(&journal)).is_ok_and(|version| version > 0) {
            return Err(misplaced(&file));
        }
        inner.ok_or_else(|| misplaced(&file))
    }
}

/// Goes on with the state folder that there is as with a restored backup, however old a copy it is.
///
/// # Errors
/// [`FailureKind::Temporary`] while a service runs; [`FailureKind::Config`] if the journal does not open.
pub async fn adopt(config: &Config, key: RootKey, clock: Clock) -> Result<Restored, Failure> {
    if !config.journal_exists() {
        return Err(Failure::new(FailureKind::Config, "there is no journal to go on with"));
    }
    // How old it is, nobody can know.
    let restored = Restored { taken: clock.now(), at: clock.now() };
    let (state, limits) = (&config.service.state, config.journal.limits());
    let journal = SqliteJournal::open_of_any_age(state, Vault::new(key), Arc::new(NoRouter), limits, clock)?;
    let marked = mark(&journal, config, restored, true).await;
    journal.close().await;
    marked.map(|()| restored)
}

/// Writes down what is in doubt from now on, and what makes every account log in anew. In this order: with the second
/// alone, what is in doubt would be carried again.
async fn mark(journal: &dyn Journal, config: &Config, restored: Restored, in_place: bool) -> Result<(), Failure> {
    restored.keep(journal).await?;
    for (name, account) in &config.accounts {
        journal.write(name, account.restored(restored.at, in_place)).await?;
    }
    Ok(())
}

fn refuse_unless_empty(state: &Path) -> Result<(), Failure> {
    let is_empty = match fs::read_dir(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(unwritten(state, &error)),
        Ok(mut entries) => entries.next().is_none(),
    };
    if is_empty {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} has something in it, and nothing is written over it: stop the service that it belongs to, and move the folder \
         away, or name another with --state",
        state.display()
    )))
}

/// The folder that is to be the state folder. Removed with this unless it became it.
struct Half(PathBuf);

impl Half {
    fn make(state: &Path) -> io::Result<Self> {
        let folder = state.with_added_extension("restoring");
        // Of a call that was killed.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    fn becomes(&self, state: &Path) -> io::Result<()> {
        sync(&self.0)?;
        // Over an empty folder, or nothing.
        fs::rename(&self.0, state)?;
        root_key::sync_folder_of(state)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(%error, "What was restored by half is still there.");
        }
    }
}

/// Every name in a folder and below is on disk after this.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        }
    }
    fs::File::open(folder)?.sync_all()
}

fn put(path: &Path, mut content: impl Read) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(&mut content, &mut file)?;
    file.sync_all()
}

fn unread(file: &Path, error: &io::Error) -> Failure {
    let shown = file.display();
    let words = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => format!("{shown}: {}", Unopened::Damaged),
        _ => format!("{shown} is not restored: {error}"),
    };
    Failure::new(FailureKind::Config, words)
}

fn misplaced(file: &Path) -> Failure {
    Failure::new(FailureKind::Config, format!("{}: its parts are not those of a backup", file.display()))
}

/// Nothing is routed while a journal is made ready.
struct NoRouter;

impl Router for NoRouter {
    fn linked_since(&self, _: &Address) -> Option<Timestamp> {
        None
    }
    fn route(&self, _: &Address, _: &RemoteId, _: &Cleartext, _: SenderTrust) -> Vec<Routed> {
        Vec::new()
    }
    fn open(&self, _: &Address, _: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        None
    }
    fn links_are(&self, _: Vec<Link>) {}
}
