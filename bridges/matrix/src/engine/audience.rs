//! Who can read: the people of a room with their devices, and which of those get the room key.

use std::collections::BTreeMap;

use matrix_sdk_crypto::{CryptoStoreError, Device, UserIdentity};
use ruma::{OwnedDeviceId, OwnedUserId, RoomId, UserId};

use super::Engine;

/// What stands for every device of somebody, where messages between devices are sent (client-server API, "Send-to-Device
/// messaging").
const EVERY_DEVICE: &str = "*";

/// Which devices get room keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Devices that their owner's identity has signed.
    #[default]
    CrossSigned,
    /// Every device that the homeserver names. A lying homeserver can add some.
    AnyDevice,
}

/// Whom a room key is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whom {
    /// Those who were admitted.
    #[default]
    Admitted,
    /// Everybody in the room: the steps of a comparison are no secret, and whoever lost their identity must get them.
    /// Nothing else is encrypted with such a key.
    Everybody,
}

/// What is known of who may read where. The egress guard asks it of each recipient of a room key, whoever chose them.
pub trait Register: Send + Sync {
    /// Whether somebody who is known so may have the key of a room. Asked of others than ourselves.
    fn may_read(&self, room: &RoomId, person: &Person, whom: Whom) -> bool;
}

/// Everybody in a room, with every device, and whether it can read.
#[derive(Clone, Debug, Default)]
pub struct Audience {
    pub people: BTreeMap<OwnedUserId, Person>,
}

/// What is known locally about a user.
#[derive(Clone, Debug)]
pub struct Person {
    pub user: OwnedUserId,
    /// The public master key of their identity, for pins.
    pub master_key: Option<String>,
    /// Their identity was verified by us.
    pub verified: bool,
    /// Their identity was verified and has changed since.
    pub violation: bool,
    /// Their identity is not the one first seen.
    pub changed: bool,
    /// The device list may be out of date, or was never read.
    pub stale: bool,
    pub devices: Vec<DeviceFacts>,
}

#[derive(Clone, Debug)]
pub struct DeviceFacts {
    pub device: OwnedDeviceId,
    /// The public signing key.
    pub ed25519: Option<String>,
    pub(super) curve25519: Option<String>,
    pub cross_signed: bool,
    pub verified: bool,
    /// Why it gets no room key; `None` if it does.
    pub withheld: Option<Withholding>,
}

impl DeviceFacts {
    pub fn reads(&self) -> bool {
        self.withheld.is_none()
    }

    fn of_ours(self) -> Self {
        Self { withheld: self.withheld.or(Some(Withholding::Ours)), ..self }
    }
}

/// Why a device gets no room key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withholding {
    /// Its owner has an identity and has not signed it.
    Unsigned,
    /// Its owner has no cross-signing identity.
    NoIdentity,
    /// It was blocked locally.
    Blocked,
    /// No encrypted channel to it could be made, for want of one-time keys.
    NoOlmSession,
    /// What it is called stands for every device of its owner, so nothing can be sent to it alone.
    Everything,
    /// It is another device of our own account. The bridge is one.
    Ours,
}

impl Audience {
    pub fn readers(&self) -> impl Iterator<Item = (&UserId, &DeviceFacts)> {
        self.devices().filter(|(_, device)| device.reads())
    }

    pub fn withheld(&self) -> impl Iterator<Item = (&UserId, &DeviceFacts, Withholding)> {
        self.devices().filter_map(|(user, device)| Some((user, device, device.withheld?)))
    }

    /// People of whom no device is known.
    pub fn without_devices(&self) -> impl Iterator<Item = &Person> {
        self.people.values().filter(|person| person.devices.is_empty())
    }

    fn devices(&self) -> impl Iterator<Item = (&UserId, &DeviceFacts)> {
        self.people.values().flat_map(|person| person.devices.iter().map(|device| (&*person.user, device)))
    }

    pub(super) fn reads(&self, user: &UserId, device: &str) -> bool {
        self.people
            .get(user)
            .is_some_and(|person| person.devices.iter().any(|known| known.device == device && known.reads()))
    }
}

impl Engine {
    /// What is known locally about a user. Sends nothing.
    pub async fn person(&self, user: &UserId) -> Result<Person, super::EngineError> {
        Ok(self.judge_person(user, Readers::default()).await?)
    }

    /// Counts what may have changed about anybody's devices or identity.
    pub fn moves(&self) -> u64 {
        self.inner.stale.moves()
    }

    /// Reads the devices of those of whom nothing is known yet, or of whom it may be out of date.
    pub async fn acquaint(&self, users: &[OwnedUserId]) -> Result<(), super::EngineError> {
        self.track(users.iter().map(std::ops::Deref::deref)).await?;
        if self.inner.stale.is_any(users) { self.read_devices().await } else { Ok(()) }
    }

    /// Takes back that somebody was verified, whose identity is another one now.
    pub async fn give_up_verification(&self, user: &UserId) -> Result<(), super::EngineError> {
        if let Some(identity) = self.machine().get_identity(user, None).await? {
            identity.withdraw_verification().await?;
            self.inner.stale.moved();
        }
        Ok(())
    }

    /// Who would get a room key now, as far as is known locally. Sends nothing.
    pub async fn audience(&self, members: &[OwnedUserId], readers: Readers) -> Result<Audience, super::EngineError> {
        Ok(self.judge_audience(members, readers).await?)
    }

    pub(super) async fn judge_audience(
        &self,
        members: &[OwnedUserId],
        readers: Readers,
    ) -> Result<Audience, CryptoStoreError> {
        let mut audience = Audience::default();
        let moves = self.inner.stale.moves();
        for member in members {
            let person = self.judge_person(member, readers).await?;
            self.note_door(&person, readers, moves);
            audience.people.insert(member.clone(), person);
        }
        Ok(audience)
    }

    pub(super) async fn judge_person(&self, user: &UserId, readers: Readers) -> Result<Person, CryptoStoreError> {
        let identity = self.machine().get_identity(user, None).await?;
        let devices = self.machine().get_user_devices(user, None).await?;
        let ours = |device: &Device| user == self.user_id() && device.device_id() == self.device_id();
        let devices = devices
            .devices()
            .filter(|device| !ours(device))
            .map(|device| facts(&device, identity.is_some(), readers))
            .map(|facts| if user == self.user_id() { facts.of_ours() } else { facts })
            .collect();
        let key = |identity: &UserIdentity| {
            let master = match identity {
                UserIdentity::Own(own) => own.master_key(),
                UserIdentity::Other(other) => other.master_key(),
            };
            master.get_first_key().map(|key| key.to_base64())
        };
        let changed = match &identity {
            Some(UserIdentity::Other(other)) => other.identity_needs_user_approval(),
            _ => false,
        };
        Ok(Person {
            user: user.to_owned(),
            master_key: identity.as_ref().and_then(key),
            verified: identity.as_ref().is_some_and(UserIdentity::is_verified),
            violation: identity.as_ref().is_some_and(UserIdentity::has_verification_violation),
            changed,
            stale: self.inner.stale.contains(user),
            devices,
        })
    }
}

fn facts(device: &Device, owner_has_identity: bool, readers: Readers) -> DeviceFacts {
    let cross_signed = device.is_cross_signed_by_owner();
    DeviceFacts {
        device: device.device_id().to_owned(),
        ed25519: device.ed25519_key().map(|key| key.to_base64()),
        curve25519: device.curve25519_key().map(|key| key.to_base64()),
        cross_signed,
        verified: device.is_verified(),
        withheld: if device.device_id() == EVERY_DEVICE {
            Some(Withholding::Everything)
        } else {
            judge(device.is_blacklisted(), cross_signed, owner_has_identity, readers)
        },
    }
}

fn judge(blocked: bool, cross_signed: bool, owner_has_identity: bool, readers: Readers) -> Option<Withholding> {
    match readers {
        _ if blocked => Some(Withholding::Blocked),
        Readers::CrossSigned if !owner_has_identity => Some(Withholding::NoIdentity),
        Readers::CrossSigned if !cross_signed => Some(Withholding::Unsigned),
        Readers::CrossSigned | Readers::AnyDevice => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signed_device_of_a_person_with_an_identity_reads_by_default() {
        let strict = |signed, identity| judge(false, signed, identity, Readers::CrossSigned);
        assert_eq!(strict(true, true), None);
        assert_eq!(strict(false, true), Some(Withholding::Unsigned));
        assert_eq!(strict(false, false), Some(Withholding::NoIdentity));
        assert_eq!(judge(false, false, false, Readers::AnyDevice), None);
        assert_eq!(judge(true, true, true, Readers::AnyDevice), Some(Withholding::Blocked));
    }
}
