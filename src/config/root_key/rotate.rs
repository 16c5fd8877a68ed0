//! A new root key in the place of the one there is.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sealbridge_contract::RootKey;

use rustix::fs::OFlags;

use super::{Inner, home::Home, load, outer, parse, sync_folder_of, text_of, unwritten};
use crate::{
    config::{Config, secrets},
    operator::{Failure, FailureKind},
};

/// Every named place here where the recovery suite kills the process, in order.
pub const FAILPOINTS: &[&str] =
    &["key::before", "key::written", "key::locked", "key::unwiped", "key::replaced", "key::named"];

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// What holds the root key that opens the journal now, in words.
    pub holder: String,
    /// Its file, if it is in one.
    pub file: Option<PathBuf>,
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
    let home = to.map_or_else(|| Home::of(config), |to| Ok(Home::File(to.to_owned())))?;
    home.can_change()?;
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
    let text = text_of(&root);
    match to {
        Some(_) => home.keep(&text)?,
        None => home.keep_next(&text)?,
    }
    fail::fail_point!("key::written");
    let place = config.inner_key_path();
    replace_inner(&place, &new).map_err(|error| unwritten(&place, &error))?;
    fail::fail_point!("key::replaced");
    if to.is_none() {
        home.take_next(&text)?;
    }
    fail::fail_point!("key::named");
    Ok(Rotated { holder: home.holder(), file: home.file(), number: new.root, before: Some(old.root) })
}

/// Goes on with a call that was killed between the moment and the end. `None` if there was none.
pub(super) fn finish(config: &Config, locked: &Inner) -> Option<Result<RootKey, Failure>> {
    let home = Home::of(config).ok()?;
    let text = home.next().ok()??;
    let new = parse(&text, &home.holder()).ok()?;
    let inner = locked.unlock(&new)?;
    tracing::warn!(number = %locked.root, "A change of the root key was cut short after it was in force. It is finished.");
    Some(home.take_next(&text).map(|()| inner))
}

/// Whether `to` holds the key that is in force already: a call before this one was cut short.
fn done_before(config: &Config, to: &Path) -> Result<Option<Rotated>, Failure> {
    if !to.exists() {
        return Ok(None);
    }
    let key = parse(&secrets::read_file(to)?, &to.display().to_string())?;
    match Inner::read(config)? {
        Some(inner) if inner.unlock(&key).is_some() => {
            let holder = to.display().to_string();
            Ok(Some(Rotated { holder, file: Some(to.to_owned()), number: inner.root, before: None }))
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

fn replace_inner(place: &Path, new: &Inner) -> io::Result<()> {
    let half = place.with_added_extension("new");
    // What a service that was broken into laid there, a link elsewhere perhaps, is not written to.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(new.text().as_bytes())?;
    file.sync_all()?;
    fail::fail_point!("key::locked");
    put_in_place(&half, place)
}

/// Gives a file the name of another, and overwrites what had it: with the old key it would still open. That keeps a name
/// until then, by which [`wipe_left`] finds it after a kill.
pub(super) fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    let old = aside(to);
    wipe(to)?;
    // Where a file can't have two names it is overwritten all the same, unless we are killed.
    let _ = fs::hard_link(to, &old);
    let file = open_old(to);
    fs::rename(from, to)?;
    sync_folder_of(to)?;
    fail::fail_point!("key::unwiped");
    match old.symlink_metadata() {
        Ok(_) => wipe(to),
        Err(_) => file.map_or(Ok(()), |file| overwrite(&file)),
    }
}

/// Overwrites what a call that was killed had replaced and not overwritten yet.
pub(super) fn wipe_left(config: &Config) {
    for place in [config.inner_key_path(), config.root_key_path()] {
        if let Err(error) = wipe(&place) {
            tracing::warn!(%error, "What a change of the root key left can't be overwritten.");
        }
    }
}

/// Overwrites what had the name before, if it still has another.
fn wipe(place: &Path) -> io::Result<()> {
    let old = aside(place);
    if old.symlink_metadata().is_err() {
        return Ok(());
    }
    if let Ok(file) = open_old(&old) {
        let there = place.symlink_metadata().map(|there| (there.dev(), there.ino()));
        let meta = file.metadata()?;
        // It may be in force still, and whatever has a third name was laid there by somebody else.
        if there.ok() != Some((meta.dev(), meta.ino())) && meta.nlink() == 1 {
            overwrite(&file)?;
        }
    }
    fs::remove_file(&old)?;
    sync_folder_of(place)
}

/// Where the old one lies until it is overwritten.
fn aside(place: &Path) -> PathBuf {
    place.with_added_extension("old")
}

fn open_old(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

fn overwrite(mut file: &File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.write_all(&vec![0; length])?;
    file.sync_all()
}
