//! What somebody did to an earlier message: new words, reactions, a deletion.
//!
//! The engine keeps no event of these, only how each message is now. So we keep how each was when it was last told of,
//! and tell the difference; both are committed together. What changed while nobody looked is found at the next start.
//! Several changes in between are told as one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
};

use sealbridge_child::CallError;
use sealbridge_contract::{
    Arrival, Arrived, Author, Batch, Body, ConversationId, Inbox, Kind, PersonId, RemoteId, Target, Text,
    gate::Encryption,
    inbox::{Audience, Incident},
    message::{Edit, Form, Reaction},
};
use tokio::sync::Notify;

use crate::{
    caution::Caution,
    core::{Core, lock},
    engine::{
        Engine,
        types::{Download, Loaded, Message, SELF, Timer, state},
    },
    ids,
    incoming::WITHHELD,
    records::{self, KEPT, Told},
    session::{Ended, cursor, insist},
    taking::{SELF_AND_ENGINE, author, whole},
    translate,
};

/// More people than these react to one message without being heard.
const MOST: usize = 512;

/// What the engine says just happened to a message.
#[derive(Clone, Debug, Default)]
struct News {
    /// It has other words, perhaps.
    words: bool,
    /// These contacts reacted.
    by: BTreeSet<u32>,
}

/// Messages that may have changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    numbers: Mutex<BTreeSet<u32>>,
    /// Of those of which nothing is remembered this alone tells what is new.
    news_of: Mutex<HashMap<u32, News>>,
    /// Those that could not be looked at just now.
    later: Mutex<BTreeSet<u32>>,
    /// Rung when there is something to do.
    pub(crate) news: Notify,
}

impl Changed {
    /// One may have changed; nought, if the engine does not say which.
    pub(crate) fn one(&self, number: u32) {
        if number > 0 {
            lock(&self.numbers).insert(number);
        }
        self.news.notify_one();
    }

    /// One has other words, perhaps; or something else of it changed.
    pub(crate) fn words(&self, number: u32) {
        lock(&self.news_of).entry(number).or_default().words = true;
        self.one(number);
    }

    /// Somebody reacted to one.
    pub(crate) fn reacted(&self, number: u32, contact: u32) {
        lock(&self.news_of).entry(number).or_default().by.insert(contact);
        self.one(number);
    }

    /// What was handed in is no news any more.
    fn told(&self, numbers: &[u32]) {
        let later = lock(&self.later);
        lock(&self.news_of).retain(|number, _| !numbers.contains(number) || later.contains(number));
    }

    pub(crate) fn all(&self, numbers: Vec<u32>) {
        lock(&self.numbers).extend(numbers);
        self.news.notify_one();
    }

    /// One can't be looked at just now.
    fn later(&self, number: u32) {
        lock(&self.later).insert(number);
    }

    /// What could not be looked at before is looked at once more.
    pub(crate) fn once_more(&self) {
        lock(&self.numbers).append(&mut lock(&self.later));
    }

    /// The newest of them, since somebody is likely to wait for these.
    fn take(&self, caution: &Caution) -> Vec<u32> {
        let mut numbers = lock(&self.numbers);
        let mut taken: Vec<u32> = numbers.iter().rev().copied().collect();
        taken.truncate(caution.together(&taken));
        numbers.retain(|number| !taken.contains(number));
        taken
    }
}

/// Hands in what changed about some messages. Says whether there were any.
pub(crate) async fn tell_some(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    caution: &mut Caution,
) -> Result<bool, Ended> {
    let numbers = changed.take(caution);
    let Some(first) = numbers.first().copied() else { return Ok(false) };
    loop {
        caution.asks(&numbers);
        let batch = match caution.is_hopeless(first) {
            true => lose(core, first).await?,
            false => tell_all(core, inbox, engine, changed, &numbers).await?,
        };
        caution.answered(&numbers);
        if batch.arrivals.is_empty() && batch.store.is_empty() {
            changed.told(&numbers);
            return Ok(true);
        }
        match inbox.accept(batch).await {
            Ok(()) => {
                changed.told(&numbers);
                return Ok(true);
            }
            Err(why) => match why.again_in() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(why.into()),
            },
        }
    }
}

async fn tell_all(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    numbers: &[u32],
) -> Result<Batch, Ended> {
    let mut batch = Batch::default();
    let mut known = Vec::new();
    for number in numbers {
        let told = insist!(records::told(&core.store, *number));
        if !told.as_ref().is_some_and(|told| told.lost) {
            known.push((*number, told));
        }
    }
    let asked: Vec<u32> = known.iter().map(|(number, _)| *number).collect();
    let mut loaded = if asked.is_empty() { HashMap::new() } else { engine.messages(&asked).await? };
    for (number, told) in known {
        let now = match loaded.remove(&number).unwrap_or(Loaded::Withheld) {
            Loaded::There(message) => Some(*message),
            Loaded::Gone => None,
            // Only the engine's word that it is gone means that its author deleted it.
            Loaded::Withheld => {
                changed.later(number);
                continue;
            }
        };
        let told = match (told, &now) {
            (None, Some(message)) => before(core, inbox, engine, changed, message).await,
            (told, _) => Ok(told),
        };
        let done = match told {
            Ok(Some(told)) => tell(core, engine, number, told, now, &mut batch).await,
            // Nothing is known of it that could be told.
            Ok(None) => Ok(()),
            Err(ended) => Err(ended),
        };
        match done {
            // It may have been deleted meanwhile.
            Err(Ended::Lost(CallError::Refused { .. })) => changed.later(number),
            told => told?,
        }
    }
    Ok(batch)
}

/// Says of a message that the engine does not give out since it was changed that it is so, and looks at it no more.
async fn lose(core: &Core, number: u32) -> Result<Batch, Ended> {
    let mut batch = Batch::default();
    let Some(told) = insist!(records::told(&core.store, number)) else { return Ok(batch) };
    tracing::warn!(message = number, "The engine can't give out a message that was changed.");
    if let Some(sender) = told.author.clone() {
        let (id, reason) = (RemoteId::new(ids::edit(&told.id, told.edits + 1)), WITHHELD.to_owned());
        let conversation = ids::conversation(told.chat, &core.me);
        batch.arrivals.push(Arrival { conversation, what: Arrived::Refused { id, sender, reason } });
    }
    batch.store.push(records::telling(number, &Told { lost: true, ..told }));
    Ok(batch)
}

async fn tell(
    core: &Core,
    engine: &Engine,
    number: u32,
    told: Told,
    now: Option<Message>,
    batch: &mut Batch,
) -> Result<(), Ended> {
    let chat = ids::conversation(told.chat, &core.me);
    let mut change = Change { core, engine, told, chat, arrivals: Vec::new(), incidents: Vec::new() };
    match now {
        None => change.gone().await?,
        Some(message) => {
            change.edited(&message).await?;
            change.reacted(&message).await?;
        }
    }
    if !change.arrivals.is_empty() || !change.incidents.is_empty() {
        batch.store.push(records::telling(number, &change.told));
        batch.arrivals.append(&mut change.arrivals);
        batch.incidents.append(&mut change.incidents);
    }
    Ok(())
}

/// How a message was of which nothing is remembered: it is ours and nobody did anything to it yet, or it came before its
/// chat was linked, or too long ago. Of the latter only what the engine says just happened is told: everything else was
/// so before, as far as anybody knows.
async fn before(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    changed: &Changed,
    message: &Message,
) -> Result<Option<Told>, Ended> {
    if is_our_own(message) {
        return Ok(Some(blank(core, engine, message).await?));
    }
    let Some(mut news) = lock(&changed.news_of).get(&message.id).cloned() else { return Ok(None) };
    let is_theirs = message.from_id > SELF_AND_ENGINE && !message.is_info && message.show_padlock;
    let is_carried = inbox.is_linked(&ids::conversation(message.chat_id, &core.me));
    // What comes later comes in by itself.
    let is_past = message.id <= cursor(core).await?;
    if !is_theirs || !is_carried || !is_past || message.download_state != Download::Done {
        return Ok(None);
    }
    let mut told = blank(core, engine, message).await?;
    // What has a name was refused, or waits, or is remembered by now.
    if insist!(records::message(&core.store, &RemoteId::new(told.id.as_str()))).is_some() {
        return Ok(None);
    }
    told.author = core.person(engine, message.from_id).await?;
    // No words are these.
    told.words = Some([0; 16]);
    if !news.words {
        told.words = Some(Told::words(whole(engine, message).await?.as_ref().unwrap_or(&message.text)));
    }
    for (contact, emoji) in reactions(message) {
        if !news.by.remove(&contact) {
            told.reactions.insert(contact, (emoji, 0));
        }
    }
    // Whoever did and does not react any more took something back.
    told.reactions.extend(news.by.into_iter().map(|contact| (contact, ("what was".to_owned(), 0))));
    Ok(Some(told))
}

/// What each contact reacts to a message with, as it is kept.
fn reactions(message: &Message) -> impl Iterator<Item = (u32, String)> {
    let said = message.reactions.iter().flat_map(|reactions| &reactions.reactions_by_contact);
    said.filter_map(|(contact, emoji)| Some((contact.parse().ok()?, kept(&reaction(RemoteId::new(""), emoji)))))
}

fn reaction(to: RemoteId, emoji: &[String]) -> Reaction {
    Reaction::new(Target::new(to), emoji.iter().map(String::as_str))
}

fn kept(reaction: &Reaction) -> String {
    let emoji: Vec<_> = reaction.all.iter().map(Text::as_str).collect();
    emoji.join(" ")
}

/// Words of ours that a mail server took, so that others can react to them.
fn is_our_own(message: &Message) -> bool {
    message.from_id == SELF && !message.is_info && message.state >= state::DELIVERED
}

/// What is kept of a message of ours that nobody has reacted to yet.
async fn blank(core: &Core, engine: &Engine, message: &Message) -> Result<Told, CallError> {
    let info = engine.info(message.id).await?;
    Ok(Told {
        at: core.clock.now().0,
        id: info.rfc724_mid,
        chat: message.chat_id,
        author: None,
        contact: message.from_id,
        words: None,
        edits: 0,
        gone: false,
        disappears: info.ephemeral_timer != Timer::Disabled,
        lost: false,
        crowded: false,
        reactions: BTreeMap::new(),
    })
}

/// One message, as it was told of and as it is now.
struct Change<'a> {
    core: &'a Core,
    engine: &'a Engine,
    told: Told,
    chat: ConversationId,
    arrivals: Vec<Arrival>,
    incidents: Vec<Incident>,
}

impl Change<'_> {
    fn target(&self) -> Target {
        Target::new(RemoteId::new(self.told.id.as_str()))
    }

    fn arrives(&mut self, id: String, author: Author, kind: Kind) {
        let what = translate::telling(RemoteId::new(id), author, self.core.clock.now(), kind);
        self.arrivals.push(Arrival { conversation: self.chat.clone(), what });
    }

    fn refused(&mut self, id: String, sender: PersonId, reason: &str) {
        let what = Arrived::Refused { id: RemoteId::new(id), sender, reason: reason.to_owned() };
        self.arrivals.push(Arrival { conversation: self.chat.clone(), what });
    }

    /// It is not there any more: its author deleted it, unless it went by itself. We never delete what others wrote.
    async fn gone(&mut self) -> Result<(), Ended> {
        let Some(person) = self.told.author.clone().filter(|_| !self.told.gone) else { return Ok(()) };
        self.told.gone = true;
        let old = self.core.clock.now().0 - self.told.at > i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        if self.told.disappears || old {
            return Ok(());
        }
        let name = author(self.core, self.engine, self.told.contact).await?.name;
        let (id, target) = (ids::deletion(&self.told.id), self.target());
        self.arrives(id, Author { id: person, name }, Kind::Redaction(target));
        Ok(())
    }

    /// Its author gave it new words. The engine takes them only from the author, and only encrypted.
    async fn edited(&mut self, message: &Message) -> Result<(), Ended> {
        let (Some(author), Some(before)) = (self.told.author.clone(), self.told.words) else { return Ok(()) };
        if !message.is_edited || message.download_state != Download::Done {
            return Ok(());
        }
        let words = whole(self.engine, message).await?.unwrap_or_else(|| Text::new(message.text.as_str()));
        let now = Told::words(&words);
        if now == before {
            return Ok(());
        }
        self.told.words = Some(now);
        self.told.edits += 1;
        let id = ids::edit(&self.told.id, self.told.edits);
        if !self.is_encrypted() || !message.show_padlock {
            self.refused(id, author, translate::IN_CLEAR);
            return Ok(());
        }
        let name = translate::name_of(message.override_sender_name.as_ref(), &message.sender);
        let form = if message.is_bot && message.sort().is_none() { Form::Notice } else { Form::Text };
        let edit = Edit { of: self.target(), form, body: Body::plain(words) };
        self.arrives(id, Author { id: author, name }, Kind::Edit(Box::new(edit)));
        Ok(())
    }

    /// People react to it with other emoji than before.
    async fn reacted(&mut self, message: &Message) -> Result<(), Ended> {
        let mut now = BTreeMap::new();
        let said = message.reactions.as_ref().map(|reactions| &reactions.reactions_by_contact);
        for (contact, emoji) in said.into_iter().flatten() {
            if let Ok(contact) = contact.parse::<u32>() {
                now.insert(contact, reaction(self.target().id, emoji));
            }
        }
        for contact in self.told.reactions.keys() {
            now.entry(*contact).or_insert_with(|| Reaction::new(self.target(), Vec::<String>::new()));
        }
        now.remove(&SELF);
        for (contact, reaction) in now {
            let emoji = kept(&reaction);
            let known = self.told.reactions.len();
            let (before, count) = match self.told.reactions.get(&contact) {
                Some((before, count)) => (before.as_str(), *count),
                None if known >= MOST => {
                    self.crowded();
                    continue;
                }
                None => ("", 0),
            };
            if before == emoji {
                continue;
            }
            self.told.reactions.insert(contact, (emoji, count + 1));
            let who = author(self.core, self.engine, contact).await?;
            let id = ids::reaction(&self.told.id, &who.id, count + 1);
            match self.core.person(self.engine, contact).await? {
                Some(_) if self.is_encrypted() => self.arrives(id, who, Kind::Reaction(reaction)),
                Some(_) => self.refused(id, who.id, "the chat is not encrypted"),
                None => self.refused(id, who.id, "nobody can tell whose key signed it"),
            }
        }
        Ok(())
    }

    /// Says once that no more reactions are heard.
    fn crowded(&mut self) {
        if std::mem::replace(&mut self.told.crowded, true) {
            return;
        }
        self.incidents.push(Incident {
            conversation: Some(self.chat.clone()),
            topic: format!("reactions-over-the-bound {}", self.told.id),
            words: format!("More than {MOST} people react to one message here. Of further ones nothing is carried."),
            audience: Audience::Conversation,
        });
    }

    fn is_encrypted(&self) -> bool {
        matches!(self.core.encryption(&self.chat), Encryption::Pinned | Encryption::Left)
    }
}
