//! Endpoints, as the conformance kit wants to have them.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use age::{Decryptor, armor::ArmoredReader, x25519::Identity};
use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, AnyTransport, Clock, Context, ConversationId, PersonId, RemoteId, Spool, Trail,
    conformance::{Details, Failure, Harness, How, MemoryIntake, Near, Overheard, Peer, Rig, Sample, Say, Stop, Told},
    inbox::AccountStore,
    transport::StoreKey,
};
use sealbridge_webhook::{Endpoint, Settings, connect};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::receiver::{Posted, Receiver, Reply};

/// Why nobody is made to speak.
pub(crate) const NOTHING_COMES_IN: &str = "an endpoint is only posted to; what programs say comes by sources";

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A folder with the secret's file in it.
pub(crate) fn with_secret() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, SECRET).expect("it is written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is private");
    (folder, file)
}

pub(crate) fn account() -> AccountName {
    AccountName::parse("hooks").expect("it is a name")
}

pub(crate) fn context(store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Context {
    let store_key = StoreKey::new(Zeroizing::new([7; 32]));
    Context { account: account(), folder: PathBuf::new(), store_key, store, spool, clock }
}

/// A new endpoint for each case: one of the operator's, or one of somebody else's.
pub(crate) struct Endpoints {
    pub(crate) encrypted: bool,
}

#[async_trait]
impl Harness for Endpoints {
    async fn rig(&self, _intake: &Arc<MemoryIntake>) -> Told<Rig> {
        let receiver = Receiver::start("127.0.0.1", 0, None).await;
        let (folder, secret) = with_secret();
        let key = self.encrypted.then(Identity::generate);
        let endpoint = Endpoint {
            url: format!("http://{}/hook", receiver.at),
            operator_run: !self.encrypted,
            recipients: key.iter().map(|key| key.to_public().to_string()).collect(),
            secret_file: Some(secret),
            ..Endpoint::default()
        };
        let settings = Settings { endpoints: [("ops".to_owned(), endpoint)].into() };
        Ok(Rig {
            account: account(),
            conversation: ConversationId::new("ops"),
            near: Box::new(Ours { settings, _folder: folder }),
            peer: Box::new(Theirs { receiver, key, read: Mutex::default() }),
        })
    }

    fn nothing_comes_in(&self) -> Option<&'static str> {
        Some(NOTHING_COMES_IN)
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(30)
    }
}

struct Ours {
    settings: Settings,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl Near for Ours {
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport> {
        let transport = connect(context(store, spool, clock), self.settings.clone()).await;
        transport.map_err(|error| Stop::failed(error.to_string()))
    }
}

struct Theirs {
    receiver: Receiver,
    key: Option<Identity>,
    /// What was read so far, in its order: the kit looks often.
    read: Mutex<Vec<Value>>,
}

impl Theirs {
    fn read(&self, posted: &Posted) -> Told<Value> {
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|_| Stop::failed("it is not JSON"));
        let mut document = json(&posted.body)?;
        if let Some(key) = &self.key {
            let sealed = document["age"].as_str().ok_or_else(|| Stop::failed("it is not encrypted"))?;
            document = json(&open(key, sealed).ok_or_else(|| Stop::failed("it can't be opened"))?)?;
        }
        if document["id"].as_str() != posted.header("webhook-id") {
            return Err(Stop::failed("it has two ids"));
        }
        Ok(document)
    }
}

fn open(key: &Identity, sealed: &str) -> Option<Vec<u8>> {
    let decryptor = Decryptor::new(ArmoredReader::new(sealed.as_bytes())).ok()?;
    let mut plain = Vec::new();
    decryptor.decrypt(std::iter::once(key as &dyn age::Identity)).ok()?.read_to_end(&mut plain).ok()?;
    Some(plain)
}

fn overheard(document: &Value) -> Option<Overheard> {
    let text = |key: &str| document[key].as_str().map(str::to_owned);
    let id = |key: &str| text(key).map(RemoteId::new);
    let list = |key: &str| {
        let all = document[key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let how = match document["kind"].as_str()? {
        "text" => How::Text,
        "emote" => How::Emote,
        "notice" => How::Notice,
        "edit" => How::Edit,
        "redaction" => How::Redaction,
        "reaction" => How::Reaction,
        "location" => How::Location,
        "poll" => How::Poll,
        "file" => match document["file"]["sort"].as_str()? {
            "image" => How::Image,
            "video" => How::Video,
            "audio" => How::Audio,
            "voice" => How::Voice,
            "sticker" => How::Sticker,
            _ => How::File,
        },
        _ => return None,
    };
    let file = document.get("file").map(sample);
    let details = Details {
        thread: id("thread"),
        about: id("about"),
        emoji: list("emoji"),
        answers: list("answers"),
        place: text("place"),
        file,
        ..Details::default()
    };
    Some(Overheard {
        id: id("id")?,
        delivery: None,
        author: Some(document["author"]["name"].as_str()?.to_owned()),
        words: text("text").unwrap_or_default(),
        html: text("html"),
        how,
        reply_to: id("reply_to"),
        trail: Trail::default(),
        details,
    })
}

fn sample(file: &Value) -> Sample {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let number = |key: &str| file[key].as_u64().and_then(|number| u32::try_from(number).ok());
    let content = STANDARD.decode(file["content"].as_str().unwrap_or_default()).unwrap_or_default();
    let whole = file["size"].as_u64() == u64::try_from(content.len()).ok();
    Sample {
        name: file["name"].as_str().unwrap_or_default().to_owned(),
        mime: file["mime"].as_str().unwrap_or_default().to_owned(),
        content: if whole { content } else { Vec::new() },
        dimensions: number("width").zip(number("height")),
        ..Sample::default()
    }
}

#[async_trait]
impl Peer for Theirs {
    fn id(&self) -> PersonId {
        PersonId::new(format!("http://{}", self.receiver.at))
    }

    fn name(&self) -> Option<String> {
        None
    }

    fn echoes(&self) -> Told {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn say(&self, _say: Say) -> Told<RemoteId> {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn heard(&self) -> Told<Vec<Overheard>> {
        // As Standard Webhooks tells receivers to do: what has an id that was seen is a repetition.
        let mut seen = BTreeSet::new();
        let mut read = self.read.lock().expect("nobody panics here");
        for posted in self.receiver.posted().iter().skip(read.len()) {
            read.push(self.read(posted)?);
        }
        let first = read.iter().filter(|document| seen.insert(document["id"].as_str()));
        first.map(|document| overheard(document).ok_or_else(|| Stop::failed("it lacks something"))).collect()
    }

    async fn say_in_clear(&self, _words: &str) -> Told<RemoteId> {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn say_without_key(&self, _words: &str) -> Told<RemoteId> {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn share_key(&self) -> Told {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn replay(&self, _id: &RemoteId) -> Told<RemoteId> {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn limit_answers(&self, _most: usize) -> Told {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }

    async fn stop_encrypting(&self) -> Told {
        Err(Stop::cannot("for whom it is encrypted is said by the config, and by nobody else"))
    }

    async fn unencrypted_conversation(&self) -> Told<ConversationId> {
        Err(Stop::cannot("an account has no endpoints of both kinds"))
    }

    async fn go_away(&self) -> Told {
        self.receiver.go_away().await;
        Ok(())
    }

    async fn come_back(&self) -> Told {
        self.receiver.come_back().await;
        Ok(())
    }

    async fn fail_next(&self, failure: Failure) -> Told {
        self.receiver.next(match failure {
            Failure::Refuse => Reply::Says(403, String::new()),
            Failure::Throttle(wait) => {
                Reply::Says(429, format!("Retry-After: {}\r\n", wait.as_millis().div_ceil(1000)))
            }
            Failure::LoseAnswer => Reply::Nothing,
        });
        Ok(())
    }

    async fn stored(&self) -> Told<Vec<Vec<u8>>> {
        let whole = |posted: Posted| [posted.head.into_bytes(), posted.body].concat();
        Ok(self.receiver.posted().into_iter().map(whole).collect())
    }

    async fn parcels(&self) -> Told<Vec<Vec<u8>>> {
        Err(Stop::cannot("there are no parcels"))
    }

    async fn inject(&self, _bytes: Vec<u8>) -> Told<RemoteId> {
        Err(Stop::cannot(NOTHING_COMES_IN))
    }
}
