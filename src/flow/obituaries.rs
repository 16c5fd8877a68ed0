//! What the operator is told of messages that became dead letters: each kind once an hour and conversation, and not more
//! than a person reads.

use std::collections::HashSet;

use sealbridge_contract::{Address, Timestamp};

use crate::store::Died;

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;
/// As many kinds are told in one hour; the rest is in the list.
const MOST: usize = 20;

/// What was told in this hour.
#[derive(Debug)]
pub struct Obituaries {
    hour: i64,
    told: HashSet<(Address, String)>,
    since: Timestamp,
}

/// Something to tell the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Obituary {
    /// In words.
    pub words: String,
    /// The same topic is told once.
    pub topic: String,
}

impl Obituaries {
    /// At the start. What died within the last hour is looked at again: a crash may have come before it was told.
    #[must_use]
    pub fn from(now: Timestamp) -> Self {
        Self { hour: now.0 / HOUR, told: HashSet::new(), since: Timestamp(now.0 - HOUR) }
    }

    /// From when on to look.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Timestamp {
        // What dies after the clock was moved back is older than what died before.
        if self.since > now { Timestamp(now.0 - HOUR) } else { self.since }
    }

    /// What to say of these, if they are news.
    pub fn of(&mut self, died: &Died) -> Option<Obituary> {
        if died.hour > self.hour {
            self.hour = died.hour;
            self.told.clear();
        }
        let kind = (died.from.clone(), died.reason.clone());
        if self.told.len() > MOST || self.told.contains(&kind) {
            return None;
        }
        let Died { from, reason, hour, count, .. } = died;
        let list = "`sealbridge dead-letters list` names them";
        if self.told.len() == MOST {
            let words = format!("More messages did not cross, of other kinds or elsewhere; {list}.");
            return Some(Obituary { words, topic: format!("dead letters {hour}") });
        }
        let what = if *count == 1 { "a message".to_owned() } else { format!("{count} messages") };
        let words =
            format!("{from}: {what} did not cross: {reason}. More of this kind are not told before an hour; {list}.");
        Some(Obituary { words, topic: format!("dead letters {hour} {from} {reason}") })
    }

    /// They were told, or need not be.
    pub fn told(&mut self, died: &Died) {
        self.told.insert((died.from.clone(), died.reason.clone()));
        // Another of the same millisecond may still come.
        self.since = self.since.max(died.last);
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, ConversationId};

    use super::*;

    fn died(room: &str, reason: &str, hour: i64) -> Died {
        let account = AccountName::parse("a").expect("it is a name");
        let from = Address { account, conversation: ConversationId::new(room) };
        Died { from, reason: reason.into(), hour, count: 1, last: Timestamp(hour * HOUR + 5) }
    }

    fn tell(obituaries: &mut Obituaries, died: &Died) -> Option<String> {
        let obituary = obituaries.of(died);
        obituaries.told(died);
        obituary.map(|obituary| obituary.words)
    }

    #[test]
    fn each_kind_is_told_once_an_hour_and_conversation() {
        let mut obituaries = Obituaries::from(Timestamp(10 * HOUR + 7));
        let cases = [
            (died("!r", "replayed", 10), true),
            (died("!r", "replayed", 10), false),
            (died("!other", "replayed", 10), true),
            (died("!r", "too long", 10), true),
            (died("!r", "replayed", 11), true),
            (died("!r", "replayed", 11), false),
        ];
        for (died, news) in cases {
            assert_eq!(tell(&mut obituaries, &died).is_some(), news, "{died:?}");
        }
        assert_eq!(obituaries.since(Timestamp(12 * HOUR)), Timestamp(11 * HOUR + 5));
        let yesterday = Timestamp(-12 * HOUR);
        assert_eq!(
            obituaries.since(yesterday),
            Timestamp(-13 * HOUR),
            "a clock that is moved back hides no dead letter"
        );
    }

    #[test]
    fn flood_of_kinds_ends_with_a_word_that_there_are_more() {
        let mut obituaries = Obituaries::from(Timestamp(10 * HOUR));
        let words: Vec<_> =
            (0..50).filter_map(|n| tell(&mut obituaries, &died("!r", &format!("reason {n}"), 10))).collect();
        assert_eq!(words.len(), MOST + 1);
        assert!(words.last().is_some_and(|last| last.starts_with("More messages")), "{words:?}");
        assert!(tell(&mut obituaries, &died("!r", "reason 1", 11)).is_some(), "the next hour is another");
    }
}
