//! One engine with an account of its own, a sync position, and as little of a client around it as the tests need.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{
    DeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, TransactionId, UserId,
    api::client::{
        filter::FilterDefinition,
        membership::{join_room_by_id, joined_members},
        room::create_room,
        session::logout,
        sync::sync_events,
    },
    events::{EmptyStateKey, InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    presence::PresenceState,
};
use sealbridge_matrix::engine::{
    Audience, Class, DecryptError, Decrypted, Engine, Fed, Person, Register, RoomSettings, SenderTrust, Session,
    StoreKey, SyncPart, Whom, discover, log_in, new_device_id,
};
use secrecy::SecretString;
use serde_json::{json, value::RawValue};
use tempfile::TempDir;

use crate::server::{Account, Outcome, Server};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Peer {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    pub(crate) since: Option<String>,
    pub(crate) trust: SenderTrust,
    pub(crate) settings: RoomSettings,
    pub(crate) outsiders: Arc<Outsiders>,
    pub(crate) account: Account,
    pub(crate) folder: TempDir,
    key: [u8; 32],
}

/// Who may read nowhere. The engine alone knows no rooms, so everybody else may.
#[derive(Default)]
pub(crate) struct Outsiders(Mutex<BTreeSet<OwnedUserId>>);

impl Outsiders {
    pub(crate) fn are(&self, users: impl IntoIterator<Item = OwnedUserId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = users.into_iter().collect();
    }
}

impl Register for Outsiders {
    fn may_read(&self, _: &RoomId, person: &Person, _: Whom) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&person.user)
    }
}

/// What a sync brought to one room.
pub(crate) struct Seen {
    pub(crate) event: Box<RawValue>,
    pub(crate) result: Result<Decrypted, DecryptError>,
}

impl Seen {
    pub(crate) fn body(&self) -> Option<&str> {
        self.result.as_ref().ok()?.content["body"].as_str()
    }
}

impl Peer {
    /// An account with a cross-signed device.
    pub(crate) async fn new(server: &Server, role: &str) -> Outcome<Self> {
        let peer = Self::unsigned(server, role).await?;
        peer.engine.bootstrap(Some(&peer.password())).await?;
        Ok(peer)
    }

    /// An account whose only device is not cross-signed.
    pub(crate) async fn unsigned(server: &Server, role: &str) -> Outcome<Self> {
        Self::log_in(server, server.account(role).await?).await
    }

    /// A further device of an account.
    pub(crate) async fn log_in(server: &Server, account: Account) -> Outcome<Self> {
        let peer = Self::log_in_unflushed(server, account).await?;
        let failed = peer.engine.flush().await.failed;
        if failed.is_empty() { Ok(peer) } else { Err(format!("flush failed: {failed:?}").into()) }
    }

    /// A device whose keys are not published yet.
    pub(crate) async fn log_in_unflushed(server: &Server, account: Account) -> Outcome<Self> {
        Self::log_in_as(server, account, &new_device_id()).await
    }

    /// The same under this name.
    pub(crate) async fn log_in_as(server: &Server, account: Account, device: &DeviceId) -> Outcome<Self> {
        let http = discover(&server.url).await?;
        let password = SecretString::from(account.password.clone());
        let session = log_in(&http, &account.name, &password, device).await?;
        let folder = tempfile::tempdir()?;
        let key = *StoreKey::generate()?.as_bytes();
        let store_key = StoreKey::from_bytes(&key);
        let engine = Engine::open(&session, http, folder.path(), &store_key).await?;
        let outsiders = Arc::new(Outsiders::default());
        engine.set_register(Arc::clone(&outsiders) as Arc<dyn Register>);
        let (trust, settings) = (SenderTrust::default(), RoomSettings::default());
        Ok(Self { engine, session, since: None, trust, settings, outsiders, account, folder, key })
    }

    pub(crate) fn password(&self) -> SecretString {
        self.account.password.clone().into()
    }

    pub(crate) fn store_key(&self) -> [u8; 32] {
        self.key
    }

    pub(crate) fn same_account(&self) -> Account {
        Account { name: self.account.name.clone(), password: self.account.password.clone() }
    }

    pub(crate) fn user(&self) -> OwnedUserId {
        self.engine.user_id().to_owned()
    }

    /// Dies without another word and comes back from what is on disk.
    pub(crate) async fn restart(self) -> Outcome<Self> {
        let Self { engine, session, since, trust, settings, outsiders, account, folder, key } = self;
        drop(engine);
        let http = session.http()?;
        let engine = Engine::open(&session, http, folder.path(), &StoreKey::from_bytes(&key)).await?;
        engine.set_register(Arc::clone(&outsiders) as Arc<dyn Register>);
        Ok(Self { engine, session, since, trust, settings, outsiders, account, folder, key })
    }

    /// An encrypted room with these others in it.
    pub(crate) async fn room_with(&self, others: &[&Peer]) -> Outcome<OwnedRoomId> {
        let mut request = create_room::v3::Request::new();
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::new(EmptyStateKey, encryption).to_raw_any()];
        request.invite = others.iter().map(|other| other.user()).collect();
        let room = self.engine.http().send(request, Class::Short).await?.room_id;
        for other in others {
            let join = join_room_by_id::v3::Request::new(room.clone());
            other.engine.http().send(join, Class::Short).await?;
        }
        Ok(room)
    }

    pub(crate) async fn members(&self, room: &RoomId) -> Outcome<Vec<OwnedUserId>> {
        let request = joined_members::v3::Request::new(room.to_owned());
        let answer = self.engine.http().send(request, Class::Short).await?;
        Ok(answer.joined.into_keys().collect())
    }

    pub(crate) async fn send(&self, room: &RoomId, body: &str) -> Outcome<(OwnedEventId, Audience)> {
        let members = self.members(room).await?;
        self.send_to(room, &members, body).await
    }

    pub(crate) async fn send_to(
        &self,
        room: &RoomId,
        members: &[OwnedUserId],
        body: &str,
    ) -> Outcome<(OwnedEventId, Audience)> {
        let content = json!({ "msgtype": "m.text", "body": body });
        let content = serde_json::value::to_raw_value(&content)?;
        let mut lane = self.engine.lane(room).await;
        let ready = lane.prepare(members, &self.settings, |_| true).await?;
        let audience = ready.audience().clone();
        let sealed = ready.encrypt("m.room.message", &content).await?;
        let txn = TransactionId::new();
        Ok((self.engine.http().send_encrypted(&sealed, &txn).await?, audience))
    }

    /// One sync from where we stand; does not move us on.
    pub(crate) async fn ask(&self, wait: Duration) -> Outcome<sync_events::v3::Response> {
        let mut request = sync_events::v3::Request::new();
        request.since = self.since.clone();
        request.timeout = Some(wait);
        let mut filter = FilterDefinition::default();
        filter.room.timeline.limit = Some(100_u32.into());
        request.filter = Some(filter.into());
        request.set_presence = PresenceState::Offline;
        Ok(self.engine.http().send(request, Class::LongPoll(wait)).await?)
    }

    /// Feeds an answer and opens what it holds for a room.
    pub(crate) async fn take(&self, room: &RoomId, answer: &sync_events::v3::Response) -> Outcome<(Fed, Vec<Seen>)> {
        let fed = self.engine.feed(SyncPart::from(answer)).await?;
        self.engine.keep_withheld(fed.withheld.iter()).await?;
        let mut seen = Vec::new();
        let events = answer.rooms.join.get(room).map(|joined| &joined.timeline.events);
        for event in events.into_iter().flatten() {
            if event.get_field::<String>("type")?.as_deref() == Some("m.room.encrypted") {
                let event = event.json().to_owned();
                let mut result = self.engine.decrypt(room, &event, self.trust).await;
                if matches!(result, Err(DecryptError::NotTrusted { stale: true, .. })) {
                    self.engine.flush().await;
                    result = self.engine.decrypt(room, &event, self.trust).await;
                }
                seen.push(Seen { event, result });
            }
        }
        Ok((fed, seen))
    }

    /// Is logged in no more; the homeserver forgets the device.
    pub(crate) async fn log_out(&self) -> Outcome {
        self.engine.http().send(logout::v3::Request::new(), Class::Short).await?;
        Ok(())
    }

    /// Hears that something about somebody's devices has changed since the last sync, and reads them.
    pub(crate) async fn learns_devices_of(&self, user: &UserId) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(Duration::from_secs(1)).await?;
            if answer.device_lists.changed.iter().any(|changed| changed == user) {
                self.engine.feed(SyncPart::from(&answer)).await?;
                return Ok(self.engine.read_devices().await?);
            }
            if Instant::now() > deadline {
                return Err("nothing changed about their devices".into());
            }
        }
    }

    /// Syncs once and moves on.
    pub(crate) async fn sync(&mut self, room: &RoomId) -> Outcome<Vec<Seen>> {
        let answer = self.ask(Duration::from_secs(1)).await?;
        let (_, seen) = self.take(room, &answer).await?;
        self.engine.flush().await;
        self.since = Some(answer.next_batch);
        Ok(seen)
    }

    /// Syncs until `enough` encrypted events came.
    pub(crate) async fn sync_until(&mut self, room: &RoomId, enough: usize) -> Outcome<Vec<Seen>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while seen.len() < enough {
            if Instant::now() > deadline {
                return Err(format!("only {} of {enough} events came", seen.len()).into());
            }
            seen.extend(self.sync(room).await?);
        }
        Ok(seen)
    }
}

pub(crate) fn bodies(seen: &[Seen]) -> Vec<&str> {
    seen.iter().filter_map(Seen::body).collect()
}
