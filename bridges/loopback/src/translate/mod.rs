//! The network's form to ours and back. Pure: no call here waits, asks or keeps.

mod content;

use std::collections::HashMap;

use sealbridge_contract::{
    Arrival, Arrived, Batch, Cleartext, ConversationId, SecretBytes,
    gate::Encryption,
    inbox::{Audience, Incident, Incoming, Resolution, StoreWrite, Unreadable},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::content::{outgoing, picture_id};
use crate::{
    core::{CONVERSATION, CURSOR, KEY},
    disk::SaidLine,
    files::Files,
    hub::{Event, Item, Polled, Readable, Says, What},
};

/// What is known of a conversation. A pin is for ever, whatever comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) pinned: bool,
    pub(crate) now: Encryption,
}

impl Known {
    pub(crate) const VIOLATED: Self = Self { pinned: true, now: Encryption::Violated };
    const NEW: Self = Self { pinned: false, now: Encryption::Unknown };

    /// What is known after an event.
    fn after(self, what: &What) -> Self {
        let Self { pinned, now } = self;
        let decided = matches!(now, Encryption::Violated | Encryption::Replaced);
        let now = match what {
            What::Joined(_) | What::Encryption(_) if decided => now,
            What::Joined(Says::Encrypted) | What::Encryption(Says::Encrypted) => Encryption::Pinned,
            What::Joined(Says::Nothing) if pinned => Encryption::Pinned,
            What::Joined(_) | What::Encryption(_) if pinned => Encryption::Violated,
            What::Joined(Says::Plain) | What::Encryption(Says::Plain) => Encryption::Absent,
            What::Joined(Says::Nothing) | What::Encryption(Says::Nothing) => Encryption::Unknown,
            What::Replaced => Encryption::Replaced,
            What::Left => Encryption::Left,
            What::Said { .. } | What::Parcel(_) | What::Key(_) | What::Signal(_) => now,
        };
        Self { pinned: pinned || now == Encryption::Pinned, now }
    }
}

/// A batch, and what is known once it is committed.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) batch: Batch,
    pub(crate) news: Vec<(ConversationId, Known)>,
    pub(crate) keys: Vec<String>,
}

/// Makes one answer of the network a batch. The same answer gives the same batch, as often as it must be offered.
pub(crate) fn batch(polled: &Polled, files: &Files, known: impl Fn(&ConversationId) -> Option<Known>) -> Translated {
    let mut batch = Batch { echoes: polled.echoes.clone(), ..Batch::default() };
    let mut news: HashMap<ConversationId, Known> = HashMap::new();
    let mut keys = Vec::new();
    for item in &polled.items {
        let event = match item {
            Item::Event(event) => event,
            Item::Gap { conversation, from, until } => {
                let what = Arrived::Gap { from: from.to_string(), until: Some(until.to_string()) };
                batch.arrivals.push(Arrival { conversation: conversation.clone(), what });
                continue;
            }
        };
        let before = news.get(&event.conversation).copied().or_else(|| known(&event.conversation));
        let before = before.unwrap_or(Known::NEW);
        match &event.what {
            What::Said { .. } => {
                let conversation = event.conversation.clone();
                if before.pinned && in_clear(event) {
                    batch.incidents.push(clear_in_encrypted(&conversation));
                }
                batch.arrivals.extend(arrived(event, before, files).map(|what| Arrival { conversation, what }));
            }
            What::Key(key) => {
                batch.store.push(StoreWrite::put(format!("{KEY}{key}"), b"here".as_slice()));
                keys.push(key.clone());
            }
            What::Parcel(_) | What::Signal(_) => {}
            what => {
                let after = before.after(what);
                if after.now == Encryption::Violated && before.now != Encryption::Violated {
                    batch.incidents.push(violated(&event.conversation));
                }
                news.insert(event.conversation.clone(), after);
            }
        }
    }
    batch.store.extend(news.iter().map(|(conversation, known)| remember(conversation, *known)));
    batch.store.push(put_json(CURSOR, &polled.cursor));
    Translated { batch, news: news.into_iter().collect(), keys }
}

/// Remembers what is known of a conversation.
pub(crate) fn remember(conversation: &ConversationId, known: Known) -> StoreWrite {
    put_json(&format!("{CONVERSATION}{}", conversation.as_str()), &known)
}

/// What is known of a conversation after an event in it; `None` if the event says nothing of that.
pub(crate) fn learnt(event: &Event, before: Option<Known>) -> Option<Known> {
    let says = !matches!(event.what, What::Said { .. } | What::Parcel(_) | What::Key(_) | What::Signal(_));
    says.then(|| before.unwrap_or(Known::NEW).after(&event.what))
}

pub(crate) fn put_json(key: &str, value: &impl Serialize) -> StoreWrite {
    StoreWrite::put(key, serde_json::to_vec(value).expect("it has only numbers, texts and lists"))
}

/// What a message is to the inbox; `None` for what is no message.
pub(crate) fn arrived(event: &Event, known: Known, files: &Files) -> Option<Arrived> {
    let What::Said { content, encrypted, readable, trust, once } = &event.what else { return None };
    let (id, sender) = (event.id.clone(), event.sender.clone());
    if !encrypted {
        let reason = if known.pinned { "it came in clear into an encrypted conversation" } else { NOT_ENCRYPTED };
        return Some(Arrived::Refused { id, sender, reason: reason.to_owned() });
    }
    let unreadable = |hint, reason: &str, holds_sender| {
        let raw = SecretBytes::new(serde_json::to_vec(&SaidLine::of(event)).expect("it has only texts and numbers"));
        let (id, sender, reason) = (id.clone(), sender.clone(), reason.to_owned());
        Some(Arrived::Unreadable(Unreadable { id, sender, raw, hint, reason, holds_sender }))
    };
    match readable {
        Readable::Now => match content::message(event, content.copy(), files.get(&id)) {
            Ok(message) => {
                let message = Cleartext::new(message);
                Some(Arrived::Message(Incoming { id, message, trust: *trust, identity: None, once: once.clone() }))
            }
            Err(reason) => Some(Arrived::Refused { id, sender, reason }),
        },
        Readable::WithKey(key) => unreadable(key.clone(), "its key has not arrived", true),
        Readable::Untrusted => {
            unreadable(format!("trust:{}", sender.as_str()), "the sender's device is not signed by its owner", false)
        }
    }
}

const NOT_ENCRYPTED: &str = "the conversation is not encrypted";

fn in_clear(event: &Event) -> bool {
    matches!(event.what, What::Said { encrypted: false, .. })
}

/// A message that waited.
pub(crate) struct Waited {
    pub(crate) event: Event,
    /// What it waited for.
    pub(crate) hint: String,
}

impl Waited {
    /// `None` if it is not of a form that this version knows.
    pub(crate) fn from_raw(raw: &SecretBytes) -> Option<Self> {
        let line: SaidLine = serde_json::from_slice(raw.expose()).ok()?;
        let hint = line.hint();
        Some(Self { event: line.into_event(), hint })
    }

    /// What it is, now that it can be read.
    pub(crate) fn resolution(&self, files: &Files) -> Resolution {
        let What::Said { content, trust, once, .. } = &self.event.what else { return Resolution::NotForUs };
        let id = self.event.id.clone();
        match content::message(&self.event, content.copy(), files.get(&id)) {
            Ok(message) => {
                let (trust, once) = (*trust, once.clone());
                Resolution::Readable(Incoming { id, message: Cleartext::new(message), trust, identity: None, once })
            }
            Err(reason) => Resolution::Refused { reason },
        }
    }
}

fn clear_in_encrypted(conversation: &ConversationId) -> Incident {
    Incident {
        conversation: Some(conversation.clone()),
        topic: "plaintext-in-encrypted-room".to_owned(),
        words: "A message came in clear into this encrypted conversation. It is not carried on.".to_owned(),
        audience: Audience::Conversation,
    }
}

fn violated(conversation: &ConversationId) -> Incident {
    Incident {
        conversation: Some(conversation.clone()),
        topic: "encryption-violated".to_owned(),
        words: "The conversation was encrypted, and its server now says otherwise. Nothing is sent there.".to_owned(),
        audience: Audience::Operator,
    }
}
