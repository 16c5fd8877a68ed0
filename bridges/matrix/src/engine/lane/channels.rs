//! Encrypted channels to the devices that get the room key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use matrix_sdk_crypto::types::requests::ToDeviceRequest;
use ruma::{OwnedUserId, RoomId, UserId, to_device::DeviceIdOrAllDevices};

use super::super::{Audience, Engine, EngineError, Readers, Withholding, error::contained};

impl Engine {
    /// Claims one-time keys for readers without an encrypted channel.
    pub(super) async fn open_channels(&self, members: &[OwnedUserId], readers: Readers) -> Result<(), EngineError> {
        let audience = self.judge_audience(members, readers).await?;
        let mut without = BTreeSet::new();
        for (user, device) in audience.readers() {
            if !self.has_channel(device.curve25519.as_deref()).await? {
                without.insert(user.to_owned());
            }
        }
        if without.is_empty() {
            return Ok(());
        }
        self.claim_missing(&without.into_iter().collect::<Vec<_>>()).await
    }

    async fn has_channel(&self, curve25519: Option<&str>) -> Result<bool, EngineError> {
        let Some(key) = curve25519 else {
            return Ok(false);
        };
        let sessions = self.machine().store().get_sessions(key).await?;
        match sessions {
            Some(sessions) => Ok(!sessions.is_empty()),
            None => Ok(false),
        }
    }

    pub(super) async fn without_channels(&self, mut audience: Audience) -> Result<Audience, EngineError> {
        for person in audience.people.values_mut() {
            for device in person.devices.iter_mut().filter(|device| device.reads()) {
                if !self.has_channel(device.curve25519.as_deref()).await? {
                    device.withheld = Some(Withholding::NoOlmSession);
                }
            }
        }
        Ok(audience)
    }

    pub(in super::super) async fn throw_away(&self, room: &RoomId) -> Result<(), EngineError> {
        contained(self.machine().discard_room_key(room)).await??;
        Ok(())
    }
}

/// The same without what the library made for devices to which nothing is sent, whatever its strategy says: one whose name
/// stands for all of its owner, and others of our own account.
pub(super) fn without_strays(request: Arc<ToDeviceRequest>, me: &UserId) -> Arc<ToDeviceRequest> {
    let is_stray = |user: &UserId, device: &DeviceIdOrAllDevices| user == me || device.to_string() == "*";
    let has_strays =
        |(user, devices): (&OwnedUserId, &BTreeMap<_, _>)| devices.keys().any(|device| is_stray(user, device));
    if !request.messages.iter().any(has_strays) {
        return request;
    }
    let mut request = (*request).clone();
    for (user, devices) in &mut request.messages {
        devices.retain(|device, _| !is_stray(user, device));
    }
    request.messages.retain(|_, devices| !devices.is_empty());
    Arc::new(request)
}

/// Whether the keys go to nobody but the readers of the audience.
pub(super) fn all_expected(requests: &[Arc<ToDeviceRequest>], audience: &Audience) -> bool {
    requests
        .iter()
        .filter(|request| request.event_type.to_string() != "m.room_key.withheld")
        .flat_map(|request| &request.messages)
        .flat_map(|(user, devices)| devices.keys().map(move |device| (user, device)))
        .all(|(user, device)| match device {
            DeviceIdOrAllDevices::DeviceId(device) => audience.reads(user, device.as_str()),
            DeviceIdOrAllDevices::AllDevices => false,
        })
}
