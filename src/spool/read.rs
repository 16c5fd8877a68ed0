//! Reading one file, from any place on.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use async_trait::async_trait;
use sealbridge_contract::{
    SecretBytes, SpoolError, Spooled,
    pieces::{Header, PIECE, Pieces, TAG, length_of, pieces_of},
    spool::SpoolReader,
};
use zeroize::Zeroizing;

use super::{Shared, Trouble, blocking};

pub(super) struct Reader(Option<Open>);

struct Open {
    file: File,
    pieces: Pieces,
    size: u64,
    /// The next piece, and how much of its start was read before.
    place: u64,
    skip: usize,
    _lease: Spooled,
}

impl Reader {
    pub(super) fn open(shared: &Arc<Shared>, spooled: Spooled, from: u64) -> Result<Self, Trouble> {
        let mut file = File::open(shared.path(spooled.id))?;
        if file.metadata()?.len() != length_of(spooled.size) || from > spooled.size {
            return Err(SpoolError::Damaged.into());
        }
        let mut header = [0; Header::LENGTH];
        file.read_exact(&mut header)?;
        let pieces = Header::read(header)?.pieces(&shared.key, spooled.id);
        let place = (from / PIECE as u64).min(pieces_of(spooled.size) - 1);
        let skip = usize::try_from(from - place * PIECE as u64).map_err(|_| SpoolError::Damaged)?;
        file.seek(SeekFrom::Start(Header::LENGTH as u64 + place * (PIECE + TAG) as u64))?;
        // While it is read, nobody removes it.
        let lease = super::Held::spooled(shared, spooled.id, spooled.size, spooled.sha256);
        Ok(Self(Some(Open { file, pieces, size: spooled.size, place, skip, _lease: lease })))
    }
}

impl Open {
    fn next(&mut self) -> Result<SecretBytes, Trouble> {
        let before = self.place * PIECE as u64;
        let length = usize::try_from(self.size - before).unwrap_or(usize::MAX).min(PIECE);
        let mut piece = Zeroizing::new(vec![0; length + TAG]);
        self.file.read_exact(&mut piece)?;
        let place = u32::try_from(self.place).map_err(|_| SpoolError::Damaged)?;
        self.pieces.open(place, self.is_last(), &mut piece)?;
        self.place += 1;
        let skip = std::mem::take(&mut self.skip);
        if skip > 0 {
            piece.drain(..skip);
        }
        Ok(SecretBytes::new(std::mem::take(&mut piece)))
    }

    fn is_last(&self) -> bool {
        self.place + 1 == pieces_of(self.size)
    }
}

#[async_trait]
impl SpoolReader for Reader {
    async fn next(&mut self) -> Result<Option<SecretBytes>, SpoolError> {
        let Some(mut open) = self.0.take() else { return Ok(None) };
        let (last, piece, open) = blocking(move || {
            let last = open.is_last();
            let piece = open.next()?;
            Ok((last, piece, open))
        })
        .await?;
        if !last {
            self.0 = Some(open);
        }
        // An empty file, or one that was read to its end before, has nothing more to give.
        Ok(Some(piece).filter(|piece| !piece.expose().is_empty()))
    }
}
