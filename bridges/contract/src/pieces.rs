//! The form of a locked file: a head, then pieces of one length, each sealed with its place and with whether it is the last.
//!
//! The pieces are the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over XChaCha20-Poly1305, as the
//! `aead` crate has it: none can be changed, moved, left out at the end or taken from another file.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{
        generic_array::GenericArray,
        stream::{NewStream as _, StreamBE32, StreamPrimitive as _},
    },
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{SpoolError, SpoolId};

/// How long a piece is before it is sealed.
pub const PIECE: usize = 256 * 1024;
/// By how much a sealed piece is longer.
pub const TAG: usize = 16;

const MAGIC: &[u8; 4] = b"SBF1";
const SALT: usize = 32;
const NONCE: usize = 19;

/// The head of a file: what its key is made with, besides the spool's own and the file's name.
pub struct Header([u8; Self::LENGTH]);

impl Header {
    /// How long it is.
    pub const LENGTH: usize = MAGIC.len() + SALT + NONCE;

    /// A new one, from the system's randomness.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; Self::LENGTH];
        getrandom::fill(&mut bytes).expect("the system's random generator answers");
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        Self(bytes)
    }

    /// Takes it back from a file.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] if it is none.
    pub fn read(bytes: [u8; Self::LENGTH]) -> Result<Self, SpoolError> {
        if bytes.starts_with(MAGIC) { Ok(Self(bytes)) } else { Err(SpoolError::Damaged) }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What seals and opens the pieces of this file alone.
    ///
    /// # Panics
    /// Never: the key is of a length that HKDF gives.
    #[must_use]
    pub fn pieces(&self, spool_key: &[u8; 32], id: SpoolId) -> Pieces {
        self.pieces_of(spool_key, b"sealbridge spool file v1", id.as_bytes())
    }

    /// The same for a file that is none of the spool's. `purpose` names which kind it is, and `place` is whatever the
    /// pieces are bound to besides: with another they do not open.
    ///
    /// # Panics
    /// Never: the key is of a length that HKDF gives.
    #[must_use]
    pub fn pieces_of(&self, key: &[u8; 32], purpose: &[u8], place: &[u8]) -> Pieces {
        let (salt, nonce) = self.0[MAGIC.len()..].split_at(SALT);
        let from = Hkdf::<Sha256>::new(Some(salt), key);
        let mut key = Zeroizing::new([0; 32]);
        from.expand_multi_info(&[purpose, place], key.as_mut()).expect("32 bytes are within what HKDF-SHA-256 gives");
        let cipher = XChaCha20Poly1305::new(key.as_slice().into());
        Pieces(StreamBE32::from_aead(cipher, GenericArray::from_slice(nonce)))
    }
}

/// Seals and opens the pieces of one file.
pub struct Pieces(StreamBE32<XChaCha20Poly1305>);

impl Pieces {
    /// Seals a piece where it lies.
    ///
    /// # Errors
    /// [`SpoolError::Failed`] if it is longer than the cipher takes.
    pub fn seal(&self, place: u32, last: bool, piece: &mut Vec<u8>) -> Result<(), SpoolError> {
        let sealed = self.0.encrypt_in_place(place, last, b"", piece);
        sealed.map_err(|_| SpoolError::Failed("a piece could not be sealed".into()))
    }

    /// Opens a piece where it lies.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] if it is not this piece of this file, unchanged.
    pub fn open(&self, place: u32, last: bool, piece: &mut Vec<u8>) -> Result<(), SpoolError> {
        self.0.decrypt_in_place(place, last, b"", piece).map_err(|_| SpoolError::Damaged)
    }
}

/// How many pieces a file of this size has; an empty one has an empty piece.
#[must_use]
pub fn pieces_of(size: u64) -> u64 {
    size.div_ceil(PIECE as u64).max(1)
}

/// How many bytes a file of this size takes on disk.
#[must_use]
pub fn length_of(size: u64) -> u64 {
    size.saturating_add(Header::LENGTH as u64).saturating_add(pieces_of(size).saturating_mul(TAG as u64))
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Header(redacted)")
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces(redacted)")
    }
}
