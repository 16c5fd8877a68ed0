//! Messages of which not all is here yet: they wait in the journal, keep their place, and are completed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sealbridge_child::CallError;
use sealbridge_contract::{
    Arrived, Inbox,
    inbox::{Resolution, Waiting, WaitingFor},
};

use crate::{
    core::Core,
    engine::{
        Engine,
        types::{Download, Loaded},
    },
    incoming, records,
    session::{Ended, insist},
};

/// What such a message waits for.
pub(crate) const HINT: &str = "download";
/// How many are looked at in one turn.
const PAGE: usize = 64;
/// After how long the engine is asked again for what it could not fetch.
const AGAIN: Duration = Duration::from_secs(30);
/// After how long nobody hopes any more.
const PATIENCE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// When the engine was asked for the rest of a message.
#[derive(Debug, Default)]
pub(crate) struct Asked(HashMap<u32, Instant>);

/// Hands in what is whole by now, and asks for what is not.
pub(crate) async fn complete(core: &Core, inbox: &Inbox, engine: &Engine, asked: &mut Asked) -> Result<(), Ended> {
    let filter = WaitingFor { hint: Some(HINT.to_owned()), ..WaitingFor::default() };
    let mut after = i64::MIN;
    loop {
        let page = insist!(inbox.waiting(filter.clone(), after, PAGE));
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for waiting in page {
            complete_one(core, inbox, engine, asked, waiting).await?;
        }
    }
}

async fn complete_one(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    asked: &mut Asked,
    waiting: Waiting,
) -> Result<(), Ended> {
    let number = std::str::from_utf8(waiting.raw.expose()).ok().and_then(|text| text.parse().ok());
    let loaded = match number {
        Some(number) => engine.messages(&[number]).await?.remove(&number),
        None => None,
    };
    let Some(Loaded::Message(message)) = loaded else {
        // Its sender deleted it before it was whole.
        insist!(inbox.resolve(waiting.id, Resolution::NotForUs));
        return Ok(());
    };
    if matches!(message.download_state, Download::Done | Download::Undecipherable) {
        asked.0.remove(&message.id);
        return hand_in(core, inbox, engine, &waiting, message.id).await;
    }
    if core.clock.now().since(waiting.since) > PATIENCE {
        let reason = "the rest of it never came".to_owned();
        insist!(inbox.resolve(waiting.id, Resolution::Refused { reason: reason.clone() }));
        return Ok(());
    }
    let due = asked.0.get(&message.id).is_none_or(|at| at.elapsed() >= AGAIN);
    if message.download_state != Download::InProgress && due {
        asked.0.insert(message.id, Instant::now());
        match engine.download(message.id).await {
            Ok(()) | Err(CallError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn hand_in(core: &Core, inbox: &Inbox, engine: &Engine, waiting: &Waiting, number: u32) -> Result<(), Ended> {
    loop {
        let message = engine.message(number).await?;
        let taken = incoming::take(core, engine, message).await?;
        let (resolution, told) = match taken {
            None => (Resolution::NotForUs, None),
            Some(taken) => match taken.what {
                Arrived::Message(incoming) => (Resolution::Readable(incoming), taken.told),
                Arrived::Refused { reason, .. } => (Resolution::Refused { reason }, None),
                Arrived::Unreadable(_) | Arrived::Gap { .. } => return Ok(()),
            },
        };
        match inbox.resolve(waiting.id, resolution).await {
            Ok(()) => {
                if let Some(told) = told {
                    insist!(core.store.write(vec![records::telling(number, &told)]));
                }
                engine.seen(&[number]).await?;
                return Ok(());
            }
            Err(why) => match why.again_in() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(why.into()),
            },
        }
    }
}
