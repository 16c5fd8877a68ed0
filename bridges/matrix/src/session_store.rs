//! The login, locked in the account's store: session, device and recovery key.

use async_trait::async_trait;
use ruma::{DeviceId, OwnedDeviceId};
use sealbridge_contract::{
    NotAccepted, SecretBytes,
    inbox::{AccountStore, StoreWrite},
};
use tokio::sync::Mutex;
use url::Url;

use crate::{
    age::BESIDE_KEYS,
    config::Settings,
    engine::{KeepFailed, RecoveryKey, Session, TokenKeeper, Tokens, new_device_id},
};

const SESSION: &str = "session";
const DEVICE: &str = "device";
const RECOVERY_KEY: &str = "recovery-key";
const READY: &str = "set-up";
const DEVICE_LOST: &str = "device-lost";
const LEFT_BEHIND: &str = "device-left-behind";

/// Reads the session, if somebody logged in.
pub(crate) async fn session(store: &AccountStore) -> Result<Option<Session>, SessionUnread> {
    let Some(bytes) = store.read(SESSION).await? else { return Ok(None) };
    Session::from_secret_bytes(bytes.expose()).map(Some).map_err(|_| SessionUnread::Corrupt)
}

/// Why the session can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionUnread {
    #[error("the stored session can't be read")]
    Corrupt,
    #[error(transparent)]
    Journal(#[from] NotAccepted),
}

/// The session, at the address that the config gives now: a homeserver may move.
pub(crate) async fn session_at(store: &AccountStore, settings: &Settings) -> Result<Option<Session>, SessionUnread> {
    let address = settings.homeserver.as_deref().filter(|address| address.contains("://"));
    let address = address.and_then(|address| Url::parse(address).ok());
    Ok(session(store).await?.map(|session| match address {
        Some(homeserver) => session.with_homeserver(homeserver),
        None => session,
    }))
}

/// Forgets the login, so that another can be made. The recovery key stays, and so does what was received.
pub(crate) async fn forget(store: &AccountStore) -> Result<(), NotAccepted> {
    // Another device has keys of its own, which begin anew.
    store.write([SESSION, DEVICE, READY, DEVICE_LOST, BESIDE_KEYS].map(StoreWrite::delete).into()).await
}

/// What is written into the store of an account that came out of a backup: its keys were not in it, so it is set up
/// again as a new device. What it had received stays.
#[must_use]
pub fn restored() -> Vec<StoreWrite> {
    vec![StoreWrite::delete(READY), StoreWrite::put(DEVICE_LOST, b"1".as_slice())]
}

/// The device that we had before this one, until it is known to be gone.
pub(crate) async fn left_behind(store: &AccountStore) -> Result<Option<OwnedDeviceId>, NotAccepted> {
    let kept = store.read(LEFT_BEHIND).await?;
    Ok(kept.and_then(|kept| Some(std::str::from_utf8(kept.expose()).ok()?.into())))
}

pub(crate) async fn leave_behind(store: &AccountStore, device: &DeviceId) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::put(LEFT_BEHIND, device.as_bytes())]).await
}

pub(crate) async fn is_gone(store: &AccountStore) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::delete(LEFT_BEHIND)]).await
}

/// Notes that the device can't be used any more, whatever the homeserver says of the session.
pub(crate) async fn set_device_lost(store: &AccountStore) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::put(DEVICE_LOST, b"1".as_slice())]).await
}

pub(crate) async fn is_device_lost(store: &AccountStore) -> Result<bool, NotAccepted> {
    Ok(store.read(DEVICE_LOST).await?.is_some())
}

pub(crate) async fn keep_session(store: &AccountStore, session: &Session) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::put(SESSION, session.to_secret_bytes().as_slice())]).await
}

/// The device to log in as. Kept before it is used, so that a crash leaves no stray device at the homeserver.
pub(crate) async fn device(store: &AccountStore) -> Result<OwnedDeviceId, NotAccepted> {
    if let Some(kept) = store.read(DEVICE).await?
        && let Ok(id) = std::str::from_utf8(kept.expose())
    {
        return Ok(id.into());
    }
    let id = new_device_id();
    store.write(vec![StoreWrite::put(DEVICE, id.as_bytes())]).await?;
    Ok(id)
}

/// Our recovery key, if we made or were given one.
pub(crate) async fn recovery_key(store: &AccountStore) -> Result<Option<SecretBytes>, NotAccepted> {
    store.read(RECOVERY_KEY).await
}

/// Keeps a new recovery key, before it is used anywhere.
pub(crate) async fn keep_recovery_key(store: &AccountStore, key: &RecoveryKey) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::put(RECOVERY_KEY, key.to_secret_bytes().as_slice())]).await
}

/// Whether the login was set up to its end.
pub(crate) async fn is_ready(store: &AccountStore) -> Result<bool, NotAccepted> {
    Ok(store.read(READY).await?.is_some())
}

pub(crate) async fn set_ready(store: &AccountStore) -> Result<(), NotAccepted> {
    store.write(vec![StoreWrite::put(READY, b"1".as_slice()), StoreWrite::delete(DEVICE_LOST)]).await
}

/// Makes refreshed tokens durable before they are used.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: AccountStore,
    session: Mutex<Session>,
}

impl Keeper {
    pub(crate) fn new(store: AccountStore, session: Session) -> Self {
        Self { store, session: Mutex::new(session) }
    }
}

#[async_trait]
impl TokenKeeper for Keeper {
    async fn keep(&self, tokens: &Tokens) -> Result<(), KeepFailed> {
        let mut session = self.session.lock().await;
        let renewed = session.with_tokens(tokens);
        // The homeserver may have retired the old tokens already, so a full journal is waited for.
        while let Err(error) = keep_session(&self.store, &renewed).await {
            tokio::time::sleep(error.again_in().ok_or(KeepFailed)?).await;
        }
        *session = renewed;
        Ok(())
    }
}
