//! An inbox in memory, which outlives the transport as a journal does, and fails on command.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{Accepted, FarBridge, MemorySpool};
use crate::{
    AccountName, Arrived, Batch, Clock, ConversationId, DeliveryId, Intake, NotAccepted, PersonId, RemoteId,
    SecretBytes, Signal, Timestamp, Verb,
    inbox::{
        Echo, Filling, Incident, Incoming, Keep, Once, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor,
    },
};

/// An inbox in memory. It belongs to one case and one account.
pub struct MemoryIntake {
    state: Mutex<State>,
    spool: MemorySpool,
    far: FarBridge,
}

#[derive(Default)]
struct State {
    store: BTreeMap<String, Vec<u8>>,
    /// Keys of the store in the order in which they were written.
    written: Vec<String>,
    timeline: Vec<Entry>,
    names: HashSet<(ConversationId, RemoteId)>,
    once: HashMap<Once, RemoteId>,
    deliveries: HashSet<DeliveryId>,
    waiting: BTreeMap<i64, Row>,
    gaps: BTreeMap<i64, OpenGap>,
    numbers: i64,
    refused: Vec<(RemoteId, String)>,
    echoes: Vec<Echo>,
    incidents: Vec<Incident>,
    offered: Vec<RemoteId>,
    shown: Vec<String>,
    full: u32,
    ending: Option<NotAccepted>,
    slow: Duration,
    signals: Vec<(ConversationId, Signal)>,
    listens: Vec<ConversationId>,
    unlinked: HashSet<ConversationId>,
    pruned: Vec<String>,
}

enum Entry {
    Message(ConversationId, Box<Incoming>),
    Gap(i64),
}

struct Row {
    conversation: ConversationId,
    id: RemoteId,
    sender: PersonId,
    raw: Vec<u8>,
    hint: String,
    since: Timestamp,
}

impl Default for MemoryIntake {
    fn default() -> Self {
        Self { state: Mutex::default(), spool: MemorySpool::default(), far: FarBridge::new() }
    }
}

impl MemoryIntake {
    /// The far bridge, for a carrier's peer.
    #[must_use]
    pub fn far(&self) -> &FarBridge {
        &self.far
    }

    /// Where files lie on their way in and out.
    #[must_use]
    pub fn spool(&self) -> &MemorySpool {
        &self.spool
    }

    /// The next `times` offers are answered with "full".
    pub fn be_full(&self, times: u32) {
        self.lock().full = times;
    }

    /// Every offer is answered with this from now on, or accepted again.
    pub fn be_ending(&self, answer: Option<NotAccepted>) {
        self.lock().ending = answer;
    }

    /// Every offer takes this long.
    pub fn be_slow(&self, by: Duration) {
        self.lock().slow = by;
    }

    /// What was accepted of what people said, in the order in which it would be routed. Who came and went is left out: a
    /// network may tell of those that a case brings together at any moment of it.
    #[must_use]
    pub fn accepted(&self) -> Vec<Accepted> {
        let state = self.lock();
        let messages = state.timeline.iter().filter_map(|entry| match entry {
            Entry::Message(_, incoming) if incoming.message.verb() == Verb::Membership => None,
            Entry::Message(conversation, incoming) => Some(Accepted::of(conversation, incoming, &self.spool)),
            Entry::Gap(_) => None,
        });
        messages.collect()
    }

    /// The names of messages that were offered, accepted or not.
    #[must_use]
    pub fn offered(&self) -> Vec<RemoteId> {
        self.lock().offered.clone()
    }

    /// What was refused by the transport, or by the intake as a replay or as bytes that don't open, and why.
    #[must_use]
    pub fn refused(&self) -> Vec<(RemoteId, String)> {
        self.lock().refused.clone()
    }

    /// Deliveries that came back.
    #[must_use]
    pub fn echoes(&self) -> Vec<Echo> {
        self.lock().echoes.clone()
    }

    /// What a person was to be told.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.lock().incidents.clone()
    }

    /// How many events wait to be read.
    #[must_use]
    pub fn still_waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How many gaps there are and were.
    #[must_use]
    pub fn gaps(&self) -> (usize, usize) {
        let state = self.lock();
        let ever = state.timeline.iter().filter(|entry| matches!(entry, Entry::Gap(_))).count();
        (state.gaps.len(), ever)
    }

    /// From now on wants to know what people do just now in this conversation.
    pub fn listen(&self, conversation: &ConversationId) {
        self.lock().listens.push(conversation.clone());
    }

    /// From now on nobody elsewhere hears what is said in this conversation.
    pub fn unlink(&self, conversation: &ConversationId) {
        self.lock().unlinked.insert(conversation.clone());
    }

    /// What people did just now, as far as it was told.
    #[must_use]
    pub fn signals(&self) -> Vec<(ConversationId, Signal)> {
        self.lock().signals.clone()
    }

    /// What the transport had forgotten of its store, if it was too old or too much: the prefixes, in their order.
    #[must_use]
    pub fn pruned(&self) -> Vec<String> {
        self.lock().pruned.clone()
    }

    /// The `Debug` and other texts of what was handed in, to be searched for words; forgets them.
    pub(super) fn take_shown(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().shown)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<(), NotAccepted> {
        let slow = self.lock().slow;
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let mut state = self.lock();
        if let Some(answer) = state.ending {
            return Err(answer);
        }
        if state.full > 0 {
            state.full -= 1;
            return Err(NotAccepted::Full);
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, conversation: &ConversationId, what: Arrived, at: Option<usize>) {
        let name = |id: &RemoteId| (conversation.clone(), id.clone());
        match what {
            Arrived::Message(incoming) => self.take_message(conversation, incoming, at),
            Arrived::Unreadable(event) => {
                if self.names.insert(name(&event.id)) {
                    self.numbers += 1;
                    let (conversation, raw) = (conversation.clone(), event.raw.expose().to_vec());
                    let since = Clock::system().now();
                    let row = Row { conversation, id: event.id, sender: event.sender, raw, hint: event.hint, since };
                    self.waiting.insert(self.numbers, row);
                }
            }
            Arrived::Gap { from, until } => {
                self.numbers += 1;
                let (id, conversation, not_before) = (self.numbers, conversation.clone(), Timestamp(0));
                self.gaps.insert(id, OpenGap { id, conversation, from, until, not_before });
                self.timeline.push(Entry::Gap(id));
            }
            Arrived::Refused { id, reason, .. } => {
                if self.names.insert(name(&id)) {
                    self.refused.push((id, reason));
                }
            }
        }
    }

    fn take_message(&mut self, conversation: &ConversationId, incoming: Incoming, at: Option<usize>) {
        if !self.names.insert((conversation.clone(), incoming.id.clone())) {
            return;
        }
        let first = incoming.once.clone().map(|once| self.once.entry(once).or_insert(incoming.id.clone()).clone());
        if first.is_some_and(|first| first != incoming.id) {
            self.refused.push((incoming.id, "a replay".to_owned()));
            return;
        }
        let entry = Entry::Message(conversation.clone(), Box::new(incoming));
        self.timeline.insert(at.unwrap_or(self.timeline.len()), entry);
    }

    fn write(&mut self, writes: Vec<StoreWrite>) {
        for StoreWrite { key, value } in writes {
            self.written.retain(|known| *known != key);
            match value {
                Some(value) => {
                    self.written.push(key.clone());
                    self.store.insert(key, value.expose().to_vec())
                }
                None => self.store.remove(&key),
            };
        }
    }

    /// Here everything is young.
    fn prune(&mut self, prefix: &str, most: usize) -> usize {
        self.pruned.push(prefix.to_owned());
        let known: Vec<_> = self.written.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        let gone = known.len().saturating_sub(most);
        for key in &known[..gone] {
            self.store.remove(key);
        }
        self.written.retain(|key| self.store.contains_key(key));
        gone
    }

    fn offer<'a>(&mut self, arrivals: impl Iterator<Item = &'a Arrived>) {
        self.offered.extend(arrivals.filter_map(|what| match what {
            Arrived::Message(incoming) => Some(incoming.id.clone()),
            _ => None,
        }));
    }
}

#[async_trait]
impl Intake for MemoryIntake {
    async fn accept(&self, _account: &AccountName, batch: Batch) -> Result<(), NotAccepted> {
        {
            let mut state = self.lock();
            state.shown.push(format!("{batch:?}"));
            state.shown.extend(batch.incidents.iter().map(|incident| incident.words.clone()));
            state.offer(batch.arrivals.iter().map(|arrival| &arrival.what));
        }
        self.open().await?;
        let mut state = self.lock();
        let Batch { arrivals, echoes, store, incidents } = batch;
        for arrival in arrivals {
            state.take(&arrival.conversation, arrival.what, None);
        }
        state.echoes.extend(echoes);
        state.incidents.extend(incidents);
        state.write(store);
        Ok(())
    }

    async fn accept_sealed(
        &self,
        _account: &AccountName,
        parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), NotAccepted> {
        self.lock().offered.extend(parcels.iter().map(|parcel| parcel.id.clone()));
        self.open().await?;
        let mut state = self.lock();
        for Parcel { conversation, id, sealed } in parcels {
            match self.far.key().open(&sealed) {
                Some((delivery, message)) => {
                    if state.deliveries.insert(delivery) {
                        let trust = crate::SenderTrust::Proven;
                        let incoming = Incoming { id, message, trust, identity: None, once: None };
                        state.take_message(&conversation, incoming, None);
                    }
                }
                None => state.refused.push((id, "it does not open".to_owned())),
            }
        }
        state.write(cursor);
        Ok(())
    }

    async fn open_gaps(&self, _account: &AccountName) -> Result<Vec<OpenGap>, NotAccepted> {
        Ok(self.lock().gaps.values().cloned().collect())
    }

    async fn fill(&self, _account: &AccountName, filling: Filling) -> Result<(), NotAccepted> {
        {
            let mut state = self.lock();
            state.shown.push(format!("{filling:?}"));
            state.offer(filling.arrivals.iter());
        }
        self.open().await?;
        let mut state = self.lock();
        let Filling { gap, arrivals, next } = filling;
        let Some(conversation) = state.gaps.get(&gap).map(|gap| gap.conversation.clone()) else { return Ok(()) };
        let after = state.timeline.iter().position(|entry| matches!(entry, Entry::Gap(id) if *id == gap));
        // Newest first, so each older one goes before the ones that this gap has had.
        for what in arrivals {
            state.take(&conversation, what, after.map(|at| at + 1));
        }
        match next {
            Some(next) => {
                if let Some(gap) = state.gaps.get_mut(&gap) {
                    gap.from = next;
                }
            }
            None => {
                state.gaps.remove(&gap);
            }
        }
        Ok(())
    }

    async fn waiting(
        &self,
        _account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, NotAccepted> {
        let state = self.lock();
        let wanted = |row: &Row| {
            filter.conversation.as_ref().is_none_or(|wanted| *wanted == row.conversation)
                && filter.hint.as_ref().is_none_or(|wanted| *wanted == row.hint)
                && filter.sender.as_ref().is_none_or(|wanted| *wanted == row.sender)
        };
        let rows = state.waiting.range(after.saturating_add(1)..).filter(|(_, row)| wanted(row)).take(limit);
        let waiting = rows.map(|(id, row)| Waiting {
            id: *id,
            conversation: row.conversation.clone(),
            sender: row.sender.clone(),
            raw: SecretBytes::new(row.raw.clone()),
            since: row.since,
        });
        Ok(waiting.collect())
    }

    async fn resolve(&self, _account: &AccountName, waiting: i64, resolution: Resolution) -> Result<(), NotAccepted> {
        self.lock().shown.push(format!("{resolution:?}"));
        self.open().await?;
        let mut state = self.lock();
        if let Resolution::Still { hint, .. } = resolution {
            if let Some(row) = state.waiting.get_mut(&waiting) {
                row.hint = hint;
            }
            return Ok(());
        }
        let Some(Row { conversation, id, .. }) = state.waiting.remove(&waiting) else { return Ok(()) };
        match resolution {
            Resolution::Readable(incoming) => {
                state.names.remove(&(conversation.clone(), id));
                state.take_message(&conversation, incoming, None);
            }
            Resolution::Refused { reason } => state.refused.push((id, reason)),
            Resolution::NotForUs | Resolution::Still { .. } => {}
        }
        Ok(())
    }

    async fn read(&self, _account: &AccountName, key: &str) -> Result<Option<SecretBytes>, NotAccepted> {
        Ok(self.lock().store.get(key).map(|value| SecretBytes::new(value.clone())))
    }

    async fn read_all(&self, _account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted> {
        let state = self.lock();
        let entries = state.store.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(entries.map(|(key, value)| (key.clone(), SecretBytes::new(value.clone()))).collect())
    }

    async fn write(&self, _account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), NotAccepted> {
        self.lock().write(writes);
        Ok(())
    }

    fn signal(&self, _account: &AccountName, conversation: &ConversationId, signal: Signal) {
        self.lock().signals.push((conversation.clone(), signal));
    }

    fn listens(&self, _account: &AccountName) -> Vec<ConversationId> {
        self.lock().listens.clone()
    }

    fn is_linked(&self, _account: &AccountName, conversation: &ConversationId) -> bool {
        !self.lock().unlinked.contains(conversation)
    }

    async fn prune(&self, _account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, NotAccepted> {
        Ok(self.lock().prune(prefix, keep.most))
    }
}

impl fmt::Debug for MemoryIntake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryIntake")
    }
}
