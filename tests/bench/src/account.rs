//! A Matrix account on the bridge's own engine, and as little of a client around it as a measurement needs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, TransactionId, UserId,
    api::client::{
        filter::FilterDefinition,
        membership::{join_room_by_id, joined_members},
        room::create_room,
        sync::sync_events::v3::{Request, Response},
    },
    events::{EmptyStateKey, InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    presence::PresenceState,
};
use sealbridge_matrix::engine::{
    Class, DecryptError, EncryptedContent, Engine, KeepFailed, Person, Register, RoomSettings, SenderTrust, StoreKey,
    SyncPart, TokenKeeper, Tokens, Whom, discover, log_in, new_device_id,
};
use secrecy::SecretString;
use serde_json::{Value, value::RawValue};
use tempfile::TempDir;

use crate::PATIENCE;

/// How long a homeserver may wait for news, as the bridge has it.
const WAIT: Duration = Duration::from_secs(30);
/// Events of one room in one answer, as the bridge has it.
const MOST_EVENTS: u32 = 100;

/// A logged-in account with a cross-signed device. Everything it keeps is gone with this value.
#[derive(Debug)]
pub(crate) struct Account {
    /// Its keys and its line to the homeserver.
    pub(crate) engine: Engine,
    settings: RoomSettings,
    members: Mutex<HashMap<OwnedRoomId, Vec<OwnedUserId>>>,
    _folder: TempDir,
}

/// An encrypted event of somebody else, and when the answer came that brought it.
#[derive(Debug)]
pub(crate) struct Came {
    /// Where.
    pub(crate) room: OwnedRoomId,
    /// When.
    pub(crate) at: Instant,
    /// As the homeserver gave it.
    pub(crate) event: Box<RawValue>,
}

/// A crash ends the measurement, so tokens need not survive one.
struct InMemory;

#[async_trait]
impl TokenKeeper for InMemory {
    async fn keep(&self, _: &Tokens) -> Result<(), KeepFailed> {
        Ok(())
    }
}

/// The bare relay knows nothing of who was admitted where.
struct Everybody;

impl Register for Everybody {
    fn may_read(&self, _: &RoomId, _: &Person, _: Whom) -> bool {
        true
    }
}

impl Account {
    /// Logs in and cross-signs.
    pub(crate) async fn log_in(homeserver: &str, user: &str, password: &str) -> Result<Self> {
        let http = discover(homeserver).await?;
        let password = SecretString::from(password.to_owned());
        let session = log_in(&http, user, &password, &new_device_id()).await?;
        http.set_keeper(std::sync::Arc::new(InMemory));
        let folder = tempfile::Builder::new().prefix("account-").tempdir_in(sealbridge_lab::paths::lab_dir()?)?;
        let engine = Engine::open(&session, http, folder.path(), &StoreKey::generate()?).await?;
        engine.set_register(std::sync::Arc::new(Everybody));
        let account = Self { engine, settings: RoomSettings::default(), members: Mutex::default(), _folder: folder };
        account.flush().await?;
        account.engine.bootstrap(Some(&password)).await?;
        account.flush().await?;
        Ok(account)
    }

    async fn flush(&self) -> Result<()> {
        match self.engine.flush().await.failed.into_iter().next() {
            Some((traffic, error)) => Err(error).with_context(|| format!("{traffic:?}")),
            None => Ok(()),
        }
    }

    /// Who it is.
    pub(crate) fn me(&self) -> &UserId {
        self.engine.user_id()
    }

    /// Makes an encrypted room and invites somebody.
    pub(crate) async fn create_room(&self, invite: Option<&UserId>) -> Result<OwnedRoomId> {
        let mut request = create_room::v3::Request::new();
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::new(EmptyStateKey, encryption).to_raw_any()];
        request.invite = invite.into_iter().map(ToOwned::to_owned).collect();
        Ok(self.engine.http().send(request, Class::Short).await?.room_id)
    }

    /// Joins a room that it was invited to.
    pub(crate) async fn join(&self, room: &RoomId) -> Result<()> {
        self.engine.http().send(join_room_by_id::v3::Request::new(room.to_owned()), Class::Short).await?;
        Ok(())
    }

    /// Waits until somebody is in a room, and knows its members from then on.
    pub(crate) async fn wait_member(&self, room: &RoomId, user: &UserId) -> Result<()> {
        let begun = Instant::now();
        loop {
            let request = joined_members::v3::Request::new(room.to_owned());
            let joined = self.engine.http().send(request, Class::Short).await?.joined;
            if joined.contains_key(user) {
                let members: Vec<_> = joined.into_keys().collect();
                self.engine.track(members.iter().map(|member| &**member)).await?;
                self.known().insert(room.to_owned(), members);
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{user} does not come to {room}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<OwnedRoomId, Vec<OwnedUserId>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encrypts words for everybody in a room; sends the room key first, if there is a new one.
    pub(crate) async fn encrypt(&self, room: &RoomId, words: &str) -> Result<EncryptedContent> {
        let content = serde_json::json!({ "msgtype": "m.text", "body": words, "m.mentions": {} });
        self.encrypt_content(room, &content).await
    }

    async fn encrypt_content(&self, room: &RoomId, content: &Value) -> Result<EncryptedContent> {
        let members = self.known().get(room).cloned().with_context(|| format!("Nobody is known in {room}"))?;
        let content = serde_json::value::to_raw_value(content)?;
        let mut lane = self.engine.lane(room).await;
        let ready = lane.prepare(&members, &self.settings, |_| true).await?;
        Ok(ready.encrypt("m.room.message", &content).await?)
    }

    /// Puts ciphertext into its room.
    pub(crate) async fn put(&self, content: &EncryptedContent) -> Result<()> {
        self.engine.http().send_encrypted(content, &TransactionId::new()).await?;
        Ok(())
    }

    /// Encrypts a message and puts it, with the room's lane held, so that order is kept.
    pub(crate) async fn relay(&self, room: &RoomId, content: &Value) -> Result<()> {
        let encrypted = self.encrypt_content(room, content).await?;
        self.put(&encrypted).await
    }

    /// Receives for ever: gives keys to the engine, and hands on what others said.
    pub(crate) async fn listen(&self, mut ready: impl FnMut(), mut take: impl FnMut(Came)) -> Result<()> {
        let keys = async {
            loop {
                self.engine.wants_flush().await;
                self.engine.flush().await;
            }
        };
        let receive = async {
            let mut since = None;
            loop {
                let wait = if since.is_some() { WAIT } else { Duration::ZERO };
                let answer = self.engine.http().send(request(since.take(), wait), Class::LongPoll(wait)).await?;
                let at = Instant::now();
                self.engine.feed(SyncPart::from(&answer)).await?;
                for came in encrypted(&answer, self.me(), at) {
                    take(came);
                }
                since = Some(answer.next_batch);
                ready();
            }
        };
        tokio::select! {
            ended = receive => ended,
            () = keys => Ok(()),
        }
    }

    /// What an event says, if it is a message.
    pub(crate) async fn read(&self, came: &Came) -> Result<Option<Value>> {
        let trust = SenderTrust::default();
        let mut read = self.engine.decrypt(&came.room, &came.event, trust).await;
        if matches!(read, Err(DecryptError::NotTrusted { stale: true, .. })) {
            self.engine.flush().await;
            read = self.engine.decrypt(&came.room, &came.event, trust).await;
        }
        let read = read.with_context(|| format!("{} can't read in {}", self.me(), came.room))?;
        Ok((read.event_type == "m.room.message").then_some(read.content))
    }
}

/// Asks for as much as the bridge does.
fn request(since: Option<String>, wait: Duration) -> Request {
    let mut filter = FilterDefinition::default();
    let everything = || vec!["*".to_owned()];
    filter.presence.not_types = everything();
    filter.account_data.not_types = everything();
    filter.room.ephemeral.not_types = everything();
    filter.room.account_data.not_types = everything();
    let state = ["encryption", "history_visibility", "member", "name", "tombstone"];
    filter.room.state.types = Some(state.map(|kind| format!("m.room.{kind}")).into());
    filter.room.timeline.limit = Some(if since.is_some() { MOST_EVENTS.into() } else { 1_u32.into() });
    let mut request = Request::new();
    request.filter = Some(filter.into());
    request.since = since;
    request.timeout = Some(wait);
    request.set_presence = PresenceState::Offline;
    request.use_state_after = true;
    request
}

fn encrypted(answer: &Response, me: &UserId, at: Instant) -> Vec<Came> {
    let mut all = Vec::new();
    for (room, joined) in &answer.rooms.join {
        for event in &joined.timeline.events {
            let field = |name| event.get_field::<String>(name).ok().flatten();
            if field("type").as_deref() == Some("m.room.encrypted") && field("sender").as_deref() != Some(me.as_str()) {
                all.push(Came { room: room.clone(), at, event: event.json().to_owned() });
            }
        }
    }
    all
}
