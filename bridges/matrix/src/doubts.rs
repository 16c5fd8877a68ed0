//! How long what came under somebody else's key waits for its sender's own.

use std::{collections::BTreeMap, time::Duration};

use ruma::OwnedRoomId;
use tokio::time::Instant;

pub(crate) type Session = (OwnedRoomId, String);

/// Events whose key only somebody else has handed in, or the backup had. Their sender's own comes with what the homeserver
/// answers, however long they had waited for any key: so they wait until an answer was taken in that was asked for after
/// their time.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// When the last answer was asked for that was taken in.
    answered: Option<Instant>,
    /// By number and age, since a number is given again.
    doubted: BTreeMap<(i64, i64), Doubt>,
}

#[derive(Debug)]
struct Doubt {
    session: Session,
    /// What was there then is to have come.
    until: Instant,
    /// That it is so was said.
    said: bool,
}

impl Doubts {
    /// An answer was taken in that was `asked` for then. Whoever looks for a key from here on finds what it brought.
    pub(crate) fn answered(&mut self, asked: Option<Instant>) {
        self.answered = asked;
    }

    fn has_come(&self, until: Instant) -> bool {
        self.answered.is_some_and(|asked| until <= asked)
    }

    /// Whether an event has waited for `at_most`. The first time that it is asked for, it begins to.
    pub(crate) fn is_over(&mut self, event: (i64, i64), session: Session, at_most: Duration, now: Instant) -> bool {
        let doubt = || Doubt { session, until: now + at_most, said: false };
        let until = self.doubted.entry(event).or_insert_with(doubt).until;
        self.has_come(until)
    }

    /// It is doubted no more, whatever became of it.
    pub(crate) fn forget(&mut self, event: (i64, i64)) {
        self.doubted.remove(&event);
    }

    /// What was said to be over, and was tried since, is gone.
    pub(crate) fn tried(&mut self) {
        self.doubted.retain(|_, doubt| !doubt.said);
    }

    /// The sessions of what is over now, each event once.
    pub(crate) fn over(&mut self) -> Vec<Session> {
        let Some(answered) = self.answered else { return Vec::new() };
        let mut sessions = Vec::new();
        for doubt in self.doubted.values_mut().filter(|doubt| !doubt.said && doubt.until <= answered) {
            doubt.said = true;
            sessions.push(doubt.session.clone());
        }
        sessions
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[test]
    fn doubt_is_over_once_an_answer_was_taken_in_that_was_asked_for_after_its_time() {
        let (start, wait) = (Instant::now(), Duration::from_secs(20));
        let at = |seconds| start + Duration::from_secs(seconds);
        let session = || (room_id!("!r:x").to_owned(), "s".to_owned());
        let mut doubts = Doubts::default();
        // Not while none came, however long, nor by one that was under way.
        for (seconds, answered, over) in
            [(0, None, false), (500, None, false), (501, Some(19), false), (502, Some(20), true)]
        {
            doubts.answered(answered.map(at));
            assert_eq!(doubts.is_over((1, 1), session(), wait, at(seconds)), over, "{seconds}");
        }
        assert_eq!(doubts.over(), [session()]);
        assert!(doubts.over().is_empty(), "it is said once");
        // Another of the same session waits for itself.
        assert!(!doubts.is_over((2, 1), session(), wait, at(510)));
        doubts.answered(Some(at(529)));
        assert!(doubts.over().is_empty());
        doubts.answered(Some(at(530)));
        assert_eq!(doubts.over(), [session()]);
        // A number that is given again is another event's.
        doubts.forget((1, 1));
        assert!(!doubts.is_over((1, 2), session(), wait, at(530)));
    }
}
