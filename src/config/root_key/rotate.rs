//! A new root key in the place of the one there is.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sealbridge_contract::RootKey;

use super::{CREDENTIAL, Inner, load, outer, parse, sync_folder_of, text_of, unwritten, write_new};
use crate::{
    config::{Config, secrets},
    operator::{Failure, FailureKind},
};

/// Every named place here where the recovery suite kills the process, in order.
pub const FAILPOINTS: &[&str] = &["key::before", "key::written", "key::locked", "key::replaced", "key::named"];

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Where the root key lies that opens the journal now.
    pub file: PathBuf,
    /// The number of that key.
    pub number: String,
    /// The number of the one that opened it before, and opens nothing any more; `None` if an earlier call did it all.
    pub before: Option<String>,
}

/// Makes a new root key, and locks the inner key with it. From one moment on the new key opens the journal and the old
/// one does not. With `to` the new key is written there, and the old one is left where it lies.
///
/// # Errors
/// [`FailureKind::Temporary`] while a service runs; [`FailureKind::Usage`] if the key comes from a credential and no `to`
/// is named; [`FailureKind::Config`] otherwise.
pub fn rotate(config: &Config, to: Option<&Path>) -> Result<Rotated, Failure> {
    let _kept_out = keep_services_out(config)?;
    let path = config.root_key_path();
    if to.is_none() && secrets::read_credential(CREDENTIAL)?.is_some() {
        let words =
            "the root key comes from a credential: name a file for the new one with --to, and make a credential of it";
        return Err(Failure::usage(words));
    }
    if let Some(done) = to.map(|to| done_before(config, to)).transpose()?.flatten() {
        return Ok(done);
    }
    fail::fail_point!("key::before");
    let inner = load(config)?;
    let old = Inner::read(config)?.ok_or_else(|| {
        let words = "this journal is of a build from before root keys could be changed, and everything in it is locked with \
                     the root key itself";
        Failure::new(FailureKind::Config, words)
    })?;
    let root = RootKey::random();
    let new = Inner::lock(&root, &inner);
    let target = to.map_or_else(|| next(&path), Path::to_owned);
    if to.is_none() && target.exists() {
        // Of a call that ended before this key was in force: `load` would have taken it otherwise.
        fs::remove_file(&target).map_err(|error| unwritten(&target, &error))?;
    }
    write_new(&target, &text_of(&root))?;
    fail::fail_point!("key::written");
    let place = config.inner_key_path();
    replace_inner(&place, &new).map_err(|error| unwritten(&place, &error))?;
    fail::fail_point!("key::replaced");
    if to.is_none() {
        put_in_place(&target, &path).map_err(|error| unwritten(&path, &error))?;
    }
    fail::fail_point!("key::named");
    Ok(Rotated { file: to.map_or(path, Path::to_owned), number: new.root, before: Some(old.root) })
}

/// Goes on with a call that was killed between the moment and the end. `None` if there was none.
pub(super) fn finish(config: &Config, locked: &Inner) -> Option<Result<RootKey, Failure>> {
    let path = config.root_key_path();
    let next = next(&path);
    if secrets::read_credential(CREDENTIAL).ok()?.is_some() || !next.exists() {
        return None;
    }
    let new = secrets::read_file(&next).and_then(|text| parse(&text, &next.display().to_string())).ok()?;
    let inner = locked.unlock(&new)?;
    tracing::warn!(number = %locked.root, "A change of the root key was cut short after it was in force. It is finished.");
    Some(put_in_place(&next, &path).map(|()| inner).map_err(|error| unwritten(&path, &error)))
}

/// Whether `to` holds the key that is in force already: a call before this one was cut short.
fn done_before(config: &Config, to: &Path) -> Result<Option<Rotated>, Failure> {
    if !to.exists() {
        return Ok(None);
    }
    let key = parse(&secrets::read_file(to)?, &to.display().to_string())?;
    match Inner::read(config)? {
        Some(inner) if inner.unlock(&key).is_some() => {
            Ok(Some(Rotated { file: to.to_owned(), number: inner.root, before: None }))
        }
        _ => {
            let words = format!("{} is there already, and does not open the journal: name another file", to.display());
            Err(Failure::usage(words))
        }
    }
}

/// The lock of the journal, which a service holds as long as it runs.
fn keep_services_out(config: &Config) -> Result<File, Failure> {
    // Without a key there is nothing to change, and no folder is made for a lock.
    outer(config)?;
    let path = config.service.state.join("journal.lock");
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open().map_err(|error| unwritten(&path, &error))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(FailureKind::Temporary, "a service is running here: stop it first"),
        TryLockError::Error(error) => unwritten(&path, &error),
    })?;
    Ok(file)
}

/// Where the new key lies until it has its name.
fn next(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn replace_inner(place: &Path, new: &Inner) -> io::Result<()> {
    let half = place.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(new.text().as_bytes())?;
    file.sync_all()?;
    fail::fail_point!("key::locked");
    put_in_place(&half, place)
}

/// Gives a file the name of another, and overwrites what had it: with the old key it would still open.
fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    let old = OpenOptions::new().write(true).open(to);
    fs::rename(from, to)?;
    sync_folder_of(to)?;
    if let Ok(mut old) = old {
        let length = usize::try_from(old.metadata()?.len()).unwrap_or_default();
        old.write_all(&vec![0; length])?;
        old.sync_all()?;
    }
    Ok(())
}
