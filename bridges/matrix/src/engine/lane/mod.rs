//! One room's sending lane: share the room key, show its readers, encrypt one event.
//!
//! The lane is a lock. Two sends at once in one room make the library panic when a key rotation falls between them.

mod channels;
mod content;
mod relation;
mod settings;
mod step;

use std::{
    collections::BTreeSet,
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use matrix_sdk_crypto::types::{events::room::encrypted::RoomEventEncryptionScheme, requests::ToDeviceRequest};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, serde::Raw};
use serde_json::value::RawValue;
use tokio::sync::OwnedMutexGuard;
use tracing::instrument;

pub(super) use self::relation::is_clear;
use self::{
    channels::{all_expected, without_strays},
    settings::share_failure,
};
pub use self::{
    content::EncryptedContent,
    settings::{EncryptError, PrepareError, RoomSettings},
};
use super::{Audience, Engine, EngineError, Whom, error::contained, http::Errand};

/// A room key that was seen to be in order is used without looking again for at most this long, since it may expire by
/// its age meanwhile.
const SETTLED_FOR: Duration = Duration::from_secs(10);
/// How often a key is made anew when devices change meanwhile.
const ATTEMPTS: u32 = 3;
/// What a lane remembers, so that a send in a quiet room touches no device list.
#[derive(Default)]
pub(super) struct LaneState {
    settled: Option<Settled>,
}

struct Settled {
    members: BTreeSet<OwnedUserId>,
    settings: RoomSettings,
    moves: u64,
    left: u64,
    until: Instant,
    audience: Arc<Audience>,
}

/// The right to send in one room. Others wait until it is dropped.
pub struct Lane {
    engine: Engine,
    room: OwnedRoomId,
    state: OwnedMutexGuard<LaneState>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// A room whose key is with its readers. Good for one event.
#[derive(Debug)]
pub struct Ready<'a> {
    lane: &'a mut Lane,
    members: BTreeSet<OwnedUserId>,
    settings: RoomSettings,
    moves: u64,
    checked: Instant,
    audience: Arc<Audience>,
}

impl Engine {
    /// Waits for the room's lane and takes it.
    pub async fn lane(&self, room: &RoomId) -> Lane {
        let state = self.lane_state(room).lock_owned().await;
        Lane { engine: self.clone(), room: room.to_owned(), state }
    }
}

impl Lane {
    /// Makes sure that every reader has the room key. `approve` sees the exact audience before anything is sent to it,
    /// and again before each further message with the key; when it refuses, the key is thrown away.
    #[instrument(level = "debug", skip_all)]
    pub async fn prepare(
        &mut self,
        members: &[OwnedUserId],
        settings: &RoomSettings,
        mut approve: impl FnMut(&Audience) -> bool + Send,
    ) -> Result<Ready<'_>, PrepareError> {
        let members: BTreeSet<OwnedUserId> = members.iter().cloned().collect();
        let engine = self.engine.clone();
        let moves = engine.inner.stale.moves();
        let settled = self.state.settled.take();
        if let Some(settled) = settled
            && settled.moves == moves
            && settled.left > 0
            && Instant::now() < settled.until
            && settled.members == members
            && settled.settings == *settings
            && !engine.inner.stale.is_any(&members)
        {
            if !approve(&settled.audience) {
                return Err(PrepareError::Refused);
            }
            let audience = Arc::clone(&settled.audience);
            let checked = settled.until - SETTLED_FOR;
            self.state.settled = Some(settled);
            let settings = settings.clone();
            return Ok(Ready { lane: self, members, settings, moves, checked, audience });
        }

        engine.track(members.iter().map(Deref::deref)).await?;
        if engine.inner.stale.is_any(&members)
            && let Some(error) = engine.query_stale().await?.failed
        {
            return Err(error.into());
        }
        let list: Vec<OwnedUserId> = members.iter().cloned().collect();
        engine.open_channels(&list, settings.readers).await?;

        let Shared { requests, audience, moves, checked } = self.share(&list, settings).await?;
        if !approve(&audience) {
            engine.throw_away(&self.room).await?;
            return Err(PrepareError::Refused);
        }
        for request in &requests {
            // Devices and people may go, or change their key, while the messages before this one leave, or since a try
            // before.
            if !engine.still_admits(request).await.map_err(EngineError::from)? || !approve(&audience) {
                engine.throw_away(&self.room).await?;
                return Err(PrepareError::AudienceMoved);
            }
            let errand = Errand::RoomKey { room: self.room.clone(), whom: settings.whom };
            engine.send_to_device(request, errand).await?;
        }
        if !requests.is_empty() {
            // A new key of ours wants to be backed up.
            engine.inner.wants_flush.notify_one();
        }
        let (audience, settings) = (Arc::new(audience), settings.clone());
        Ok(Ready { lane: self, members, settings, moves, checked, audience })
    }

    /// Makes the key's messages to its readers and sends none of them.
    async fn share(&self, members: &[OwnedUserId], settings: &RoomSettings) -> Result<Shared, PrepareError> {
        let engine = &self.engine;
        for _ in 0..ATTEMPTS {
            let moves = engine.inner.stale.moves();
            let checked = Instant::now();
            let requests = self.encrypt_key(members, settings).await?.into_iter();
            let requests: Vec<_> = requests.map(|request| without_strays(request, engine.user_id())).collect();
            let audience = engine.judge_audience(members, settings.readers).await;
            let audience = engine.without_channels(audience.map_err(EngineError::from)?).await?;
            if all_expected(&requests, &audience) {
                return Ok(Shared { requests, audience, moves, checked });
            }
            // A device left the audience while its message was made.
            engine.throw_away(&self.room).await?;
        }
        Err(PrepareError::AudienceMoved)
    }
}

impl Lane {
    /// Encrypts the room key for its readers, and stores how far their Olm sessions have moved.
    ///
    /// Runs to its end even when the caller is dropped, and never beside the taking in of a sync answer: both write the
    /// same sessions, and one that is stored further than what was read with it could not be read again after a crash.
    /// When it fails the key is thrown away, since what the library keeps in memory may never have been stored.
    async fn encrypt_key(
        &self,
        members: &[OwnedUserId],
        settings: &RoomSettings,
    ) -> Result<Vec<Arc<ToDeviceRequest>>, PrepareError> {
        let (engine, room, members) = (self.engine.clone(), self.room.clone(), members.to_vec());
        let settings = settings.for_machine();
        let encrypting = tokio::spawn(async move {
            let _turn = engine.turn().await?;
            let share = engine.machine().share_room_key(&room, members.iter().map(Deref::deref), settings);
            match contained(share).await {
                Ok(Ok(requests)) => Ok(requests),
                failed => {
                    engine.throw_away(&room).await?;
                    Err(failed?.map_err(share_failure).err().unwrap_or(PrepareError::AudienceMoved))
                }
            }
        });
        encrypting.await.map_err(|_| EngineError::Panicked)?
    }
}

/// A room key ready to leave.
struct Shared {
    requests: Vec<Arc<ToDeviceRequest>>,
    audience: Audience,
    moves: u64,
    checked: Instant,
}

impl Ready<'_> {
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Encrypts one event. Of `m.relates_to`, which stays in clear, only the target's id and kind may be there.
    #[instrument(level = "debug", skip_all)]
    pub async fn encrypt(self, event_type: &str, content: &RawValue) -> Result<EncryptedContent, EncryptError> {
        relation::check(content)?;
        if self.settings.whom == Whom::Everybody && !step::is_step(event_type, content) {
            return Err(EncryptError::ForEverybody);
        }
        let Self { lane, members, settings, moves, checked, audience } = self;
        lane.state.settled = None;
        let content = Raw::from_json(content.to_owned());
        let machine = lane.engine.machine();
        let encrypting = machine.encrypt_room_event_raw(&lane.room, event_type, &content);
        // In a test build alone: as an engine would that was led to send in clear.
        fail::fail_point!("matrix::cleartext", |_| Ok(EncryptedContent {
            room: lane.room.clone(),
            raw: content.clone().cast_unchecked(),
            session_id: String::new(),
            message_index: 0,
        }));
        // The library panics here, and only here, when the key expired after it was shared.
        let raw = match contained(encrypting).await {
            Ok(Ok(result)) => result.content,
            Ok(Err(_)) => return Err(EngineError::Olm("the event could not be encrypted").into()),
            Err(_) => return Err(EncryptError::Expired),
        };
        let (session_id, message_index) = match raw.deserialize().map(|content| content.scheme) {
            Ok(RoomEventEncryptionScheme::MegolmV1AesSha2(megolm)) => {
                let index = megolm.ciphertext.message_index();
                (megolm.session_id, index)
            }
            _ => return Err(EngineError::Olm("the event was not encrypted").into()),
        };
        let used = u64::from(message_index) + 1;
        lane.state.settled = Some(Settled {
            members,
            left: settings.rotation_messages.clamp(1, 10_000).saturating_sub(used),
            settings,
            moves,
            until: checked + SETTLED_FOR,
            audience,
        });
        Ok(EncryptedContent { room: lane.room.clone(), raw, session_id, message_index })
    }
}
