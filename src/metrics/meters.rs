//! What is counted while it happens.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use sealbridge_contract::AccountName;

use crate::flow::Outcome;

/// What may come of an attempt, as [`Meters::attempted`] counts it.
const COUNTED: [&str; 6] = ["delivered", "retried", "waited", "held", "left_out", "dead"];

/// The counters. Cheap to count with; one for the whole service.
pub struct Meters {
    deliveries: Family<Delivery, Counter>,
    durations: Family<OfAccount, Histogram, fn() -> Histogram>,
    requests: Family<Request, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    account: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAccount {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    source: String,
    outcome: &'static str,
}

/// How a request of a source was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It is in its conversations.
    Arrived,
    /// It is kept, and on its way.
    Kept,
    /// It said nothing.
    Silent,
    /// It was not understood or not allowed.
    Refused,
    /// It was not proven from whom it is, which anybody can bring about.
    NotProven,
    /// It was told to come again.
    NotNow,
}

impl Requested {
    const ALL: [Self; 6] = [Self::Arrived, Self::Kept, Self::Silent, Self::Refused, Self::NotProven, Self::NotNow];

    fn name(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Kept => "kept",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::NotProven => "not_proven",
            Self::NotNow => "not_now",
        }
    }
}

impl Meters {
    /// None is counted yet.
    #[must_use]
    pub fn new() -> Self {
        // From a hundredth of a second to five minutes and more.
        let histogram = || Histogram::new(exponential_buckets(0.01, 2.5, 13));
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self { deliveries: Family::default(), durations, requests: Family::default() }
    }

    /// Counts from nought what may come of these accounts and sources: a number that is not there before its first is no
    /// rise of it, so no alert would tell of that.
    pub fn count_of<'a>(
        &self,
        accounts: impl Iterator<Item = &'a AccountName>,
        sources: impl Iterator<Item = &'a str>,
    ) {
        for account in accounts {
            for outcome in COUNTED {
                let _ = self.deliveries.get_or_create(&Delivery { account: account.as_str().to_owned(), outcome });
            }
        }
        for source in sources {
            for outcome in Requested::ALL {
                let _ = self.requests.get_or_create(&Request { source: source.to_owned(), outcome: outcome.name() });
            }
        }
    }

    /// Counts an attempt, and how long after its enqueueing a delivery arrived.
    pub fn attempted(&self, to: &AccountName, outcome: &Outcome, since: Duration) {
        let account = to.as_str().to_owned();
        let outcome = match outcome {
            Outcome::Delivered(_) => {
                self.durations.get_or_create(&OfAccount { account: account.clone() }).observe(since.as_secs_f64());
                "delivered"
            }
            Outcome::Later(..) => "retried",
            Outcome::LaneWaits(_) => "waited",
            Outcome::Held(_) => "held",
            Outcome::LeftOut(_) => "left_out",
            Outcome::NotHere(_) | Outcome::Dead(_) => "dead",
        };
        self.deliveries.get_or_create(&Delivery { account, outcome }).inc();
    }

    /// Counts a request of a source that the config names.
    pub fn requested(&self, source: &str, outcome: Requested) {
        self.requests.get_or_create(&Request { source: source.to_owned(), outcome: outcome.name() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("deliveries", "Attempts to deliver, by what came of them", self.deliveries.clone());
        registry.register("delivery_duration_seconds", "From enqueueing to arrival", self.durations.clone());
        registry.register("notice_requests", "Requests of sources, by how they were answered", self.requests.clone());
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}
