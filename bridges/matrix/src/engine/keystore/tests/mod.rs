//! A store that dies after each write in turn.

mod claims;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex as SyncMutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use matrix_sdk_crypto::{
    CollectStrategy, DecryptionSettings, EncryptionSettings, OlmMachine, TrustRequirement,
    types::requests::AnyOutgoingRequest,
};
use matrix_sdk_sqlite::{SqliteCryptoStore, SqliteStoreConfig};
use ruma::{
    OwnedDeviceId, OwnedUserId, RoomId, UserId,
    api::client::{
        keys::{claim_keys, get_keys, upload_keys},
        sync::sync_events::DeviceLists,
        to_device::send_event_to_device,
    },
    events::AnyToDeviceEvent,
    room_id,
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
    user_id,
};
use serde_json::{Value, json, value::to_raw_value};
use tempfile::TempDir;

use super::{
    super::{EngineError, SyncPart},
    *,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn room() -> &'static RoomId {
    room_id!("!room:x")
}

/// What happens to a store.
#[derive(Clone, Debug, Default)]
struct Fate {
    writes: Arc<AtomicUsize>,
    /// After so many writes nothing is stored any more.
    dies_after: Arc<SyncMutex<Option<usize>>>,
    /// A message that no session opens makes the library panic.
    panics: Arc<AtomicBool>,
}

impl Fate {
    fn dies_after(writes: usize) -> Self {
        Self { dies_after: Arc::new(SyncMutex::new(Some(writes))), ..Self::default() }
    }

    fn heal(&self) {
        *self.dies_after.lock().expect("nobody panicked") = None;
    }

    fn has_died(&self) -> bool {
        let limit = *self.dies_after.lock().expect("nobody panicked");
        limit.is_some_and(|limit| self.writes.load(Ordering::SeqCst) > limit)
    }

    fn write(&self) -> Result<(), CryptoStoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match self.has_died() {
            true => Err(CryptoStoreError::Io(std::io::Error::other("no power"))),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Mortal<S> {
    inner: S,
    fate: Fate,
}

delegate::crypto_store_over! {
    impl for Mortal {
        async fn get_withheld_info(
            &self,
            room: &RoomId,
            session: &str,
        ) -> Result<Option<RoomKeyWithheldEntry>, CryptoStoreError> {
            self.inner.get_withheld_info(room, session).await.map_err(Into::into)
        }

        async fn get_withheld_sessions_by_room_id(
            &self,
            room: &RoomId,
        ) -> Result<Vec<RoomKeyWithheldEntry>, CryptoStoreError> {
            self.inner.get_withheld_sessions_by_room_id(room).await.map_err(Into::into)
        }

        async fn save_changes(&self, changes: Changes) -> Result<(), CryptoStoreError> {
            self.fate.write()?;
            self.inner.save_changes(changes).await.map_err(Into::into)
        }

        async fn save_pending_changes(&self, changes: PendingChanges) -> Result<(), CryptoStoreError> {
            self.fate.write()?;
            self.inner.save_pending_changes(changes).await.map_err(Into::into)
        }

        async fn save_inbound_group_sessions(
            &self,
            sessions: Vec<InboundGroupSession>,
            version: Option<&str>,
        ) -> Result<(), CryptoStoreError> {
            self.fate.write()?;
            self.inner.save_inbound_group_sessions(sessions, version).await.map_err(Into::into)
        }

        async fn set_custom_value(&self, key: &str, value: Vec<u8>) -> Result<(), CryptoStoreError> {
            self.fate.write()?;
            self.inner.set_custom_value(key, value).await.map_err(Into::into)
        }

        async fn get_inbound_group_session(
            &self,
            room: &RoomId,
            session: &str,
        ) -> Result<Option<InboundGroupSession>, CryptoStoreError> {
            self.inner.get_inbound_group_session(room, session).await.map_err(Into::into)
        }

        async fn get_sessions(&self, sender_key: &str) -> Result<Option<Vec<Session>>, CryptoStoreError> {
            self.inner.get_sessions(sender_key).await.map_err(Into::into)
        }

        async fn is_message_known(&self, hash: &OlmMessageHash) -> Result<bool, CryptoStoreError> {
            assert!(!self.fate.panics.load(Ordering::SeqCst), "as the library might");
            self.inner.is_message_known(hash).await.map_err(Into::into)
        }
    }
}

/// Somebody's device, and what the server gives out of its keys.
struct Device {
    machine: OlmMachine,
    memory: Memory,
    folder: TempDir,
    user: OwnedUserId,
    device: OwnedDeviceId,
    fate: Fate,
}

async fn machine(folder: &TempDir, user: &UserId, device: &OwnedDeviceId, fate: &Fate) -> Outcome<OlmMachine> {
    let config = SqliteStoreConfig::new(folder.path()).key(Some(&[7; 32]));
    let inner = SqliteCryptoStore::open_with_config(&config).await?;
    let store = KeyStore::over(Mortal { inner, fate: fate.clone() });
    Ok(OlmMachine::with_store(user, device, store, None).await?)
}

impl Device {
    async fn new(user: &UserId) -> Outcome<Self> {
        let (folder, device, fate) = (tempfile::tempdir()?, OwnedDeviceId::from("DEVICE"), Fate::default());
        let machine = machine(&folder, user, &device, &fate).await?;
        Ok(Self { machine, memory: Memory::default(), folder, user: user.to_owned(), device, fate })
    }

    /// The same device after the process died. The fate of the one before is over.
    async fn restart(&mut self, fate: Fate) -> Outcome {
        self.machine = machine(&self.folder, &self.user, &self.device, &fate).await?;
        (self.memory, self.fate) = (Memory::default(), fate);
        Ok(())
    }

    async fn take(&mut self, messages: &[Raw<AnyToDeviceEvent>]) -> Result<super::feeding::Taken, EngineError> {
        let part = SyncPart {
            to_device: messages.to_vec(),
            device_lists: DeviceLists::default(),
            one_time_keys: [(ruma::OneTimeKeyAlgorithm::SignedCurve25519, 50_u32.into())].into(),
            fallback_keys: None,
            next_batch: "token".to_owned(),
        };
        take_in(&self.machine, &mut self.memory, &part).await
    }

    /// What the server would upload to itself.
    async fn upload(&mut self) -> Outcome<upload_keys::v3::Request> {
        let empty = SyncPart {
            to_device: Vec::new(),
            device_lists: DeviceLists::default(),
            one_time_keys: [(ruma::OneTimeKeyAlgorithm::SignedCurve25519, 0_u32.into())].into(),
            fallback_keys: None,
            next_batch: "first".to_owned(),
        };
        take_in(&self.machine, &mut self.memory, &empty).await?;
        for request in self.machine.outgoing_requests().await? {
            if let AnyOutgoingRequest::KeysUpload(upload) = request.request() {
                let mut answer = upload_keys::v3::Response::new(BTreeMap::new());
                let held = upload.one_time_keys.len().try_into()?;
                answer.one_time_key_counts.insert(ruma::OneTimeKeyAlgorithm::SignedCurve25519, held);
                self.machine.mark_request_as_sent(request.request_id(), &answer).await?;
                return Ok(upload.clone());
            }
        }
        Err("nothing to upload".into())
    }

    async fn knows(&self, other: &Self, uploaded: &upload_keys::v3::Request) -> Outcome {
        self.machine.update_tracked_users([&*other.user]).await?;
        let (id, _) = self.machine.query_keys_for_users([&*other.user]);
        let mut answer = get_keys::v3::Response::new();
        let keys = uploaded.device_keys.clone().ok_or("no device keys")?;
        answer.device_keys.insert(other.user.clone(), [(other.device.clone(), keys)].into());
        Ok(self.machine.mark_request_as_sent(&id, &answer).await?)
    }

    async fn claims(&self, other: &Self, uploaded: &upload_keys::v3::Request, number: usize) -> Outcome {
        let (id, _) = self.machine.get_missing_sessions([&*other.user].into_iter()).await?.ok_or("not missing")?;
        let (name, key) = uploaded.one_time_keys.iter().nth(number).ok_or("no key left")?;
        let given = [(name.clone(), key.clone())].into();
        let given = [(other.user.clone(), [(other.device.clone(), given)].into())].into();
        Ok(self.machine.mark_request_as_sent(&id, &claim_keys::v3::Response::new(given)).await?)
    }

    /// A new room key for `other`, as the message that brings it.
    async fn shares(&self, other: &Self) -> Outcome<Raw<AnyToDeviceEvent>> {
        let settings =
            EncryptionSettings { sharing_strategy: CollectStrategy::AllDevices, ..EncryptionSettings::default() };
        self.machine.discard_room_key(room()).await?;
        let requests = self.machine.share_room_key(room(), [&*other.user].into_iter(), settings).await?;
        let request = requests.first().ok_or("nobody to share with")?;
        let to = DeviceIdOrAllDevices::DeviceId(other.device.clone());
        let content = request.messages.get(&other.user).and_then(|devices| devices.get(&to));
        let event =
            json!({ "type": request.event_type, "sender": self.user, "content": content.ok_or("not for them")? });
        self.machine.mark_request_as_sent(&request.txn_id, &send_event_to_device::v3::Response::new()).await?;
        Ok(Raw::from_json(to_raw_value(&event)?))
    }

    async fn says(&self, words: &str) -> Outcome<Value> {
        let content = Raw::from_json(to_raw_value(&json!({ "msgtype": "m.text", "body": words }))?);
        let sealed = self.machine.encrypt_room_event_raw(room(), "m.room.message", &content).await?.content;
        Ok(json!({
            "type": "m.room.encrypted", "event_id": format!("${words}"), "sender": self.user, "room_id": room(),
            "origin_server_ts": 1, "content": sealed,
        }))
    }

    async fn reads(&self, event: &Value) -> Result<String, String> {
        let settings = DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
        let event = Raw::from_json(to_raw_value(event).expect("it is JSON"));
        let opened = self.machine.decrypt_room_event(&event, room(), &settings).await;
        let opened = opened.map_err(|error| error.to_string())?;
        let opened: Value = serde_json::from_str(opened.event.json().get()).expect("it is JSON");
        Ok(opened["content"]["body"].as_str().unwrap_or_default().to_owned())
    }
}

/// Two devices; what `alice` has sent to `bob` and he has not taken in yet: a key through a new session, and a second
/// key through the same. Each with one message under it.
struct Scene {
    alice: Device,
    bob: Device,
    messages: Vec<Raw<AnyToDeviceEvent>>,
    events: Vec<(String, Value)>,
    /// What Bob uploaded. Its first one-time key is used.
    his: upload_keys::v3::Request,
}

async fn scene() -> Outcome<Scene> {
    let (mut alice, mut bob) = (Device::new(user_id!("@alice:x")).await?, Device::new(user_id!("@bob:x")).await?);
    let (hers, his) = (alice.upload().await?, bob.upload().await?);
    alice.knows(&bob, &his).await?;
    bob.knows(&alice, &hers).await?;
    alice.claims(&bob, &his, 0).await?;
    let mut scene = Scene { alice, bob, messages: Vec::new(), events: Vec::new(), his };
    for words in ["first", "second"] {
        scene.messages.push(scene.alice.shares(&scene.bob).await?);
        scene.events.push((words.to_owned(), scene.alice.says(words).await?));
    }
    Ok(scene)
}

impl Scene {
    /// Somebody who has a session with Bob.
    async fn joined_by(&self, user: &UserId) -> Outcome<Device> {
        let mut other = Device::new(user).await?;
        let hers = other.upload().await?;
        self.bob.knows(&other, &hers).await?;
        other.knows(&self.bob, &self.his).await?;
        other.claims(&self.bob, &self.his, 1).await?;
        Ok(other)
    }

    async fn all_is_read(&self) -> Result<(), String> {
        for (words, event) in &self.events {
            let read = self.bob.reads(event).await.map_err(|error| format!("{words}: {error}"))?;
            assert_eq!(read, *words);
        }
        Ok(())
    }
}

#[tokio::test]
async fn key_is_there_wherever_the_process_died_while_it_was_taken_in() -> Outcome {
    let mut died = 0;
    for writes in 0.. {
        let mut scene = scene().await?;
        scene.bob.restart(Fate::dies_after(writes)).await?;
        let _ = scene.bob.take(&scene.messages).await;
        let dead = scene.bob.fate.has_died();
        scene.bob.restart(Fate::default()).await?;
        scene.bob.take(&scene.messages).await?;
        scene.all_is_read().await.map_err(|error| format!("died after {writes} writes: {error}"))?;
        if !dead {
            break;
        }
        died += 1;
    }
    assert!(died >= 2, "the process died {died} times");
    Ok(())
}

#[tokio::test]
async fn key_is_there_when_a_write_failed_and_the_process_lives() -> Outcome {
    for writes in 0.. {
        let mut scene = scene().await?;
        scene.bob.restart(Fate::dies_after(writes)).await?;
        let failed = scene.bob.take(&scene.messages).await.is_err();
        scene.bob.fate.heal();
        scene.bob.take(&scene.messages).await?;
        scene.all_is_read().await.map_err(|error| format!("failed after {writes} writes: {error}"))?;
        if !failed && !scene.bob.fate.has_died() && scene.bob.fate.writes.load(Ordering::SeqCst) > writes {
            break;
        }
    }
    Ok(())
}

#[tokio::test]
async fn message_that_makes_the_library_panic_is_left_out_alone() -> Outcome {
    let mut scene = scene().await?;
    scene.bob.fate.panics.store(true, Ordering::SeqCst);
    let rubbish = spoilt(&scene.messages[1])?;
    scene.messages.insert(1, rubbish);
    let taken = scene.bob.take(&scene.messages).await?;
    assert_eq!((taken.abandoned, taken.keys.len()), (1, 2));
    Ok(scene.all_is_read().await?)
}

#[tokio::test]
async fn message_that_no_session_opens_names_its_sender_and_a_repeated_one_does_not() -> Outcome {
    let mut scene = scene().await?;
    assert!(scene.bob.take(&scene.messages).await?.broken.is_empty());
    let again = scene.bob.take(&scene.messages).await?;
    assert!(again.broken.is_empty(), "it was opened before");
    let rubbish = spoilt(&scene.messages[0])?;
    let taken = scene.bob.take(&[rubbish]).await?;
    let senders: Vec<_> = taken.broken.iter().map(|(user, _)| user.clone()).collect();
    assert_eq!(senders, [scene.alice.user.clone()]);
    Ok(())
}

/// The message with one byte of its ciphertext changed.
fn spoilt(message: &Raw<AnyToDeviceEvent>) -> Outcome<Raw<AnyToDeviceEvent>> {
    let mut message: Value = serde_json::from_str(message.json().get())?;
    let sealed = message["content"]["ciphertext"].as_object_mut().ok_or("not sealed")?;
    for to in sealed.values_mut() {
        let body = to["body"].as_str().ok_or("no body")?;
        let (start, rest) = body.split_at(body.len() - 12);
        let (middle, end) = rest.split_at(8);
        let middle: String = middle.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
        to["body"] = format!("{start}{middle}{end}").into();
    }
    Ok(Raw::from_json(to_raw_value(&message)?))
}

#[tokio::test]
async fn what_others_store_meanwhile_is_stored_at_once() -> Outcome {
    let scene = scene().await?;
    // As while an answer is taken in: the outbound session must be stored before its ciphertext is given away.
    let before = scene.alice.fate.writes.load(Ordering::SeqCst);
    let (sealed, noticed) = in_one_commit(Senders::new(), async {
        let machine = scene.alice.machine.clone();
        let other = tokio::spawn(async move {
            let content = Raw::from_json(to_raw_value(&json!({ "body": "x" }))?);
            machine.encrypt_room_event_raw(room(), "m.room.message", &content).await?;
            Outcome::Ok(())
        });
        other.await
    })
    .await;
    sealed??;
    assert!(!noticed.new_sessions && scene.alice.fate.writes.load(Ordering::SeqCst) == before + 1);
    Ok(())
}

#[tokio::test]
async fn no_index_is_used_twice_wherever_the_process_died_while_sending() -> Outcome {
    for writes in 0..6 {
        let mut scene = scene().await?;
        scene.bob.take(&scene.messages).await?;
        scene.alice.restart(Fate::dies_after(writes)).await?;
        let mut sent = Vec::new();
        for round in ["a", "b"] {
            if let Ok(message) = scene.alice.shares(&scene.bob).await {
                scene.bob.take(&[message]).await?;
            }
            if let Ok(event) = scene.alice.says(round).await {
                sent.push(event);
            }
            scene.alice.restart(Fate::default()).await?;
        }
        let message = scene.alice.shares(&scene.bob).await?;
        scene.bob.take(&[message]).await?;
        sent.push(scene.alice.says("after").await?);
        let mut seen = std::collections::BTreeSet::new();
        for event in &sent {
            let position = super::super::message_position(&to_raw_value(event)?).ok_or("no position")?;
            assert!(seen.insert(position), "an index was used twice, dying after {writes} writes");
        }
        let last = sent.last().ok_or("nothing was sent")?;
        assert_eq!(scene.bob.reads(last).await?, "after", "dying after {writes} writes");
    }
    Ok(())
}
