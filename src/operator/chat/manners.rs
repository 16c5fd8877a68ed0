//! How often the bridge answers: whoever may have something done is answered as often as they ask, within reason, and
//! nobody can make it flood a conversation or the audit.

use std::collections::{HashMap, VecDeque};

use sealbridge_contract::{Address, Timestamp};

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;
/// As many answers are given in one conversation within ten minutes.
const ANSWERS: usize = 30;
const WINDOW: i64 = 600_000;
/// As many refusals of one conversation and hour are written down.
const REFUSALS: u32 = 20;

/// What was answered and written down lately.
#[derive(Debug, Default)]
pub(super) struct Manners {
    answers: HashMap<Address, VecDeque<Timestamp>>,
    refusals: HashMap<Address, u32>,
    hour: i64,
}

impl Manners {
    /// Whether there may be one more answer.
    pub(super) fn may_answer(&mut self, at: &Address, now: Timestamp) -> bool {
        self.answers.retain(|_, given| given.back().is_some_and(|last| now.0 - last.0 < WINDOW));
        let given = self.answers.entry(at.clone()).or_default();
        while given.front().is_some_and(|first| now.0 - first.0 >= WINDOW) {
            given.pop_front();
        }
        let may = given.len() < ANSWERS;
        if may {
            given.push_back(now);
        }
        may
    }

    /// Whether one more refusal is written down.
    pub(super) fn may_write(&mut self, at: &Address, now: Timestamp) -> bool {
        if now.0 / HOUR != self.hour {
            self.hour = now.0 / HOUR;
            self.refusals.clear();
        }
        let count = self.refusals.entry(at.clone()).or_default();
        *count = count.saturating_add(1);
        *count <= REFUSALS
    }
}

/// In which hour a moment is: what is said once is said once an hour.
pub(super) fn hour(now: Timestamp) -> i64 {
    now.0 / HOUR
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, ConversationId};

    use super::*;

    fn at(room: &str) -> Address {
        let account = AccountName::parse("a").expect("it is a name");
        Address { account, conversation: ConversationId::new(room) }
    }

    #[test]
    fn flood_of_questions_ends_the_answers_of_that_conversation_for_a_while() {
        let mut manners = Manners::default();
        let answered = (0..100).filter(|n| manners.may_answer(&at("!r"), Timestamp(*n))).count();
        assert_eq!(answered, ANSWERS);
        assert!(manners.may_answer(&at("!other"), Timestamp(100)));
        assert!(!manners.may_answer(&at("!r"), Timestamp(WINDOW - 1)));
        assert!(manners.may_answer(&at("!r"), Timestamp(WINDOW)));
        let all = manners.may_answer(&at("!third"), Timestamp(10 * WINDOW));
        assert!(all && manners.answers.len() == 1, "what is long ago is forgotten");
    }

    #[test]
    fn refusals_are_written_down_as_far_as_somebody_reads_them() {
        let mut manners = Manners::default();
        let written = |manners: &mut Manners, from: i64| {
            (0..100).filter(|n| manners.may_write(&at("!r"), Timestamp(from + n))).count()
        };
        assert_eq!((written(&mut manners, 0), written(&mut manners, HOUR)), (20, 20));
    }
}
