//! Which devices may be sent keys, for the egress guard: asked of the crypto store, whoever wants to send what.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use matrix_sdk_crypto::{CryptoStoreError, types::requests::ToDeviceRequest};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId, events::ToDeviceEventType, to_device::DeviceIdOrAllDevices};
use serde::de::IgnoredAny;

use super::{Engine, Readers, audience::Person, http::Doorkeeper, machine::Inner};

/// What was asked of the crypto store, for as long as nothing about any device moves.
#[derive(Debug, Default)]
pub(super) struct Door {
    any_device: AtomicBool,
    known: Mutex<HashMap<OwnedUserId, Known>>,
}

#[derive(Debug)]
struct Known {
    moves: u64,
    /// Of those that may get keys: their curve25519 keys, in base64.
    keys: BTreeMap<OwnedDeviceId, String>,
}

impl Known {
    fn of(person: &Person, moves: u64) -> Self {
        let readers = person.devices.iter().filter(|device| device.reads());
        let keys = readers.filter_map(|device| Some((device.device.clone(), device.curve25519.clone()?)));
        Self { moves, keys: keys.collect() }
    }
}

/// The engine, as the guard knows it. It does not keep the engine alive.
pub(super) struct Keeper(Weak<Inner>);

impl Keeper {
    pub(super) fn of(inner: &Arc<Inner>) -> Self {
        Self(Arc::downgrade(inner))
    }
}

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admits(&self, user: &UserId, device: &DeviceId, key: &str) -> bool {
        let Some(inner) = self.0.upgrade() else { return false };
        let known = Engine { inner }.with_door(user, |keys| keys.get(device).is_some_and(|its| its == key)).await;
        known.unwrap_or(false)
    }
}

impl Engine {
    /// By whose trust the guard judges. Cross-signed devices alone get keys, unless it is told otherwise.
    pub fn set_readers(&self, readers: Readers) {
        self.inner.door.any_device.store(readers == Readers::AnyDevice, Ordering::Relaxed);
        self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn readers(&self) -> Readers {
        if self.inner.door.any_device.load(Ordering::Relaxed) { Readers::AnyDevice } else { Readers::CrossSigned }
    }

    /// Whether a device may get keys.
    pub(super) async fn admits(&self, user: &UserId, device: &DeviceId) -> Result<bool, CryptoStoreError> {
        self.with_door(user, |keys| keys.contains_key(device)).await
    }

    /// Whether everybody may still get keys for whom these are encrypted.
    pub(super) async fn still_admits(&self, request: &ToDeviceRequest) -> Result<bool, CryptoStoreError> {
        if request.event_type != ToDeviceEventType::RoomEncrypted {
            return Ok(true);
        }
        for (user, devices) in &request.messages {
            for (device, content) in devices {
                let DeviceIdOrAllDevices::DeviceId(device) = device else { return Ok(false) };
                let sealed = content.get_field::<BTreeMap<String, IgnoredAny>>("ciphertext").ok().flatten();
                let is_its = |key: &String| sealed.as_ref().is_some_and(|sealed| sealed.contains_key(key));
                if !self.with_door(user, |keys| keys.get(device).is_some_and(is_its)).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What was judged when so much had moved need not be asked for again until more does.
    pub(super) fn note_door(&self, person: &Person, readers: Readers, moves: u64) {
        if readers == self.readers() {
            let known = Known::of(person, moves);
            self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).insert(person.user.clone(), known);
        }
    }

    async fn with_door<T>(
        &self,
        user: &UserId,
        look: impl FnOnce(&BTreeMap<OwnedDeviceId, String>) -> T + Send,
    ) -> Result<T, CryptoStoreError> {
        let moves = self.inner.stale.moves();
        {
            let known = self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(user).filter(|known| known.moves == moves) {
                return Ok(look(&known.keys));
            }
        }
        let person = self.judge_person(user, self.readers()).await?;
        let known = Known::of(&person, moves);
        let looked = look(&known.keys);
        self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), known);
        Ok(looked)
    }
}
