//! How often something was committed, kept outside of the journal's file as well.
//!
//! It is written after each commit and not waited for: a process that dies at any moment leaves it right or one behind,
//! and a machine that loses power leaves it behind. So it is never ahead of the journal, unless the journal's file is an
//! older copy. It can't be raised by anybody who has not the key; where it is gone, or is none of
//! ours, the journal is not gone on with, and whoever puts an older one back beside an older journal is not noticed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rusqlite::Connection;

use super::keys::{Keys, Place};
use crate::store::OpenError;

/// The file's name, beside the journal's.
pub const FILE: &str = "journal.count";

/// Number and tag.
const LENGTH: usize = 8 + 16;

/// The count, and its file.
#[derive(Debug)]
pub(super) struct Count {
    file: File,
    commits: u64,
    failed: bool,
}

impl Count {
    /// Compares the journal's own count with what is outside of it. With `any_age` an older copy goes on from there.
    pub(super) fn open(folder: &Path, connection: &Connection, keys: &Keys, any_age: bool) -> Result<Self, OpenError> {
        let unusable = |error: &dyn std::fmt::Display| OpenError::Unusable(error.to_string());
        let (commits, tag): (u64, Option<Vec<u8>>) = connection
            .query_row("SELECT commits, tag FROM total", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|_| OpenError::Damaged("its count of commits can't be read".into()))?;
        let fits = match &tag {
            Some(tag) => keys.fits(&Place::commits(commits), tag),
            // Of a version that did not count.
            None => commits == 0,
        };
        if !fits {
            return Err(OpenError::Damaged("its count of commits was changed".into()));
        }
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&error))?;
        match read(&file, keys).map_err(|error| unusable(&error))? {
            Some(outside) if outside > commits && any_age => return Ok(Self { file, commits: outside, failed: false }),
            Some(outside) if outside > commits => return Err(OpenError::Older { found: commits, outside }),
            Some(_) => {}
            // It was on disk before the first commit was.
            None if commits > 0 && !any_age => return Err(OpenError::Uncounted),
            None => {
                write(&file, commits, keys)
                    .and_then(|()| file.sync_all())
                    .and_then(|()| File::open(folder)?.sync_all())
                    .map_err(|error| unusable(&error))?;
            }
        }
        Ok(Self { file, commits, failed: false })
    }

    /// The next number, and its tag, for the transaction that is about to be committed.
    pub(super) fn next(&self, keys: &Keys) -> (u64, [u8; 16]) {
        let next = self.commits.saturating_add(1);
        (next, keys.tag(&Place::commits(next)))
    }

    /// It is committed.
    pub(super) fn committed(&mut self, commits: u64, keys: &Keys) {
        self.commits = commits;
        let failed = write(&self.file, commits, keys).is_err();
        if failed && !std::mem::replace(&mut self.failed, failed) {
            tracing::warn!("What tells an older copy of the journal can't be written.");
        }
        self.failed = failed;
    }

    /// What was written is on disk after this.
    pub(super) fn close(&self) {
        let _behind = self.file.sync_all();
    }
}

/// `None` if it is new, or not what anybody with the key has written.
fn read(file: &File, keys: &Keys) -> io::Result<Option<u64>> {
    let mut bytes = [0; LENGTH];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (number, tag) = bytes.split_at(8);
    let number = u64::from_le_bytes(number.try_into().map_err(io::Error::other)?);
    Ok(keys.fits(&Place::count(number), tag).then_some(number))
}

fn write(file: &File, number: u64, keys: &Keys) -> io::Result<()> {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&keys.tag(&Place::count(number)));
    file.write_all_at(&bytes, 0)
}
