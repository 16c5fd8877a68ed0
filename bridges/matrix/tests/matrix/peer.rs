//! The conformance kit's far side: a person with mautrix-python, and what can happen to the homeserver between us.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{
    ConversationId, PersonId, RemoteId, Signal, Transport as _,
    conformance::{Failure, Overheard, Peer, Say, Stop, Told},
};
use sealbridge_lab::{
    Person, Proxy,
    person::Received,
    proxy::{Fault, Rule},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    bot::SOON,
    harness::{Connected, broken},
    signals, speech,
};

/// A person in the same room.
pub(crate) struct Bob {
    pub(crate) person: Arc<Person>,
    pub(crate) proxy: Proxy,
    pub(crate) server: &'static Path,
    pub(crate) soiled: Arc<AtomicBool>,
    pub(crate) bridge: String,
    pub(crate) room: String,
    pub(crate) connected: Connected,
    pub(crate) files: Mutex<HashMap<RemoteId, Vec<u8>>>,
    pub(crate) joining: JoinHandle<()>,
}

impl Bob {
    /// The content of a file that was heard, fetched once.
    async fn content(&self, id: &RemoteId, received: &[Received]) -> anyhow::Result<Vec<u8>> {
        if let Some(content) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(content.clone());
        }
        let content = self.person.download(speech::content(received, id).context("It was heard")?).await?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), content.clone());
        Ok(content)
    }

    /// A picture of somebody that was shown, fetched once.
    async fn portrait(&self, file: &Value) -> anyhow::Result<Vec<u8>> {
        let id = RemoteId::new(file["url"].as_str().context("It lies somewhere")?);
        if let Some(content) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(content.clone());
        }
        let content = self.person.download(&json!({ "file": file })).await?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(id, content.clone());
        Ok(content)
    }

    fn rule(&self, method: &str, path: &str, fault: Fault) -> Told {
        self.proxy.add(Rule::new(method, path, fault).map_err(broken)?.times(1));
        Ok(())
    }

    /// Waits until our account knows whether the network is there.
    async fn until_connected(&self, wanted: bool) -> Told {
        crate::bot::until(|| {
            let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
            connected.as_ref().is_none_or(|matrix| matrix.health().connected == wanted).then_some(())
        })
        .await
        .map_err(broken)
    }
}

impl Drop for Bob {
    fn drop(&mut self) {
        self.joining.abort();
        // Else the account would outlive its case.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[async_trait]
impl Peer for Bob {
    fn id(&self) -> PersonId {
        PersonId::new(self.person.user_id())
    }

    fn name(&self) -> Option<String> {
        let id = self.person.user_id();
        id.strip_prefix('@').and_then(|id| id.split_once(':')).map(|(name, _)| name.to_owned())
    }

    fn echoes(&self) -> Told {
        Ok(())
    }

    async fn say(&self, say: Say) -> Told<RemoteId> {
        speech::say(&self.person, &self.room, say).await.map_err(broken)
    }

    async fn heard(&self) -> Told<Vec<Overheard>> {
        let received = self.person.received();
        let mut heard = speech::heard(received.clone());
        for one in &mut heard {
            if let Some(file) = &mut one.details.file {
                file.content = self.content(&one.id, &received).await.map_err(broken)?;
            }
            if let Some(file) = portrait_of(&one.id, &received) {
                one.details.portrait = Some(self.portrait(file).await.map_err(broken)?);
            }
        }
        Ok(heard)
    }

    async fn has_picture(&self, picture: Vec<u8>) -> Told {
        let picture = json!({ "data": STANDARD.encode(picture), "mimetype": "image/png" });
        self.person.call("set_picture", picture).await.map(drop).map_err(broken)
    }

    async fn does(&self, signal: Signal) -> Told {
        signals::does(&self.person, &self.room, &signal).await.map_err(broken)
    }

    async fn told(&self) -> Told<Vec<Signal>> {
        Ok(signals::told(self.person.received()))
    }

    async fn say_in_clear(&self, words: &str) -> Told<RemoteId> {
        self.soiled.store(true, Ordering::SeqCst);
        let content = json!({ "msgtype": "m.text", "body": words });
        let sent = self.person.send_raw_plain(&self.room, "m.room.message", content).await;
        sent.map(RemoteId::new).map_err(broken)
    }

    async fn say_without_key(&self, words: &str) -> Told<RemoteId> {
        self.person.withhold(&self.room, &[&self.bridge], false).await.map_err(broken)?;
        let said = self.person.send(&self.room, words).await.map_err(broken)?;
        self.person.call("share_later", json!({ "room": self.room })).await.map_err(broken)?;
        Ok(RemoteId::new(said))
    }

    async fn share_key(&self) -> Told {
        self.person.share_key(&self.room).await.map(drop).map_err(broken)
    }

    async fn replay(&self, id: &RemoteId) -> Told<RemoteId> {
        let event = self.person.raw_event(&self.room, id.as_str()).await.map_err(broken)?;
        let sent = self.person.send_raw_plain(&self.room, "m.room.encrypted", event["content"].clone()).await;
        sent.map(RemoteId::new).map_err(broken)
    }

    async fn limit_answers(&self, _most: usize) -> Told {
        Err(Stop::cannot("the homeserver decides how much an answer holds; a longer gap has a test of its own"))
    }

    async fn stop_encrypting(&self) -> Told {
        let sent = self.person.send_state(&self.room, "m.room.encryption", "", json!({})).await;
        sent.map(drop).map_err(broken)
    }

    async fn unencrypted_conversation(&self) -> Told<ConversationId> {
        let room = self.person.create_plain_room("open", &[&self.bridge]).await.map_err(broken)?;
        // It joins, looks, and leaves.
        let left = self.person.wait_member(&room, &self.bridge, "leave", SOON).await;
        left.map_err(broken)?;
        Ok(ConversationId::new(room))
    }

    async fn go_away(&self) -> Told {
        self.proxy.go_offline();
        self.until_connected(false).await
    }

    async fn come_back(&self) -> Told {
        self.proxy.go_online();
        Ok(())
    }

    async fn fail_next(&self, failure: Failure) -> Told {
        let fault = match failure {
            Failure::Refuse => {
                Fault::Answer { status: 400, body: json!({ "errcode": "M_INVALID_PARAM", "error": "no" }) }
            }
            Failure::Throttle(wait) => {
                Fault::Throttle { retry_after_ms: u64::try_from(wait.as_millis()).map_err(broken)? }
            }
            Failure::LoseAnswer => Fault::DropAfter,
        };
        self.rule("PUT", "/send/m.room.encrypted/", fault)
    }

    async fn stored(&self) -> Told<Vec<Vec<u8>>> {
        let mut stored = Vec::new();
        read_all(self.server, &mut stored).map_err(broken)?;
        Ok(stored)
    }

    async fn parcels(&self) -> Told<Vec<Vec<u8>>> {
        Err(Stop::cannot("Matrix encrypts by itself"))
    }

    async fn inject(&self, _bytes: Vec<u8>) -> Told<RemoteId> {
        Err(Stop::cannot("Matrix encrypts by itself"))
    }
}

/// The picture beside a message that was heard.
fn portrait_of<'a>(id: &RemoteId, received: &'a [Received]) -> Option<&'a Value> {
    let content = received.iter().find_map(|one| match one {
        Received::Message(message) if message.event_id == id.as_str() => Some(&message.content),
        Received::Event(event) if event.event_id == id.as_str() => Some(&event.content),
        _ => None,
    });
    content?.get(speech::PROFILE)?.get("avatar_file")
}

/// Database, log and media of a homeserver, as they lie on disk.
fn read_all(folder: &Path, into: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, into)?;
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => into.push(bytes),
            // A database's side files come and go.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
