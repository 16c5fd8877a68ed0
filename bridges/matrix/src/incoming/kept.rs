//! What waits for company in a commit.

use std::time::{Duration, Instant};

use sealbridge_contract::inbox::Echo;

/// Echoes alone are committed no more often than this: most tell what the answer to our own request tells sooner.
pub(super) const ECHOES: Duration = Duration::from_secs(1);

/// What is committed, and what can wait for company.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// When the cursor was last committed.
    pub(super) at: Option<Instant>,
    /// Echoes that came since. If we die they come again.
    pub(super) echoes: Vec<Echo>,
}

impl Kept {
    /// Waits until the echoes have been kept back long enough; for ever if there are none.
    pub(super) fn echoes_are_due(&self) -> impl Future<Output = ()> + use<> {
        let due = if self.echoes.is_empty() { None } else { self.at.map(|at| at + ECHOES) };
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        }
    }
}
