//! Which of the events that wait are tried now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sealbridge_contract::{ConversationId, PersonId, inbox::Waiting};
use serde_json::value::RawValue;

use crate::event::Envelope;

/// Events of one room in one round, and of one person in it, so that nobody's keep out those of the others.
const OF_A_ROOM: usize = 50;
const OF_A_PERSON: usize = 10;
/// How long an event rests that could not be completed. It doubles each time.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// What the homeserver says for so long that it does not have, it will not have.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A homeserver on which a file lies may be down for a night.
const PATIENCE_WITH_ANOTHER: Duration = Duration::from_secs(24 * 3600);

/// Events that were tried and could not be completed yet.
#[derive(Default)]
pub(super) struct Tried(Mutex<BTreeMap<i64, Try>>);

#[derive(Clone, Copy)]
struct Try {
    rest: Duration,
    again: Instant,
    /// Since when the homeserver says that it does not have what the event needs. Not by the wall clock: if that were
    /// moved on, what was only looked for once would be given up.
    missing: Option<Instant>,
    /// Since when it answers, and does not give out all of it.
    broken: Option<Instant>,
}

impl Tried {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, Try>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests(&self, event: i64) -> bool {
        self.lock().get(&event).is_some_and(|tried| tried.again > Instant::now())
    }

    /// It failed in passing.
    pub(super) fn failed(&self, event: i64) {
        self.rest(event);
    }

    /// The homeserver does not have what it needs. True: nor has it had it for so long that it is given up.
    pub(super) fn is_missing(&self, event: i64, now: Instant) -> bool {
        self.rest(event);
        self.since(event, |tried| &mut tried.missing, now) > PATIENCE
    }

    /// The homeserver answers and does not give out all of what it needs. True: nor has it for so long that it is given
    /// up.
    pub(super) fn is_broken(&self, event: i64, now: Instant) -> bool {
        self.rest(event);
        self.since(event, |tried| &mut tried.broken, now) > PATIENCE_WITH_ANOTHER
    }

    fn rest(&self, event: i64) {
        let mut all = self.lock();
        let new = Try { rest: REST / 2, again: Instant::now(), missing: None, broken: None };
        let tried = all.entry(event).or_insert(new);
        tried.rest = (tried.rest * 2).min(LONGEST_REST);
        tried.again = Instant::now() + tried.rest;
    }

    /// For how long it has been so. A failure in passing says nothing of that.
    fn since(&self, event: i64, of: impl Fn(&mut Try) -> &mut Option<Instant>, now: Instant) -> Duration {
        let mut all = self.lock();
        let since = all.get_mut(&event).map_or(now, |tried| *of(tried).get_or_insert(now));
        now.saturating_duration_since(since)
    }

    pub(super) fn done(&self, event: i64) {
        self.lock().remove(&event);
    }

    /// Forgets those that do not wait any more.
    pub(super) fn keep(&self, waiting: &BTreeSet<i64>) {
        self.lock().retain(|event, _| waiting.contains(event));
    }
}

/// What is to be tried of one room, oldest first.
#[derive(Default)]
pub(super) struct Round {
    pub(super) events: Vec<Waiting>,
    of_each: BTreeMap<PersonId, usize>,
    /// Who has something that rests: what they said later keeps its place behind it.
    stuck: BTreeSet<PersonId>,
}

impl Round {
    /// Takes the next of the room's events into the round, if it is its turn.
    fn add(&mut self, event: Waiting, tried: &Tried) {
        if tried.rests(event.id) {
            self.stuck.insert(event.sender);
            return;
        }
        // A deletion waits for nothing that its sender said: it may be just that which is taken back.
        if !takes_back(&event) {
            if self.stuck.contains(&event.sender) {
                return;
            }
            let theirs = self.of_each.entry(event.sender.clone()).or_default();
            if *theirs >= OF_A_PERSON {
                return;
            }
            *theirs += 1;
        }
        if self.events.len() < OF_A_ROOM {
            self.events.push(event);
        }
    }
}

/// The rounds of all rooms, from a listing in the order of arrival.
#[derive(Default)]
pub(super) struct Rounds(pub(super) BTreeMap<ConversationId, Round>);

impl Rounds {
    pub(super) fn add(&mut self, event: Waiting, tried: &Tried) {
        self.0.entry(event.conversation.clone()).or_default().add(event, tried);
    }
}

pub(super) fn takes_back(event: &Waiting) -> bool {
    std::str::from_utf8(event.raw.expose())
        .ok()
        .and_then(|raw| serde_json::from_str::<&RawValue>(raw).ok())
        .and_then(|raw| Envelope::read(raw).ok())
        .is_some_and(|event| event.kind == "m.room.redaction")
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::SecretBytes;
    use serde_json::json;

    use super::*;

    fn event(id: i64, room: &str, sender: &str, kind: &str) -> Waiting {
        let raw = json!({"event_id": format!("${id}"), "sender": format!("@{sender}:x"), "type": kind, "content": {}});
        Waiting {
            id,
            conversation: ConversationId::new(room),
            sender: PersonId::new(format!("@{sender}:x")),
            raw: SecretBytes::new(raw.to_string().into_bytes()),
            since: sealbridge_contract::Timestamp(0),
        }
    }

    fn round(events: impl IntoIterator<Item = Waiting>, tried: &Tried) -> Vec<i64> {
        let mut rounds = Rounds::default();
        events.into_iter().for_each(|event| rounds.add(event, tried));
        rounds.0.into_values().flat_map(|round| round.events).map(|event| event.id).collect()
    }

    #[test]
    fn nobodys_events_keep_out_those_of_others() {
        let flood = (0..200).map(|id| event(id, "!r", "mal", "m.room.encrypted"));
        let round = round(flood.chain([event(500, "!r", "ann", "m.room.encrypted")]), &Tried::default());
        assert_eq!(round.len(), OF_A_PERSON + 1);
        assert!(round.contains(&500));
    }

    #[test]
    fn what_rests_holds_its_sender_but_for_deletions() {
        let tried = Tried::default();
        tried.failed(1);
        let events = [
            event(1, "!r", "ann", "m.room.encrypted"),
            event(2, "!r", "ann", "m.room.encrypted"),
            event(3, "!r", "ann", "m.room.redaction"),
            event(4, "!r", "ben", "m.room.encrypted"),
        ];
        assert_eq!(round(events, &tried), [3, 4]);
    }

    #[test]
    fn patience_begins_when_the_homeserver_first_says_that_it_has_it_not() {
        let tried = Tried::default();
        let start = Instant::now();
        let hours = |hours: u64| start + Duration::from_secs(hours * 3600);
        tried.failed(1);
        assert!(!tried.is_missing(1, hours(100)), "what came before was no word of the homeserver's");
        assert!(!tried.is_missing(1, hours(101)));
        assert!(tried.is_missing(1, hours(102)));
        tried.done(1);
        assert!(!tried.is_missing(1, hours(103)));
        assert!(!tried.is_broken(1, hours(200)), "that it was missing says nothing of this");
        assert!(!tried.is_broken(1, hours(224)));
        assert!(tried.is_broken(1, hours(225)), "nobody waits longer than a day for another homeserver");
    }
}
