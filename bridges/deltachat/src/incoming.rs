//! From the network to the inbox.
//!
//! The engine keeps every message under a number that only grows, and we keep the last number that was accepted,
//! committed together with what was accepted. The engine is told only afterwards. So whenever one of us is killed,
//! the next start sees either the old number or the new one; the same message has the same mail id, and is carried once.

use sealbridge_child::CallError;
use sealbridge_contract::{
    Arrival, Arrived, Batch, ConversationId, Inbox, PersonId, RemoteId,
    inbox::{Audience, Incident, StoreWrite},
};

use crate::{
    caution::Caution,
    changes::Changed,
    core::{CURSOR, Core},
    engine::{
        Engine,
        types::{Download, Loaded, Message, SELF},
    },
    ids, records,
    session::Ended,
    taking::{NotTaken, SELF_AND_ENGINE, Taken, take},
};

/// Once the files of a batch have so many bytes, it is handed in: what lies in the spool for it takes room from others.
const FILES: u64 = 32 << 20;
/// Why a message is refused of which only the engine knows what it is.
pub(crate) const WITHHELD: &str = "the engine has it and can't give it out";

/// What came of fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// There may be more.
    Some,
    /// There is nothing more now.
    All,
    /// There is more, and no room for it, or it can't be read just now.
    Stuck,
}

/// Hands in the next messages.
pub(crate) async fn fetch(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    caution: &mut Caution,
    cursor: &mut u32,
) -> Result<Fetched, Ended> {
    let mut ids = engine.next_messages().await?;
    if ids.is_empty() {
        return Ok(Fetched::All);
    }
    ids.truncate(caution.together(&ids));
    let (last, after) = loop {
        caution.asks(&ids);
        let hopeless = caution.is_hopeless(ids[0]);
        let Reading { mut batch, after, read, failed } = match hopeless {
            true => give_up(core, engine, ids[0], caution.is_unspeakable(ids[0])).await?,
            false => read(core, inbox, engine, &ids).await?,
        };
        caution.answered(&ids[..read]);
        if let Some(failed) = failed {
            caution.failed(failed);
        }
        let Some(last) = ids[..read].last().copied() else { return Ok(Fetched::Stuck) };
        batch.store.push(StoreWrite::put(CURSOR, last.to_string().into_bytes()));
        match inbox.accept(batch).await {
            Ok(()) => break (last, after),
            // Asked for again, since a batch is not to be kept twice in memory while nobody takes it.
            Err(why) => match why.again_in() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(why.into()),
            },
        }
    };
    *cursor = last;
    core.reached(last);
    engine.set("last_msg_id", &last.to_string()).await?;
    if !after.done_with.is_empty() {
        engine.seen(&after.done_with).await?;
    }
    changed.all(after.liked);
    Ok(Fetched::Some)
}

/// The first of some messages, as far as they can be handed in together.
#[derive(Default)]
struct Reading {
    batch: Batch,
    after: After,
    /// How many of them it has, from the first on.
    read: usize,
    /// The one after them, if that can't be read.
    failed: Option<u32>,
}

/// What is to be done once messages were accepted.
#[derive(Default)]
struct After {
    /// Whole messages of others.
    done_with: Vec<u32>,
    /// Messages that others have reacted to already.
    liked: Vec<u32>,
}

/// Reads messages, with all that must be known about each. The same messages give the same batch, or its beginning.
async fn read(core: &Core, inbox: &Inbox, engine: &Engine, ids: &[u32]) -> Result<Reading, Ended> {
    let mut reading = Reading::default();
    let mut files = 0;
    let mut loaded = engine.messages(ids).await?;
    for id in ids {
        match loaded.remove(id).unwrap_or(Loaded::Withheld) {
            Loaded::There(message) => match reading.add(core, inbox, engine, *message).await {
                Ok(bytes) => files += bytes,
                Err(NotTaken::NoRoom) => break,
                // Perhaps it was deleted meanwhile.
                Err(NotTaken::Ended(Ended::Lost(CallError::Refused { .. })))
                    if matches!(engine.look(*id).await?, Loaded::Gone) => {}
                Err(NotTaken::Ended(Ended::Lost(CallError::Refused { .. }))) => {
                    reading.failed = Some(*id);
                    break;
                }
                Err(NotTaken::Ended(ended)) => return Err(ended),
            },
            // One that was deleted meanwhile is nobody's any more.
            Loaded::Gone => {}
            Loaded::Withheld => {
                reading.failed = Some(*id);
                break;
            }
        }
        reading.read += 1;
        if files >= FILES {
            break;
        }
    }
    Ok(reading)
}

impl Reading {
    /// Adds one message. Says how many bytes its file has.
    async fn add(&mut self, core: &Core, inbox: &Inbox, engine: &Engine, message: Message) -> Result<u64, NotTaken> {
        if message.from_id == SELF && !message.is_info {
            return Ok(0);
        }
        let (id, conversation) = (message.id, ids::conversation(message.chat_id, &core.me));
        let whole = message.download_state == Download::Done && message.from_id > SELF_AND_ENGINE;
        let liked = message.reactions.is_some();
        let taken = take(core, inbox, engine, message).await?;
        self.after.done_with.extend(whole.then_some(id));
        let Some(Taken { what, told, named, in_clear, bytes }) = taken else { return Ok(0) };
        self.batch.store.push(named);
        self.batch.store.extend(told.map(|told| records::telling(id, &told)));
        self.batch.incidents.extend(in_clear.then(|| told_in_clear(&conversation)));
        self.batch.arrivals.push(Arrival { conversation, what });
        self.after.liked.extend(liked.then_some(id));
        Ok(bytes)
    }
}

/// What is told of a message that the engine does not give out: that there is one. `nameless`: nor its name.
async fn give_up(core: &Core, engine: &Engine, message: u32, nameless: bool) -> Result<Reading, Ended> {
    let mut reading = Reading { read: 1, ..Reading::default() };
    let id = match nameless {
        true => None,
        false => match engine.mail_id(message).await {
            Ok(id) => Some(RemoteId::new(id)),
            Err(CallError::Refused { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    reading.batch.store.extend(id.as_ref().map(|id| records::named(id, message)));
    let id = id.unwrap_or_else(|| RemoteId::new(ids::nameless(message)));
    tracing::warn!(message, "The engine can't give out a message; it is refused.");
    for chat in engine.chats().await? {
        if engine.chat_messages(chat).await?.contains(&message) {
            let (sender, reason) = (PersonId::new("nobody knows who"), WITHHELD.to_owned());
            let conversation = ids::conversation(chat, &core.me);
            reading.batch.arrivals.push(Arrival { conversation, what: Arrived::Refused { id, sender, reason } });
            return Ok(reading);
        }
    }
    let words = format!("The engine has a message, number {message}, and gives out neither it nor where it belongs.");
    let (topic, audience) = (format!("message-withheld {message}"), Audience::Operator);
    reading.batch.incidents.push(Incident { conversation: None, topic, words, audience });
    Ok(reading)
}

fn told_in_clear(conversation: &ConversationId) -> Incident {
    Incident {
        conversation: Some(conversation.clone()),
        topic: "plaintext-in-encrypted-room".to_owned(),
        words: "A message came in clear into this encrypted chat. It is not carried on.".to_owned(),
        audience: Audience::Conversation,
    }
}
