//! From the network to the inbox.
//!
//! The engine keeps every message under a number that only grows, and we keep the last number that was accepted,
//! committed together with what was accepted. The engine is told only afterwards. So whenever one of us is killed,
//! the next start sees either the old number or the new one; the same message has the same mail id, and is carried once.

use std::{sync::Arc, time::Duration};

use sealbridge_child::{CallError, Child, Patience, Supervisor};
use sealbridge_contract::{
    Arrival, Arrived, Batch, ConversationId, Fatal, Inbox, NotAccepted, RemoteId,
    gate::Encryption,
    inbox::{Audience, Incident, StoreWrite},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    core::{CURSOR, Core},
    engine::{
        self, Engine,
        types::{Happened, Loaded, Message, SELF, WORKING},
    },
    ids, records,
    translate::{self, Read},
};

/// How many messages one batch has at most.
const BATCH: usize = 64;
/// How far somebody who joins has come when they have joined.
const JOINED: u32 = 1000;
/// How often the engine is asked whether it still answers, and whether something was missed.
const LOOK: Duration = Duration::from_secs(30);

/// Why a session with an engine ends.
enum Ended {
    /// The service stops.
    Stopping,
    /// A person must act.
    Fatal(Fatal),
    /// The engine ended, or does not answer.
    Lost(CallError),
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Lost(error)
    }
}

impl From<NotAccepted> for Ended {
    fn from(why: NotAccepted) -> Self {
        if why == NotAccepted::Stopping { Self::Stopping } else { Self::Fatal(Fatal::Journal) }
    }
}

/// Tries until the journal takes it. Nothing of an offer that was not taken was kept.
macro_rules! insist {
    ($offer:expr) => {
        loop {
            match $offer.await {
                Ok(answer) => break answer,
                Err(why) => match why.again_in() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(Ended::from(why)),
                },
            }
        }
    };
}

/// Receives until `stop`: with one engine after the other, if they die.
pub(crate) async fn run(core: &Arc<Core>, inbox: &Inbox, stop: &CancellationToken) -> Result<(), Fatal> {
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = receive(core, inbox) => ended,
    };
    core.put_engine(None);
    ended
}

async fn receive(core: &Arc<Core>, inbox: &Inbox) -> Result<(), Fatal> {
    records::sweep(&core.store, &core.clock).await.map_err(|_| Fatal::Journal)?;
    let program = engine::program(&core.settings.engine, &core.folder);
    let mut supervisor = Supervisor::new(program, Patience::default());
    loop {
        let child = supervisor.next().await.map_err(|given_up| Fatal::Broken(given_up.to_string()))?;
        // Whatever ends this, the child is gone before the next one is started.
        let _there = Present(core);
        let ended = session(core, inbox, &child, &mut supervisor).await;
        core.put_engine(None);
        child.stop().await;
        match ended {
            Ok(()) | Err(Ended::Stopping) => return Ok(()),
            Err(Ended::Fatal(fatal)) => return Err(fatal),
            Err(Ended::Lost(error)) => {
                tracing::warn!(%error, "The engine is started again.");
            }
        }
    }
}

/// The engine is told to be gone when this is.
struct Present<'a>(&'a Core);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.put_engine(None);
    }
}

async fn session(core: &Arc<Core>, inbox: &Inbox, child: &Child, supervisor: &mut Supervisor) -> Result<(), Ended> {
    let fatal = |words: String| Ended::Fatal(Fatal::Policy(words));
    engine::is_known(child).await?.map_err(fatal)?;
    let Some(account) = Engine::account(child).await? else {
        return Err(Ended::Fatal(Fatal::Auth("the engine has no account; set it up again".to_owned())));
    };
    let engine = Arc::new(Engine::new(child.clone(), account));
    let mut cursor = cursor(core).await?;
    core.reached(cursor);
    settle(core, &engine, cursor).await?;
    for chat in engine.chats().await? {
        insist!(core.learn(&engine.chat(chat).await?));
    }
    engine.start().await?;
    core.put_engine(Some(Arc::clone(&engine)));
    supervisor.is_useful();
    connected(core, &engine).await?;
    let news = Notify::new();
    let fetching = async {
        loop {
            while fetch(core, inbox, &engine, &mut cursor).await? {}
            let wait = if core.health().connected { LOOK } else { LOOK / 6 };
            let _ = tokio::time::timeout(wait, news.notified()).await;
            // One that hangs does not answer here either.
            connected(core, &engine).await?;
            if !core.health().connected {
                engine.try_again().await?;
            }
        }
    };
    tokio::select! {
        ended = fetching => ended,
        ended = listen(core, &engine, &news) => ended,
        why = child.ended() => Err(Ended::Lost(CallError::Ended(why))),
    }
}

async fn cursor(core: &Core) -> Result<u32, Ended> {
    let Some(bytes) = insist!(core.store.read(CURSOR)) else { return Ok(0) };
    let number = std::str::from_utf8(bytes.expose()).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Ended::Fatal(Fatal::Broken("the last message's number can't be read".to_owned())))
}

/// Settings that must hold whatever was set before, and the proof that this is the account that was set up.
async fn settle(core: &Core, engine: &Engine, cursor: u32) -> Result<(), Ended> {
    let fatal = |words: &str| Ended::Fatal(Fatal::Policy(words.to_owned()));
    let invitation = engine.invitation(None).await?;
    if ids::invited_by(&invitation).as_ref() != Some(&core.me) {
        return Err(fatal("the engine's account has another key than the one that was set up"));
    }
    for (key, value) in SETTINGS {
        engine.set(key, value).await?;
    }
    engine.set("displayname", &core.settings.name).await?;
    engine.set("last_msg_id", &cursor.to_string()).await?;
    if engine.get("force_encryption").await?.as_deref() != Some("1") {
        return Err(fatal("the engine does not promise to encrypt everything"));
    }
    Ok(())
}

/// See each one in the engine's documentation.
const SETTINGS: &[(&str, &str)] = &[
    // Nothing is sent in clear, and mail in clear is not even read.
    ("force_encryption", "1"),
    // We say that we are a machine, and people who join need nobody who accepts them.
    ("bot", "1"),
    // Nobody learns when we read.
    ("mdns_enabled", "0"),
    // One device: a copy to ourselves would only be our own message once more.
    ("bcc_self", "0"),
    ("sync_msgs", "0"),
    // Connections from device to device show where we are.
    ("webxdc_realtime_enabled", "0"),
    // Nobody.
    ("who_can_call_me", "2"),
    // No limit: the whole of every message is read.
    ("download_limit", "0"),
];

async fn connected(core: &Core, engine: &Engine) -> Result<(), Ended> {
    let connectivity = engine.connectivity().await?;
    core.heard(connectivity >= WORKING, "the mail server can't be reached, or refuses the login; it is tried again");
    Ok(())
}

/// Takes what the engine says by itself: that something came, that something went, that a chat is another now.
async fn listen(core: &Core, engine: &Engine, news: &Notify) -> Result<(), Ended> {
    loop {
        for event in engine.events().await? {
            match event.event {
                Happened::MsgDelivered | Happened::MsgFailed => {
                    engine.moved.send_modify(|count| *count += 1);
                }
                Happened::ChatModified { chat_id } if chat_id > 9 => look_at(core, engine, chat_id).await?,
                Happened::SecurejoinInviterProgress { contact_id, progress: JOINED } => {
                    // Nobody may be waiting for it.
                    let _ = core.joined.send(contact_id);
                }
                Happened::ConnectivityChanged => connected(core, engine).await?,
                Happened::IncomingMsg
                | Happened::IncomingMsgBunch
                | Happened::MsgsChanged
                | Happened::ChatlistChanged
                | Happened::EventChannelOverflow => news.notify_one(),
                _ => {}
            }
        }
        // A message whose event was lost in an overflow is found by whoever waits for it.
        engine.moved.send_modify(|count| *count += 1);
    }
}

/// Learns a chat again. One that is gone by now is learnt when it is spoken to.
async fn look_at(core: &Core, engine: &Engine, chat: u32) -> Result<(), Ended> {
    match engine.chat(chat).await {
        Ok(chat) => {
            insist!(core.learn(&chat));
            Ok(())
        }
        Err(CallError::Refused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Hands in the next messages. Says whether there may be more.
async fn fetch(core: &Core, inbox: &Inbox, engine: &Engine, cursor: &mut u32) -> Result<bool, Ended> {
    let mut ids = engine.next_messages().await?;
    let more = ids.len() > BATCH;
    ids.truncate(BATCH);
    let Some(last) = ids.last().copied() else { return Ok(false) };
    loop {
        let batch = read(core, engine, &ids, last).await?;
        match inbox.accept(batch).await {
            Ok(()) => break,
            // Asked for again, since a batch is not to be kept twice in memory while nobody takes it.
            Err(why) => match why.again_in() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(why.into()),
            },
        }
    }
    *cursor = last;
    core.reached(last);
    engine.set("last_msg_id", &last.to_string()).await?;
    Ok(more)
}

/// Reads messages, with all that must be known about each. The same messages give the same batch.
async fn read(core: &Core, engine: &Engine, ids: &[u32], last: u32) -> Result<Batch, Ended> {
    let mut batch = Batch::default();
    let mut loaded = engine.messages(ids).await?;
    for id in ids {
        // One that was deleted meanwhile is nobody's any more.
        let Some(Loaded::Message(message)) = loaded.remove(id) else { continue };
        // Our own, and the engine's words about a chat.
        if message.from_id <= SELF_AND_ENGINE || message.is_info {
            continue;
        }
        take(core, engine, *message, &mut batch).await?;
    }
    batch.store.push(StoreWrite::put(CURSOR, last.to_string().into_bytes()));
    Ok(batch)
}

/// Contacts up to nine are ourselves and the engine.
const SELF_AND_ENGINE: u32 = 9;
const _: () = assert!(SELF <= SELF_AND_ENGINE, "we are among them");

async fn take(core: &Core, engine: &Engine, message: Message, batch: &mut Batch) -> Result<(), Ended> {
    let conversation = ids::conversation(message.chat_id, &core.me);
    let known = insist!(core.learn(&engine.chat(message.chat_id).await?));
    let (number, padlock) = (message.id, message.show_padlock);
    let id = RemoteId::new(engine.mail_id(number).await?);
    let author = core.person(engine, message.from_id).await?;
    let answers = match message.quote.as_ref().and_then(|quote| quote.message_id) {
        Some(quoted) => name_of(engine, quoted).await?,
        None => None,
    };
    let whole = match translate::is_cut(&message) {
        true => engine.whole(number).await?.and_then(|page| translate::words_of(page.as_str())),
        false => None,
    };
    batch.store.push(records::named(&id, number, core.clock.now().0));
    if known.pinned && !padlock {
        batch.incidents.push(in_clear(&conversation));
    }
    let encrypted = matches!(known.now, Encryption::Pinned | Encryption::Left);
    let what: Arrived = translate::arrived(Read { message, id, author, encrypted, answers, whole });
    batch.arrivals.push(Arrival { conversation, what });
    Ok(())
}

async fn name_of(engine: &Engine, message: u32) -> Result<Option<RemoteId>, Ended> {
    match engine.mail_id(message).await {
        Ok(id) => Ok(Some(RemoteId::new(id))),
        Err(CallError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn in_clear(conversation: &ConversationId) -> Incident {
    Incident {
        conversation: Some(conversation.clone()),
        topic: "plaintext-in-encrypted-room".to_owned(),
        words: "A message came in clear into this encrypted chat. It is not carried on.".to_owned(),
        audience: Audience::Conversation,
    }
}
