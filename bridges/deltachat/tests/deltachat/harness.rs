//! The conformance kit's far side: a real mail server behind a wire that can be cut, and a person with Delta Chat.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use sealbridge_child::{Child, Program};
use sealbridge_contract::{
    AnyTransport, Clock, Context, ConversationId, EndToEnd, PersonId, RemoteId, Spool,
    conformance::{Failure, Harness, MemoryIntake, Near, Overheard, Peer, Rig, Say, Stop, Told},
    inbox::AccountStore,
    transport::StoreKey,
};
use sealbridge_deltachat::{Settings, connect};
use sealbridge_lab::{DeltaPerson, MailServer, mail::Relay};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bridge::{Bridge, SOON, account, until},
    speech::{self, broken},
};

/// Rigs on a shared mail server.
pub(crate) struct Deltas {
    pub(crate) server: &'static MailServer,
}

type Connected = Arc<Mutex<Option<Arc<dyn EndToEnd>>>>;

struct Ours {
    settings: Settings,
    folder: TempDir,
    connected: Connected,
}

struct Ann {
    person: DeltaPerson,
    chat: u32,
    /// The bridge's own fingerprint.
    bridge: PersonId,
    server: &'static MailServer,
    wires: [Relay; 2],
    plain: ConversationId,
    connected: Connected,
}

/// Calls one method of the engine, by hand, while the bridge does not run.
pub(crate) async fn in_the_engine(
    bridge: &Bridge,
    method: &'static str,
    params: impl Fn(u32) -> Value,
) -> Result<Value> {
    let folder = bridge.folder.path();
    let program = Program::new(&bridge.settings.engine, folder).variable("DC_ACCOUNTS_PATH", folder.join("accounts"));
    let child = Child::start(&program)?;
    let accounts: Vec<u32> = child.call("get_all_account_ids", ()).await?;
    let account = accounts.first().context("there is an account")?;
    let answer = child.call(method, params(*account)).await?;
    child.stop().await;
    Ok(answer)
}

/// A group of the bridge's account that is not encrypted, as no code of the bridge could make it.
pub(crate) async fn plain_group(bridge: &Bridge) -> Result<ConversationId> {
    in_the_engine(bridge, "set_config", |account| json!([account, "force_encryption", "0"])).await?;
    let made = in_the_engine(bridge, "create_group_chat_unencrypted", |account| json!([account, "Open"])).await?;
    let of = bridge.group.as_str().split_once('-').context("a chat is named by its account too")?.1;
    Ok(ConversationId::new(format!("{made}-{of}")))
}

#[async_trait]
impl Harness for Deltas {
    async fn rig(&self, intake: &Arc<MemoryIntake>) -> Told<Rig> {
        self.set(intake).await.map_err(broken)
    }

    fn patience(&self) -> Duration {
        SOON
    }

    fn at_once(&self) -> usize {
        3
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(700)
    }
}

impl Deltas {
    async fn set(&self, intake: &Arc<MemoryIntake>) -> Result<Rig> {
        let wires = [Relay::before(self.server.imaps()).await?, Relay::before(self.server.smtps()).await?];
        let mailbox = self.server.mailbox("bridge")?;
        let bridge = Bridge::on(&mailbox, wires[0].port(), wires[1].port(), Arc::clone(intake)).await?;
        let person = DeltaPerson::new_on(self.server, "ann").await?;
        let plain = plain_group(&bridge).await?;
        let running = bridge.start().await?;
        let chat = person.join(&bridge.link).await?;
        running.stop().await?;
        let fingerprint = bridge.own_link.split_once('#').context("an invitation names a key")?.1;
        let fingerprint = fingerprint.split('&').next().unwrap_or_default();
        let own = PersonId::new(fingerprint.to_ascii_uppercase());
        let Bridge { settings, folder, group, .. } = bridge;
        let connected = Connected::default();
        Ok(Rig {
            account: account(),
            conversation: group,
            near: Box::new(Ours { settings, folder, connected: Arc::clone(&connected) }),
            peer: Box::new(Ann { person, chat, bridge: own, server: self.server, wires, plain, connected }),
        })
    }
}

#[async_trait]
impl Near for Ours {
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport> {
        let folder: PathBuf = self.folder.path().to_owned();
        let store_key = StoreKey::new([7; 32].into());
        let context = Context { account: account(), folder, store_key, store, spool, clock };
        let transport = connect(context, self.settings.clone()).await.map_err(broken)?;
        if let AnyTransport::EndToEnd(transport) = &transport {
            *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(transport));
        }
        Ok(transport)
    }
}

impl Drop for Ann {
    fn drop(&mut self) {
        // Else the account would outlive its case.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[async_trait]
impl Peer for Ann {
    fn id(&self) -> PersonId {
        PersonId::new(self.person.fingerprint())
    }

    fn name(&self) -> Option<String> {
        Some(self.person.name().to_owned())
    }

    fn echoes(&self) -> Told {
        Err(Stop::cannot("the engine keeps our own messages by itself; none comes back"))
    }

    async fn say(&self, say: Say) -> Told<RemoteId> {
        speech::say(&self.person, self.chat, say).await
    }

    async fn heard(&self) -> Told<Vec<Overheard>> {
        speech::heard(&self.person, self.chat, &self.bridge).await.map_err(broken)
    }

    async fn has_picture(&self, picture: Vec<u8>) -> Told {
        self.person.has_picture(&picture).await.map_err(broken)
    }

    async fn say_in_clear(&self, _words: &str) -> Told<RemoteId> {
        Err(Stop::cannot("the engine leaves mail in clear unread; a test of its own sends some"))
    }

    async fn say_without_key(&self, _words: &str) -> Told<RemoteId> {
        Err(Stop::cannot("a mail brings its key along"))
    }

    async fn share_key(&self) -> Told {
        Err(Stop::cannot("a mail brings its key along"))
    }

    async fn replay(&self, _id: &RemoteId) -> Told<RemoteId> {
        Err(Stop::cannot("the mail id is inside the signature, and the engine shows each once"))
    }

    async fn limit_answers(&self, _most: usize) -> Told {
        Err(Stop::cannot("the engine leaves nothing out"))
    }

    async fn stop_encrypting(&self) -> Told {
        Err(Stop::cannot("an encrypted chat of the engine never becomes another; mail in clear is another chat"))
    }

    async fn unencrypted_conversation(&self) -> Told<ConversationId> {
        Ok(self.plain.clone())
    }

    async fn go_away(&self) -> Told {
        self.wires.iter().for_each(Relay::cut);
        // What is handed in before the engine sees it waits in the engine's own queue, and is in doubt.
        let gone = || {
            let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
            connected.as_ref().is_none_or(|transport| !transport.health().connected)
        };
        until("the engine sees that the mail server is gone", gone).await.map_err(broken)
    }

    async fn come_back(&self) -> Told {
        self.wires.iter().for_each(Relay::mend);
        Ok(())
    }

    async fn fail_next(&self, failure: Failure) -> Told {
        Err(Stop::cannot(match failure {
            Failure::Refuse => "the engine has its own queue, and a mail server refuses people, not messages",
            Failure::Throttle(_) => "a mail server does not say when to come again",
            Failure::LoseAnswer => "the engine asks again by itself; tests of their own kill it in the middle",
        }))
    }

    async fn stored(&self) -> Told<Vec<Vec<u8>>> {
        self.server.archive().map_err(broken)
    }

    async fn parcels(&self) -> Told<Vec<Vec<u8>>> {
        Err(Stop::cannot("Delta Chat encrypts by itself"))
    }

    async fn inject(&self, _bytes: Vec<u8>) -> Told<RemoteId> {
        Err(Stop::cannot("Delta Chat encrypts by itself"))
    }
}
