//! How long a delivery rests that did not arrive, whatever happens to the wall clock meanwhile.

use std::time::Duration;

use sealbridge_contract::Timestamp;
use tokio::time::Instant;

use crate::store::Pending;

/// A network that asks for a longer rest is asked again after this.
const LONGEST: Duration = Duration::from_secs(3600);

/// The rest of the delivery that a lane tried last.
#[derive(Default)]
pub(super) struct Rest(Option<(i64, Instant)>);

impl Rest {
    /// Begins one, and says how long it is.
    pub(super) fn begin(&mut self, number: i64, pause: Duration) -> Duration {
        let pause = pause.min(LONGEST);
        self.0 = Some((number, Instant::now() + pause));
        pause
    }

    /// How long a delivery is still to rest. What the journal says of one that rested before this lane began is by the
    /// wall clock, and is bounded.
    pub(super) fn left(&self, pending: &Pending, now: Timestamp) -> Duration {
        if pending.not_before.has_come(now, LONGEST) {
            return Duration::ZERO;
        }
        let by_the_wall = pending.not_before.since(now);
        match self.0 {
            Some((number, until)) if number == pending.number => {
                by_the_wall.min(until.saturating_duration_since(Instant::now()))
            }
            _ => by_the_wall,
        }
    }
}
