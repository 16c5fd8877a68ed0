//! A spool in memory, which outlives the transport.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::{
    SecretBytes, Spool, SpoolError, SpoolId, Spooled,
    spool::{Pass, SpoolReader, SpoolWriter},
};

/// A spool in memory. It belongs to one case.
#[derive(Clone, Default)]
pub struct MemorySpool(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: HashMap<SpoolId, Arc<Vec<u8>>>,
    /// How many bytes all of them have at most.
    most: Option<usize>,
}

/// Small, so that a file of any interest has several.
const PIECE: usize = 1000;

impl MemorySpool {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a file in, as if it had come from elsewhere.
    #[must_use]
    pub fn put(&self, content: &[u8]) -> Spooled {
        let id = SpoolId::random();
        self.lock().files.insert(id, Arc::new(content.to_vec()));
        Spooled::new(id, content.len() as u64, Sha256::digest(content).into(), None)
    }

    /// The content of a file.
    #[must_use]
    pub fn content(&self, id: SpoolId) -> Option<Vec<u8>> {
        self.lock().files.get(&id).map(|content| content.to_vec())
    }

    /// From now on there is room for so many bytes.
    pub fn has_room_for(&self, most: usize) {
        self.lock().most = Some(most);
    }

    /// How many files lie in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().files.len()
    }

    /// Forgets every file, as if all had been delivered.
    pub fn clear(&self) {
        self.lock().files.clear();
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn create(&self, most: u64) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        Ok(Box::new(Writer { spool: self.clone(), most, content: Vec::new() }))
    }

    async fn open(&self, pass: &Pass<'_>, from: u64) -> Result<Box<dyn SpoolReader>, SpoolError> {
        let content = self.lock().files.get(&pass.spooled().id).cloned().ok_or(SpoolError::NotThere)?;
        let from = usize::try_from(from).ok().filter(|from| *from <= content.len()).ok_or(SpoolError::Damaged)?;
        Ok(Box::new(Reader { content, at: from }))
    }
}

struct Writer {
    spool: MemorySpool,
    most: u64,
    content: Vec<u8>,
}

#[async_trait]
impl SpoolWriter for Writer {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        if (self.content.len() + piece.len()) as u64 > self.most {
            return Err(SpoolError::TooLong { most: self.most });
        }
        let state = self.spool.lock();
        let taken: usize = state.files.values().map(|file| file.len()).sum();
        if state.most.is_some_and(|most| taken + self.content.len() + piece.len() > most) {
            return Err(SpoolError::Full);
        }
        drop(state);
        self.content.extend_from_slice(piece);
        Ok(())
    }

    async fn finish(self: Box<Self>, expected: Option<[u8; 32]>) -> Result<Spooled, SpoolError> {
        let spooled = self.spool.put(&self.content);
        if expected.is_some_and(|expected| expected != spooled.sha256) {
            self.spool.lock().files.remove(&spooled.id);
            return Err(SpoolError::WrongHash);
        }
        Ok(spooled)
    }
}

struct Reader {
    content: Arc<Vec<u8>>,
    at: usize,
}

#[async_trait]
impl SpoolReader for Reader {
    async fn next(&mut self) -> Result<Option<SecretBytes>, SpoolError> {
        let end = self.content.len().min(self.at + PIECE);
        let piece = self.content[self.at..end].to_vec();
        self.at = end;
        Ok((!piece.is_empty()).then(|| SecretBytes::new(piece)))
    }
}

impl std::fmt::Debug for MemorySpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemorySpool({} files)", self.count())
    }
}
