//! From the network to the inbox.
//!
//! Nothing is acknowledged to the network before the inbox accepted it, with the cursor, in one commit. So whenever
//! this is dropped, the next start sees either the old cursor or the new one, and nothing in between.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{
    Fatal, Inbox, NotAccepted,
    inbox::{Filling, OpenGap, Resolution, WaitingFor},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{Core, KEY},
    files::{self, Files},
    hub::{Cursor, Event, Item, Polled, What},
    translate::{self, Known, Waited},
};

const PAGE: usize = 100;

/// Receives until `stop`.
pub(crate) async fn run(core: &Core, inbox: &Inbox, stop: &CancellationToken) -> Result<(), Fatal> {
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = receive(core, inbox) => ended,
    };
    core.stopped();
    match ended {
        Ok(()) | Err(Ended::Stopping) => Ok(()),
        Err(Ended::Fatal(fatal)) => Err(fatal),
    }
}

/// Why receiving ends.
pub(crate) enum Ended {
    Stopping,
    Fatal(Fatal),
}

/// What to do about a batch that was not accepted: wait, or end.
pub(crate) fn again(why: NotAccepted) -> Result<Duration, Ended> {
    match (why.again_in(), why) {
        (Some(wait), _) => Ok(wait),
        (None, NotAccepted::Stopping) => Err(Ended::Stopping),
        (None, _) => Err(Ended::Fatal(Fatal::Journal)),
    }
}

/// Tries until the journal takes it. Whoever offers can make the offer again, since nothing of it was kept.
macro_rules! insist {
    ($offer:expr) => {
        loop {
            match $offer.await {
                Ok(answer) => break answer,
                Err(why) => tokio::time::sleep($crate::incoming::again(why)?).await,
            }
        }
    };
}
pub(crate) use insist;

/// Tries until the spool has room. What can't be kept stays on the network.
macro_rules! insist_on_room {
    ($take:expr) => {
        while $take.await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    };
}

/// How long to wait for room in the spool.
const AGAIN: Duration = Duration::from_secs(1);

async fn receive(core: &Core, inbox: &Inbox) -> Result<(), Ended> {
    let mut cursor = insist!(core.cursor());
    read_what_waited(core, inbox, None).await?;
    loop {
        let gaps_left = fill_gaps(core, inbox).await?;
        reached(core).await?;
        cursor = fetch(core, inbox, cursor, !gaps_left).await?;
    }
}

/// Waits until the network can be reached.
pub(crate) async fn reached(core: &Core) -> Result<(), Ended> {
    let mut reachable = core.faults.reachable();
    let there = *reachable.borrow_and_update();
    core.heard(there);
    if !there {
        let gone = || Ended::Fatal(Fatal::Broken("the network is gone for good".to_owned()));
        reachable.wait_for(|reachable| *reachable).await.map_err(|_| gone())?;
        core.heard(true);
    }
    Ok(())
}

/// One answer of the network, or `None` if it could not be reached meanwhile.
pub(crate) async fn answer(core: &Core, cursor: Cursor, wait: bool) -> Result<Option<Polled>, Ended> {
    let mut reachable = core.faults.reachable();
    tokio::select! {
        biased;
        _ = reachable.wait_for(|reachable| !reachable) => Ok(None),
        polled = core.server.poll(cursor, core.batch, wait) => {
            let polled = polled.map_err(|error| Ended::Fatal(Fatal::Broken(error.to_string())))?;
            core.heard(true);
            Ok(Some(polled))
        }
    }
}

async fn fetch(core: &Core, inbox: &Inbox, cursor: Cursor, wait: bool) -> Result<Cursor, Ended> {
    let Some(polled) = answer(core, cursor, wait).await? else { return Ok(cursor) };
    if polled.items.is_empty() && polled.echoes.is_empty() {
        return Ok(cursor);
    }
    let files = take_files(core, polled.items.iter().filter_map(Item::event)).await;
    let translated = loop {
        let mut translated = translate::batch(&polled, &files, |conversation| core.known(conversation));
        core.fear(&translated.news);
        let batch = std::mem::take(&mut translated.batch);
        match inbox.accept(batch).await {
            Ok(()) => break translated,
            Err(why) => tokio::time::sleep(again(why)?).await,
        }
    };
    core.learn(&translated.news);
    tell_signals(inbox, &polled);
    core.server.acknowledge(polled.cursor);
    for key in translated.keys {
        read_what_waited(core, inbox, Some(key)).await?;
    }
    Ok(polled.cursor)
}

/// Hands in what can be read now: what waited for `key`, or, at the start, for any key that came meanwhile.
async fn read_what_waited(core: &Core, inbox: &Inbox, key: Option<String>) -> Result<(), Ended> {
    let filter = WaitingFor { hint: key, ..WaitingFor::default() };
    let mut after = 0;
    loop {
        let waiting = insist!(inbox.waiting(filter.clone(), after, PAGE));
        let Some(last) = waiting.last() else { return Ok(()) };
        after = last.id;
        for event in waiting {
            let Some(waited) = Waited::from_raw(&event.raw) else {
                insist!(inbox.resolve(event.id, Resolution::Refused { reason: UNKNOWN_FORM.to_owned() }));
                continue;
            };
            if insist!(core.store().read(&format!("{KEY}{}", waited.hint))).is_none() {
                continue;
            }
            let mut files = Files::new();
            if let What::Said { content, .. } = &waited.event.what {
                insist_on_room!(files::take_content(core, &waited.event.id, content.how, &content.more, &mut files));
            }
            insist!(inbox.resolve(event.id, waited.resolution(&files)));
        }
    }
}

const UNKNOWN_FORM: &str = "it is not of a form that this version knows";

/// Takes the files of these events into the spool, however long there is no room.
async fn take_files(core: &Core, events: impl Iterator<Item = &Arc<Event>>) -> Files {
    let mut files = Files::new();
    for event in events {
        insist_on_room!(files::take(core, event, &mut files));
    }
    files
}

/// Passes on what somebody does just now. Only after the commit: what comes twice is no harm, and what is lost neither.
fn tell_signals(inbox: &Inbox, polled: &Polled) {
    for event in polled.items.iter().filter_map(Item::event) {
        if let What::Signal(signal) = &event.what {
            inbox.signal(&event.conversation, signal.clone());
        }
    }
}

/// Reads one piece of each open gap, so that a long one does not hold up the others. Says whether there is more.
async fn fill_gaps(core: &Core, inbox: &Inbox) -> Result<bool, Ended> {
    let mut more = false;
    for gap in insist!(inbox.open_gaps()) {
        more |= fill(core, inbox, &gap).await?;
    }
    Ok(more)
}

async fn fill(core: &Core, inbox: &Inbox, gap: &OpenGap) -> Result<bool, Ended> {
    let number = |text: &str| {
        let bad = || Ended::Fatal(Fatal::Broken("a gap is not of a form that this version knows".to_owned()));
        text.parse::<u64>().map_err(|_| bad())
    };
    let from = number(&gap.from)?;
    let until = gap.until.as_deref().map_or(Ok(0), number)?;
    let page = core.server.read_back(&gap.conversation, from, until, core.batch);
    let known = core.known(&gap.conversation).unwrap_or(Known::VIOLATED);
    let newer = || page.events.iter().filter(|event| event.at >= gap.not_before);
    let files = take_files(core, newer()).await;
    let filling = || {
        let arrivals = newer().filter_map(|event| translate::arrived(event, known, &files)).collect();
        Filling { gap: gap.id, arrivals, next: page.next.map(|next| next.to_string()) }
    };
    insist!(inbox.fill(filling()));
    core.server.gap_closed(&gap.conversation, from, page.next.map_or(until, |next| next - 1));
    Ok(page.next.is_some())
}
