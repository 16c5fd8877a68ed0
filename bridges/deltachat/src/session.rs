//! One session after the other with the engine: how it is set up, what it says by itself, and when it is started again.

use std::{sync::Arc, time::Duration};

use sealbridge_child::{CallError, Child, Patience, Supervisor};
use sealbridge_contract::{Fatal, Inbox, NotAccepted, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    backup,
    caution::Caution,
    changes::{self, Changed},
    core::{CURSOR, Core},
    engine::{
        self, Engine,
        servers::{self, Purpose},
        types::{Happened, WORKING},
    },
    files, ids,
    incoming::{self, Fetched},
    late,
    passed::{self, Connections},
    readers, records,
};

/// How far somebody who joins has come when they have joined.
const JOINED: u32 = 1000;
/// How often the engine is asked whether it still answers, and whether something was missed.
const LOOK: Duration = Duration::from_secs(30);
/// How long what has no room yet, or failed, is left alone.
const REST: Duration = Duration::from_secs(1);
/// How often what is old is forgotten.
const SWEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a session with an engine ends.
pub(crate) enum Ended {
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
                    None => return Err(crate::session::Ended::from(why).into()),
                },
            }
        }
    };
}
pub(crate) use insist;

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
    // No engine runs, so nothing reads what another process left for it.
    files::sweep(&core.folder)?;
    backup::sweep(&core.store, &core.folder).await?;
    let program = engine::program(&core.settings.engine, &core.folder);
    let mut supervisor = Supervisor::new(program, Patience::default());
    let mut caution = Caution::default();
    loop {
        let child = supervisor.next().await.map_err(|given_up| Fatal::Broken(given_up.to_string()))?;
        // Whatever ends this, the child is gone before the next one is started.
        let _there = Present(core);
        let ended = session(core, inbox, &child, &mut supervisor, &mut caution).await;
        core.put_engine(None);
        child.stop().await;
        match ended {
            Ok(()) | Err(Ended::Stopping) => return Ok(()),
            Err(Ended::Fatal(fatal)) => return Err(fatal),
            Err(Ended::Lost(error)) => {
                tracing::warn!(%error, "The engine is started again.");
                caution.ended(&error);
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

async fn session(
    core: &Arc<Core>,
    inbox: &Inbox,
    child: &Child,
    supervisor: &mut Supervisor,
    caution: &mut Caution,
) -> Result<(), Ended> {
    let fatal = |words: String| Ended::Fatal(Fatal::Policy(words));
    let newer = engine::is_known(child, &core.settings.engine).await?.map_err(fatal)?;
    if let Some(words) = &newer {
        warn!("{words}");
    }
    core.newer(newer);
    let Some(account) = Engine::account(child).await? else {
        return Err(Ended::Fatal(Fatal::Auth("the engine has no account; set it up again".to_owned())));
    };
    let engine = Arc::new(Engine::new(child.clone(), account));
    let mut cursor = cursor(core).await?;
    core.reached(cursor);
    settle(core, &engine, cursor).await?;
    is_not_older(core, &engine, cursor).await?;
    for chat in engine.chats().await? {
        insist!(core.learn(&engine.chat(chat).await?));
        core.moved(ids::conversation(chat, &core.me));
    }
    passed::go_back(core, &engine).await?;
    engine.start().await?;
    core.put_engine(Some(Arc::clone(&engine)));
    connected(core, &engine).await?;
    // Whatever changed while nobody looked is found by looking at all of it.
    let changed = Changed::default();
    let connections = Connections::default();
    changed.all(insist!(records::all_told(&core.store)));
    let mut asked = late::Asked::default();
    let mut swept: Option<Timestamp> = None;
    let fetching = async {
        loop {
            let now = core.clock.now();
            // A clock that was put back is not waited for.
            if swept.is_none_or(|at| now < at || now.since(at) >= SWEEP) {
                insist!(records::sweep(&core.store));
                swept = Some(now);
            }
            let fetched = loop {
                let fetched = incoming::fetch(core, inbox, &engine, &changed, caution, &mut cursor).await?;
                supervisor.is_useful();
                if fetched != Fetched::Some {
                    break fetched;
                }
            };
            late::complete(core, inbox, &engine, &changed, caution, &mut asked).await?;
            if changes::tell_some(core, inbox, &engine, &changed, caution).await? {
                continue;
            }
            let wait = match (fetched, core.health().connected) {
                (Fetched::Stuck, _) => REST,
                (_, true) => LOOK,
                (_, false) => LOOK / 6,
            };
            let _ = tokio::time::timeout(wait, changed.news.notified()).await;
            changed.once_more();
            // One that hangs does not answer here either.
            connected(core, &engine).await?;
            if !core.health().connected {
                engine.try_again().await?;
            }
        }
    };
    tokio::select! {
        ended = fetching => ended,
        ended = listen(core, &engine, &changed, &connections) => ended,
        ended = passed::watch(core, &engine, &connections) => ended,
        ended = tell_moves(core, inbox) => ended,
        why = child.ended() => Err(Ended::Lost(CallError::Ended(why))),
    }
}

/// The number of the last message that was accepted.
pub(crate) async fn cursor(core: &Core) -> Result<u32, Ended> {
    let Some(bytes) = insist!(core.store.read(CURSOR)) else { return Ok(0) };
    let number = std::str::from_utf8(bytes.expose()).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Ended::Fatal(Fatal::Broken("the last message's number can't be read".to_owned())))
}

/// Settings that must hold whatever was set before, and the proof that this is the account that was set up.
async fn settle(core: &Core, engine: &Engine, cursor: u32) -> Result<(), Ended> {
    let fatal = |words: &str| Ended::Fatal(Fatal::Policy(words.to_owned()));
    if let Some(why) = servers::in_clear(&engine.servers().await?) {
        return Err(fatal(&why));
    }
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

/// In an older copy of the engine's folder everything newer would look as if its author had deleted it, and new messages
/// would get numbers that others had.
async fn is_not_older(core: &Core, engine: &Engine, cursor: u32) -> Result<(), Ended> {
    let known = insist!(records::highest(&core.store)).max(cursor);
    let next = engine.next_number().await?;
    core.reached(next);
    if next > known {
        return Ok(());
    }
    let words = format!(
        "the engine's folder is an older copy: it has fewer than {next} messages, and number {known} was carried \
         already; put the newer one back, or set the account up again under another name"
    );
    Err(Ended::Fatal(Fatal::Policy(words)))
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
    // 91 days: what the engine keeps in clear is kept for as long as we need it, and a day more.
    ("delete_device_after", "7862400"),
];

async fn connected(core: &Core, engine: &Engine) -> Result<(), Ended> {
    let connectivity = engine.connectivity().await?;
    core.heard(connectivity >= WORKING);
    Ok(())
}

/// Takes what the engine says by itself: that something came, that something went, that a chat is another now.
async fn listen(core: &Core, engine: &Engine, changed: &Changed, connections: &Connections) -> Result<(), Ended> {
    loop {
        let events = engine.events().await?;
        // First, since what stands before them may take its time.
        for event in &events {
            match &event.event {
                Happened::ImapConnected => {
                    core.logged_in(Purpose::Reading);
                    connections.logged_in();
                }
                Happened::SmtpConnected => core.logged_in(Purpose::Sending),
                Happened::Warning { msg } => {
                    servers::refused(msg.as_str()).into_iter().for_each(|why| core.refused(why))
                }
                // Nobody knows what was in it.
                Happened::EventChannelOverflow => connections.lost(),
                _ => {}
            }
        }
        for event in events {
            if matches!(
                event.event,
                Happened::ContactsChanged | Happened::ChatModified { .. } | Happened::EventChannelOverflow
            ) {
                core.rolls.moved();
            }
            match event.event {
                Happened::MsgDelivered | Happened::MsgFailed => {
                    engine.moved.send_modify(|count| *count += 1);
                }
                Happened::ChatModified { chat_id } if chat_id > 9 => look_at(core, engine, chat_id).await?,
                Happened::SecurejoinInviterProgress { contact_id, progress: JOINED } => {
                    // Lost, they are called first seen, which is less than what is so.
                    if let Err(error) = readers::joined(core, engine, contact_id).await {
                        warn!(%error, "It is not remembered that somebody followed the invitation.");
                    }
                    // Nobody may be waiting for it.
                    let _ = core.joined.send(contact_id);
                }
                Happened::ConnectivityChanged => {
                    connected(core, engine).await?;
                    if !core.health().connected {
                        connections.lost();
                    }
                }
                Happened::MsgsChanged { msg_id } if msg_id > 0 => changed.words(msg_id),
                Happened::MsgsChanged { msg_id } | Happened::MsgDeleted { msg_id } => changed.one(msg_id),
                Happened::ReactionsChanged { msg_id, contact_id } => changed.reacted(msg_id, contact_id),
                Happened::EventChannelOverflow => changed.all(insist!(records::all_told(&core.store))),
                Happened::IncomingMsg | Happened::IncomingMsgBunch | Happened::ChatlistChanged => {
                    changed.news.notify_one();
                }
                _ => {}
            }
        }
        // A message whose event was lost in an overflow is found by whoever waits for it.
        engine.moved.send_modify(|count| *count += 1);
    }
}

/// Says of which chats the readers may be others now.
async fn tell_moves(core: &Core, inbox: &Inbox) -> Result<(), Ended> {
    let mut moves = core.moves.lock().await;
    while let Some(conversation) = moves.recv().await {
        inbox.audience_moved(&conversation);
    }
    // We have a sender ourselves.
    std::future::pending().await
}

/// Learns a chat again. One that is gone by now is learnt when it is spoken to.
async fn look_at(core: &Core, engine: &Engine, chat: u32) -> Result<(), Ended> {
    match engine.chat(chat).await {
        Ok(chat) => {
            insist!(core.learn(&chat));
            core.moved(ids::conversation(chat.id, &core.me));
            Ok(())
        }
        Err(CallError::Refused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
