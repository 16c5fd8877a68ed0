//! The same with a folder for a server.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, AnyTransport, Clock, ConversationId, DeliveryId, PersonId, RemoteId, Spool, Trail,
    conformance::{Failure, Harness, MemoryIntake, Near, Overheard, Peer, Rig, Say, Stop, Told},
    inbox::AccountStore,
};
use sealbridge_loopback::{self as loopback, DiskPeer, HeardLine, NetworkKind, SaidLine, Settings, connect};
use tokio::sync::Mutex;

use crate::harness::{account, context, details, how_heard, how_said, more, sealed_says};

/// A new folder for each case.
pub(crate) struct Folders {
    pub(crate) settings: Settings,
}

#[async_trait]
impl Harness for Folders {
    async fn rig(&self, intake: &Arc<MemoryIntake>) -> Told<Rig> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let account = account();
        let settings = Settings {
            conversations: vec!["room".to_owned()],
            kind: self.settings.kind,
            ..Settings::directory(folder.path())
        };
        let carries = (settings.kind == NetworkKind::Carrier).then(|| Arc::clone(intake));
        let files = DiskPeer::open(folder.path(), &account).map_err(failed)?;
        let near = DiskNear { account: account.clone(), settings };
        let peer = FilePeer { files: Mutex::new(files), carries, _folder: folder };
        Ok(Rig { account, conversation: ConversationId::new("room"), near: Box::new(near), peer: Box::new(peer) })
    }
}

fn failed(error: std::io::Error) -> Stop {
    Stop::failed(error.to_string())
}

struct DiskNear {
    account: AccountName,
    settings: Settings,
}

#[async_trait]
impl Near for DiskNear {
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport> {
        let context = context(&self.account, PathBuf::new(), store, spool, clock);
        connect(context, self.settings.clone()).await.map_err(|error| Stop::failed(error.to_string()))
    }
}

struct FilePeer {
    files: Mutex<DiskPeer>,
    carries: Option<Arc<MemoryIntake>>,
    /// Kept for as long as its files are looked at.
    _folder: tempfile::TempDir,
}

impl FilePeer {
    async fn write(&self, line: SaidLine) -> Told<RemoteId> {
        let id = RemoteId::new(&line.id);
        self.files.lock().await.write(&[line]).map_err(failed)?;
        Ok(id)
    }

    fn line(&self, words: &str) -> SaidLine {
        let id = DeliveryId::random().to_string();
        let (name, at) = (self.name(), Clock::system().now().0);
        SaidLine { name, at, ..SaidLine::words(&id, "room", self.id().as_str(), words) }
    }
}

fn overheard(line: HeardLine) -> Told<Overheard> {
    Ok(Overheard {
        id: RemoteId::new(line.id),
        delivery: Some(DeliveryId::parse(&line.delivery).map_err(|error| Stop::failed(error.to_string()))?),
        author: line.author,
        words: line.words,
        html: line.html,
        how: how_heard(loopback::How::of(line.how.as_deref())),
        details: details(&line.more.unwrap_or_default()),
        reply_to: line.reply_to.map(RemoteId::new),
        trail: Trail::from_texts(line.marks.iter().map(String::as_str)),
    })
}

const NO_FAULTS: &str = "a file answers always";

#[async_trait]
impl Peer for FilePeer {
    fn id(&self) -> PersonId {
        PersonId::new("ben@disk")
    }

    fn name(&self) -> Option<String> {
        Some("ben".to_owned())
    }

    fn echoes(&self) -> Told {
        if self.carries.is_some() { Err(Stop::cannot("a carrier has none")) } else { Ok(()) }
    }

    async fn say(&self, say: Say) -> Told<RemoteId> {
        if let Some(intake) = &self.carries {
            sealed_says(&say)?;
            let (id, name, now) = (self.id(), self.name(), Clock::system().now());
            let parcel = intake.far().seal(DeliveryId::random(), &id, name.as_deref(), now, say);
            return self.inject(parcel).await;
        }
        let line = SaidLine {
            html: say.html,
            reply_to: say.reply_to.map(|id| id.as_str().to_owned()),
            marks: say.trail.to_texts(),
            how: how_said(say.how).name(),
            more: Some(more(say.details)),
            ..self.line(&say.words)
        };
        self.write(line).await
    }

    async fn heard(&self) -> Told<Vec<Overheard>> {
        let lines = self.files.lock().await.heard().map_err(failed)?.into_iter();
        let Some(intake) = &self.carries else { return lines.map(overheard).collect() };
        let open = |line: HeardLine| intake.far().open(RemoteId::new(line.id), &line.parcel?);
        Ok(lines.filter_map(open).collect())
    }

    async fn say_in_clear(&self, _words: &str) -> Told<RemoteId> {
        Err(Stop::cannot("a file says nothing of encryption"))
    }

    async fn say_without_key(&self, words: &str) -> Told<RemoteId> {
        self.write(SaidLine { needs_key: Some("late".to_owned()), ..self.line(words) }).await
    }

    async fn share_key(&self) -> Told {
        self.write(SaidLine { brings_key: Some("late".to_owned()), ..self.line("") }).await.map(drop)
    }

    async fn replay(&self, _id: &RemoteId) -> Told<RemoteId> {
        Err(Stop::cannot("a line of a file has nothing that could be replayed"))
    }

    async fn limit_answers(&self, _most: usize) -> Told {
        Err(Stop::cannot("a file leaves nothing out"))
    }

    async fn stop_encrypting(&self) -> Told {
        Err(Stop::cannot("a file says nothing of encryption"))
    }

    async fn unencrypted_conversation(&self) -> Told<ConversationId> {
        Err(Stop::cannot("a file says nothing of encryption"))
    }

    async fn go_away(&self) -> Told {
        Err(Stop::cannot(NO_FAULTS))
    }

    async fn come_back(&self) -> Told {
        Err(Stop::cannot(NO_FAULTS))
    }

    async fn fail_next(&self, _failure: Failure) -> Told {
        Err(Stop::cannot(NO_FAULTS))
    }

    async fn stored(&self) -> Told<Vec<Vec<u8>>> {
        if self.carries.is_none() {
            return Err(Stop::cannot("the file holds words in clear, and says so"));
        }
        self.parcels().await
    }

    async fn parcels(&self) -> Told<Vec<Vec<u8>>> {
        let lines = self.files.lock().await.heard().map_err(failed)?;
        Ok(lines.into_iter().filter_map(|line| line.parcel).collect())
    }

    async fn inject(&self, bytes: Vec<u8>) -> Told<RemoteId> {
        self.write(SaidLine { parcel: Some(bytes), ..self.line("") }).await
    }
}
