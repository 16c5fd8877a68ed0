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
    /// Those of admins by themselves, so that nobody else uses up theirs.
    answers: HashMap<(Address, bool), VecDeque<Timestamp>>,
    refusals: HashMap<Address, u32>,
    hour: i64,
}

impl Manners {
    /// Whether there may be one more answer to an admin, or to somebody else.
    pub(super) fn may_answer(&mut self, at: &Address, is_admin: bool, now: Timestamp) -> bool {
        self.answers.retain(|_, given| given.back().is_some_and(|last| now.0 - last.0 < WINDOW));
        let Some(given) = self.answers.get_mut(&(at.clone(), is_admin)) else { return true };
        while given.front().is_some_and(|first| now.0 - first.0 >= WINDOW) {
            given.pop_front();
        }
        given.len() < ANSWERS
    }

    /// One was given.
    pub(super) fn answered(&mut self, at: &Address, is_admin: bool, now: Timestamp) {
        self.answers.entry((at.clone(), is_admin)).or_default().push_back(now);
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
        let asks = |manners: &mut Manners, is_admin, now| {
            let may = manners.may_answer(&at("!r"), is_admin, Timestamp(now));
            if may {
                manners.answered(&at("!r"), is_admin, Timestamp(now));
            }
            may
        };
        assert_eq!((0..100).filter(|now| asks(&mut manners, false, *now)).count(), ANSWERS);
        assert!(asks(&mut manners, true, 100), "nobody else uses up an admin's answers");
        assert!(manners.may_answer(&at("!other"), false, Timestamp(100)));
        assert!(!asks(&mut manners, false, WINDOW - 1));
        assert!(asks(&mut manners, false, WINDOW));
        let all = manners.may_answer(&at("!third"), false, Timestamp(10 * WINDOW));
        assert!(all && manners.answers.is_empty(), "what is long ago is forgotten");
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
