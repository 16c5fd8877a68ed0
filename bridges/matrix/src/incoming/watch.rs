//! Whether receiving goes well, and how long to wait where it does not.

use std::time::{Duration, Instant};

use ruma::api::client::sync::sync_events::v3::Response;
use sealbridge_contract::Fatal;
use tracing::{info, warn};

use super::kept::Kept;
use crate::{
    core::{Core, fatal_http},
    engine::{HttpError, HttpErrorKind},
};

/// Answers in a row with events and an unmoved cursor, before somebody is told.
const UNMOVED: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Events of one room in one answer; Synapse gives no more than this.
const MOST_EVENTS: u32 = 100;

/// What shows whether receiving goes well.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The last request was answered.
    pub(super) hears: bool,
    pub(super) kept: Kept,
    failures: u32,
    failing_since: Option<Instant>,
    unmoved: u32,
    pub(super) idle: Duration,
    /// How often the number of events asked for was halved, since an answer was too large to take.
    halved: u32,
}

impl Watch {
    /// How many events of a room to ask for. What is left out is a gap, and is read page by page.
    pub(super) fn most_events(&self) -> u32 {
        (MOST_EVENTS >> self.halved.min(31)).max(1)
    }

    pub(super) fn heard(&mut self, core: &Core, answer: &Response, since: Option<&str>) {
        self.halved = self.halved.saturating_sub(1);
        if self.failures > 0 {
            info!(failures = self.failures, "Receiving again.");
        }
        self.hears = true;
        self.failures = 0;
        self.failing_since = None;
        let quiet = answer.rooms.is_empty() && answer.to_device.events.is_empty();
        self.unmoved = if since == Some(answer.next_batch.as_str()) && !quiet { self.unmoved + 1 } else { 0 };
        let stuck = self.unmoved >= UNMOVED;
        if self.unmoved == UNMOVED {
            warn!("The homeserver sends events but its sync token never moves.");
        }
        let now = core.clock.now().0;
        core.set_online(true);
        core.note(|health| {
            health.last_heard = Some(now);
            health.trouble = stuck.then(|| "the homeserver's sync token does not move".to_owned());
        });
    }

    /// Says how long to wait after a failed request, or that waiting is no use.
    pub(super) fn failed(&mut self, core: &Core, error: &HttpError) -> Result<Duration, Fatal> {
        if let Some(fatal) = fatal_http(&error.kind) {
            return Err(fatal);
        }
        self.hears = false;
        self.failures += 1;
        if matches!(error.kind, HttpErrorKind::TooLarge | HttpErrorKind::Malformed) {
            self.halved = (self.halved + 1).min(MOST_EVENTS.ilog2() + 1);
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let stalled = since.elapsed() >= core.settings.stall_after.0;
        if self.failures == 1 || stalled {
            warn!(%error, failures = self.failures, stalled, "The homeserver did not answer a sync.");
        }
        core.set_online(false);
        core.note(|health| {
            let long = if stalled { " for long" } else { "" };
            health.trouble = Some(format!("nothing was received{long}: {error}"));
        });
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.failures.min(8) - 1);
        // Waiting longer than this would be felt after the homeserver is back.
        Ok(error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_too_large_to_take_is_asked_for_in_smaller_pieces() {
        let mut watch = Watch::default();
        assert_eq!(watch.most_events(), MOST_EVENTS);
        for (halved, most) in [(1, 50), (2, 25), (6, 1), (7, 1), (40, 1)] {
            watch.halved = halved;
            assert_eq!(watch.most_events(), most);
        }
    }
}
