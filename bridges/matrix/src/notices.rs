//! How often people are told of what strangers can bring about at will: a handful an hour, and then once that there is
//! more.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use sealbridge_contract::Timestamp;

const MOST: u32 = 5;
const WINDOW: Duration = Duration::from_secs(3600);

/// What was told lately, by subject.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<BTreeMap<String, Told>>);

#[derive(Debug)]
struct Told {
    since: Timestamp,
    times: u32,
}

/// Whether somebody is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    Each,
    /// That there is more than is told.
    Summary,
    Nothing,
}

impl Notices {
    /// Counts one more of a subject.
    pub(crate) fn next(&self, subject: &str, now: Timestamp) -> Telling {
        let mut told = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        // Of what was told before the clock was moved back nobody knows how long ago it was.
        told.retain(|_, told| told.since <= now && now.since(told.since) < WINDOW);
        let told = told.entry(subject.to_owned()).or_insert(Told { since: now, times: 0 });
        told.times = told.times.saturating_add(1);
        match told.times {
            1..=MOST => Telling::Each,
            times if times == MOST + 1 => Telling::Summary,
            _ => Telling::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handful_an_hour_is_told_and_then_once_that_there_is_more() {
        let notices = Notices::default();
        let told: Vec<_> = (0..8).map(|at| notices.next("a", Timestamp(at))).collect();
        let each = [Telling::Each; 5];
        assert_eq!(told[..5], each);
        assert_eq!(told[5..], [Telling::Summary, Telling::Nothing, Telling::Nothing]);
        assert_eq!(notices.next("b", Timestamp(9)), Telling::Each, "another subject has its own");
        assert_eq!(notices.next("a", Timestamp(3_600_000)), Telling::Each, "an hour later");
        assert_eq!(notices.next("b", Timestamp(-80_000_000)), Telling::Each, "a day earlier");
        assert_eq!(
            notices.next("a", Timestamp(-80_000_000)),
            Telling::Each,
            "a clock that is moved back keeps nothing quiet"
        );
    }
}
