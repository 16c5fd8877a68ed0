//! One account's place at the hub.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Author, ConversationId, Deduplication, DeliveryError, DeliveryId, PersonId, PictureId, RemoteId,
    SenderTrust, Signal, inbox::Echo,
};

use super::{
    Account, Bytes, Cargo, Content, Cursor, Event, Heard, Hub, Item, Page, ParcelSeen, Polled, Put, Readable, Room,
    Says, Server, State, Taken, What, lock,
};
use crate::translate;

/// One account's place at the hub.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    account: AccountName,
    remembers: Deduplication,
}

impl Seat {
    pub(super) fn new(hub: Arc<Hub>, account: AccountName, remembers: Deduplication) -> Self {
        lock(&hub.state).accounts.entry(account.clone()).or_default();
        Self { hub, account, remembers }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(lock(&self.hub.state).accounts.entry(self.account.clone()).or_default())
    }

    /// The name of a delivery that is to be shown; `Err` with its name if it was, and must not be again.
    fn admit(&self, account: &mut Account, delivery: DeliveryId) -> Result<RemoteId, RemoteId> {
        let second = u32::try_from(self.hub.clock.now().0 / 1000).unwrap_or(u32::MAX);
        let taken = account.taken.entry(delivery).or_insert(Taken { second, times: 0 });
        let age = Duration::from_secs(u64::from(second.saturating_sub(taken.second)));
        let remembered = match self.remembers {
            Deduplication::Never => false,
            Deduplication::For(long) => age <= long,
            Deduplication::Always => true,
        };
        if taken.times > 0 && remembered {
            return Err(name_of(delivery, taken.times));
        }
        taken.times += 1;
        Ok(name_of(delivery, taken.times))
    }
}

fn name_of(delivery: DeliveryId, times: u32) -> RemoteId {
    RemoteId::new(if times > 1 { format!("{delivery}.{times}") } else { delivery.to_string() })
}

#[async_trait]
impl Server for Seat {
    async fn poll(&self, cursor: Cursor, most: usize, wait: bool) -> std::io::Result<Polled> {
        let changed = self.with(|account| Arc::clone(&account.changed));
        loop {
            let next = changed.notified();
            tokio::pin!(next);
            // From here on no change is missed.
            next.as_mut().enable();
            let polled = self.with(|account| account.answer(cursor, most));
            if !wait || !polled.items.is_empty() || !polled.echoes.is_empty() {
                return Ok(polled);
            }
            next.await;
        }
    }

    fn acknowledge(&self, cursor: Cursor) {
        self.with(|account| {
            while account.said.front().is_some_and(|(number, _)| *number <= cursor.said) {
                account.said.pop_front();
            }
            while account.echoes.front().is_some_and(|(number, _)| *number <= cursor.echoes) {
                account.echoes.pop_front();
            }
            if account.said.is_empty() {
                account.said.shrink_to(1024);
            }
            if account.echoes.is_empty() {
                account.echoes.shrink_to(1024);
            }
        });
    }

    fn read_back(&self, conversation: &ConversationId, from: u64, until: u64, most: usize) -> Page {
        self.with(|account| {
            let between = account.left_out.range(until + 1..from.max(until + 1));
            let mut older = between.rev().filter(|(_, event)| event.conversation == *conversation);
            let page: Vec<_> = older.by_ref().take(most).collect();
            let next = page.last().map(|(number, _)| **number).filter(|_| older.next().is_some());
            Page { events: page.into_iter().map(|(_, event)| Arc::clone(event)).collect(), next }
        })
    }

    fn gap_closed(&self, conversation: &ConversationId, from: u64, until: u64) {
        self.with(|account| {
            account.left_out.retain(|number, event| {
                let inside = (until + 1..from).contains(number);
                !(inside && event.conversation == *conversation)
            });
        });
    }

    async fn put(&self, put: Put) -> Result<RemoteId, DeliveryError> {
        let Put { conversation, delivery, cargo } = put;
        let mut state = lock(&self.hub.state);
        let State { conversations, accounts, .. } = &mut *state;
        let Some(room) = conversations.get_mut(&conversation).filter(|room| room.accounts.contains(&self.account))
        else {
            return Err(DeliveryError::give_up("the network has no such conversation with us in it"));
        };
        let account = accounts.entry(self.account.clone()).or_default();
        let id = match self.admit(account, delivery) {
            Ok(id) => id,
            Err(known) => return Ok(known),
        };
        account.push_echo(Echo { conversation: conversation.clone(), delivery, id: id.clone() });
        let sender = self.identity();
        let at = self.hub.clock.now();
        let what = match cargo {
            Cargo::Words(content) => {
                room.show(|| {
                    let Content { how, plain: words, html, name: author, reply_to, trail, more } = content.copy();
                    let (id, conversation, account) = (id.clone(), conversation.clone(), self.account.clone());
                    Heard {
                        id,
                        conversation,
                        delivery,
                        account,
                        author,
                        words,
                        html,
                        how,
                        reply_to,
                        trail,
                        at,
                        more: *more,
                    }
                });
                let (encrypted, readable) = (room.says != Says::Plain, Readable::Now);
                let once = Some(self.hub.once());
                What::Said { content, encrypted, readable, trust: SenderTrust::Proven, once }
            }
            Cargo::Parcel(Bytes(bytes)) => {
                let seen = ParcelSeen { id: id.clone(), conversation: conversation.clone(), delivery, bytes };
                room.show_parcel(&seen);
                What::Parcel(Bytes(seen.bytes))
            }
        };
        if room.accounts.len() > 1 {
            let event = Arc::new(Event { id: id.clone(), conversation, sender, at, what });
            state.spread(&event, Some(&self.account));
        }
        Ok(id)
    }

    async fn find(&self, delivery: DeliveryId) -> Result<Option<RemoteId>, DeliveryError> {
        Ok(self.with(|account| account.taken.get(&delivery).map(|_| name_of(delivery, 1))))
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        let conversation = {
            let mut state = lock(&self.hub.state);
            let name = format!("direct:{}:{}", self.account, with.as_str());
            let conversation = state.conversation(&name, Says::Encrypted);
            let screen = state.people.get(with).and_then(std::sync::Weak::upgrade);
            if let Some(room) = state.conversations.get_mut(&conversation) {
                room.people.insert(with.clone());
                if let Some(screen) = screen {
                    room.attach(&screen);
                }
            }
            conversation
        };
        self.hub.join(&self.account, &conversation);
        Ok(conversation)
    }

    fn about(&self, conversation: &ConversationId) -> (Option<String>, usize) {
        let state = lock(&self.hub.state);
        let room = state.conversations.get(conversation);
        (room.map(|room| room.name.clone()), room.map_or(0, |room| room.people.len() + room.accounts.len()))
    }

    fn people(&self, conversation: &ConversationId) -> Option<Vec<Author>> {
        let state = lock(&self.hub.state);
        let room = state.conversations.get(conversation)?;
        let accounts = room.accounts.iter().map(|account| self.hub.person_id(account.as_str()));
        Some(room.people.iter().cloned().chain(accounts).map(|id| self.hub.called(id)).collect())
    }

    fn standing(&self, conversation: &ConversationId, person: &PersonId) -> Option<i64> {
        lock(&self.hub.state).conversations.get(conversation)?.levels.get(person).copied()
    }

    fn picture(&self, of: &PictureId) -> Option<Vec<u8>> {
        let state = lock(&self.hub.state);
        state.pictures.values().find(|picture| translate::picture_id(picture).as_ref() == Some(of)).cloned()
    }

    fn knows(&self, person: &PersonId) -> bool {
        lock(&self.hub.state).conversations.values().any(|room| room.people.contains(person))
    }

    async fn asked_to_compare(&self) -> PersonId {
        let changed = self.with(|account| Arc::clone(&account.changed));
        loop {
            let next = changed.notified();
            tokio::pin!(next);
            next.as_mut().enable();
            if let Some(person) = self.with(|account| account.comparisons.pop_front()) {
                return person;
            }
            next.await;
        }
    }

    fn compared(&self, with: &PersonId) {
        let mut state = lock(&self.hub.state);
        state.verified.insert(with.clone());
        let rooms = state.conversations.iter().filter(|(_, room)| room.people.contains(with));
        let Some(conversation) = rooms.map(|(id, _)| id.clone()).next() else { return };
        let key = What::Key(format!("trust:{}", with.as_str()));
        self.hub.tell(&mut state, &self.account, &conversation, key);
    }

    fn signal(&self, conversation: &ConversationId, signal: &Signal) {
        if let Some(room) = lock(&self.hub.state).conversations.get(conversation) {
            room.screens.iter().filter_map(std::sync::Weak::upgrade).for_each(|screen| screen.tell(signal));
        }
    }

    fn identity(&self) -> PersonId {
        self.hub.person_id(self.account.as_str())
    }
}

impl Account {
    /// What comes after `cursor`, and how far that reaches. Changes nothing that a second look would not change again.
    fn answer(&mut self, cursor: Cursor, most: usize) -> Polled {
        let first = self.said.partition_point(|(number, _)| *number <= cursor.said);
        let pending = self.said.range(first..);
        let mut answer = Polled { cursor, ..Polled::default() };
        let Some(limit) = self.limit else {
            for (number, event) in pending.take(most) {
                answer.cursor.said = *number;
                answer.items.push(Item::Event(Arc::clone(event)));
            }
            self.echoes_after(cursor, most, &mut answer);
            return answer;
        };
        let mut left: HashMap<&ConversationId, usize> = HashMap::new();
        for (_, event) in pending.clone().filter(|(_, event)| matches!(event.what, What::Said { .. })) {
            *left.entry(&event.conversation).or_default() += 1;
        }
        let mut gaps: HashMap<&ConversationId, u64> = HashMap::new();
        for (number, event) in pending {
            answer.cursor.said = *number;
            if let Some(left) = left.get_mut(&event.conversation).filter(|_| matches!(event.what, What::Said { .. })) {
                *left -= 1;
                if *left >= limit {
                    gaps.entry(&event.conversation).or_insert(number - 1);
                    self.left_out.insert(*number, Arc::clone(event));
                    continue;
                }
                if let Some(until) = gaps.remove(&event.conversation) {
                    let conversation = event.conversation.clone();
                    answer.items.push(Item::Gap { conversation, from: *number, until });
                }
            }
            answer.items.push(Item::Event(Arc::clone(event)));
        }
        self.echoes_after(cursor, most, &mut answer);
        answer
    }

    fn echoes_after(&self, cursor: Cursor, most: usize, answer: &mut Polled) {
        let first = self.echoes.partition_point(|(number, _)| *number <= cursor.echoes);
        for (number, echo) in self.echoes.range(first..).take(most) {
            answer.cursor.echoes = *number;
            answer.echoes.push(echo.clone());
        }
    }
}

impl Room {
    fn show(&mut self, heard: impl FnOnce() -> Heard) {
        let screens: Vec<_> = self.screens.iter().filter_map(std::sync::Weak::upgrade).collect();
        if screens.is_empty() {
            return;
        }
        let heard = Arc::new(heard());
        screens.iter().for_each(|screen| screen.show(&heard));
    }

    fn show_parcel(&mut self, parcel: &ParcelSeen) {
        self.screens.iter().filter_map(std::sync::Weak::upgrade).for_each(|screen| screen.show_parcel(parcel));
    }
}
