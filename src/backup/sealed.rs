//! The form of a backup's file: who may open it, in clear; then pieces, each sealed with its place and with whether it is
//! the last, as the spool's files are.

use std::io::{self, BufRead as _, Read, Write};

use sealbridge_contract::{
    RootKey, Vault,
    pieces::{Header, PIECE, Pieces, TAG},
};
use zeroize::Zeroizing;

use crate::config::root_key::{copy, number};

/// The version of the form. What a file of a newer one holds, nobody here can know.
const FORM: u32 = 1;
const MAGIC: &str = "sealbridge backup ";
const PURPOSE: &[u8] = b"sealbridge backup v1";
/// The first line is no longer, whatever a file says.
const LONGEST_LINE: u64 = 64;

/// The key of a backup: 32 random bytes, like a root key, and never one.
pub struct BackupKey(RootKey);

impl BackupKey {
    /// Takes it.
    #[must_use]
    pub fn new(key: RootKey) -> Self {
        Self(key)
    }

    /// Tells it from others, and tells nothing else.
    #[must_use]
    pub fn number(&self) -> String {
        number(&Vault::new(copy(&self.0)))
    }

    fn pieces(&self, header: &Header, line: &str) -> Pieces {
        header.pieces_of(self.0.expose(), PURPOSE, line.as_bytes())
    }
}

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey(redacted)")
    }
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// Some other file.
    #[error("it is no backup of Sealbridge")]
    NoBackup,
    /// Of a version to come.
    #[error(
        "it was made by a newer Sealbridge (form {0}, this one knows {FORM}): restore it with that version, or a newer one"
    )]
    Newer(u32),
    /// Sealed with another key.
    #[error("it is sealed with the key that has the number {wanted}, and this one has {given}")]
    OtherKey {
        /// The number of the key that opens it, as the file says.
        wanted: String,
        /// The number of the key that was given.
        given: String,
    },
    /// Changed, cut short, or put together of others.
    #[error("it is damaged: something in it was changed, or its end is missing")]
    Damaged,
    /// The disk.
    #[error("it can't be read: {0}")]
    Disk(#[from] io::Error),
}

/// Seals what is written to it. Without [`finish`](Self::finish) the file has no end, and does not open.
pub(super) struct Sealer<W> {
    to: W,
    pieces: Pieces,
    place: u32,
    piece: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Begins a file.
    pub(super) fn begin(mut to: W, key: &BackupKey) -> io::Result<Self> {
        let line = format!("{MAGIC}{FORM} {}\n", key.number());
        let header = Header::random();
        to.write_all(line.as_bytes())?;
        to.write_all(header.bytes())?;
        let pieces = key.pieces(&header, &line);
        Ok(Self { to, pieces, place: 0, piece: Zeroizing::new(Vec::with_capacity(PIECE + TAG)) })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        self.pieces.seal(self.place, last, &mut self.piece).map_err(io::Error::other)?;
        self.to.write_all(&self.piece)?;
        self.place = self.place.checked_add(1).ok_or_else(|| io::Error::other("it is too large for a backup"))?;
        self.piece.clear();
        Ok(())
    }

    /// Seals the end, and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sealed only when more comes, so that the last piece is never an empty one by itself.
        if self.piece.len() == PIECE {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what was sealed, piece by piece; gives nothing out that was not sealed with this key, in this place.
pub(super) struct Opener<R> {
    from: io::BufReader<R>,
    pieces: Pieces,
    place: u32,
    piece: Zeroizing<Vec<u8>>,
    given: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    /// Begins to read a file.
    ///
    /// # Errors
    /// [`Unopened`], whether it is another key or another file.
    pub(super) fn begin(from: R, key: &BackupKey) -> Result<Self, Unopened> {
        let mut from = io::BufReader::with_capacity(PIECE + TAG, from);
        let mut line = Vec::new();
        from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let line = String::from_utf8(line).map_err(|_| Unopened::NoBackup)?;
        let rest = line.strip_prefix(MAGIC).and_then(|rest| rest.strip_suffix('\n')).ok_or(Unopened::NoBackup)?;
        let (form, wanted) = rest.split_once(' ').ok_or(Unopened::NoBackup)?;
        let form: u32 = form.parse().map_err(|_| Unopened::NoBackup)?;
        if form > FORM {
            return Err(Unopened::Newer(form));
        }
        let given = key.number();
        if wanted != given {
            let wanted = wanted.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
            return Err(Unopened::OtherKey { wanted, given });
        }
        let mut header = [0; Header::LENGTH];
        from.read_exact(&mut header).map_err(|_| Unopened::Damaged)?;
        let header = Header::read(header).map_err(|_| Unopened::Damaged)?;
        let pieces = key.pieces(&header, &line);
        let piece = Zeroizing::new(Vec::with_capacity(PIECE + TAG));
        Ok(Self { from, pieces, place: 0, piece, given: 0, ended: false })
    }

    fn next(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.given = 0;
        self.from.by_ref().take((PIECE + TAG) as u64).read_to_end(&mut self.piece)?;
        let last = self.from.fill_buf()?.is_empty();
        let opened = self.pieces.open(self.place, last, &mut self.piece);
        opened.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, Unopened::Damaged))?;
        self.place = self.place.saturating_add(1);
        self.ended = last;
        Ok(())
    }
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(redacted)")
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.piece.len() {
            if self.ended {
                return Ok(0);
            }
            self.next()?;
        }
        let some = into.len().min(self.piece.len() - self.given);
        into[..some].copy_from_slice(&self.piece[self.given..self.given + some]);
        self.given += some;
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> BackupKey {
        BackupKey::new(RootKey::new([byte; 32]))
    }

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::begin(Vec::new(), &key(1)).expect("memory takes it");
        sealer.write_all(bytes).expect("memory takes it");
        sealer.finish().expect("memory takes it")
    }

    fn opened(file: &[u8], key: &BackupKey) -> Result<Vec<u8>, Unopened> {
        let mut all = Vec::new();
        let read = Opener::begin(file, key)?.read_to_end(&mut all);
        read.map_err(|_| Unopened::Damaged).map(|_| all)
    }

    #[test]
    fn backup_comes_back_whole_whatever_its_length() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            assert_eq!(opened(&sealed(&bytes), &key(1)).expect("it is whole"), bytes, "{length}");
        }
    }

    #[test]
    fn backup_that_was_changed_cut_short_or_put_together_does_not_open() {
        let file = sealed(&vec![7; 2 * PIECE + 100]);
        let start = file.len() - 2 * (PIECE + TAG) - (100 + TAG);
        for at in (0..file.len()).step_by(1009).chain(0..start + 20) {
            let mut bytes = file.clone();
            bytes[at] ^= 1;
            assert!(opened(&bytes, &key(1)).is_err(), "byte {at}");
        }
        // At the ends of pieces too, where nothing else would tell.
        let ends = [start, start + PIECE + TAG, start + 2 * (PIECE + TAG)];
        for length in (0..file.len()).step_by(4001).chain(ends) {
            assert!(opened(&file[..length], &key(1)).is_err(), "cut at {length}");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert!(opened(&longer, &key(1)).is_err());
        let other = sealed(&vec![8; 2 * PIECE + 100]);
        let put_together = [&file[..start + PIECE + TAG], &other[start + PIECE + TAG..]].concat();
        assert!(opened(&put_together, &key(1)).is_err());
        let (one, two) = (start..start + PIECE + TAG, start + PIECE + TAG..start + 2 * (PIECE + TAG));
        let swapped = [&file[..start], &file[two.clone()], &file[one], &file[two.end..]].concat();
        assert!(opened(&swapped, &key(1)).is_err());
    }

    #[test]
    fn another_key_a_newer_form_and_another_file_are_told_apart() {
        let file = sealed(b"words");
        assert!(matches!(opened(&file, &key(2)), Err(Unopened::OtherKey { .. })));
        let mut newer = file.clone();
        newer[MAGIC.len()] = b'2';
        assert!(matches!(opened(&newer, &key(1)), Err(Unopened::Newer(2))));
        for other in [&b""[..], b"SQLite format 3\0", &[0xff; 100], b"sealbridge backup one two\n"] {
            assert!(matches!(opened(other, &key(1)), Err(Unopened::NoBackup)), "{other:?}");
        }
    }

    #[test]
    fn same_words_are_never_sealed_alike_and_do_not_show() {
        let (one, two) = (sealed(b"canary words"), sealed(b"canary words"));
        assert_ne!(one[40..], two[40..]);
        assert!(!one.windows(6).any(|part| part == b"canary"));
    }
}
