//! Gives the crypto part of a sync answer to the machine.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::Mutex,
    time::{Duration, Instant},
};

use matrix_sdk_base::deserialized_responses::ProcessedToDeviceEvent;
use ruma::{
    OneTimeKeyAlgorithm, OwnedRoomId, OwnedUserId, UInt,
    api::client::sync::sync_events::{DeviceLists, v3::Response},
    events::AnyToDeviceEvent,
    serde::Raw,
};
use serde::Deserialize;
use tracing::instrument;

use super::{
    Engine, EngineError,
    error::contained,
    keystore::{keep_withheld, take_in},
};

/// The crypto part of a sync answer.
#[derive(Clone, Debug)]
pub struct SyncPart {
    pub to_device: Vec<Raw<AnyToDeviceEvent>>,
    pub device_lists: DeviceLists,
    pub one_time_keys: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    pub fallback_keys: Option<Vec<OneTimeKeyAlgorithm>>,
    pub next_batch: String,
}

impl From<&Response> for SyncPart {
    fn from(sync: &Response) -> Self {
        Self {
            to_device: sync.to_device.events.clone(),
            device_lists: sync.device_lists.clone(),
            one_time_keys: sync.device_one_time_keys_count.clone(),
            fallback_keys: sync.device_unused_fallback_key_types.clone(),
            next_batch: sync.next_batch.clone(),
        }
    }
}

/// What a sync answer brought.
#[derive(Clone, Debug, Default)]
pub struct Fed {
    /// Keys that arrived: events waiting for them can be tried again.
    pub room_keys: Vec<RoomKey>,
    /// Keys that we were told we won't get.
    pub withheld: Vec<Withheld>,
    /// Verification events were among them: look at `verifications()`.
    pub verification: bool,
    /// To-device messages that could not be opened. Those of an answer fed before count here again.
    pub undecryptable: usize,
    /// To-device messages at which the library panicked. They were left out.
    pub abandoned: usize,
    /// These users' devices changed; known anew after the next flush.
    pub devices_changed: Vec<OwnedUserId>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomKey {
    pub room: OwnedRoomId,
    pub session_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    pub sender: OwnedUserId,
    pub room: OwnedRoomId,
    pub session_id: String,
    pub code: String,
}

impl Engine {
    /// Takes in the crypto part of a sync answer and makes it durable. Feeding the same answer again is harmless.
    ///
    /// Runs to its end even when the caller is dropped.
    #[instrument(skip_all)]
    pub async fn feed(&self, part: SyncPart) -> Result<Fed, EngineError> {
        let engine = self.clone();
        let fed = tokio::spawn(async move { engine.feed_here(part).await });
        fed.await.map_err(|_| EngineError::Panicked)?
    }

    async fn feed_here(&self, mut part: SyncPart) -> Result<Fed, EngineError> {
        // In sync v2 an absent count means zero; the library takes it for "no change" and would never refill.
        part.one_time_keys.entry(OneTimeKeyAlgorithm::SignedCurve25519).or_default();
        let standing = Standing::of(&part);
        if part.to_device.is_empty() && part.device_lists.changed.is_empty() && self.inner.standing.is(&standing) {
            return Ok(Fed::default());
        }
        let mut turn = self.turn().await?;
        let taken = take_in(self.machine(), &mut turn, &part).await?;
        drop(turn);

        self.inner.standing.set(standing);
        let room_keys = taken.keys.into_iter();
        let mut fed = Fed {
            room_keys: room_keys.map(|key| RoomKey { room: key.room_id, session_id: key.session_id }).collect(),
            devices_changed: part.device_lists.changed,
            abandoned: taken.abandoned,
            ..Fed::default()
        };
        for event in &taken.events {
            self.note(&mut fed, event);
        }
        if !fed.devices_changed.is_empty() {
            let tracked = self.machine().tracked_users().await?;
            let changed = fed.devices_changed.iter().filter(|user| tracked.contains(*user));
            self.inner.stale.mark(changed.map(Deref::deref));
        }
        self.inner.broken.add(taken.broken);
        if fed.undecryptable > 0 || taken.new_sessions {
            self.inner.stale.moved();
        }
        self.inner.wants_flush.notify_one();
        Ok(fed)
    }

    /// Keeps what people say of keys that they withhold. It is said in clear or by a device, of whatever they like: let it be
    /// of a room that they are in.
    pub async fn keep_withheld(&self, said: impl Iterator<Item = &Withheld>) -> Result<(), EngineError> {
        for Withheld { sender, room, session_id, code } in said {
            let keeping = keep_withheld(&**self.machine().store(), room, session_id, sender, code);
            contained(keeping).await?.map_err(EngineError::from)?;
        }
        Ok(())
    }

    fn note(&self, fed: &mut Fed, event: &ProcessedToDeviceEvent) {
        let raw = match event {
            ProcessedToDeviceEvent::Decrypted { raw, .. } | ProcessedToDeviceEvent::PlainText(raw) => raw,
            ProcessedToDeviceEvent::UnableToDecrypt { .. } => {
                fed.undecryptable += 1;
                return;
            }
            ProcessedToDeviceEvent::Invalid(_) => return,
        };
        let Ok(head) = serde_json::from_str::<Head>(raw.json().get()) else {
            return;
        };
        if head.kind.starts_with("m.key.verification.") {
            fed.verification = true;
            self.watch(head.sender);
        } else if head.kind == "m.room_key.withheld"
            && let Ok(notice) = serde_json::from_str::<WithheldNotice>(raw.json().get())
        {
            fed.withheld.push(Withheld {
                sender: head.sender,
                room: notice.content.room_id,
                session_id: notice.content.session_id,
                code: notice.content.code,
            });
        }
    }
}

/// Where the server's key counts stood when they were last fed.
///
/// The library writes to its store twice for every answer, whatever is in it. An answer without anything for it is not
/// shown to it, save once a minute, when it also ends verifications that took too long.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Option<(Counts, Instant)>>);

const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq)]
struct Counts {
    one_time_keys: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    fallback_keys: Option<Vec<OneTimeKeyAlgorithm>>,
}

impl Standing {
    fn of(part: &SyncPart) -> Counts {
        Counts { one_time_keys: part.one_time_keys.clone(), fallback_keys: part.fallback_keys.clone() }
    }

    /// How many one-time keys of ours the homeserver had, and whether it had one to fall back to; `None` before the first
    /// answer.
    pub(super) fn keys_left(&self) -> Option<(u64, bool)> {
        let last = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        let (counts, _) = last.as_ref()?;
        let left = counts.one_time_keys.get(&OneTimeKeyAlgorithm::SignedCurve25519).copied().unwrap_or_default();
        // Of a homeserver that does not say, it is not known to have none.
        let falls_back = counts.fallback_keys.as_ref().is_none_or(|kinds| !kinds.is_empty());
        Some((left.into(), falls_back))
    }

    fn is(&self, counts: &Counts) -> bool {
        let last = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        last.as_ref().is_some_and(|(last, at)| last == counts && at.elapsed() < AT_LEAST_EVERY)
    }

    fn set(&self, counts: Counts) {
        let mut last = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        *last = Some((counts, Instant::now()));
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    sender: OwnedUserId,
}

#[derive(Deserialize)]
struct WithheldNotice {
    content: WithheldContent,
}

#[derive(Deserialize)]
struct WithheldContent {
    room_id: OwnedRoomId,
    session_id: String,
    code: String,
}
