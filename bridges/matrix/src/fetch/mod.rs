//! Completes events that can be read and need something more first: a file, the message that they change, what somebody
//! reacted with before. They wait in the journal meanwhile, so that receiving waits for none of it and no crash loses
//! them.

mod deletions;
mod queue;
mod reactions;

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use ruma::{EventId, OwnedRoomId, RoomId, api::client::room::get_room_event};
use sealbridge_contract::{
    Fatal, Inbox, NotAccepted, RemoteId,
    inbox::{Resolution, Waiting, WaitingFor},
    message::Absence,
};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use self::queue::{Round, Rounds, Tried};
use crate::{
    core::{Core, fatal_http, fatal_journal},
    engine::{Class, DecryptError, HttpError, HttpErrorKind},
    event::Envelope,
    files::{self, Untaken},
    reading::{self, Opened, Read},
    rooms::Appearance,
    translate::{self, Files, Needs, Taken},
};

/// What such events wait for.
pub(crate) const HINT: &str = "fetch";
/// Rooms that are worked at once.
const AT_ONCE: usize = 16;
const PAGE: usize = 100;
const TICK: Duration = Duration::from_secs(10);

/// Completes events as they come, for ever. Those of one room one after another, oldest first; no room waits for another.
pub(crate) async fn complete(core: &Arc<Core>, inbox: &Inbox) -> Result<(), Fatal> {
    let mut tick = tokio::time::interval(TICK);
    let tried = Arc::new(Tried::default());
    let (mut busy, mut working) = (BTreeSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            () = core.signals.fetch.notified() => {}
            _ = tick.tick() => {}
            Some(ended) = working.join_next() => {
                let (room, ended) = ended.map_err(|error| Fatal::Broken(error.to_string()))?;
                busy.remove(&room);
                if ended? == More::No {
                    continue;
                }
            }
        }
        let rounds = match waiting(inbox, &tried).await {
            Ok(rounds) => rounds,
            Err(error) => match fatal_journal(error) {
                Some(fatal) => return Err(fatal),
                None => continue,
            },
        };
        for (room, round) in rounds.0 {
            if round.events.is_empty() || busy.len() >= AT_ONCE || !busy.insert(room.clone()) {
                continue;
            }
            let (core, inbox, tried) = (Arc::clone(core), inbox.clone(), Arc::clone(&tried));
            working.spawn(async move { (room, complete_room(&core, &inbox, &tried, round).await) });
        }
    }
}

/// What of each room is to be tried now.
async fn waiting(inbox: &Inbox, tried: &Tried) -> Result<Rounds, NotAccepted> {
    let filter = WaitingFor { hint: Some(HINT.to_owned()), ..WaitingFor::default() };
    let (mut rounds, mut all) = (Rounds::default(), BTreeSet::new());
    let mut after = i64::MIN;
    loop {
        let page = inbox.waiting(filter.clone(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for one in page {
            all.insert(one.id);
            rounds.add(one, tried);
        }
    }
    tried.keep(&all);
    Ok(rounds)
}

/// Whether it is worth looking at once what waits in a room after a round.
#[derive(PartialEq, Eq)]
enum More {
    Yes,
    No,
}

async fn complete_room(core: &Core, inbox: &Inbox, tried: &Tried, round: Round) -> Result<More, Fatal> {
    let mut stuck = BTreeSet::new();
    let mut moved = false;
    for waiting in round.events {
        // What somebody said later keeps its place behind it.
        if stuck.contains(&waiting.sender) && !queue::takes_back(&waiting) {
            continue;
        }
        // A panic in a library stays with its event, which rests as one that failed.
        let resolved = AssertUnwindSafe(resolve(core, tried, &waiting)).catch_unwind().await;
        let resolved = resolved.unwrap_or_else(|_| {
            warn!("Completing an event panicked; it is tried again.");
            Err(Later::Why("it panicked".into()))
        });
        let resolution = match resolved {
            Ok(resolution) => resolution,
            Err(Later::Fatal(fatal)) => return Err(fatal),
            Err(Later::File(why)) => {
                debug!(why, "The file of an event is not there yet.");
                stuck.insert(waiting.sender);
                continue;
            }
            Err(Later::Why(why)) => {
                debug!(why, "An event can't be completed yet.");
                tried.failed(waiting.id);
                stuck.insert(waiting.sender);
                continue;
            }
        };
        match inbox.resolve(waiting.id, resolution).await {
            Ok(()) => {
                tried.done(waiting.id);
                moved = true;
            }
            Err(error) => return fatal_journal(error).map_or(Ok(More::No), Err),
        }
    }
    // What rested behind something that moved has its turn too.
    Ok(if moved { More::Yes } else { More::No })
}

enum Later {
    /// It failed in passing, and is tried for as long as an event may wait.
    Why(String),
    /// The homeserver does not give out its file, or not yet.
    File(String),
    Fatal(Fatal),
}

impl From<HttpError> for Later {
    fn from(error: HttpError) -> Self {
        fatal_http(&error.kind).map_or_else(|| Self::Why(error.to_string()), Self::Fatal)
    }
}

impl From<NotAccepted> for Later {
    fn from(error: NotAccepted) -> Self {
        fatal_journal(error).map_or_else(|| Self::Why(error.to_string()), Self::Fatal)
    }
}

fn refused(reason: impl Into<String>) -> Resolution {
    Resolution::Refused { reason: reason.into() }
}

async fn resolve(core: &Core, tried: &Tried, waiting: &Waiting) -> Result<Resolution, Later> {
    let parsed =
        std::str::from_utf8(waiting.raw.expose()).ok().and_then(|raw| serde_json::from_str::<&RawValue>(raw).ok());
    let (Some(raw), Ok(room)) = (parsed, RoomId::parse(waiting.conversation.as_str())) else {
        return Ok(refused("what was kept of it can't be read"));
    };
    let people = core.rooms.look(&room, |facts| Arc::clone(&facts.people)).unwrap_or_default();
    let opened = reading::open(core, &room, raw).await.map_err(|error| Later::Why(error.to_string()))?;
    let opened = match opened {
        Ok(opened) => opened,
        // Its key is gone again, or its sender is not trusted any more.
        Err(Read::Unreadable(waits)) => {
            let (hint, reason, holds_sender) = (waits.hint(), waits.reason, waits.holds_sender);
            return Ok(Resolution::Still { hint, reason, holds_sender });
        }
        Err(Read::Refused { reason, .. }) => return Ok(refused(reason)),
        Err(_) => return Ok(Resolution::NotForUs),
    };
    let work = Work { core, room: &room, opened: &opened, looks: people.appearance(opened.sender()) };
    if opened.kind() == "m.room.redaction" {
        return work.redaction().await;
    }
    match work.reader().needs() {
        Needs::Nothing => Ok(work.readable(work.reader().message(None))),
        Needs::NoFile(why) => Ok(work.readable(work.reader().message(Some(Err(why))))),
        Needs::Files(files) => {
            let file = work.file(tried, waiting.id, &files).await?;
            Ok(work.readable(work.reader().message(Some(file.as_ref().map_err(|why| *why)))))
        }
        Needs::Original(of) => match work.may_edit(&of).await? {
            Ok(()) => Ok(work.readable(work.reader().message(None))),
            Err(reason) => Ok(refused(reason)),
        },
        Needs::Reactions => work.reaction().await,
    }
}

struct Work<'a> {
    core: &'a Core,
    room: &'a OwnedRoomId,
    opened: &'a Opened,
    /// How its sender appears.
    looks: Appearance,
}

impl Work<'_> {
    fn reader(&self) -> translate::Reader<'_> {
        self.opened.reader(self.core.me(), &self.looks)
    }

    fn readable(&self, message: Option<sealbridge_contract::Cleartext>) -> Resolution {
        message.map_or(Resolution::NotForUs, |message| Resolution::Readable(self.opened.incoming(self.room, message)))
    }

    /// Its file. The inner error is why it never will be here.
    async fn file(&self, tried: &Tried, waiting: i64, files: &Files) -> Result<Result<Taken, Absence>, Later> {
        let now = Instant::now();
        match files::take(self.core, files).await {
            Ok(taken) => Ok(Ok(taken)),
            Err(Untaken::Never(why)) => Ok(Err(why)),
            Err(Untaken::Missing(_)) if tried.is_missing(waiting, now) => Ok(Err(Absence::NotFetched)),
            Err(Untaken::Broken(_)) if tried.is_broken(waiting, now) => Ok(Err(Absence::NotFetched)),
            Err(Untaken::Missing(why) | Untaken::Broken(why)) => Err(Later::File(why)),
            Err(Untaken::Later(why)) => Err(Later::Why(why)),
        }
    }

    /// An event of the room as the homeserver shows it; `None` if it has none of that name.
    async fn event(&self, id: &RemoteId) -> Result<Option<Box<RawValue>>, Later> {
        let Ok(id) = EventId::parse(id.as_str()) else { return Ok(None) };
        let request = get_room_event::v3::Request::new(self.room.clone(), id);
        match self.core.http.send(request, Class::Short).await {
            Ok(answer) => Ok(Some(answer.event.into_json())),
            Err(HttpError { kind: HttpErrorKind::Client { .. } }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an edit is by the one who wrote the message. Where that can be read here its encryption tells, not the
    /// homeserver.
    async fn may_edit(&self, of: &RemoteId) -> Result<Result<(), &'static str>, Later> {
        let Some(raw) = self.event(of).await? else { return Ok(Err("the message that it changes is not there")) };
        let Ok(original) = Envelope::read(&raw) else { return Ok(Err("the message that it changes is malformed")) };
        if original.sender != *self.opened.sender() {
            return Ok(Err("it changes a message of somebody else"));
        }
        let Some(engine) = self.core.engine() else { return Err(Later::Why("not open yet".into())) };
        let trust = crate::engine::SenderTrust { unsigned_devices: true, backup_keys: true };
        Ok(match engine.decrypt(self.room, &raw, trust).await {
            Ok(decrypted) if translate::replaced(&decrypted.content).is_some() => Err("it changes an edit"),
            Ok(_) | Err(DecryptError::MissingKey { .. } | DecryptError::UnknownIndex { .. }) => Ok(()),
            Err(DecryptError::Engine(error)) => return Err(Later::Why(error.to_string())),
            Err(_) => Err("the message that it changes is not what its homeserver says"),
        })
    }
}
