//! Which devices may be sent keys, for the egress guard: asked of the crypto store and, for the key of a room, of the
//! register of who may read there, whoever wants to send what.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use matrix_sdk_crypto::{CryptoStoreError, types::requests::ToDeviceRequest};
use ruma::{DeviceId, OwnedUserId, UserId, events::ToDeviceEventType, to_device::DeviceIdOrAllDevices};
use serde::de::IgnoredAny;

use super::{
    Engine, Readers, Register, Stop,
    audience::{DeviceFacts, Person},
    http::{Doorkeeper, Errand},
    machine::Inner,
};

/// What was asked of the crypto store, for as long as nothing about any device moves.
#[derive(Default)]
pub(super) struct Door {
    any_device: AtomicBool,
    register: OnceLock<Arc<dyn Register>>,
    known: Mutex<HashMap<OwnedUserId, Known>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

struct Known {
    moves: u64,
    person: Person,
}

/// A device of theirs, if it may get keys.
fn reader<'a>(person: &'a Person, device: &DeviceId) -> Option<&'a DeviceFacts> {
    person.devices.iter().find(|known| known.device == device && known.reads() && known.curve25519.is_some())
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
    fn account(&self) -> Option<OwnedUserId> {
        let inner = self.0.upgrade()?;
        Some(Engine { inner }.user_id().to_owned())
    }

    async fn admits(&self, errand: &Errand, user: &UserId, device: &DeviceId, key: &str) -> Result<(), Stop> {
        let inner = self.0.upgrade().ok_or(Stop::UnknownRecipient)?;
        let (engine, register) = (Engine { inner: Arc::clone(&inner) }, inner.door.register.get());
        let is_me = user == engine.user_id();
        let judged = engine.with_door(user, |person| {
            let is_its = |known: &DeviceFacts| known.curve25519.as_deref() == Some(key);
            if !reader(person, device).is_some_and(is_its) {
                return Err(Stop::UnknownRecipient);
            }
            match errand {
                Errand::RoomKey { room, whom } => {
                    let may = !is_me && register.is_some_and(|register| register.may_read(room, person, *whom));
                    if may { Ok(()) } else { Err(Stop::Outsider) }
                }
                Errand::Upkeep => Ok(()),
            }
        });
        judged.await.unwrap_or(Err(Stop::UnknownRecipient))
    }
}

impl Engine {
    /// By whose trust the guard judges. Cross-signed devices alone get keys, unless it is told otherwise.
    pub fn set_readers(&self, readers: Readers) {
        self.inner.door.any_device.store(readers == Readers::AnyDevice, Ordering::Relaxed);
        self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Names who knows who may read where. Until then no key of a room leaves. The first stays.
    pub fn set_register(&self, register: Arc<dyn Register>) {
        let _ = self.inner.door.register.set(register);
    }

    fn readers(&self) -> Readers {
        if self.inner.door.any_device.load(Ordering::Relaxed) { Readers::AnyDevice } else { Readers::CrossSigned }
    }

    /// Whether a device may get keys.
    pub(super) async fn admits(&self, user: &UserId, device: &DeviceId) -> Result<bool, CryptoStoreError> {
        self.with_door(user, |person| reader(person, device).is_some()).await
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
                let is_its = |known: &DeviceFacts| {
                    let key = known.curve25519.as_ref();
                    key.is_some_and(|key| sealed.as_ref().is_some_and(|sealed| sealed.contains_key(key)))
                };
                if !self.with_door(user, |person| reader(person, device).is_some_and(is_its)).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What was judged when so much had moved need not be asked for again until more does.
    pub(super) fn note_door(&self, person: &Person, readers: Readers, moves: u64) {
        if readers == self.readers() {
            let known = Known { moves, person: person.clone() };
            self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).insert(person.user.clone(), known);
        }
    }

    async fn with_door<T>(&self, user: &UserId, look: impl FnOnce(&Person) -> T + Send) -> Result<T, CryptoStoreError> {
        let moves = self.inner.stale.moves();
        {
            let known = self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(user).filter(|known| known.moves == moves) {
                return Ok(look(&known.person));
            }
        }
        let person = self.judge_person(user, self.readers()).await?;
        let looked = look(&person);
        let known = Known { moves, person };
        self.inner.door.known.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), known);
        Ok(looked)
    }
}
