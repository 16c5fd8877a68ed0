//! What the conformance kit is played on: our account on a real homeserver, behind a fault proxy.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, AnyTransport, Clock, Context, ConversationId, Spool,
    conformance::{Harness, MemoryIntake, Near, Rig, Stop, Told},
    inbox::AccountStore,
    transport::StoreKey,
};
use sealbridge_lab::{Lab, Person, Proxy, person::Received};
use sealbridge_matrix::{Matrix, Settings};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    bot::{Bot, SOON},
    peer::Bob,
};

/// Rigs on a shared homeserver.
pub(crate) struct Matrices {
    lab: &'static Lab,
    /// Somebody spoke in clear on the first homeserver: what it stores is no evidence any more.
    soiled: Arc<AtomicBool>,
}

/// The account as it is connected now.
pub(crate) type Connected = Arc<Mutex<Option<Arc<Matrix>>>>;

struct Ours {
    settings: Settings,
    folder: TempDir,
    connected: Connected,
}

pub(crate) fn broken(error: impl Into<anyhow::Error>) -> Stop {
    Stop::failed(format!("{:#}", error.into()))
}

#[async_trait]
impl Harness for Matrices {
    async fn rig(&self, intake: &Arc<MemoryIntake>) -> Told<Rig> {
        self.set(intake).await.map_err(broken)
    }

    fn at_once(&self) -> usize {
        3
    }

    fn patience(&self) -> Duration {
        SOON
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(500)
    }
}

impl Matrices {
    pub(crate) fn new(lab: &'static Lab) -> Self {
        Self { lab, soiled: Arc::default() }
    }

    async fn set(&self, intake: &Arc<MemoryIntake>) -> anyhow::Result<Rig> {
        let server = if self.soiled.load(Ordering::SeqCst) { &self.lab.b } else { &self.lab.a };
        let person = Arc::new(Person::new_on(server, "bob").await?);
        person.call("watch", json!({})).await?;
        let proxy = Proxy::before(server.url()).await?;
        let invites = json!({ "invites": { "from": [person.user_id()] } });
        let bot = Bot::with_intake(server, proxy.url(), invites, Arc::clone(intake)).await?;
        let running = bot.start().await?;
        let room = person.create_encrypted_room("talk", &[&bot.user.id]).await?;
        running.joins(&room, 2).await?;
        person.wait_member(&room, &bot.user.id, "join", SOON).await?;
        running.stop().await?;
        let bridge = bot.user.id.clone();
        let (settings, folder) = bot.into_parts();
        let connected = Connected::default();
        let joining = tokio::spawn(join_all(Arc::clone(&person)));
        let peer = Bob {
            person,
            proxy,
            server: server.data_dir(),
            soiled: Arc::clone(&self.soiled),
            bridge,
            room: room.clone(),
            connected: Arc::clone(&connected),
            files: Mutex::default(),
            joining,
        };
        Ok(Rig {
            account: AccountName::parse("work")?,
            conversation: ConversationId::new(room),
            near: Box::new(Ours { settings, folder, connected }),
            peer: Box::new(peer),
        })
    }
}

/// Accepts every invitation, as a person does who waits for one.
async fn join_all(person: Arc<Person>) {
    let mut joined = 0;
    loop {
        let invites = person.received().into_iter().filter_map(|one| match one {
            Received::Invite(invite) => Some(invite.room),
            _ => None,
        });
        for room in invites.skip(joined) {
            joined += 1;
            // An invitation may have been taken back.
            let _ = person.join(&room).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[async_trait]
impl Near for Ours {
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport> {
        let context = Context {
            account: AccountName::parse("work").map_err(broken)?,
            folder: self.folder.path().to_owned(),
            store_key: StoreKey::new([7; 32].into()),
            store,
            spool,
            clock,
        };
        let matrix = Matrix::connect(context, self.settings.clone()).await.map_err(broken)?;
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&matrix));
        Ok(AnyTransport::EndToEnd(matrix))
    }
}
