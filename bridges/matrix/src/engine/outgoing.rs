//! Sends what the machine wants sent: device keys, key queries, to-device messages, signatures, backups.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    ops::Deref,
    sync::MutexGuard,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use matrix_sdk_crypto::types::requests::{AnyOutgoingRequest, OutgoingRequest, RoomMessageRequest, ToDeviceRequest};
use ruma::{
    OwnedRoomId, OwnedTransactionId, OwnedUserId, UserId,
    api::client::{
        keys::{claim_keys, get_keys},
        to_device::send_event_to_device,
    },
    events::{AnyToDeviceEventContent, MessageLikeEventContent as _, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde_json::value::RawValue;
use tracing::{instrument, warn};

use super::{Class, Engine, EngineError, HttpError, HttpErrorKind, Retries, error::contained, http::Errand, retrying};

/// How long the server may wait for other servers' answers to a key query or claim.
pub(super) const REMOTE_KEYS: Duration = Duration::from_secs(6);
const AT_ONCE: usize = 4;

/// What a flush did.
#[derive(Debug, Default)]
pub struct Flushed {
    /// These users' devices were read anew: events of theirs refused on trust can be tried again.
    pub queried: Vec<OwnedUserId>,
    /// What could not be sent; tried again by the next flush.
    pub failed: Vec<(Traffic, EngineError)>,
    /// Verification messages for rooms. The caller sends them there and then calls `in_room_sent`; until then each
    /// flush repeats them.
    pub in_room: Vec<InRoomStep>,
    /// The server holds other one-time keys under our names: the crypto store was rolled back, and only a new device
    /// cures that.
    pub one_time_key_conflict: bool,
    /// The server has another key backup than ours; ours is off until it is set up or recovered anew.
    pub backup_replaced: bool,
}

/// A kind of key traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Machine,
    KeysUpload,
    KeysQuery,
    KeysClaim,
    ToDevice,
    Signatures,
    Backup,
}

/// A verification message to be sent into a room by the caller.
#[derive(Clone)]
pub struct InRoomStep {
    pub room: OwnedRoomId,
    pub txn: OwnedTransactionId,
    pub event_type: String,
    pub content: Box<RawValue>,
}

impl std::fmt::Debug for InRoomStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InRoomStep").field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

impl InRoomStep {
    pub(super) fn of(message: &RoomMessageRequest) -> Option<Self> {
        Some(Self {
            room: message.room_id.clone(),
            txn: message.txn_id.clone(),
            event_type: message.content.event_type().to_string(),
            content: serde_json::value::to_raw_value(&message.content).ok()?,
        })
    }
}

impl Engine {
    /// Resolves when there may be something to flush.
    pub async fn wants_flush(&self) {
        self.inner.wants_flush.notified().await;
    }

    /// Sends all that waits. One flush at a time; receiving never waits for it.
    #[instrument(skip_all)]
    pub async fn flush(&self) -> Flushed {
        let _single = self.inner.flushing.lock().await;
        let mut flushed = Flushed::default();
        let rest = match self.query_stale().await {
            Ok(pass) => {
                flushed.failed.extend(pass.failed.map(|error| (Traffic::KeysQuery, error)));
                pass.rest
            }
            Err(error) => {
                flushed.failed.push((Traffic::Machine, error));
                return flushed;
            }
        };
        let results: Vec<_> =
            stream::iter(rest).map(|request| self.send_one(request)).buffered(AT_ONCE).collect().await;
        for result in results {
            match result {
                Ok(Some(step)) => flushed.in_room.push(step),
                Ok(None) => {}
                Err((traffic, error)) => {
                    flushed.one_time_key_conflict |=
                        matches!(&error, EngineError::Http(HttpError { kind: HttpErrorKind::OneTimeKeyExists }));
                    flushed.failed.push((traffic, error));
                }
            }
        }
        // Devices that asked for something get sessions, and those whose sessions broke get new ones.
        let claimed = self.claim_missing(&[]).await;
        if let Err(error) = claimed.and(self.mend_channels().await) {
            flushed.failed.push((Traffic::KeysClaim, error));
        }
        if let Err(error) = self.back_up(&mut flushed).await {
            flushed.failed.push((Traffic::Backup, error));
        }
        flushed.queried = std::mem::take(&mut *self.answered()).into_iter().collect();
        flushed
    }

    fn answered(&self) -> MutexGuard<'_, BTreeSet<OwnedUserId>> {
        self.inner.answered.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    async fn send_one(&self, request: OutgoingRequest) -> Result<Option<InRoomStep>, (Traffic, EngineError)> {
        let id = request.request_id();
        let (http, machine) = (self.http(), self.machine());
        let (traffic, result) = match request.request() {
            AnyOutgoingRequest::KeysUpload(request) => (
                Traffic::KeysUpload,
                match http.send_any(request.clone(), Class::Short).await {
                    Ok(answer) => self.mark(machine.mark_request_as_sent(id, &answer)).await,
                    Err(error) => Err(error.into()),
                },
            ),
            AnyOutgoingRequest::ToDeviceRequest(request) => (Traffic::ToDevice, self.send_admitted(request).await),
            AnyOutgoingRequest::SignatureUpload(request) => (
                Traffic::Signatures,
                match http.send_any(request.clone(), Class::Short).await {
                    Ok(answer) => self.mark(machine.mark_request_as_sent(id, &answer)).await,
                    Err(error) => Err(error.into()),
                },
            ),
            AnyOutgoingRequest::KeysClaim(request) => (
                Traffic::KeysClaim,
                match http.send_any(request.clone(), Class::Keys).await {
                    Ok(answer) => self.mark(machine.mark_request_as_sent(id, &answer)).await,
                    Err(error) => Err(error.into()),
                },
            ),
            AnyOutgoingRequest::RoomMessage(message) => {
                return Ok(InRoomStep::of(message));
            }
            // Queries were sent by `query_stale`.
            AnyOutgoingRequest::KeysQuery(_) => return Ok(None),
        };
        result.map(|()| None).map_err(|error| (traffic, error))
    }

    /// What the machine wants sent by itself, to those who may get keys. Others are owed nothing: a device that is not
    /// read needs no new session.
    async fn send_admitted(&self, request: &ToDeviceRequest) -> Result<(), EngineError> {
        if request.event_type != ToDeviceEventType::RoomEncrypted {
            return self.send_to_device(request, Errand::Upkeep).await;
        }
        let mut admitted = request.clone();
        for (user, devices) in &request.messages {
            for device in devices.keys() {
                let known = match device {
                    DeviceIdOrAllDevices::DeviceId(device) => self.admits(user, device).await?,
                    DeviceIdOrAllDevices::AllDevices => false,
                };
                if !known && let Some(devices) = admitted.messages.get_mut(user) {
                    devices.remove(device);
                }
            }
        }
        admitted.messages.retain(|_, devices| !devices.is_empty());
        if admitted.messages.is_empty() {
            let nothing = send_event_to_device::v3::Response::new();
            return self.mark(self.machine().mark_request_as_sent(&request.txn_id, &nothing)).await;
        }
        self.send_to_device(&admitted, Errand::Upkeep).await
    }

    pub(super) async fn send_to_device(&self, request: &ToDeviceRequest, errand: Errand) -> Result<(), EngineError> {
        let wire = send_event_to_device::v3::Request::new_raw(
            request.event_type.clone(),
            request.txn_id.clone(),
            astray(&request.messages).unwrap_or_else(|| request.messages.clone()),
        );
        let answer = self.http().send_to_device(wire, errand).await?;
        self.mark(self.machine().mark_request_as_sent(&request.txn_id, &answer)).await
    }

    /// For steps that the machine has already taken and can't make again. No room key is among them.
    pub(super) async fn send_to_device_patiently(&self, request: &ToDeviceRequest) -> Result<(), EngineError> {
        let wire = send_event_to_device::v3::Request::new_raw(
            request.event_type.clone(),
            request.txn_id.clone(),
            request.messages.clone(),
        );
        let http = self.http();
        retrying(Retries::default(), || http.send_to_device(wire.clone(), Errand::Upkeep)).await?;
        Ok(())
    }

    pub(super) async fn mark(
        &self,
        marking: impl Future<Output = Result<(), matrix_sdk_crypto::OlmError>>,
    ) -> Result<(), EngineError> {
        let _turn = self.turn().await?;
        Ok(contained(marking).await??)
    }

    /// Reads the devices of all users whose lists may be out of date, now. The next flush names them.
    pub async fn read_devices(&self) -> Result<(), EngineError> {
        match self.query_stale().await?.failed {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Reads one user's devices and identity, however fresh what is known of them is. What we signed of theirs is known
    /// only once the homeserver has given it back.
    pub async fn reread(&self, user: &UserId) -> Result<(), EngineError> {
        let _single = self.inner.querying.lock().await;
        let (id, query) = self.machine().query_keys_for_users([user]);
        let mut wire = get_keys::v3::Request::new();
        wire.timeout = Some(REMOTE_KEYS);
        wire.device_keys = query.device_keys;
        let answer = self.http().send_any(wire, Class::Keys).await?;
        self.mark(self.machine().mark_request_as_sent(&id, &answer)).await?;
        self.inner.stale.moved();
        self.answered().extend([user.to_owned()]);
        self.inner.wants_flush.notify_one();
        Ok(())
    }

    /// Reads the devices of all users whose lists may be out of date, in one pass that others wait for.
    pub(super) async fn query_stale(&self) -> Result<Pass, EngineError> {
        let _single = self.inner.querying.lock().await;
        let asked_at = self.inner.stale.moves();
        let requests = contained(self.machine().outgoing_requests()).await??;
        let mut pass = Pass::default();
        let (mut unanswered, mut any) = (Vec::new(), false);
        for request in requests {
            let AnyOutgoingRequest::KeysQuery(query) = request.request() else {
                pass.rest.push(request);
                continue;
            };
            let mut wire = get_keys::v3::Request::new();
            wire.timeout = Some(REMOTE_KEYS);
            wire.device_keys = query.device_keys.clone();
            let users: BTreeSet<OwnedUserId> = query.device_keys.keys().cloned().collect();
            match self.http().send_any(wire, Class::Keys).await {
                Ok(answer) => {
                    self.mark(self.machine().mark_request_as_sent(request.request_id(), &answer)).await?;
                    let (answered, silent): (Vec<_>, Vec<_>) =
                        users.into_iter().partition(|user| answer.device_keys.contains_key(user));
                    any |= !answered.is_empty();
                    self.answered().extend(answered);
                    unanswered.extend(silent);
                }
                Err(error) => {
                    warn!(%error, "A key query failed.");
                    unanswered.extend(users);
                    pass.failed = Some(error.into());
                }
            }
        }
        self.inner.stale.settle(asked_at, &unanswered);
        if any {
            self.inner.stale.moved();
            // Others wait for the news.
            self.inner.wants_flush.notify_one();
        }
        Ok(pass)
    }

    /// Gets one-time keys for the devices of these users that we have no session with.
    ///
    /// Give only users with known devices: for others the library waits up to 5 s for a query it believes in flight.
    pub(super) async fn claim_missing(&self, users: &[OwnedUserId]) -> Result<(), EngineError> {
        let _single = self.inner.claiming.lock().await;
        let users = users.iter().map(Deref::deref);
        let claim = if users.len() == 0 {
            contained(self.machine().get_missing_sessions(iter::empty())).await??
        } else {
            contained(self.machine().get_missing_sessions(users)).await??
        };
        let Some((id, claim)) = claim else {
            return Ok(());
        };
        let mut wire = claim_keys::v3::Request::new(claim.one_time_keys);
        wire.timeout = Some(REMOTE_KEYS);
        let answer = self.http().send_any(wire, Class::Keys).await?;
        self.mark(self.machine().mark_request_as_sent(&id, &answer)).await?;
        self.inner.stale.moved();
        Ok(())
    }
}

type Messages = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>;

/// In a test build alone: as an engine would that was led to give keys to a device that nobody knows.
fn astray(_messages: &Messages) -> Option<Messages> {
    fail::fail_point!("matrix::stray-key", |_| {
        let stray = |devices: &BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>| {
            let ghost = DeviceIdOrAllDevices::DeviceId("GHOST".into());
            devices.values().next().map(|content| (ghost, content.clone())).into_iter().collect()
        };
        Some(_messages.iter().map(|(user, devices)| (user.clone(), stray(devices))).collect())
    });
    None
}

/// One pass of key queries.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) failed: Option<EngineError>,
    rest: Vec<OutgoingRequest>,
}
