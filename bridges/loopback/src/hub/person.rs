//! A person on the network: says and hears.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbridge_contract::{AccountName, ConversationId, PersonId, RemoteId, Signal, Text};
use tokio::sync::Notify;

use super::{Bytes, Event, Heard, LoopbackHub, ParcelSeen, Readable, Saying, What, lock};

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
    signals: Vec<Signal>,
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

    /// The same person, who calls themselves so.
    #[must_use]
    pub fn called(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
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

    /// From now on looks so.
    pub fn has_picture(&self, picture: Vec<u8>) {
        lock(&self.hub.0.state).pictures.insert(self.id.clone(), picture);
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
        let (says, verified) = {
            let state = lock(&hub.state);
            content.more.portrait = state.pictures.get(&self.id).cloned();
            (state.conversations.get(conversation).map(|room| room.says), state.verified.contains(&self.id))
        };
        let readable = if verified && readable == Readable::Untrusted { Readable::Now } else { readable };
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
        let (encrypted, readable, trust, once) = (*encrypted, readable.clone(), *trust, once.clone());
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

    /// Does something that is gone in a moment.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn signal(&self, conversation: &ConversationId, signal: Signal) {
        self.put(conversation, What::Signal(signal));
    }

    /// What the bridge told of others who did such a thing.
    #[must_use]
    pub fn signals(&self) -> Vec<Signal> {
        lock(&self.screen.seen).signals.clone()
    }

    /// Asks `account` to compare identities. This person says that the emoji are the same.
    pub fn ask_to_compare(&self, account: &AccountName) {
        let mut state = lock(&self.hub.0.state);
        let account = state.accounts.entry(account.clone()).or_default();
        account.comparisons.push_back(self.id.clone());
        account.changed.notify_waiters();
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

    pub(super) fn tell(&self, signal: &Signal) {
        lock(&self.seen).signals.push(signal.clone());
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
