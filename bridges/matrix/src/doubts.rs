//! How long what came under somebody else's key waits for its sender's own.

use std::{collections::BTreeMap, time::Duration};

use ruma::OwnedRoomId;
use tokio::time::Instant;

pub(crate) type Session = (OwnedRoomId, String);

/// Events whose key only somebody else has handed in. Their sender's own comes with what the homeserver answers, so only
/// the time in which it answers counts, from the doubt on, however long they had waited for any key.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Since when it answers, if it does.
    online: Option<Instant>,
    /// How long it answered before that.
    before: Duration,
    /// By number and age, since a number is given again.
    doubted: BTreeMap<(i64, i64), Doubt>,
}

#[derive(Debug)]
struct Doubt {
    session: Session,
    /// When, on that clock, it is waited for no longer.
    until: Duration,
    /// That it is so was said.
    said: bool,
}

impl Doubts {
    /// Takes in whether the homeserver answers.
    pub(crate) fn hears(&mut self, online: bool, now: Instant) {
        if online == self.online.is_some() {
            return;
        }
        self.before = self.passed(now);
        self.online = online.then_some(now);
    }

    fn passed(&self, now: Instant) -> Duration {
        self.before + self.online.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether an event has waited for `at_most`. The first time that it is asked for, it begins to.
    pub(crate) fn is_over(&mut self, event: (i64, i64), session: Session, at_most: Duration, now: Instant) -> bool {
        let passed = self.passed(now);
        let doubt = || Doubt { session, until: passed + at_most, said: false };
        self.doubted.entry(event).or_insert_with(doubt).until <= passed
    }

    /// It is doubted no more, whatever became of it.
    pub(crate) fn forget(&mut self, event: (i64, i64)) {
        self.doubted.remove(&event);
    }

    /// What was said to be over, and was tried since, is gone.
    pub(crate) fn tried(&mut self) {
        self.doubted.retain(|_, doubt| !doubt.said);
    }

    /// Waits until something is doubted no longer; for ever if nothing is.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + use<> {
        let until = self.doubted.values().filter(|doubt| !doubt.said).map(|doubt| doubt.until).min();
        let due = until.zip(self.online).map(|(until, since)| since + until.saturating_sub(self.before));
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The sessions of what is over now, each event once.
    pub(crate) fn over(&mut self, now: Instant) -> Vec<Session> {
        let passed = self.passed(now);
        let mut sessions = Vec::new();
        for doubt in self.doubted.values_mut().filter(|doubt| !doubt.said && doubt.until <= passed) {
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
    fn only_time_in_which_the_homeserver_answers_is_waited_from_the_doubt_on() {
        let (start, wait) = (Instant::now(), Duration::from_secs(20));
        let at = |seconds| start + Duration::from_secs(seconds);
        let session = || (room_id!("!r:x").to_owned(), "s".to_owned());
        let mut doubts = Doubts::default();
        // Not while it has not answered yet, nor while it is away.
        for (seconds, online, over) in
            [(0, None, false), (100, Some(true), false), (119, Some(false), false), (500, Some(true), false)]
        {
            if let Some(online) = online {
                doubts.hears(online, at(seconds));
            }
            assert_eq!(doubts.is_over((1, 1), session(), wait, at(seconds)), over, "{seconds}");
            assert!(doubts.over(at(seconds)).is_empty(), "{seconds}");
        }
        // Another of the same session waits for itself.
        assert!(!doubts.is_over((2, 1), session(), wait, at(500)));
        assert!(doubts.is_over((1, 1), session(), wait, at(501)));
        assert_eq!(doubts.over(at(501)), [session()]);
        assert!(doubts.over(at(502)).is_empty(), "it is said once");
        assert!(!doubts.is_over((2, 1), session(), wait, at(519)));
        assert!(doubts.is_over((2, 1), session(), wait, at(520)));
        // A number that is given again is another event's.
        doubts.forget((1, 1));
        assert!(!doubts.is_over((1, 2), session(), wait, at(520)));
    }
}
