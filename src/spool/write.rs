//! Writing one file.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use sealbridge_contract::{
    SpoolError, SpoolId, Spooled,
    pieces::{Header, PIECE, Pieces, TAG},
    spool::SpoolWriter,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Held, Shared, Trouble, blocking};

/// A file that is not whole yet. Dropped, it is gone.
pub(super) struct Part {
    shared: Arc<Shared>,
    id: SpoolId,
    path: PathBuf,
    file: File,
    pieces: Pieces,
    place: u32,
    /// Taken room on disk.
    taken: u64,
    size: u64,
    most: u64,
    hash: Sha256,
    /// The next piece. It is sealed when more comes after it, since the last one is sealed in another way.
    piece: Zeroizing<Vec<u8>>,
    whole: bool,
}

impl Part {
    pub(super) fn begin(
        shared: Arc<Shared>,
        id: SpoolId,
        path: PathBuf,
        file: File,
        most: u64,
    ) -> Result<Self, Trouble> {
        let header = Header::random();
        let pieces = header.pieces(&shared.key, id);
        let piece = Zeroizing::new(Vec::with_capacity(PIECE + TAG));
        let hash = Sha256::new();
        let (place, taken, size, whole) = Default::default();
        let mut part = Self { shared, id, path, file, pieces, place, taken, size, most, hash, piece, whole };
        part.put(header.bytes())?;
        Ok(part)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        // It would not fit into the empty spool either, so nobody is to wait for room.
        if self.taken + bytes.len() as u64 > self.shared.most {
            return Err(SpoolError::TooLong { most: self.shared.most }.into());
        }
        self.shared.take(bytes.len() as u64)?;
        self.taken += bytes.len() as u64;
        Ok(self.file.write_all(bytes)?)
    }

    /// Seals the piece that is full and puts it on disk.
    fn seal(&mut self, last: bool) -> Result<(), Trouble> {
        let mut piece = std::mem::take(&mut self.piece);
        self.pieces.seal(self.place, last, &mut piece)?;
        self.put(&piece)?;
        self.place = self.place.checked_add(1).ok_or(SpoolError::TooLong { most: self.most })?;
        piece.clear();
        self.piece = piece;
        Ok(())
    }

    fn end(mut self, expected: Option<[u8; 32]>) -> Result<Spooled, Trouble> {
        self.seal(true)?;
        let sha256: [u8; 32] = self.hash.clone().finalize().into();
        if expected.is_some_and(|expected| expected != sha256) {
            return Err(SpoolError::WrongHash.into());
        }
        self.file.sync_all()?;
        // Leased before it has its name, so that no look between the two removes it.
        let spooled = Held::spooled(&self.shared, self.id, self.size, sha256);
        fs::rename(&self.path, self.shared.path(self.id))?;
        self.whole = true;
        File::open(&self.shared.folder)?.sync_all()?;
        Ok(spooled)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.whole {
            self.shared.give_back(self.taken);
            // What can't be removed now is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) struct Writer {
    /// Away while a piece is put on disk; for good if that was cut short, and then the file is gone.
    part: Option<Part>,
}

impl Writer {
    pub(super) fn new(part: Part) -> Self {
        Self { part: Some(part) }
    }

    fn take(&mut self) -> Result<Part, SpoolError> {
        self.part.take().ok_or_else(|| SpoolError::Failed("the file was given up before".into()))
    }
}

#[async_trait]
impl SpoolWriter for Writer {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        let mut part = self.take()?;
        part.size = part.size.saturating_add(piece.len() as u64);
        if part.size > part.most {
            return Err(SpoolError::TooLong { most: part.most });
        }
        part.hash.update(piece);
        let mut rest = piece;
        while !rest.is_empty() {
            if part.piece.len() == PIECE {
                part = blocking(move || part.seal(false).map(|()| part)).await?;
            }
            let (now, later) = rest.split_at(rest.len().min(PIECE - part.piece.len()));
            part.piece.extend_from_slice(now);
            rest = later;
        }
        self.part = Some(part);
        Ok(())
    }

    async fn finish(mut self: Box<Self>, expected: Option<[u8; 32]>) -> Result<Spooled, SpoolError> {
        let part = self.take()?;
        blocking(move || part.end(expected)).await
    }
}
