//! Starts a child again when it died: later each time, and not for ever.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::{Child, Program};

/// How patient a supervisor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it waits after the first death.
    pub first: Duration,
    /// How long at most; the wait doubles from death to death.
    pub longest: Duration,
    /// After a child that lived this long, waits begin from the first again.
    pub steady: Duration,
    /// It gives up after so many children in a row that were of no use.
    pub starts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            steady: Duration::from_secs(30),
            starts: 20,
        }
    }
}

/// Why there is no child any more.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    /// It can't be run at all.
    #[error("the engine can't be started: {0}")]
    CannotRun(#[source] std::io::Error),
    /// It died again and again before it was of any use.
    #[error("the engine was started {0} times, and died each time before it was of any use")]
    DiesAgain(u32),
}

/// Starts one child after the other.
pub struct Supervisor {
    program: Program,
    patience: Patience,
    last: Option<Instant>,
    wait: Duration,
    /// Children in a row that were of no use.
    useless: u32,
}

impl Supervisor {
    /// For a program that does not run yet.
    #[must_use]
    pub fn new(program: Program, patience: Patience) -> Self {
        Self { program, patience, last: None, wait: Duration::ZERO, useless: 0 }
    }

    /// The next child: the first at once, another only after the wait. The one before must have ended.
    ///
    /// # Errors
    /// [`GivenUp`]: a person must look.
    pub async fn next(&mut self) -> Result<Child, GivenUp> {
        let Patience { first, longest, steady, starts } = self.patience;
        if self.useless >= starts {
            return Err(GivenUp::DiesAgain(starts));
        }
        if let Some(last) = self.last {
            let steady = last.elapsed() >= steady;
            self.wait = if steady || self.wait.is_zero() { first } else { (self.wait * 2).min(longest) };
            tokio::time::sleep(self.wait).await;
        }
        self.last = Some(Instant::now());
        self.useless += 1;
        Child::start(&self.program).map_err(GivenUp::CannotRun)
    }

    /// The child that runs does what it is there for: the ones before it do not count any more.
    pub fn is_useful(&mut self) {
        self.useless = 0;
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("useless", &self.useless).finish_non_exhaustive()
    }
}
