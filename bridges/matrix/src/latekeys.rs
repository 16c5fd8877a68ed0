//! Reads events that waited, when their key or their sender's trust has come.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedUserId, RoomId, UserId};
use sealbridge_contract::{
    Fatal, Inbox, NotAccepted, PersonId, Timestamp,
    inbox::{Batch, Incident, Resolution, Waiting, WaitingFor},
};
use serde_json::value::RawValue;
use tokio::{task::JoinSet, time::Instant};
use tracing::{debug, info, warn};

use crate::{
    core::{Core, News, conversation, fatal_journal, shown, tell_room},
    doubts::{Doubts, Session},
    engine::{Distrust, Engine, message_position},
    reading::{self, Read, Waits},
};

const PAGE: usize = 100;
/// Keys asked for in the backup at once.
const ASKED_AT_ONCE: usize = 4;
/// After these, the backup is asked for a missing key once more; then again and again after the last.
const BACKUP_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1800),
    Duration::from_secs(7200),
];
const LONGEST_PAUSE: Duration = BACKUP_PAUSES[4];
const TICK: Duration = Duration::from_secs(15);
/// How often everything that waits is tried once more, whatever the news.
const SWEEP: Duration = Duration::from_secs(120);

/// What events wait for.
#[derive(Debug, Default)]
struct Missing {
    /// Sessions whose key is missing, and when the backup is asked for it next.
    keys: BTreeMap<Session, Asking>,
    /// Events whose key is known as somebody else's.
    doubts: Doubts,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    times: usize,
    next: Timestamp,
}

/// Reads what can be read now, for ever.
pub(crate) async fn read_late(core: &Arc<Core>, engine: &Engine, inbox: &Inbox) -> Result<(), Fatal> {
    let mut heard = core.signals.heard.lock().await;
    let mut missing = Missing::default();
    let mut answered = core.answered.subscribe();
    let mut asking = JoinSet::new();
    survived(retry(core, inbox, WaitingFor::default(), &mut missing).await)?;
    let mut tick = tokio::time::interval(TICK);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        missing.doubts.answered(*answered.borrow_and_update());
        let over = missing.doubts.over().into_iter();
        let mut news: BTreeSet<_> = over.map(|(room, session_id)| News::Session { room, session_id }).collect();
        if news.is_empty() {
            tokio::select! {
                one = heard.recv() => news.extend(one),
                _ = tick.tick() => {}
                // A place is free for the next; what was found is news.
                Some(_) = asking.join_next() => {}
                // News that came while the journal was full, and what an operator put back, is found here.
                _ = sweep.tick() => {
                    let swept = retry(core, inbox, WaitingFor::default(), &mut missing).await;
                    if swept.is_ok() {
                        missing.doubts.tried();
                    }
                    survived(swept)?;
                }
                Ok(()) = answered.changed() => {}
            }
        }
        while let Ok(more) = heard.try_recv() {
            news.insert(more);
        }
        if news.iter().any(|news| matches!(news, News::Distrusted { .. })) {
            // Their devices may only not have been read yet.
            if let Err(error) = engine.read_devices().await {
                debug!(%error, "Devices could not be read yet.");
            }
        }
        for one in news {
            let (conversation_of, hint, sender) = match one {
                News::Session { room, session_id } => (Some(room), Some(reading::session_hint(&session_id)), None),
                News::Distrusted { room, sender } => (Some(room), None, Some(sender)),
                News::Devices { user } => (None, None, Some(user)),
                News::Fetch => continue,
            };
            let filter = WaitingFor {
                conversation: conversation_of.map(|room| conversation(&room)),
                hint,
                sender: sender.map(|user: OwnedUserId| PersonId::new(user.as_str())),
            };
            survived(retry(core, inbox, filter, &mut missing).await)?;
        }
        survived(ask_backup(core, engine, inbox, &mut missing, &mut asking).await)?;
    }
}

/// What fails in passing is tried again with the next news.
fn survived(result: Result<(), NotAccepted>) -> Result<(), Fatal> {
    match result.err().and_then(fatal_journal) {
        Some(fatal) => Err(fatal),
        None => Ok(()),
    }
}

/// Tries all that wait under `filter` once more.
async fn retry(core: &Core, inbox: &Inbox, filter: WaitingFor, missing: &mut Missing) -> Result<(), NotAccepted> {
    let mut after = i64::MIN;
    loop {
        let page = inbox.waiting(filter.clone(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        let full = page.len() >= PAGE;
        for waiting in page {
            let tried = retry_one(core, inbox, waiting, missing).await?;
            if tried == Tried::KeyMissing && filter.hint.is_some() {
                // All of them wait for the same key.
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    KeyMissing,
    Other,
}

async fn retry_one(core: &Core, inbox: &Inbox, waiting: Waiting, missing: &mut Missing) -> Result<Tried, NotAccepted> {
    let parsed =
        std::str::from_utf8(waiting.raw.expose()).ok().and_then(|raw| serde_json::from_str::<&RawValue>(raw).ok());
    let (Some(raw), Ok(room)) = (parsed, RoomId::parse(waiting.conversation.as_str())) else {
        let reason = "what was kept of it can't be read".into();
        inbox.resolve(waiting.id, Resolution::Refused { reason }).await?;
        return Ok(Tried::Other);
    };
    let people = core.rooms.look(&room, |facts| Arc::clone(&facts.people)).unwrap_or_default();
    let read = match reading::read(core, &room, &people, raw).await {
        Ok(read) => read,
        Err(error) => {
            warn!(%error, "An event that waits could not be tried.");
            return Ok(Tried::Other);
        }
    };
    let session = message_position(raw).map(|position| (room.clone(), position.session_id));
    let resolution = match read {
        Read::Unreadable(waits) => {
            let tried = if waits.key_missing { Tried::KeyMissing } else { Tried::Other };
            still(core, inbox, &room, &waiting, waits, missing).await?;
            return Ok(tried);
        }
        Read::Message(incoming) => {
            info!("An event that waited can be read now.");
            Resolution::Readable(*incoming)
        }
        // Only plain words count where nobody listens.
        Read::Later { .. } if !core.is_linked(&room) => Resolution::NotForUs,
        Read::Later { reason, .. } => {
            core.signals.tell([News::Fetch]);
            Resolution::Still { hint: crate::fetch::HINT.to_owned(), reason: reason.to_owned(), holds_sender: true }
        }
        Read::Refused { reason, .. } => Resolution::Refused { reason },
        Read::Verification(step) => {
            core.signals.observe([(room, step)]);
            Resolution::NotForUs
        }
        Read::Echo { .. } | Read::Plaintext { .. } | Read::Nothing => Resolution::NotForUs,
    };
    let event = doubted(&waiting);
    inbox.resolve(waiting.id, resolution).await?;
    missing.doubts.forget(event);
    if let Some(session) = session {
        missing.keys.remove(&session);
    }
    Ok(Tried::Other)
}

/// What doubts know an event by.
fn doubted(waiting: &Waiting) -> (i64, i64) {
    (waiting.id, waiting.since.0)
}

async fn still(
    core: &Core,
    inbox: &Inbox,
    room: &RoomId,
    waiting: &Waiting,
    waits: Waits,
    missing: &mut Missing,
) -> Result<(), NotAccepted> {
    let now = core.clock.now();
    let session = || (room.to_owned(), waits.session.clone());
    if waits.at_most.is_none() {
        missing.doubts.forget(doubted(waiting));
    }
    match (waits.distrusted, waits.at_most) {
        (_, Some(at_most)) => {
            if missing.doubts.is_over(doubted(waiting), session(), at_most, Instant::now()) {
                inbox.resolve(waiting.id, Resolution::Refused { reason: waits.reason }).await?;
                missing.doubts.forget(doubted(waiting));
                return Ok(());
            }
        }
        // The sender's devices could not be read yet.
        (Some(_), None) if waits.holds_sender => {}
        (Some(Distrust::IdentityChanged), None) => {
            let incidents = vec![identity_changed(room, &waits.sender)];
            inbox.accept(Batch { incidents, ..Batch::default() }).await?;
        }
        (Some(_), None) => core.tell_distrust(room, &waits.sender),
        (None, None) => {
            missing.keys.entry(session()).or_insert(Asking { times: 0, next: now });
        }
    }
    let still = Resolution::Still { hint: waits.hint(), reason: waits.reason, holds_sender: waits.holds_sender };
    inbox.resolve(waiting.id, still).await
}

fn identity_changed(room: &RoomId, sender: &UserId) -> Incident {
    let words = format!(
        "Messages of {} are not carried: their identity is another than the one that was known. Whoever runs the \
         bridge was told, and can compare it with them.",
        shown(sender)
    );
    tell_room(room, format!("another-identity/{sender}"), words)
}

/// Asks the backup for missing keys, each at its times, a few at once. What is found is news.
async fn ask_backup(
    core: &Arc<Core>,
    engine: &Engine,
    inbox: &Inbox,
    missing: &mut Missing,
    asking: &mut JoinSet<()>,
) -> Result<(), NotAccepted> {
    let now = core.clock.now();
    let due: Vec<Session> = missing
        .keys
        .iter()
        .filter(|(_, asking)| asking.next.has_come(now, LONGEST_PAUSE))
        .map(|(session, _)| session.clone())
        .collect();
    for session in due {
        if asking.len() >= ASKED_AT_ONCE {
            return Ok(());
        }
        let (room, id) = session.clone();
        let hint = Some(reading::session_hint(&id));
        let filter = WaitingFor { conversation: Some(conversation(&room)), hint, ..WaitingFor::default() };
        if inbox.waiting(filter, i64::MIN, 1).await?.is_empty() {
            missing.keys.remove(&session);
            continue;
        }
        if let Some(times) = missing.keys.get_mut(&session) {
            times.times += 1;
            let pause = BACKUP_PAUSES.get(times.times).or(BACKUP_PAUSES.last());
            times.next = now.plus(pause.copied().unwrap_or_default());
        }
        let (core, engine) = (Arc::clone(core), engine.clone());
        asking.spawn(async move {
            match engine.download_from_backup(&room, &id).await {
                Ok(true) => {
                    info!("A missing key was in the backup.");
                    core.signals.tell([News::Session { room, session_id: id }]);
                }
                Ok(false) => {}
                Err(error) => debug!(%error, "The backup was asked for a key in vain."),
            }
        });
    }
    Ok(())
}
