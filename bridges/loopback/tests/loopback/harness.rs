//! The loopback network, as the conformance kit wants to have it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, AnyTransport, Clock, Context, ConversationId, DeliveryId, PersonId, RemoteId, Signal, Spool,
    conformance::{Details, Failure, Harness, How, MemoryIntake, Near, Overheard, Peer, Rig, Sample, Say, Stop, Told},
    inbox::AccountStore,
    transport::StoreKey,
};
use sealbridge_loopback::{
    self as loopback, Fault, Heard, LoopbackHub, LoopbackPerson, More, NetworkKind, Saying, Says, SentFile, Settings,
    connect,
};
use zeroize::Zeroizing;

use crate::broken::Credulous;

/// Makes a transport worse, or leaves it as it is.
pub(crate) type Spoil = fn(AnyTransport) -> AnyTransport;

/// A new hub for each case.
pub(crate) struct Loopbacks {
    pub(crate) settings: Settings,
    pub(crate) spoil: Spoil,
    /// Whether the spool checks no hash.
    pub(crate) believes: bool,
    pub(crate) patience: Duration,
}

impl Loopbacks {
    pub(crate) fn new(settings: Settings) -> Self {
        // A delivery that waits can be dropped while it waits.
        Self {
            settings: Settings { delay_ms: 1, ..settings },
            spoil: |transport| transport,
            believes: false,
            patience: PATIENCE,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[async_trait]
impl Harness for Loopbacks {
    async fn rig(&self, intake: &Arc<MemoryIntake>) -> Told<Rig> {
        let hub = LoopbackHub::fresh("kit");
        let account = account();
        let conversation = hub.conversation("room", Says::Encrypted);
        hub.join(&account, &conversation);
        let person = hub.person("ben");
        person.join(&conversation);
        let settings = Settings { hub: Some(hub.name().to_owned()), ..self.settings.clone() };
        let carries = (settings.kind == NetworkKind::Carrier).then(|| Arc::clone(intake));
        let near = MemoryNear { account: account.clone(), settings, spoil: self.spoil, believes: self.believes };
        let peer = MemoryPeer { hub, person, account: account.clone(), conversation: conversation.clone(), carries };
        Ok(Rig { account, conversation, near: Box::new(near), peer: Box::new(peer) })
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn quiet(&self) -> Duration {
        QUIET
    }
}

/// What a hub does it does at once.
const QUIET: Duration = Duration::from_millis(50);

pub(crate) fn account() -> AccountName {
    AccountName::parse("work").expect("it is a name")
}

pub(crate) fn context(
    account: &AccountName,
    folder: PathBuf,
    store: AccountStore,
    spool: Arc<dyn Spool>,
    clock: Clock,
) -> Context {
    let store_key = StoreKey::new(Zeroizing::new([7; 32]));
    Context { account: account.clone(), folder, store_key, store, spool, clock }
}

struct MemoryNear {
    account: AccountName,
    settings: Settings,
    spoil: Spoil,
    believes: bool,
}

#[async_trait]
impl Near for MemoryNear {
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport> {
        let spool = if self.believes { Arc::new(Credulous(spool)) } else { spool };
        let context = context(&self.account, PathBuf::new(), store, spool, clock);
        let transport = connect(context, self.settings.clone()).await;
        Ok((self.spoil)(transport.map_err(|error| Stop::failed(error.to_string()))?))
    }
}

struct MemoryPeer {
    hub: LoopbackHub,
    person: LoopbackPerson,
    account: AccountName,
    conversation: ConversationId,
    /// For a carrier: where the far bridge is.
    carries: Option<Arc<MemoryIntake>>,
}

const KEY: &str = "late";

pub(crate) fn overheard(heard: &Heard) -> Overheard {
    Overheard {
        id: heard.id.clone(),
        delivery: Some(heard.delivery),
        author: heard.author.as_ref().map(|author| author.as_str().to_owned()),
        words: heard.words.as_str().to_owned(),
        html: heard.html.as_ref().map(|html| html.as_str().to_owned()),
        how: how_heard(heard.how),
        reply_to: heard.reply_to.clone(),
        trail: heard.trail.clone(),
        details: details(&heard.more),
    }
}

pub(crate) fn how_heard(how: loopback::How) -> How {
    match how {
        loopback::How::Emote => How::Emote,
        loopback::How::Notice => How::Notice,
        loopback::How::Edit => How::Edit,
        loopback::How::Redaction => How::Redaction,
        loopback::How::Reaction => How::Reaction,
        loopback::How::File(sort) => How::of_sort(sort),
        loopback::How::Location => How::Location,
        loopback::How::Poll => How::Poll,
        _ => How::Text,
    }
}

pub(crate) fn how_said(how: How) -> loopback::How {
    match how {
        How::Emote => loopback::How::Emote,
        How::Notice => loopback::How::Notice,
        How::Edit => loopback::How::Edit,
        How::Redaction => loopback::How::Redaction,
        How::Reaction => loopback::How::Reaction,
        How::Location => loopback::How::Location,
        How::Poll => loopback::How::Poll,
        how => how.sort().map_or(loopback::How::Text, loopback::How::File),
    }
}

pub(crate) fn details(more: &More) -> Details {
    let sample = |file: &SentFile| Sample {
        name: file.name.clone(),
        mime: file.mime.clone(),
        content: file.content.clone(),
        dimensions: file.dimensions,
        milliseconds: file.milliseconds,
        wrong_hash: false,
    };
    Details {
        thread: more.thread.clone(),
        about: more.about.clone(),
        emoji: more.emoji.clone(),
        calls: more.calls.clone(),
        answers: more.answers.clone(),
        place: more.place.clone(),
        file: more.file.as_deref().map(sample),
        portrait: more.portrait.clone(),
    }
}

pub(crate) fn more(details: Details) -> More {
    let sent = |sample: Sample| SentFile {
        name: sample.name,
        mime: sample.mime,
        content: sample.content,
        dimensions: sample.dimensions,
        milliseconds: sample.milliseconds,
        wrong_hash: sample.wrong_hash.then_some([0; 32]),
        ..SentFile::default()
    };
    More {
        thread: details.thread,
        about: details.about,
        emoji: details.emoji,
        calls: details.calls,
        answers: details.answers,
        place: details.place,
        file: details.file.map(sent).map(Box::new),
        ..More::default()
    }
}

fn saying(say: Say) -> Saying {
    let saying = Saying::words(&say.words).trail(say.trail).how(how_said(say.how)).more(more(say.details));
    let saying = say.html.iter().fold(saying, |saying, html| saying.html(html));
    say.reply_to.into_iter().fold(saying, Saying::reply_to)
}

/// A sealed parcel has no room for files, so nobody there can say one.
pub(crate) fn sealed_says(say: &Say) -> Told {
    if say.how.sort().is_some() { Err(Stop::cannot("no file is sealed")) } else { Ok(()) }
}

impl MemoryPeer {
    fn reads(&self) -> Told {
        if self.carries.is_some() { Err(Stop::cannot("a carrier reads nothing")) } else { Ok(()) }
    }
}

#[async_trait]
impl Peer for MemoryPeer {
    fn id(&self) -> PersonId {
        self.person.id().clone()
    }

    fn name(&self) -> Option<String> {
        Some("ben".to_owned())
    }

    fn echoes(&self) -> Told {
        self.reads()
    }

    async fn say(&self, say: Say) -> Told<RemoteId> {
        let Some(intake) = &self.carries else {
            return Ok(self.person.say_this(&self.conversation, saying(say)));
        };
        sealed_says(&say)?;
        let (id, name, now) = (self.id(), self.name(), Clock::system().now());
        let parcel = intake.far().seal(DeliveryId::random(), &id, name.as_deref(), now, say);
        Ok(self.person.send_parcel(&self.conversation, parcel))
    }

    async fn heard(&self) -> Told<Vec<Overheard>> {
        let Some(intake) = &self.carries else {
            return Ok(self.person.heard().iter().map(|heard| overheard(heard)).collect());
        };
        let parcels = self.person.parcels().into_iter();
        Ok(parcels.filter_map(|parcel| intake.far().open(parcel.id, &parcel.bytes)).collect())
    }

    async fn has_picture(&self, picture: Vec<u8>) -> Told {
        self.reads()?;
        self.person.has_picture(picture);
        Ok(())
    }

    async fn does(&self, signal: Signal) -> Told {
        self.reads()?;
        self.person.signal(&self.conversation, signal);
        Ok(())
    }

    async fn told(&self) -> Told<Vec<Signal>> {
        Ok(self.person.signals())
    }

    async fn say_in_clear(&self, words: &str) -> Told<RemoteId> {
        Ok(self.person.say_this(&self.conversation, Saying::words(words).in_clear()))
    }

    async fn say_without_key(&self, words: &str) -> Told<RemoteId> {
        Ok(self.person.say_this(&self.conversation, Saying::words(words).needs_key(KEY)))
    }

    async fn share_key(&self) -> Told {
        self.hub.share_key(&self.conversation, KEY);
        Ok(())
    }

    async fn replay(&self, id: &RemoteId) -> Told<RemoteId> {
        let again = self.person.replay(id, &self.conversation);
        again.ok_or_else(|| Stop::failed("the hub does not know it any more"))
    }

    async fn limit_answers(&self, most: usize) -> Told {
        self.reads()?;
        self.hub.limit_answers(&self.account, Some(most));
        Ok(())
    }

    async fn stop_encrypting(&self) -> Told {
        self.hub.set_encryption(&self.conversation, Says::Plain);
        Ok(())
    }

    async fn unencrypted_conversation(&self) -> Told<ConversationId> {
        let conversation = self.hub.conversation("in clear", Says::Plain);
        self.hub.join(&self.account, &conversation);
        Ok(conversation)
    }

    async fn go_away(&self) -> Told {
        self.hub.faults(&self.account).set_reachable(false);
        Ok(())
    }

    async fn come_back(&self) -> Told {
        self.hub.faults(&self.account).set_reachable(true);
        Ok(())
    }

    async fn fail_next(&self, failure: Failure) -> Told {
        let fault = match failure {
            Failure::Refuse => Fault::Refuse,
            Failure::Throttle(wait) => Fault::Throttle(wait),
            Failure::LoseAnswer => Fault::LoseAnswer,
        };
        self.hub.faults(&self.account).next(fault, 1);
        Ok(())
    }

    async fn stored(&self) -> Told<Vec<Vec<u8>>> {
        if self.carries.is_none() {
            return Err(Stop::cannot("the hub only plays at encryption"));
        }
        Ok(self.person.parcels().into_iter().map(|parcel| parcel.bytes).collect())
    }

    async fn parcels(&self) -> Told<Vec<Vec<u8>>> {
        self.stored().await
    }

    async fn inject(&self, bytes: Vec<u8>) -> Told<RemoteId> {
        Ok(self.person.send_parcel(&self.conversation, bytes))
    }
}
