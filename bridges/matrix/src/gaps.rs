//! Fills what a sync left out, page by page, backwards. Each page is committed, so a crash loses no progress.

use std::time::Duration;

use ruma::{
    OwnedRoomId, RoomId, UInt, UserId,
    api::{Direction, client::message::get_message_events},
};
use sealbridge_contract::{
    Fatal, Inbox, NotAccepted, Timestamp,
    inbox::{Batch, Filling, OpenGap},
};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tracing::{info, warn};

use std::sync::Arc;

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

/// Fills gaps as they come, for ever. Those of one room one after another, oldest first.
pub(crate) async fn fill_gaps(core: &Arc<Core>, inbox: &Inbox) -> Result<(), Fatal> {
    let mut tick = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            () = core.signals.gaps.notified() => {}
            _ = tick.tick() => {}
        }
        let open = match inbox.open_gaps().await {
            Ok(open) => open,
            Err(error) => match fatal_journal(error) {
                Some(fatal) => return Err(fatal),
                None => continue,
            },
        };
        let mut rooms: Vec<Vec<OpenGap>> = Vec::new();
        for gap in open {
            match rooms.iter_mut().find(|gaps| gaps[0].conversation == gap.conversation) {
                Some(gaps) => gaps.push(gap),
                None => rooms.push(vec![gap]),
            }
        }
        let mut filling = JoinSet::new();
        for gaps in rooms {
            while filling.len() >= AT_ONCE {
                finished(filling.join_next().await)?;
            }
            let (core, inbox) = (Arc::clone(core), inbox.clone());
            filling.spawn(async move {
                for gap in gaps {
                    if let Some(fatal) = fill(&core, &inbox, gap).await {
                        return Some(fatal);
                    }
                }
                None
            });
        }
        while !filling.is_empty() {
            finished(filling.join_next().await)?;
        }
    }
}

fn finished(joined: Option<Result<Option<Fatal>, tokio::task::JoinError>>) -> Result<(), Fatal> {
    match joined {
        Some(Ok(Some(fatal))) => Err(fatal),
        Some(Err(error)) if error.is_panic() => {
            warn!("Filling a gap panicked; it is tried again.");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Fills one gap to its end. What fails in passing is left for the next round.
async fn fill(core: &Core, inbox: &Inbox, mut gap: OpenGap) -> Option<Fatal> {
    let Ok(room) = RoomId::parse(gap.conversation.as_str()) else {
        warn!("A gap names no room.");
        return None;
    };
    let mut failures = 0_u32;
    loop {
        let error = match page(core, inbox, &room, &gap).await {
            Ok(Some(next)) => {
                gap.from = next;
                failures = 0;
                continue;
            }
            Ok(None) => {
                info!("A gap was filled.");
                return None;
            }
            Err(error) => error,
        };
        match &error {
            Unfilled::Http(error) if is_final(error) => {
                warn!(%error, "A gap can't be read any more.");
                return close(inbox, &room, &gap).await;
            }
            Unfilled::Http(error) => {
                if let Some(fatal) = fatal_http(&error.kind) {
                    return Some(fatal);
                }
                warn!(%error, failures, "A page of a gap was not answered.");
            }
            Unfilled::Journal(error) => {
                if let Some(fatal) = fatal_journal(*error) {
                    return Some(fatal);
                }
                if *error == NotAccepted::Stopping {
                    return None;
                }
            }
            Unfilled::Engine(error) => warn!(%error, "A page of a gap could not be read."),
        }
        failures += 1;
        if failures > 5 {
            return None;
        }
        let pause = Duration::from_millis(500) * 2_u32.pow(failures);
        tokio::time::sleep(error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE)).await;
    }
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
    let name_of = |user: &UserId| people.joined.get(user).cloned().flatten();
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
        let read = reading::read(core, room, name_of, raw).await.map_err(Unfilled::Engine)?;
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
