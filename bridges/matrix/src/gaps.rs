//! Fills what a sync left out, page by page, backwards. Each page is committed, so a crash loses no progress.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, RoomId, UInt,
    api::{Direction, client::message::get_message_events},
};
use sealbridge_contract::{
    ConversationId, Fatal, Inbox, NotAccepted, Timestamp,
    inbox::{Batch, Filling, OpenGap},
};
use serde_json::value::RawValue;
use tokio::{
    task::{self, JoinSet},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    core::{Core, fatal_http, fatal_journal, tell_operator},
    engine::{Class, EngineError, HttpError, HttpErrorKind},
    event::Envelope,
    intake::{self, Sorted},
    reading,
};

/// Rooms filled at once.
const AT_ONCE: usize = 4;
const PAGE: u32 = 100;
/// However long a server says to wait, the gap is looked at again after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Fills gaps as they come, for ever. Those of one room one after another, oldest first; a room that fails gives its
/// place to another until it is tried again.
pub(crate) async fn fill_gaps(core: &Arc<Core>, inbox: &Inbox) -> Result<(), Fatal> {
    let mut tick = tokio::time::interval(Duration::from_secs(30));
    let mut filling = JoinSet::new();
    let mut rooms = Rooms::default();
    loop {
        tokio::select! {
            () = core.signals.gaps.notified() => {}
            () = rooms.next_again() => {}
            _ = tick.tick() => {}
            Some(joined) = filling.join_next_with_id() => match joined {
                Ok((id, Ended::Fatal(fatal))) => {
                    rooms.running.remove(&id);
                    return Err(fatal);
                }
                Ok((id, Ended::Later(pause))) => rooms.later(id, pause),
                Ok((id, Ended::Filled)) => drop(rooms.running.remove(&id)),
                Err(error) => {
                    warn!("Filling a gap panicked; it is tried again.");
                    rooms.later(error.id(), Duration::from_secs(30));
                }
            },
        }
        let open = match inbox.open_gaps().await {
            Ok(open) => open,
            Err(error) => match fatal_journal(error) {
                Some(fatal) => return Err(fatal),
                None => continue,
            },
        };
        for gap in open {
            if filling.len() >= AT_ONCE {
                break;
            }
            let room = gap.conversation.clone();
            if rooms.may_start(&room) {
                let (core, inbox) = (Arc::clone(core), inbox.clone());
                let started = filling.spawn(async move { fill(&core, &inbox, gap).await });
                rooms.running.insert(started.id(), room);
            }
        }
    }
}

/// Which rooms are filled now, and which failed and are to wait.
#[derive(Default)]
struct Rooms {
    running: HashMap<task::Id, ConversationId>,
    failures: HashMap<ConversationId, Again>,
}

struct Again {
    at: Instant,
    times: u32,
}

impl Rooms {
    fn may_start(&self, room: &ConversationId) -> bool {
        let waits = self.failures.get(room).is_some_and(|again| again.at > Instant::now());
        !waits && self.running.values().all(|running| running != room)
    }

    fn later(&mut self, id: task::Id, pause: Duration) {
        let Some(room) = self.running.remove(&id) else { return };
        let now = Instant::now();
        self.failures.retain(|_, again| again.at + LONGEST_PAUSE > now);
        let again = self.failures.entry(room).or_insert(Again { at: now, times: 0 });
        let doubled = Duration::from_secs(1) * 2_u32.pow(again.times.min(6));
        (again.at, again.times) = (now + pause.max(doubled).min(LONGEST_PAUSE), again.times + 1);
    }

    /// Resolves when a room that failed is to be tried again.
    async fn next_again(&self) {
        let now = Instant::now();
        match self.failures.values().map(|again| again.at).filter(|at| *at > now).min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

enum Ended {
    Filled,
    /// Something failed in passing: not before this.
    Later(Duration),
    Fatal(Fatal),
}

/// Fills one gap, as far as it gets.
async fn fill(core: &Core, inbox: &Inbox, mut gap: OpenGap) -> Ended {
    let Ok(room) = RoomId::parse(gap.conversation.as_str()) else {
        warn!("A gap names no room.");
        return Ended::Later(LONGEST_PAUSE);
    };
    let error = loop {
        match page(core, inbox, &room, &gap).await {
            Ok(Some(next)) => gap.from = next,
            Ok(None) => {
                info!("A gap was filled.");
                return Ended::Filled;
            }
            Err(error) => break error,
        }
    };
    match &error {
        Unfilled::Http(error) if is_final(error) => {
            warn!(%error, "A gap can't be read any more.");
            return match close(inbox, &room, &gap).await {
                Some(fatal) => Ended::Fatal(fatal),
                None => Ended::Filled,
            };
        }
        Unfilled::Http(error) => {
            if let Some(fatal) = fatal_http(&error.kind) {
                return Ended::Fatal(fatal);
            }
            warn!(%error, "A page of a gap was not answered.");
        }
        Unfilled::Journal(error) => {
            if let Some(fatal) = fatal_journal(*error) {
                return Ended::Fatal(fatal);
            }
        }
        Unfilled::Engine(error) => warn!(%error, "A page of a gap could not be read."),
    }
    Ended::Later(error.retry_after().unwrap_or_default())
}

enum Unfilled {
    Http(HttpError),
    Engine(EngineError),
    Journal(NotAccepted),
}

impl Unfilled {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// The homeserver will never show it: we are not in the room any more, or it does not know the place. Only its own
/// word counts: what stands before it may answer with a page of its own.
fn is_final(error: &HttpError) -> bool {
    let ours = ["M_FORBIDDEN", "M_NOT_FOUND", "M_INVALID_PARAM", "M_UNKNOWN"];
    matches!(&error.kind, HttpErrorKind::Client { status: 400 | 403 | 404, errcode } if ours.contains(&errcode.as_str()))
}

/// Commits one page. Gives where to read on, or `None` when the gap is closed.
async fn page(core: &Core, inbox: &Inbox, room: &OwnedRoomId, gap: &OpenGap) -> Result<Option<String>, Unfilled> {
    let mut request = get_message_events::v3::Request::new(room.clone(), Direction::Backward);
    request.from = Some(gap.from.clone());
    request.to = gap.until.clone();
    request.limit = UInt::from(PAGE);
    let answer = core.http.send(request, Class::Page).await.map_err(Unfilled::Http)?;

    let people = core.rooms.look(room, |facts| Arc::clone(&facts.people)).unwrap_or_default();
    let mut arrivals = Vec::new();
    let mut extra = Batch::default();
    let mut news = Vec::new();
    let mut at_join = false;
    let mut newest = Timestamp(0);
    for event in &answer.chunk {
        let raw: &RawValue = event.json();
        if let Ok(event) = Envelope::read(raw) {
            newest = newest.max(event.sent_at);
            if event.is_join_of(core.me(), gap.until.is_none()) {
                at_join = true;
                break;
            }
        }
        let read = reading::read(core, room, &people, raw).await.map_err(Unfilled::Engine)?;
        let Sorted { arrived, echo, incident, news: more, verification } = intake::sort(room, read, raw);
        arrivals.extend(arrived);
        extra.echoes.extend(echo);
        extra.incidents.extend(incident);
        news.extend(more);
        core.signals.observe(verification.map(|step| (room.clone(), step)));
    }
    if !extra.echoes.is_empty() || !extra.incidents.is_empty() {
        inbox.accept(extra).await.map_err(Unfilled::Journal)?;
    }
    // A whole page from before the link: what is older is older still.
    let before_link = !answer.chunk.is_empty() && newest < gap.not_before;
    let moved = answer.end.filter(|end| *end != gap.from && Some(end) != gap.until.as_ref());
    // A page may be empty and yet not the last: the homeserver may hide all of its events.
    let next = moved.filter(|_| !at_join && !before_link);
    inbox.fill(Filling { gap: gap.id, arrivals, next: next.clone() }).await.map_err(Unfilled::Journal)?;
    core.signals.tell(news);
    Ok(next)
}

async fn close(inbox: &Inbox, room: &RoomId, gap: &OpenGap) -> Option<Fatal> {
    let words =
        "Some messages in the room can't be read any more: the homeserver does not show them. They do not cross.";
    let told =
        Batch { incidents: vec![tell_operator(room, format!("gap-unreadable/{}", gap.id), words)], ..Batch::default() };
    let closed = match inbox.accept(told).await {
        Ok(()) => inbox.fill(Filling { gap: gap.id, arrivals: Vec::new(), next: None }).await,
        Err(error) => Err(error),
    };
    closed.err().and_then(fatal_journal)
}
