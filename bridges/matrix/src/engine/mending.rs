//! Opens a new Olm session with a device whose messages can't be opened.
//!
//! The library does so by itself only for sessions older than an hour, and until then the keys that such a device sends
//! would be lost. Here it is done at once, and at most once an hour for a device, since each costs it a one-time key and
//! anybody can send rubbish in its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use matrix_sdk_crypto::{CollectStrategy, Device, types::requests::ToDeviceRequest};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedUserId, TransactionId, UserId, api::client::keys::claim_keys,
    events::ToDeviceEventType, to_device::DeviceIdOrAllDevices,
};
use serde_json::json;
use tracing::info;

use super::{Class, Engine, EngineError, error::contained, outgoing::REMOTE_KEYS};

const AGAIN: Duration = Duration::from_secs(3600);
/// More devices than this are not mended in one hour: somebody plays with us.
const MOST: usize = 1000;

/// Devices with which a new session is wanted, and those that got one lately.
#[derive(Debug, Default)]
pub(super) struct Broken(Mutex<Devices>);

#[derive(Debug, Default)]
struct Devices {
    /// By owner and curve25519 key.
    wanted: BTreeSet<(OwnedUserId, String)>,
    mended: BTreeMap<(OwnedUserId, String), Instant>,
}

impl Broken {
    pub(super) fn add(&self, devices: impl IntoIterator<Item = (OwnedUserId, String)>) {
        let mut known = self.lock();
        known.mended.retain(|_, at| at.elapsed() < AGAIN);
        for device in devices {
            if !known.mended.contains_key(&device) && known.mended.len() + known.wanted.len() < MOST {
                known.wanted.insert(device);
            }
        }
    }

    fn next(&self) -> Option<(OwnedUserId, String)> {
        self.lock().wanted.first().cloned()
    }

    fn forget(&self, device: &(OwnedUserId, String)) {
        self.lock().wanted.remove(device);
    }

    /// Done, or not to be done: not again within the hour.
    fn settle(&self, device: (OwnedUserId, String)) {
        let mut known = self.lock();
        known.wanted.remove(&device);
        known.mended.insert(device, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Devices> {
        self.0.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Engine {
    /// Opens new sessions with the devices that want one. What fails in passing is left for the next flush.
    pub(super) async fn mend_channels(&self) -> Result<(), EngineError> {
        while let Some((user, key)) = self.inner.broken.next() {
            if let Some(device) = self.device_by_key(&user, &key).await? {
                // What a device says that gets no keys is not read either. Its owner may sign it yet.
                if !self.admits(&user, device.device_id()).await? {
                    self.inner.broken.forget(&(user, key));
                    continue;
                }
                self.mend(&device).await?;
            }
            self.inner.broken.settle((user, key));
        }
        Ok(())
    }

    async fn device_by_key(&self, user: &UserId, key: &str) -> Result<Option<Device>, EngineError> {
        let devices = self.machine().get_user_devices(user, None).await?;
        let found = devices.devices().find(|device| device.curve25519_key().is_some_and(|its| its.to_base64() == key));
        Ok(found)
    }

    /// Claims a one-time key, opens a session with it, and says something through it, so that the other side uses it too.
    async fn mend(&self, device: &Device) -> Result<(), EngineError> {
        let (user, id) = (device.user_id().to_owned(), device.device_id().to_owned());
        if !self.claim(&user, &id).await? {
            return Ok(());
        }
        let turn = self.turn().await?;
        let nothing = json!({});
        let greeting = device.encrypt_event_raw("m.dummy", &nothing, CollectStrategy::AllDevices);
        let sealed = contained(greeting).await??;
        drop(turn);
        let messages = [(DeviceIdOrAllDevices::DeviceId(id), sealed.cast_unchecked())].into();
        let request = ToDeviceRequest {
            event_type: ToDeviceEventType::RoomEncrypted,
            txn_id: TransactionId::new(),
            messages: [(user, messages)].into(),
        };
        self.send_to_device_patiently(&request).await?;
        self.inner.stale.moved();
        info!("A device's messages could not be opened; a new session was opened with it.");
        Ok(())
    }

    /// False: the device has no one-time key left.
    async fn claim(&self, user: &UserId, device: &OwnedDeviceId) -> Result<bool, EngineError> {
        let wanted = [(device.clone(), OneTimeKeyAlgorithm::SignedCurve25519)].into();
        let mut request = claim_keys::v3::Request::new([(user.to_owned(), wanted)].into());
        request.timeout = Some(REMOTE_KEYS);
        let answer = self.http().send_any(request, Class::Keys).await?;
        let given = answer.one_time_keys.get(user).is_some_and(|devices| devices.contains_key(device));
        if given {
            self.mark(self.machine().mark_request_as_sent(&TransactionId::new(), &answer)).await?;
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn device_is_mended_once_an_hour() {
        let broken = Broken::default();
        let device = (user_id!("@a:x").to_owned(), "key".to_owned());
        broken.add([device.clone()]);
        assert_eq!(broken.next(), Some(device.clone()));
        assert_eq!(broken.next(), Some(device.clone()), "until it is done");
        broken.settle(device.clone());
        broken.add([device]);
        assert_eq!(broken.next(), None);
    }
}
