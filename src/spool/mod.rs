//! The spool: files on their way, locked, in a folder of their own.
//!
//! A file is sealed piece by piece under a key of its own and hashed as it comes, so memory stays the same whatever its
//! size. It gets its name only when it is whole, on disk, and what its sender said. It goes when neither the journal
//! names it nor anybody holds a lease; what a crash left behind goes at the next look.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sealbridge_contract::{
    Spool, SpoolError, SpoolId, Spooled,
    pieces::Header,
    spool::{Lease, Pass, SpoolReader, SpoolWriter},
};
use zeroize::Zeroizing;

/// What ends the name of a file that is not whole yet.
const PART: &str = "part";

/// The spool in a folder.
#[derive(Clone)]
pub struct SpoolFolder(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    key: Zeroizing<[u8; 32]>,
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    leases: HashMap<SpoolId, usize>,
}

impl SpoolFolder {
    /// Opens or makes the spool in `folder`, for at most `most` bytes. What a crash left unfinished is removed. Blocks.
    ///
    /// # Errors
    /// If the folder can't be used.
    pub fn open(folder: &Path, key: Zeroizing<[u8; 32]>, most: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut used = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|ending| ending == PART) {
                fs::remove_file(entry.path())?;
            } else {
                used += entry.metadata()?.len();
            }
        }
        let state = Mutex::new(State { used, leases: HashMap::new() });
        Ok(Self(Arc::new(Shared { folder: folder.to_owned(), key, most, state })))
    }

    /// How many bytes it takes on disk.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.state().used
    }

    /// Files that nobody holds a lease on. Those that the journal does not name when it is asked *after* this are to
    /// be removed.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub async fn unleased(&self) -> Result<Vec<SpoolId>, SpoolError> {
        let shared = Arc::clone(&self.0);
        blocking(move || {
            let ids = fs::read_dir(&shared.folder)?
                .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| SpoolId::parse(name).ok())));
            let ids: io::Result<Vec<Option<SpoolId>>> = ids.collect();
            let ids = ids?;
            let state = shared.state();
            Ok(ids.into_iter().flatten().filter(|id| !state.leases.contains_key(id)).collect())
        })
        .await
    }

    /// Removes these files, unless `named` has them. Says how many.
    ///
    /// # Errors
    /// If one can't be removed.
    pub async fn remove(&self, files: Vec<SpoolId>, named: &HashSet<SpoolId>) -> Result<usize, SpoolError> {
        let files: Vec<_> = files.into_iter().filter(|id| !named.contains(id)).collect();
        let shared = Arc::clone(&self.0);
        blocking(move || {
            let mut removed = 0;
            for id in files {
                removed += usize::from(shared.erase(&shared.path(id))?);
            }
            Ok(removed)
        })
        .await
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: SpoolId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Takes room for so many bytes.
    fn take(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut state = self.state();
        let used = state.used.saturating_add(bytes);
        if used > self.most {
            return Err(SpoolError::Full);
        }
        state.used = used;
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(bytes);
    }

    /// Makes a file useless before its name goes: without its head nobody can open what the disk still holds.
    fn erase(&self, path: &Path) -> io::Result<bool> {
        let length = match fs::metadata(path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let head = usize::try_from(length).unwrap_or(usize::MAX).min(Header::LENGTH);
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(&vec![0; head])?;
        file.sync_data()?;
        fs::remove_file(path)?;
        self.give_back(length);
        Ok(true)
    }
}

#[async_trait]
impl Spool for SpoolFolder {
    async fn create(&self, most: u64) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        let shared = Arc::clone(&self.0);
        blocking(move || {
            let id = SpoolId::random();
            let path = shared.path(id).with_extension(PART);
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let part = write::Part::begin(shared, id, path, file, most)?;
            Ok(Box::new(write::Writer::new(part)) as Box<dyn SpoolWriter>)
        })
        .await
    }

    async fn open(&self, pass: &Pass<'_>, from: u64) -> Result<Box<dyn SpoolReader>, SpoolError> {
        let (shared, spooled) = (Arc::clone(&self.0), pass.spooled().clone());
        blocking(move || Ok(Box::new(read::Reader::open(&shared, spooled, from)?) as Box<dyn SpoolReader>)).await
    }
}

/// One hold on a file.
struct Held {
    shared: Arc<Shared>,
    id: SpoolId,
}

impl Lease for Held {}

impl Held {
    fn spooled(shared: &Arc<Shared>, id: SpoolId, size: u64, sha256: [u8; 32]) -> Spooled {
        *shared.state().leases.entry(id).or_default() += 1;
        Spooled::new(id, size, sha256, Some(Arc::new(Self { shared: Arc::clone(shared), id })))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(count) = state.leases.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.leases.remove(&self.id);
            }
        }
    }
}

/// What goes wrong inside.
enum Trouble {
    Disk(io::Error),
    Spool(SpoolError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<SpoolError> for Trouble {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl From<Trouble> for SpoolError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Spool(error) => error,
            Trouble::Disk(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
                io::ErrorKind::NotFound => Self::NotThere,
                io::ErrorKind::UnexpectedEof => Self::Damaged,
                _ => Self::Failed(error.to_string()),
            },
        }
    }
}

/// Does what waits for the disk where nobody else has to wait with it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, SpoolError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SpoolError::Failed(error.to_string()))?.map_err(SpoolError::from)
}

impl fmt::Debug for SpoolFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolFolder").field("used", &self.used()).finish_non_exhaustive()
    }
}
