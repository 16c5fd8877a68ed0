//! Files of the state folder, as the service wrote them: somebody who can make it run code can put links there, and the
//! command that makes a backup reads more than the service may. So nothing is followed out of the folder.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use sealbridge_contract::AccountName;

/// Opens an ordinary file beneath a folder. No part of `name` may be a link, nor lead out.
///
/// # Errors
/// If there is none, or something else.
pub(super) fn open(folder: &Path, name: &Path) -> io::Result<File> {
    let file = File::from(at(&File::open(folder)?, name, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
    }
    Ok(file)
}

fn at(folder: &File, name: &Path, how: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(folder, name, how | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// What the service wrote for a backup. It is overwritten, and goes, with this.
#[derive(Debug)]
pub struct Export {
    /// Whose engine wrote it.
    pub account: AccountName,
    file: File,
    folder: OwnedFd,
    name: OsString,
}

impl Export {
    /// Takes what the service says that it wrote: only from this account's own folder.
    ///
    /// # Errors
    /// If it lies elsewhere, or is no ordinary file.
    pub fn take(state: &Path, account: AccountName, file: &Path) -> io::Result<Self> {
        let elsewhere = || io::Error::new(io::ErrorKind::InvalidInput, "what the service wrote lies somewhere else");
        let below = file.strip_prefix(state).map_err(|_| elsewhere())?;
        let own = Path::new("accounts").join(account.as_str());
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else { return Err(elsewhere()) };
        if !plain || !below.starts_with(&own) {
            return Err(elsewhere());
        }
        let folder = at(&File::open(state)?, parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let opened = at(&File::from(folder.try_clone()?), Path::new(name), OFlags::RDWR | OFlags::NONBLOCK)?;
        let file = File::from(opened);
        if !file.metadata()?.is_file() {
            return Err(elsewhere());
        }
        Ok(Self { account, file, folder, name: name.to_owned() })
    }

    /// Its content, and how long it is.
    pub(super) fn content(&self) -> io::Result<(u64, &File)> {
        Ok((self.file.metadata()?.len(), &self.file))
    }

    fn erase(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        io::Seek::rewind(&mut self.file)?;
        io::copy(&mut io::repeat(0).take(length), &mut self.file)?;
        self.file.flush()?;
        self.file.sync_all()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let erased = self.erase();
        let gone = unlinkat(&self.folder, &self.name, AtFlags::empty()).map_err(io::Error::from);
        if let Err(error) = erased.and(gone) {
            tracing::warn!(%error, account = %self.account, "What was written for the backup is still there.");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn service_that_was_broken_into_gets_no_other_file_read_or_erased() {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, outside) = (folder.path().join("state"), folder.path().join("precious.txt"));
        let own = state.join("accounts/a/export");
        fs::create_dir_all(&own).expect("folders can be made");
        fs::create_dir_all(state.join("accounts/b")).expect("a folder can be made");
        fs::write(&outside, "precious").expect("a file can be written");
        fs::write(state.join("accounts/b/of-another"), "of another").expect("a file can be written");
        symlink(&outside, own.join("link.tar")).expect("a link can be made");
        symlink(folder.path(), state.join("accounts/a/out")).expect("a link can be made");
        let account = || AccountName::parse("a").expect("a name");
        for named in [
            outside.clone(),
            own.join("link.tar"),
            state.join("accounts/a/out/precious.txt"),
            state.join("accounts/a/../../../precious.txt"),
            state.join("accounts/b/of-another"),
            state.join("journal.db"),
            own.clone(),
        ] {
            assert!(Export::take(&state, account(), &named).is_err(), "{}", named.display());
        }
        assert!(open(&state, Path::new("accounts/a/export/link.tar")).is_err());
        assert!(open(&state, Path::new("accounts/a/out/precious.txt")).is_err());
        assert!(open(&state, Path::new("accounts/a")).is_err());
        assert_eq!(fs::read(&outside).expect("it is there"), b"precious");
        assert!(state.join("accounts/b/of-another").exists());
        // The control: what is its own is read and goes.
        fs::write(own.join("own.tar"), "its own").expect("a file can be written");
        let export = Export::take(&state, account(), &own.join("own.tar")).expect("it is its own");
        let (length, mut file) = export.content().expect("it is open");
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("it can be read");
        assert_eq!((length, read.as_slice()), (7, b"its own".as_slice()));
        drop(export);
        assert!(!own.join("own.tar").exists());
    }
}
