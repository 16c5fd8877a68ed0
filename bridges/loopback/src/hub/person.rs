//! A person on the network: says and hears.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbridge_contract::{
    AccountName, ConversationId, DeliveryId, PersonId, RemoteId, SenderTrust, Text, Timestamp, Trail,
};
use tokio::sync::Notify;

use super::{Bytes, Content, Event, How, LoopbackHub, Readable, What, lock};

/// A person of one network. What the bridge brings is kept for as long as a handle to the person lives.
#[derive(Clone)]
pub struct LoopbackPerson {
    hub: LoopbackHub,
    id: PersonId,
    name: String,
    screen: Arc<Screen>,
}

/// What a person sees.
#[derive(Default)]
pub(super) struct Screen {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    heard: Vec<Arc<Heard>>,
    parcels: Vec<ParcelSeen>,
}

/// A message that an account of the bridge brought.
#[derive(Debug)]
pub struct Heard {
    /// What the network calls it.
    pub id: RemoteId,
    /// Where.
    pub conversation: ConversationId,
    /// Which delivery it was.
    pub delivery: DeliveryId,
    /// Which account brought it.
    pub account: AccountName,
    /// Under which name it appears, if under another than the account's own.
    pub author: Option<Text>,
    /// Its words.
    pub words: Text,
    /// The same, formatted.
    pub html: Option<Text>,
    /// How it is said.
    pub how: How,
    /// What it answers.
    pub reply_to: Option<RemoteId>,
    /// Which bridges carried it.
    pub trail: Trail,
    /// When.
    pub at: Timestamp,
}

/// Bytes that a carrier brought.
#[derive(Clone)]
pub struct ParcelSeen {
    /// What the network calls it.
    pub id: RemoteId,
    /// Where.
    pub conversation: ConversationId,
    /// Which delivery it was.
    pub delivery: DeliveryId,
    /// As the network keeps them.
    pub bytes: Vec<u8>,
}

/// Something to be said.
#[derive(Debug)]
pub struct Saying {
    content: Content,
    encrypted: bool,
    readable: Readable,
    trust: SenderTrust,
}

impl Saying {
    /// Ordinary words.
    #[must_use]
    pub fn words(words: &str) -> Self {
        let content = Content { plain: words.into(), ..Content::default() };
        Self { content, encrypted: true, readable: Readable::Now, trust: SenderTrust::Proven }
    }

    /// Said in this way.
    #[must_use]
    pub fn how(mut self, how: How) -> Self {
        self.content.how = how;
        self
    }

    /// With formatting.
    #[must_use]
    pub fn html(mut self, html: &str) -> Self {
        self.content.html = Some(html.into());
        self
    }

    /// In answer to a message.
    #[must_use]
    pub fn reply_to(mut self, id: RemoteId) -> Self {
        self.content.reply_to = Some(id);
        self
    }

    /// With marks of bridges that carried it.
    #[must_use]
    pub fn trail(mut self, trail: Trail) -> Self {
        self.content.trail = trail;
        self
    }

    /// By a sender who is trusted so far.
    #[must_use]
    pub fn trust(mut self, trust: SenderTrust) -> Self {
        self.trust = trust;
        self
    }

    /// In clear, whatever the conversation is.
    #[must_use]
    pub fn in_clear(mut self) -> Self {
        self.encrypted = false;
        self
    }

    /// Not to be read before this key was shared.
    #[must_use]
    pub fn needs_key(mut self, key: &str) -> Self {
        self.readable = Readable::WithKey(key.to_owned());
        self
    }

    /// From a device that the policy does not read.
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.readable = Readable::Untrusted;
        self
    }
}

impl LoopbackPerson {
    pub(super) fn of(hub: &LoopbackHub, name: &str) -> Self {
        let id = hub.person_id(name);
        let mut state = lock(&hub.0.state);
        state.people.retain(|_, screen| screen.strong_count() > 0);
        let known = state.people.get(&id).and_then(std::sync::Weak::upgrade);
        let screen = known.unwrap_or_default();
        state.people.insert(id.clone(), Arc::downgrade(&screen));
        for room in state.conversations.values_mut().filter(|room| room.people.contains(&id)) {
            room.attach(&screen);
        }
        drop(state);
        Self { hub: hub.clone(), id, name: name.to_owned(), screen }
    }

    /// As the network proves them.
    #[must_use]
    pub fn id(&self) -> &PersonId {
        &self.id
    }

    /// Becomes a member.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn join(&self, conversation: &ConversationId) {
        let mut state = lock(&self.hub.0.state);
        let room = state.room(conversation);
        room.people.insert(self.id.clone());
        room.attach(&self.screen);
    }

    /// Says words.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn say(&self, conversation: &ConversationId, words: &str) -> RemoteId {
        self.say_this(conversation, Saying::words(words))
    }

    /// Says something.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn say_this(&self, conversation: &ConversationId, saying: Saying) -> RemoteId {
        let Saying { mut content, encrypted, readable, trust } = saying;
        content.name = Some(Text::new(self.name.as_str()));
        let hub = &self.hub.0;
        let says = lock(&hub.state).conversations.get(conversation).map(|room| room.says);
        let encrypted = encrypted && says != Some(super::Says::Plain);
        self.put(conversation, What::Said { content, encrypted, readable, trust, once: Some(hub.once()) })
    }

    /// Says something last said in the conversation again, with the same ciphertext and under a new name, as a
    /// malicious server would. `None` if it is not among the last few.
    pub fn replay(&self, id: &RemoteId, conversation: &ConversationId) -> Option<RemoteId> {
        let recent = {
            let state = lock(&self.hub.0.state);
            let room = state.conversations.get(conversation)?;
            Arc::clone(room.recent.iter().find(|event| event.id == *id)?)
        };
        let What::Said { content, encrypted, readable, trust, once } = &recent.what else { return None };
        let content = content.copy();
        let (encrypted, readable, trust, once) = (*encrypted, readable.clone(), *trust, *once);
        Some(self.put(conversation, What::Said { content, encrypted, readable, trust, once }))
    }

    /// Puts bytes into a carrier's conversation.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn send_parcel(&self, conversation: &ConversationId, bytes: Vec<u8>) -> RemoteId {
        self.put(conversation, What::Parcel(Bytes(bytes)))
    }

    fn put(&self, conversation: &ConversationId, what: What) -> RemoteId {
        let hub = &self.hub.0;
        let mut state = lock(&hub.state);
        state.room(conversation).people.insert(self.id.clone());
        let id = state.next_id(&hub.name);
        let (conversation, sender) = (conversation.clone(), self.id.clone());
        let event = Event { id: id.clone(), conversation, sender, at: hub.clock.now(), what };
        state.spread(&Arc::new(event), None);
        id
    }

    /// Everything that the bridge brought to this person, oldest first.
    #[must_use]
    pub fn heard(&self) -> Vec<Arc<Heard>> {
        lock(&self.screen.seen).heard.clone()
    }

    /// The same, and forgets it.
    #[must_use]
    pub fn take_heard(&self) -> Vec<Arc<Heard>> {
        std::mem::take(&mut lock(&self.screen.seen).heard)
    }

    /// Every parcel that the bridge brought, oldest first.
    #[must_use]
    pub fn parcels(&self) -> Vec<ParcelSeen> {
        lock(&self.screen.seen).parcels.clone()
    }

    /// Waits until at least `count` messages were heard and not taken; gives what was heard then, however many.
    pub async fn hears(&self, count: usize, within: Duration) -> Vec<Arc<Heard>> {
        let enough = async {
            loop {
                let changed = self.screen.changed.notified();
                if lock(&self.screen.seen).heard.len() >= count {
                    return;
                }
                changed.await;
            }
        };
        // Whether it was enough is for the caller to see in what is given.
        let _ = tokio::time::timeout(within, enough).await;
        self.heard()
    }
}

impl Screen {
    pub(super) fn show(&self, heard: &Arc<Heard>) {
        lock(&self.seen).heard.push(Arc::clone(heard));
        self.changed.notify_waiters();
    }

    pub(super) fn show_parcel(&self, parcel: &ParcelSeen) {
        lock(&self.seen).parcels.push(parcel.clone());
        self.changed.notify_waiters();
    }
}

impl super::Room {
    pub(super) fn attach(&mut self, screen: &Arc<Screen>) {
        self.screens.retain(|known| known.strong_count() > 0);
        if !self.screens.iter().any(|known| known.as_ptr() == Arc::as_ptr(screen)) {
            self.screens.push(Arc::downgrade(screen));
        }
    }
}

impl fmt::Debug for LoopbackPerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackPerson").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for ParcelSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParcelSeen({}, {} bytes)", self.delivery, self.bytes.len())
    }
}
