//! Files on their way: streamed through a locked spool, so that memory stays bounded whatever their size.
//!
//! Whoever receives a file writes it piece by piece; only what was hashed to its end and is what its sender said is
//! ever released. Whoever delivers it reads it again from any place on, so that a broken upload can go on. Reading
//! needs the gate's leave, so somebody else's server never gets to see it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{SecretBytes, ids::random_id};

random_id! {
    /// The name of something in the spool: 128 random bits. It opens nothing by itself.
    SpoolId
}

/// Something whole in the spool. As long as a lease is held, or the journal names it, it is not swept.
#[derive(Clone)]
pub struct Spooled {
    /// Its name there.
    pub id: SpoolId,
    /// How many bytes it has.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    lease: Option<Arc<dyn Lease>>,
}

/// Keeps something in the spool until it is dropped.
pub trait Lease: Send + Sync {}

impl Spooled {
    /// Something that the journal names, or that a lease keeps.
    #[must_use]
    pub fn new(id: SpoolId, size: u64, sha256: [u8; 32], lease: Option<Arc<dyn Lease>>) -> Self {
        Self { id, size, sha256, lease }
    }
}

impl PartialEq for Spooled {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.size, self.sha256) == (other.id, other.size, other.sha256)
    }
}

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leased = self.lease.is_some();
        f.debug_struct("Spooled").field("id", &self.id).field("size", &self.size).field("leased", &leased).finish()
    }
}

/// Leave to read one file, for the delivery that the gate cleared: see [`Cleared::pass`](crate::Cleared::pass).
#[derive(Debug)]
pub struct Pass<'a>(pub(crate) &'a Spooled);

impl Pass<'_> {
    /// What may be read.
    #[must_use]
    pub fn spooled(&self) -> &Spooled {
        self.0
    }
}

/// Why the spool did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// It is at its bound, or the disk is full. It goes on by itself when there is room.
    #[error("the spool is full; the file stays on its network until there is room")]
    Full,
    /// Longer than was allowed, or than the whole spool: waiting for room is of no use.
    #[error("the file is longer than {most} bytes")]
    TooLong {
        /// The most that was allowed.
        most: u64,
    },
    /// Not the file that its sender meant. Nothing of it was kept.
    #[error("the file is not what its sender said: its hash is another")]
    WrongHash,
    /// It is not there, or not any more.
    #[error("the file is not in the spool")]
    NotThere,
    /// A changed, missing or moved piece: nothing of it is to be used.
    #[error("the file in the spool was changed")]
    Damaged,
    /// The disk failed.
    #[error("the spool failed: {0}")]
    Failed(String),
}

/// The spool.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Begins a file of at most `most` bytes.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::Failed`].
    async fn create(&self, most: u64) -> Result<Box<dyn SpoolWriter>, SpoolError>;
    /// Reads a file from byte `from` on.
    ///
    /// # Errors
    /// [`SpoolError::NotThere`], [`SpoolError::Damaged`], [`SpoolError::Failed`].
    async fn open(&self, pass: &Pass<'_>, from: u64) -> Result<Box<dyn SpoolReader>, SpoolError>;
}

/// Writes one file. Dropped before [`finish`](SpoolWriter::finish), nothing of it is kept.
#[async_trait]
pub trait SpoolWriter: Send {
    /// Writes the next piece, of any length.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::TooLong`], [`SpoolError::Failed`].
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError>;
    /// Ends it. Released only if it is what `expected` says, where that is known.
    ///
    /// # Errors
    /// [`SpoolError::WrongHash`], [`SpoolError::Full`], [`SpoolError::TooLong`], [`SpoolError::Failed`].
    async fn finish(self: Box<Self>, expected: Option<[u8; 32]>) -> Result<Spooled, SpoolError>;
}

/// Reads one file.
#[async_trait]
pub trait SpoolReader: Send {
    /// The next piece; `None` at the end, and only if all was there.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`], [`SpoolError::Failed`].
    async fn next(&mut self) -> Result<Option<SecretBytes>, SpoolError>;
}
