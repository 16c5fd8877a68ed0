//! Starts a child again when it died: later each time, and not for ever.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::Instant;

use crate::{Child, Program};

/// How patient a supervisor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it waits after the first death.
    pub first: Duration,
    /// How long at most; the wait doubles from death to death.
    pub longest: Duration,
    /// A child that lived this long is a good one: waits begin from the first again.
    pub steady: Duration,
    /// After so many starts within `within` it gives up.
    pub starts: usize,
    /// See `starts`.
    pub within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            steady: Duration::from_secs(60),
            starts: 20,
            within: Duration::from_secs(600),
        }
    }
}

/// Why there is no child any more.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    /// It can't be run at all.
    #[error("the engine can't be started: {0}")]
    CannotRun(#[source] std::io::Error),
    /// It died again and again.
    #[error("the engine was started {starts} times within {within:?} and died each time")]
    DiesAgain {
        /// How often it was started.
        starts: usize,
        /// Within which time.
        within: Duration,
    },
}

/// Starts one child after the other.
pub struct Supervisor {
    program: Program,
    patience: Patience,
    /// When the last ones were started, oldest first.
    started: VecDeque<Instant>,
    wait: Duration,
}

impl Supervisor {
    /// For a program that does not run yet.
    #[must_use]
    pub fn new(program: Program, patience: Patience) -> Self {
        Self { program, patience, started: VecDeque::new(), wait: Duration::ZERO }
    }

    /// The next child: the first at once, another only after the wait. The one before must have ended.
    ///
    /// # Errors
    /// [`GivenUp`]: a person must look.
    pub async fn next(&mut self) -> Result<Child, GivenUp> {
        let Patience { first, longest, steady, starts, within } = self.patience;
        if let Some(last) = self.started.back() {
            let lived = last.elapsed();
            self.wait = match lived >= steady || self.wait.is_zero() {
                true => first,
                false => (self.wait * 2).min(longest),
            };
            tokio::time::sleep(self.wait).await;
        }
        let now = Instant::now();
        self.started.retain(|start| now.duration_since(*start) < within);
        if self.started.len() >= starts {
            return Err(GivenUp::DiesAgain { starts, within });
        }
        self.started.push_back(now);
        Child::start(&self.program).map_err(GivenUp::CannotRun)
    }

    /// How often a child was started within the time that counts.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.started.len()
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("starts", &self.started.len()).finish_non_exhaustive()
    }
}
