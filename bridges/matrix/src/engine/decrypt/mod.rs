//! Decrypts room events and judges their senders.

mod judge;

use std::fmt;

use matrix_sdk_base::deserialized_responses::DecryptedRoomEvent;
use matrix_sdk_crypto::{
    DecryptionSettings, Device,
    olm::{InboundGroupSession, SenderData},
    types::{
        SigningKey,
        events::room::encrypted::{EncryptedEvent, RoomEventEncryptionScheme},
    },
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedUserId, RoomId, UserId, serde::Raw};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tracing::instrument;

use self::judge::{failure, judge, requirement};
use super::{
    Engine, EngineError,
    error::contained,
    keystore::{Claim, beside, first_may_be_of, key_of, reading_with, withheld_by},
};

/// What is accepted besides messages from cross-signed devices whose key came from the device itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderTrust {
    /// Devices their owner has not signed. A lying homeserver can add such a device.
    pub unsigned_devices: bool,
    /// Keys from backup, which prove no sender.
    pub backup_keys: bool,
}

/// A decrypted event. Shows nothing of its content in `Debug`.
pub struct Decrypted {
    pub event_type: String,
    pub content: Value,
    pub sender: OwnedUserId,
    pub event_id: OwnedEventId,
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub sender_device: Option<OwnedDeviceId>,
    pub position: Position,
    /// More than one device handed the key in as its own, and it was read with that of this one, not with the first.
    pub claim: Option<Claim>,
    pub proof: SenderProof,
    /// The master key of the sender, if it was asked for by [`Engine::identity_behind`].
    pub identity: Option<String>,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted").field("proof", &self.proof).finish_non_exhaustive()
    }
}

/// Where in which key's ratchet a message stands. Two events at one position are a replay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub session_id: String,
    pub message_index: u32,
}

/// How well the sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderProof {
    /// A cross-signed device of an identity that we verified.
    Verified,
    /// A cross-signed device of an identity taken on first sight.
    CrossSigned,
    /// A device that its owner has not signed.
    UnsignedDevice,
    /// The key did not come from the sending device itself: the sender is the homeserver's claim.
    NotProven,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    #[error("the room key is missing")]
    MissingKey { position: Position, withheld: Option<String> },
    /// We have the key from a later message on only.
    #[error("the room key does not reach back to this message")]
    UnknownIndex { position: Position },
    #[error("the sender is not trusted: {why}")]
    NotTrusted {
        position: Position,
        why: Distrust,
        /// The sender's devices were never read or may have changed. They are being tracked from now on: try again
        /// after the next flush, before this counts as a refusal.
        stale: bool,
    },
    /// The event's sender is not the owner of the device that made the key.
    #[error("the sender is not who encrypted it")]
    SpoofedSender { position: Position },
    #[error("the event was encrypted for another room")]
    OtherRoom,
    #[error("the keys of the sending device do not match")]
    MismatchedKeys,
    #[error("the ciphertext is not authentic")]
    NotAuthentic,
    #[error("the event is malformed")]
    Malformed,
    #[error("the event is not encrypted")]
    NotEncrypted,
    #[error("the encryption algorithm is not supported")]
    UnknownAlgorithm,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a sender is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("the device is not signed by its owner")]
    UnsignedDevice,
    #[error("the identity is another than the one that was known")]
    IdentityChanged,
    #[error("the device is not known")]
    UnknownDevice,
    #[error("the key proves no sender")]
    NotProven,
}

/// Reads where a message stands without decrypting it.
pub fn message_position(event: &RawValue) -> Option<Position> {
    let event: EncryptedEvent = serde_json::from_str(event.get()).ok()?;
    position(&event)
}

fn position(event: &EncryptedEvent) -> Option<Position> {
    match &event.content.scheme {
        RoomEventEncryptionScheme::MegolmV1AesSha2(megolm) => {
            Some(Position { session_id: megolm.session_id.clone(), message_index: megolm.ciphertext.message_index() })
        }
        RoomEventEncryptionScheme::Unknown(_) => None,
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
    state_key: Option<Value>,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(rename = "type")]
    kind: String,
    content: Value,
}

impl Engine {
    /// Decrypts one event of a room, as the server gave it.
    ///
    /// A position seen before under another event id is a replay; telling so is the caller's task, since it must
    /// outlive a restart.
    #[instrument(level = "debug", skip_all)]
    pub async fn decrypt(
        &self,
        room: &RoomId,
        event: &RawValue,
        trust: SenderTrust,
    ) -> Result<Decrypted, DecryptError> {
        let kind: Kind = serde_json::from_str(event.get()).map_err(|_| DecryptError::Malformed)?;
        if kind.kind != "m.room.encrypted" {
            return Err(DecryptError::NotEncrypted);
        }
        if kind.state_key.is_some() {
            return Err(DecryptError::Malformed);
        }
        let parsed: EncryptedEvent = serde_json::from_str(event.get()).map_err(|_| DecryptError::Malformed)?;
        let position = position(&parsed).ok_or(DecryptError::UnknownAlgorithm)?;

        let opened = match self.open_with(room, event, trust, &position, None).await {
            Err(error) if may_be_of_another(&error) => {
                let error = self.of_whom_it_is(error, room, &parsed.sender).await?;
                self.open_with_others(room, event, trust, &position, &parsed.sender, error).await
            }
            opened => opened.map(|(opened, proof)| (opened, proof, None)),
        };
        let (decrypted, proof, claim) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let error = self.with_what_its_sender_said(error, room, &parsed.sender).await?;
                return Err(self.with_staleness(error, &parsed.sender).await);
            }
        };
        let opened: Opened = serde_json::from_str(decrypted.event.json().get()).map_err(|_| DecryptError::Malformed)?;
        Ok(Decrypted {
            event_type: opened.kind,
            content: opened.content,
            sender: parsed.sender,
            event_id: parsed.event_id,
            origin_server_ts: parsed.origin_server_ts,
            sender_device: decrypted.encryption_info.sender_device.clone(),
            position,
            claim,
            proof,
            identity: None,
        })
    }

    /// The master key of whoever a session was taken from, in unpadded base64, as it was found when their device was
    /// looked up: a server that shows another identity for a while changes nothing about it. `None` unless the device
    /// is signed by one.
    ///
    /// Whoever makes a new identity goes on with the keys that their device has. So where that identity `was_left`, by a
    /// person's word, and the same device is signed by who its owner is now, it is that one's.
    pub async fn identity_behind(
        &self,
        room: &RoomId,
        session: &str,
        claim: Option<&Claim>,
        was_left: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, EngineError> {
        let looking = async {
            match claim {
                Some(claim) => key_of(&**self.machine().store(), claim).await,
                None => self.machine().store().get_inbound_group_session(room, session).await,
            }
        };
        let Some(session) = contained(looking).await?? else { return Ok(None) };
        let (SenderData::SenderVerified(known) | SenderData::SenderUnverified(known)) = &session.sender_data else {
            return Ok(None);
        };
        let then = known.master_key.to_base64();
        if !was_left(&then) {
            return Ok(Some(then));
        }
        // Nothing about anybody's devices is taken in between the two.
        let _turn = self.turn().await?;
        let devices = contained(self.machine().get_user_devices(&known.user_id, None)).await?;
        let devices = devices.map_err(EngineError::from)?;
        let is_signed =
            devices.devices().any(|device| is_of_device(&session, &device) && device.is_cross_signed_by_owner());
        let now = if is_signed { self.person(&known.user_id).await?.master_key } else { None };
        Ok(Some(now.unwrap_or(then)))
    }
}

fn is_of_device(session: &InboundGroupSession, device: &Device) -> bool {
    let is_its = |key: &SigningKey| matches!(key, SigningKey::Ed25519(key) if device.ed25519_key() == Some(*key));
    device.curve25519_key() == Some(session.sender_key()) && session.signing_keys().iter().any(|(_, key)| is_its(key))
}

/// Whether it is about a key of the sender's own.
fn is_of_the_sender(error: &DecryptError) -> bool {
    !matches!(error, DecryptError::SpoofedSender { .. } | DecryptError::MissingKey { .. } | DecryptError::OtherRoom)
}

/// Whether another device may have handed in a key that reads it.
fn may_be_of_another(error: &DecryptError) -> bool {
    match error {
        DecryptError::NotTrusted { .. }
        | DecryptError::SpoofedSender { .. }
        | DecryptError::UnknownIndex { .. }
        | DecryptError::MismatchedKeys
        | DecryptError::NotAuthentic => true,
        // Its place may be that of what somebody handed in for another room.
        DecryptError::MissingKey { .. } | DecryptError::OtherRoom => true,
        DecryptError::Malformed
        | DecryptError::NotEncrypted
        | DecryptError::UnknownAlgorithm
        | DecryptError::Engine(_) => false,
    }
}

impl Engine {
    /// Opens and judges an event with the key as the first device handed it in, or another.
    async fn open_with(
        &self,
        room: &RoomId,
        event: &RawValue,
        trust: SenderTrust,
        position: &Position,
        claim: Option<&Claim>,
    ) -> Result<(DecryptedRoomEvent, SenderProof), DecryptError> {
        let settings = DecryptionSettings { sender_device_trust_requirement: requirement(trust) };
        let raw: Raw<EncryptedEvent> = Raw::from_json(event.to_owned());
        let _turn = self.turn().await?;
        let decrypting = self.machine().decrypt_room_event(&raw, room, &settings);
        let opened = match claim {
            Some(claim) => contained(reading_with(claim.clone(), decrypting)).await?,
            None => contained(decrypting).await?,
        };
        let opened = opened.map_err(|error| failure(error, position))?;
        let proof = judge(&opened.encryption_info.verification_state, trust, position)?;
        Ok((opened, proof))
    }

    /// The same with what else the sender's devices handed in. `first`: how it failed with the first.
    async fn open_with_others(
        &self,
        room: &RoomId,
        event: &RawValue,
        trust: SenderTrust,
        position: &Position,
        sender: &UserId,
        mut first: DecryptError,
    ) -> Result<(DecryptedRoomEvent, SenderProof, Option<Claim>), DecryptError> {
        let looking = beside(&**self.machine().store(), room, &position.session_id, sender);
        let claims = contained(looking).await?.map_err(EngineError::from)?;
        for claim in claims {
            match self.open_with(room, event, trust, position, Some(&claim)).await {
                Ok((opened, proof)) => return Ok((opened, proof, Some(claim))),
                Err(error @ DecryptError::Engine(_)) => return Err(error),
                // What is in the backup is of nobody, and better than nothing.
                Err(error @ DecryptError::NotTrusted { why: Distrust::NotProven, .. }) => {
                    if matches!(first, DecryptError::MissingKey { .. } | DecryptError::OtherRoom) {
                        first = error;
                    }
                }
                // Of two keys of theirs, what is wrong with the first is said; of somebody else's nothing.
                Err(error @ (DecryptError::NotTrusted { .. } | DecryptError::UnknownIndex { .. })) => {
                    if !is_of_the_sender(&first) {
                        first = error;
                    }
                }
                Err(_) => {}
            }
        }
        Err(first)
    }

    /// Of a device that nobody knows it is told by who handed its key in whether it may be the sender's.
    async fn of_whom_it_is(
        &self,
        error: DecryptError,
        room: &RoomId,
        sender: &UserId,
    ) -> Result<DecryptError, EngineError> {
        let DecryptError::NotTrusted { position, why: Distrust::UnknownDevice, stale } = error else {
            return Ok(error);
        };
        let looking = first_may_be_of(&**self.machine().store(), room, &position.session_id, sender);
        Ok(match contained(looking).await?? {
            true => DecryptError::NotTrusted { position, why: Distrust::UnknownDevice, stale },
            false => DecryptError::SpoofedSender { position },
        })
    }

    /// Whether its sender has said that the key is withheld: what others say of it does not count.
    async fn with_what_its_sender_said(
        &self,
        error: DecryptError,
        room: &RoomId,
        sender: &UserId,
    ) -> Result<DecryptError, EngineError> {
        let (DecryptError::MissingKey { position, .. } | DecryptError::UnknownIndex { position }) = &error else {
            return Ok(error);
        };
        let looking = withheld_by(&**self.machine().store(), room, &position.session_id, sender);
        Ok(match contained(looking).await?? {
            // What came later of it does not reach back.
            Some(code) => DecryptError::MissingKey { position: position.clone(), withheld: Some(code) },
            None => error,
        })
    }

    async fn with_staleness(&self, error: DecryptError, sender: &UserId) -> DecryptError {
        match error {
            DecryptError::NotTrusted { position, why, .. } => match self.track([sender]).await {
                Ok(()) => {
                    let stale = self.inner.stale.contains(sender);
                    DecryptError::NotTrusted { position, why, stale }
                }
                Err(error) => error.into(),
            },
            error => error,
        }
    }
}
