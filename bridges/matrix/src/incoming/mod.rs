//! The sync loop. An answer is committed to our journal before the next one is asked for.
//!
//! Whenever the process dies, the next one asks again from the last committed cursor, and gets the same events.

mod kept;
mod watch;

use std::time::{Duration, Instant};

use ruma::{
    UInt,
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{Filter, Request, Response},
    },
    presence::PresenceState,
};
use sealbridge_contract::{
    Batch, ConversationId, Fatal, Inbox, NotAccepted,
    inbox::{Audience, Incident, StoreWrite},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{kept::Kept, watch::Watch};

use crate::{
    core::{Core, News, fatal_journal, track},
    engine::{Class, Engine, EngineError, Fed, SyncPart, Withheld},
    ephemeral,
    intake::{self, Built, CURSOR},
};

/// A cursor alone is committed no more often than this.
const CURSOR_KEPT: Duration = Duration::from_secs(60);
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// After an answer with something of a room, as long as this is between two requests. Who asks again at once is answered
/// with a message at a time, and each answer costs the homeserver and us nearly as much as one with all that came
/// meanwhile.
const BETWEEN: Duration = Duration::from_millis(150);

/// Receives until `stop`.
pub(crate) async fn pump(core: &Core, engine: &Engine, inbox: &Inbox, stop: &CancellationToken) -> Result<(), Fatal> {
    let kept = core.store.read(CURSOR).await.map_err(|_| Fatal::Journal)?;
    let mut since = kept.and_then(|kept| String::from_utf8(kept.expose().to_vec()).ok());
    let mut watch = Watch::default();
    loop {
        let asked = Instant::now();
        // At the start and after a failure an answer is wanted at once: it tells that the homeserver is there.
        let patient = since.is_some() && watch.hears;
        let timeout = if patient { core.settings.sync_timeout.0 } else { Duration::ZERO };
        // The first answer tells the state of every room, and takes the homeserver a while.
        let patience = if since.is_some() { timeout } else { FIRST_ANSWER };
        let asking = request(since.clone(), timeout, watch.most_events(), &inbox.listens());
        let request = core.http.send(asking, Class::LongPoll(patience));
        let echoes_are_due = watch.kept.echoes_are_due();
        tokio::pin!(request);
        let answer = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            answer = &mut request => answer,
            () = echoes_are_due => {
                if !commit_echoes(inbox, since.as_deref(), &mut watch.kept).await? {
                    return Ok(());
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    answer = request => answer,
                }
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let pause = watch.failed(core, &error)?;
                if sleep(stop, pause).await.is_break() {
                    return Ok(());
                }
                continue;
            }
        };
        fail::fail_point!("matrix::sync-answered");
        watch.heard(core, &answer, since.as_deref());
        debug!(
            rooms = answer.rooms.join.len(),
            to_device = answer.to_device.events.len(),
            moved = since.as_deref() != Some(answer.next_batch.as_str()),
            "A sync was answered."
        );
        let Some(fed) = feed(core, engine, &answer, stop).await? else { return Ok(()) };
        fail::fail_point!("matrix::crypto-fed");
        if !commit(core, engine, inbox, &answer, since.as_deref(), &mut watch.kept, stop).await? {
            return Ok(());
        }
        if !answer.rooms.join.is_empty() || !answer.to_device.events.is_empty() {
            core.ages.moved();
        }
        // Once it is known who is there. Died before, it is not known why a key does not come.
        let is_there = |said: &&Withheld| {
            core.rooms.look(&said.room, |facts| facts.people.joined.contains_key(&said.sender)).unwrap_or(false)
        };
        if let Err(error) = engine.keep_withheld(fed.withheld.iter().filter(is_there)).await {
            warn!(%error, "Why keys are withheld is not kept.");
        }
        core.signals.tell(heard_of(fed, core));
        // After all that it brought: what looks for a key now finds what was there when it was asked.
        core.answered.send_replace(Some(asked.into()));
        ephemeral::tell(core, inbox, &answer);
        let unmoved = since.as_deref() == Some(answer.next_batch.as_str());
        let of_rooms = !answer.rooms.join.is_empty();
        since = Some(answer.next_batch);
        // A server that answers at once and never moves on must not be asked in a tight loop.
        let pause = if unmoved && asked.elapsed() < Duration::from_secs(1) {
            watch.idle = (watch.idle * 2).clamp(Duration::from_millis(50), Duration::from_secs(5));
            watch.idle
        } else {
            watch.idle = Duration::ZERO;
            if of_rooms { BETWEEN.saturating_sub(asked.elapsed()) } else { Duration::ZERO }
        };
        if sleep(stop, pause).await.is_break() {
            return Ok(());
        }
    }
}

fn request(since: Option<String>, timeout: Duration, most_events: u32, listens: &[ConversationId]) -> Request {
    let mut filter = FilterDefinition::default();
    let everything = || vec!["*".to_owned()];
    filter.presence.not_types = everything();
    filter.account_data.types = Some(vec!["m.direct".to_owned()]);
    filter.room.ephemeral = ephemeral::filter(listens);
    filter.room.account_data.not_types = everything();
    let state = ["create", "encryption", "history_visibility", "member", "name", "power_levels", "tombstone"];
    filter.room.state.types = Some(state.map(|kind| format!("m.room.{kind}")).into());
    // Nothing older than our first sync crosses, so it needs no messages.
    filter.room.timeline.limit = Some(UInt::from(if since.is_some() { most_events } else { 1 }));
    let mut request = Request::new();
    request.filter = Some(Filter::FilterDefinition(filter));
    request.since = since;
    request.timeout = Some(timeout);
    request.set_presence = PresenceState::Offline;
    request.use_state_after = true;
    request
}

/// Gives the crypto part to the engine. It may be fed twice, and must be fed before its events are decrypted.
async fn feed(core: &Core, engine: &Engine, answer: &Response, stop: &CancellationToken) -> Result<Option<Fed>, Fatal> {
    let mut tries = 0;
    loop {
        match engine.feed(SyncPart::from(answer)).await {
            Ok(fed) => return Ok(Some(fed)),
            Err(error) => {
                tries += 1;
                warn!(%error, tries, "The crypto part of a sync answer was not taken in.");
                core.note(|health| health.trouble = Some(format!("the crypto store failed: {error}")));
                if tries >= 5 {
                    return Err(Fatal::Broken(error.to_string()));
                }
                if sleep(stop, Duration::from_secs(1)).await.is_break() {
                    return Ok(None);
                }
            }
        }
    }
}

/// Commits the answer to the journal, however long it is full. False: we are to stop, and nothing was committed.
async fn commit(
    core: &Core,
    engine: &Engine,
    inbox: &Inbox,
    answer: &Response,
    since: Option<&str>,
    kept: &mut Kept,
    stop: &CancellationToken,
) -> Result<bool, Fatal> {
    let mut failures = 0;
    loop {
        let tried = try_commit(core, engine, inbox, answer, since, kept).await;
        if let Err(NotCommitted::Journal(error)) = &tried {
            debug!(%error, "The journal did not take it.");
        }
        let pause = match tried {
            Ok(()) => return Ok(true),
            Err(NotCommitted::Journal(NotAccepted::Stopping)) => return Ok(false),
            Err(NotCommitted::Journal(error)) => {
                if let Some(fatal) = fatal_journal(error) {
                    return Err(fatal);
                }
                core.note(|health| health.trouble = Some(error.to_string()));
                error.again_in().unwrap_or(Duration::from_secs(1))
            }
            Err(NotCommitted::Engine(error)) => {
                failures += 1;
                warn!(%error, failures, "A sync answer could not be read.");
                if failures >= 5 {
                    return Err(Fatal::Broken(error.to_string()));
                }
                Duration::from_secs(1)
            }
        };
        if sleep(stop, pause).await.is_break() {
            return Ok(false);
        }
    }
}

enum NotCommitted {
    Journal(NotAccepted),
    Engine(EngineError),
}

async fn try_commit(
    core: &Core,
    engine: &Engine,
    inbox: &Inbox,
    answer: &Response,
    since: Option<&str>,
    kept: &mut Kept,
) -> Result<(), NotCommitted> {
    let _turn = core.rooms.change().await;
    let built = intake::build(core, answer, since).await.map_err(NotCommitted::Engine)?;
    let Built { mut batch, changes, news, gaps, invites, direct, verifications } = built;
    let bare = batch.arrivals.is_empty() && batch.incidents.is_empty();
    let bare = bare && batch.store.iter().all(|write| write.key == CURSOR);
    // Only keys came, and the engine has them, or echoes: to be asked for from an older cursor again does no harm.
    let most = if batch.echoes.is_empty() && kept.echoes.is_empty() { CURSOR_KEPT } else { kept::ECHOES };
    let nothing = batch.store.is_empty() && batch.echoes.is_empty();
    if bare && (nothing || kept.at.is_some_and(|at| at.elapsed() < most)) {
        kept.echoes.append(&mut batch.echoes);
    } else {
        let new = batch.echoes.clone();
        // What answers a message of ours comes after its echo.
        batch.echoes.splice(0..0, kept.echoes.iter().cloned());
        if !accept(inbox, batch, bare, kept).await.map_err(NotCommitted::Journal)? {
            kept.echoes.extend(new);
        }
    }
    let correspondents = changes.correspondents(&core.rooms);
    if !correspondents.is_empty() {
        track(engine, correspondents).await;
    }
    let moved = changes.moved(&core.rooms);
    core.rooms.publish(changes);
    moved.into_iter().for_each(|room| core.signals.moved(room));
    if let Some(direct) = direct {
        core.direct.replace(&direct);
    }
    core.signals.tell(news);
    core.signals.observe(verifications);
    if gaps {
        core.signals.gaps.notify_one();
    }
    if invites {
        core.signals.invites.notify_one();
    }
    Ok(())
}

/// Commits the echoes that were kept back, up to the last answer. False: we are to stop.
async fn commit_echoes(inbox: &Inbox, since: Option<&str>, kept: &mut Kept) -> Result<bool, Fatal> {
    let cursor = since.map(|since| StoreWrite::put(CURSOR, since.as_bytes()));
    let batch = Batch { echoes: kept.echoes.clone(), store: cursor.into_iter().collect(), ..Batch::default() };
    match accept(inbox, batch, true, kept).await {
        Err(NotAccepted::Stopping) => Ok(false),
        // What the journal does not take now stays here, and goes with the next answer.
        Err(error) => fatal_journal(error).map_or(Ok(true), Err),
        Ok(_) => Ok(true),
    }
}

/// Says whether it was committed. What is bare need not be.
async fn accept(inbox: &Inbox, batch: Batch, bare: bool, kept: &mut Kept) -> Result<bool, NotAccepted> {
    debug!(arrivals = batch.arrivals.len(), echoes = batch.echoes.len(), "Offered to the journal.");
    fail::fail_point!("matrix::before-accept");
    match inbox.accept(batch).await {
        Ok(()) => *kept = Kept { at: Some(Instant::now()), echoes: Vec::new() },
        // A full journal must not keep keys from coming.
        Err(NotAccepted::Full) if bare => return Ok(false),
        Err(error) => return Err(error),
    }
    fail::fail_point!("matrix::after-accept");
    Ok(true)
}

fn heard_of(fed: Fed, core: &Core) -> Vec<News> {
    if fed.verification {
        core.signals.verifications.notify_waiters();
    }
    if fed.undecryptable > 0 {
        warn!(count = fed.undecryptable, "To-device messages could not be opened: keys may be missing.");
    }
    if fed.abandoned > 0 {
        let words = "Messages with keys could not be taken in: the cryptography library fails at them. What was encrypted \
                     with these keys waits, and becomes a dead letter. Please report this as a bug.";
        core.signals.tell_people(Incident {
            conversation: None,
            topic: format!("keys-left-out/{}", core.clock.now().0),
            words: words.into(),
            audience: Audience::Operator,
        });
    }
    let keys = fed.room_keys.into_iter().map(|key| (key.room, key.session_id));
    let withheld = fed.withheld.into_iter().map(|withheld| (withheld.room, withheld.session_id));
    keys.chain(withheld).map(|(room, session_id)| News::Session { room, session_id }).collect()
}

async fn sleep(stop: &CancellationToken, pause: Duration) -> std::ops::ControlFlow<()> {
    tokio::select! {
        () = stop.cancelled() => std::ops::ControlFlow::Break(()),
        () = tokio::time::sleep(pause) => std::ops::ControlFlow::Continue(()),
    }
}
