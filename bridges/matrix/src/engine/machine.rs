//! Opens the engine: the crypto store in its folder, and the agreement with the server about whose device this is.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{DirBuilder, File, Permissions, TryLockError},
    io,
    ops::Deref,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, Mutex as SyncMutex},
};

use matrix_sdk_crypto::{CryptoStoreError, OlmMachine};
use matrix_sdk_sqlite::{OpenStoreError, SqliteCryptoStore, SqliteStoreConfig};
use ruma::{DeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId, api::client::keys::get_keys, encryption::DeviceKeys};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tracing::instrument;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    Class, EngineError, Http, HttpError, Retries, Session,
    door::{Door, Keeper},
    error::{contained, store_failure},
    keystore::{KeyStore, Memory, settle_places},
    lane::LaneState,
    mending::Broken,
    retrying,
    stale::Stale,
    sync::Standing,
    verify::Watched,
};

/// The key of the crypto store.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct StoreKey([u8; 32]);

impl StoreKey {
    /// A fresh random key.
    pub fn generate() -> io::Result<Self> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(io::Error::other)?;
        Ok(key)
    }

    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the folder of the crypto store can't be used")]
    Folder(#[source] io::Error),
    #[error("another process uses this crypto store")]
    Busy,
    #[error("the key does not open this crypto store")]
    WrongKey,
    #[error("the crypto store can't be read: {0}")]
    Corrupt(&'static str),
    #[error("the crypto store belongs to another device; log in as a new device")]
    OtherDevice,
    /// The device has keys that we don't hold: another program uses it, or our store was lost or rolled back.
    #[error("this device has keys on the homeserver that are not ours; log in as a new device")]
    ForeignDevice,
    /// Our store was in use, yet the server knows nothing of its keys: the device was deleted.
    #[error("the homeserver has forgotten this device's keys; log in as a new device")]
    DeviceGone,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The engine of one account. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) http: Http,
    pub(super) machine: OlmMachine,
    pub(super) stale: Stale,
    pub(super) broken: Broken,
    /// Whose devices were read anew since the last flush.
    pub(super) answered: SyncMutex<BTreeSet<OwnedUserId>>,
    /// Held by whoever moves Olm sessions or changes what is stored; see [`keystore`](super::keystore).
    pub(super) olm: Mutex<Memory>,
    /// One at a time: a further `outgoing_requests` makes the library forget the key query in flight.
    pub(super) querying: Mutex<()>,
    pub(super) claiming: Mutex<()>,
    pub(super) flushing: Mutex<()>,
    pub(super) backing_up: Mutex<()>,
    pub(super) wants_flush: Notify,
    pub(super) watched: Watched,
    pub(super) standing: Standing,
    pub(super) door: Door,
    lanes: SyncMutex<HashMap<OwnedRoomId, Arc<Mutex<LaneState>>>>,
    /// Held, and by that locked against a second process, as long as the engine lives.
    _lock: File,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens or creates the crypto store in `folder`, and asks the server which keys it holds for our device.
    #[instrument(skip_all)]
    pub async fn open(session: &Session, http: Http, folder: &Path, key: &StoreKey) -> Result<Self, OpenError> {
        let lock = take_folder(folder)?;
        let config = SqliteStoreConfig::new(folder)
            .key(Some(key.as_bytes()))
            // One connection writes, the others read: the bundled SQLite corrupts its WAL with several writers.
            .pool_max_size(3)
            .cache_size(500_000)
            .journal_size_limit(2_000_000);
        let store = contained(SqliteCryptoStore::open_with_config(&config)).await?.map_err(open_failure)?;
        contained(settle_places(&store)).await?.map_err(|error| OpenError::Corrupt(store_failure(&error)))?;
        let machine = OlmMachine::with_store(&session.user_id, &session.device_id, KeyStore::over(store), None);
        let machine = contained(machine).await?.map_err(|error| match error {
            CryptoStoreError::MismatchedAccount { .. } => OpenError::OtherDevice,
            error => OpenError::Corrupt(store_failure(&error)),
        })?;
        refuse_foreign_device(&http, &machine).await?;

        let stale = Stale::default();
        let tracked = machine.tracked_users().await.map_err(EngineError::from)?;
        stale.mark(tracked.iter().map(Deref::deref));
        let inner = Inner {
            http,
            machine,
            stale,
            broken: Broken::default(),
            answered: SyncMutex::default(),
            olm: Mutex::default(),
            querying: Mutex::default(),
            claiming: Mutex::default(),
            flushing: Mutex::default(),
            backing_up: Mutex::default(),
            wants_flush: Notify::new(),
            watched: Watched::default(),
            standing: Standing::default(),
            door: Door::default(),
            lanes: SyncMutex::default(),
            _lock: lock,
        };
        let inner = Arc::new(inner);
        inner.http.set_doorkeeper(Arc::new(Keeper::of(&inner)));
        Ok(Self { inner })
    }

    pub fn http(&self) -> &Http {
        &self.inner.http
    }

    pub fn user_id(&self) -> &UserId {
        self.machine().user_id()
    }

    pub fn device_id(&self) -> &DeviceId {
        self.machine().device_id()
    }

    /// The public signing key of our device.
    pub fn fingerprint(&self) -> String {
        self.machine().identity_keys().ed25519.to_base64()
    }

    pub(super) fn machine(&self) -> &OlmMachine {
        &self.inner.machine
    }

    /// The right to move Olm sessions and to change what is stored.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, Memory>, EngineError> {
        let mut memory = self.inner.olm.lock().await;
        memory.agree(self.machine()).await?;
        Ok(memory)
    }

    pub(super) fn lane_state(&self, room: &RoomId) -> Arc<Mutex<LaneState>> {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(|lock| lock.into_inner());
        Arc::clone(lanes.entry(room.to_owned()).or_default())
    }

    /// Keeps the device lists of these users up to date from now on. Call it with the members of encrypted rooms.
    pub async fn track<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) -> Result<(), EngineError> {
        let known = self.machine().tracked_users().await?;
        let new: Vec<OwnedUserId> =
            users.into_iter().filter(|user| !known.contains(*user)).map(ToOwned::to_owned).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.machine().update_tracked_users(new.iter().map(Deref::deref)).await?;
        self.inner.stale.mark(new.iter().map(Deref::deref));
        self.inner.wants_flush.notify_one();
        Ok(())
    }

    /// Forgets the room key in use: the next message gets a new one.
    pub async fn discard_room_key(&self, room: &RoomId) -> Result<(), EngineError> {
        let state = self.lane_state(room);
        let mut state = state.lock().await;
        *state = LaneState::default();
        self.throw_away(room).await
    }
}

fn take_folder(folder: &Path) -> Result<File, OpenError> {
    match DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        Ok(()) => {}
        Err(error) => return Err(OpenError::Folder(error)),
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(OpenError::Folder)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))
        .map_err(OpenError::Folder)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Busy),
        Err(TryLockError::Error(error)) => Err(OpenError::Folder(error)),
    }
}

fn open_failure(error: OpenStoreError) -> OpenError {
    match error {
        OpenStoreError::CreateDir(error) => OpenError::Folder(error),
        OpenStoreError::InitCipher(_) => OpenError::WrongKey,
        OpenStoreError::MissingVersion | OpenStoreError::InvalidVersion => {
            OpenError::Corrupt("its version is not supported")
        }
        OpenStoreError::Migration(_) => OpenError::Corrupt("it can't be brought up to date"),
        _ => OpenError::Corrupt("the database failed"),
    }
}

async fn refuse_foreign_device(http: &Http, machine: &OlmMachine) -> Result<(), OpenError> {
    let mut request = get_keys::v3::Request::new();
    request.device_keys.insert(machine.user_id().to_owned(), Vec::new());
    let answer = retrying(Retries::default(), || http.send_any(request.clone(), Class::Keys)).await?;
    let held = answer.device_keys.get(machine.user_id()).and_then(|devices| devices.get(machine.device_id()));
    let account = machine.store().load_account().await.map_err(EngineError::from)?;
    let published = account.is_some_and(|account| account.shared());
    match held {
        Some(keys) if !is_ours(keys.deserialize().ok(), machine) => Err(OpenError::ForeignDevice),
        None if published => Err(OpenError::DeviceGone),
        _ => Ok(()),
    }
}

fn is_ours(keys: Option<DeviceKeys>, machine: &OlmMachine) -> bool {
    let ours = machine.identity_keys();
    let ours = [ours.ed25519.to_base64(), ours.curve25519.to_base64()];
    keys.is_some_and(|keys| keys.keys.len() == ours.len() && keys.keys.values().all(|key| ours.contains(key)))
}
