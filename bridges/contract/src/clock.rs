//! Time as an argument, so that a test can move it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment moved on by `by`; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment moved back by `by`; saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Whether a moment has come that was set at most `ahead` before it. One that lies further off was set before the
    /// clock was moved back, and has come, or it would be waited for as long as the clock was moved.
    #[must_use]
    pub fn has_come(self, now: Self, ahead: Duration) -> bool {
        self <= now || self.since(now) > ahead
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The wall clock, which a test can move. Clones share the shift.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let real = i64::try_from(real.as_millis()).unwrap_or(i64::MAX);
        Timestamp(real.saturating_add(self.shift.load(Ordering::Relaxed)))
    }

    /// Moves this clock, and every clone of it, by `by` milliseconds. For tests.
    pub fn shift(&self, by: i64) {
        self.shift.fetch_add(by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_never_waited_for_longer_than_it_was_set_ahead() {
        let minute = Duration::from_secs(60);
        let at = Timestamp(1_000_000);
        for (now, has_come) in [(0, true), (939_999, true), (940_000, false), (999_999, false), (1_000_000, true)] {
            assert_eq!(at.has_come(Timestamp(now), minute), has_come, "{now}");
        }
    }
}
