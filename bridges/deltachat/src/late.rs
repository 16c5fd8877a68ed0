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
    caution::Caution,
    changes::Changed,
    core::Core,
    engine::{
        Engine,
        types::{Download, Loaded, Message},
    },
    incoming::WITHHELD,
    records,
    session::{Ended, insist},
    taking::{NotTaken, Taken, take, take_without_the_rest},
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
pub(crate) async fn complete(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    caution: &mut Caution,
    asked: &mut Asked,
) -> Result<(), Ended> {
    let filter = WaitingFor { hint: Some(HINT.to_owned()), ..WaitingFor::default() };
    let mut after = i64::MIN;
    loop {
        let page = insist!(inbox.waiting(filter.clone(), after, PAGE));
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for waiting in page {
            let number = std::str::from_utf8(waiting.raw.expose()).ok().and_then(|text| text.parse().ok());
            let became = match number {
                Some(number) if caution.is_hopeless(number) => Became::Refused(WITHHELD),
                Some(number) => {
                    caution.asks(&[number]);
                    complete_one(core, inbox, engine, changed, asked, &waiting, number).await?
                }
                None => Became::Refused(WITHHELD),
            };
            caution.answered(number.as_slice());
            let resolution = match became {
                Became::HandedIn => continue,
                Became::Waits if core.clock.now().since(waiting.since) <= PATIENCE => continue,
                Became::Waits => match without_the_rest(core, inbox, engine, &waiting, number).await? {
                    Became::HandedIn => continue,
                    _ => refused("the rest of it never came"),
                },
                Became::Refused(reason) => refused(reason),
                Became::Gone => Resolution::NotForUs,
            };
            resolve(inbox, &waiting, resolution).await?;
        }
    }
}

/// What became of a message that waited.
enum Became {
    HandedIn,
    /// It was deleted before it was whole, or is nothing that is told.
    Gone,
    Refused(&'static str),
    Waits,
}

/// Hands in what is here of a message whose rest never came.
async fn without_the_rest(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    waiting: &Waiting,
    number: Option<u32>,
) -> Result<Became, Ended> {
    let Some(number) = number else { return Ok(Became::Waits) };
    let Loaded::There(message) = engine.look(number).await? else { return Ok(Became::Waits) };
    let taken = match take_without_the_rest(core, inbox, engine, *message).await {
        Ok(Some(taken)) => taken,
        Ok(None) | Err(NotTaken::NoRoom | NotTaken::Ended(Ended::Lost(CallError::Refused { .. }))) => {
            return Ok(Became::Waits);
        }
        Err(NotTaken::Ended(ended)) => return Err(ended),
    };
    match hand_over(core, inbox, engine, waiting, number, taken).await {
        Ok(became) => Ok(became),
        Err(NotTaken::Ended(ended)) => Err(ended),
        Err(NotTaken::NoRoom) => Ok(Became::Waits),
    }
}

fn refused(reason: &str) -> Resolution {
    Resolution::Refused { reason: reason.to_owned() }
}

async fn complete_one(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    asked: &mut Asked,
    waiting: &Waiting,
    number: u32,
) -> Result<Became, Ended> {
    let message = match engine.look(number).await? {
        Loaded::There(message) => message,
        Loaded::Gone => return Ok(Became::Gone),
        Loaded::Withheld => return Ok(Became::Waits),
    };
    if matches!(message.download_state, Download::Done | Download::Undecipherable) {
        asked.0.remove(&number);
        return match hand_in(core, inbox, engine, waiting, *message).await {
            Ok(became) => {
                // Some may have reacted to what was here of it.
                changed.one(number);
                Ok(became)
            }
            // Whether it was deleted meanwhile is seen at the next look.
            Err(NotTaken::NoRoom | NotTaken::Ended(Ended::Lost(CallError::Refused { .. }))) => Ok(Became::Waits),
            Err(NotTaken::Ended(ended)) => Err(ended),
        };
    }
    let due = asked.0.get(&number).is_none_or(|at| at.elapsed() >= AGAIN);
    if message.download_state != Download::InProgress && due {
        asked.0.insert(number, Instant::now());
        match engine.download(number).await {
            Ok(()) | Err(CallError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Became::Waits)
}

async fn hand_in(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    waiting: &Waiting,
    message: Message,
) -> Result<Became, NotTaken> {
    let number = message.id;
    let Some(taken) = take(core, inbox, engine, message).await? else { return Ok(Became::Gone) };
    hand_over(core, inbox, engine, waiting, number, taken).await
}

async fn hand_over(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    waiting: &Waiting,
    number: u32,
    taken: Taken,
) -> Result<Became, NotTaken> {
    let resolution = match taken.what {
        Arrived::Message(incoming) => Resolution::Readable(incoming),
        Arrived::Refused { reason, .. } => refused(&reason),
        Arrived::Unreadable(_) | Arrived::Gap { .. } => return Ok(Became::Waits),
    };
    // First how it is now: were we killed after it was handed in and before this, nothing done to it would be told.
    if let Some(told) = taken.told {
        insist!(core.store.write(vec![records::telling(number, &told)]));
    }
    // A resolution is not kept twice: if nobody takes it now, all is asked for again.
    match inbox.resolve(waiting.id, resolution).await {
        Ok(()) => {
            engine.seen(&[number]).await?;
            Ok(Became::HandedIn)
        }
        Err(why) => match why.again_in() {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(Became::Waits)
            }
            None => Err(Ended::from(why).into()),
        },
    }
}

async fn resolve(inbox: &Inbox, waiting: &Waiting, resolution: Resolution) -> Result<(), Ended> {
    match inbox.resolve(waiting.id, resolution).await {
        Ok(()) => Ok(()),
        Err(why) => match why.again_in() {
            // It still waits, and is looked at again in the next turn.
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(why.into()),
        },
    }
}
