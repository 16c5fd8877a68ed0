//! What can go wrong on the way to the network, on command.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sealbridge_contract::{ConversationId, DeliveryError, message::Absence};
use tokio::{sync::watch, time::Instant};

/// What goes wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network takes this long.
    Delay(Duration),
    /// The network says: not before this long.
    Throttle(Duration),
    /// The network can't be reached.
    Unreachable,
    /// The network takes it, and its answer is lost.
    LoseAnswer,
    /// The network refuses it for good.
    Refuse,
    /// The network has no room for it in this form.
    RefuseForm,
    /// The network refuses the file that it has, for good.
    RefuseFile,
    /// The network does not answer and did not take it; the attempt ends at its own time limit.
    Hang,
    /// The network takes it and does not answer; the attempt ends at its own time limit.
    HangAfterAccepting,
}

/// One account's faults. They outlive a restart of its transport.
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    bucket: Mutex<Option<Bucket>>,
    lose_every: Mutex<(u64, u64)>,
    reachable: watch::Sender<bool>,
}

struct Rule {
    fault: Fault,
    only_in: Option<ConversationId>,
    times: usize,
}

struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

/// What is to happen after the network took a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Answer,
    Lose,
    Hang,
}

impl Default for Faults {
    fn default() -> Self {
        let (rules, bucket, lose_every) = Default::default();
        Self { rules, bucket, lose_every, reachable: watch::Sender::new(true) }
    }
}

impl Faults {
    /// The next `times` deliveries meet `fault`.
    pub fn next(&self, fault: Fault, times: usize) {
        self.add(fault, None, times);
    }

    /// The next `times` deliveries to `conversation` meet `fault`.
    pub fn next_in(&self, conversation: &ConversationId, fault: Fault, times: usize) {
        self.add(fault, Some(conversation.clone()), times);
    }

    /// Takes back every fault, and a rate.
    pub fn clear(&self) {
        lock(&self.rules).clear();
        *lock(&self.bucket) = None;
        *lock(&self.lose_every) = (0, 0);
        self.set_reachable(true);
    }

    /// Whether the network can be reached at all: neither receives nor delivers while it can't.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.send_replace(reachable);
    }

    /// The network takes `per_second` deliveries a second, and `burst` at once; any number if `per_second` is zero.
    pub fn set_rate(&self, per_second: f64, burst: u32) {
        let burst = f64::from(burst.max(1));
        let bucket = Bucket { per_second, burst, tokens: burst, filled: Instant::now() };
        *lock(&self.bucket) = (per_second > 0.0).then_some(bucket);
    }

    /// The answer to every `every`th delivery is lost; to none if zero.
    pub fn set_lose_every(&self, every: u64) {
        *lock(&self.lose_every) = (every, 0);
    }

    /// Changes of reachability.
    pub(crate) fn reachable(&self) -> watch::Receiver<bool> {
        self.reachable.subscribe()
    }

    /// Goes through what stands before a delivery to `conversation`.
    pub(crate) async fn before(&self, conversation: &ConversationId) -> Result<After, DeliveryError> {
        let unreachable = || DeliveryError::retry("the network can't be reached");
        if !*self.reachable.borrow() {
            return Err(unreachable());
        }
        if let Some(wait) = self.throttled() {
            return Err(DeliveryError::retry_after(wait, "the network limits the rate"));
        }
        match self.take(conversation) {
            None => Ok(self.counted()),
            Some(Fault::Delay(by)) => {
                tokio::time::sleep(by).await;
                Ok(self.counted())
            }
            Some(Fault::Throttle(wait)) => Err(DeliveryError::retry_after(wait, "the network limits the rate")),
            Some(Fault::Unreachable) => Err(unreachable()),
            Some(Fault::Refuse) => Err(DeliveryError::give_up("the network refuses it")),
            Some(Fault::RefuseForm) => Err(DeliveryError::other_form("somebody else reacts with this one already")),
            Some(Fault::RefuseFile) => Err(DeliveryError::without_file(Absence::Refused)),
            Some(Fault::LoseAnswer) => Ok(After::Lose),
            Some(Fault::HangAfterAccepting) => Ok(After::Hang),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    fn add(&self, fault: Fault, only_in: Option<ConversationId>, times: usize) {
        lock(&self.rules).push(Rule { fault, only_in, times });
    }

    fn take(&self, conversation: &ConversationId) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let at = rules.iter().position(|rule| rule.only_in.as_ref().is_none_or(|only| only == conversation))?;
        let fault = rules[at].fault;
        rules[at].times = rules[at].times.saturating_sub(1);
        if rules[at].times == 0 {
            rules.remove(at);
        }
        Some(fault)
    }

    fn counted(&self) -> After {
        let (every, count) = &mut *lock(&self.lose_every);
        *count += 1;
        if *every > 0 && count.is_multiple_of(*every) { After::Lose } else { After::Answer }
    }

    fn throttled(&self) -> Option<Duration> {
        let mut bucket = lock(&self.bucket);
        let bucket = bucket.as_mut()?;
        let now = Instant::now();
        let gained = now.duration_since(bucket.filled).as_secs_f64() * bucket.per_second;
        bucket.tokens = (bucket.tokens + gained).min(bucket.burst);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - bucket.tokens) / bucket.per_second))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("reachable", &*self.reachable.borrow()).finish_non_exhaustive()
    }
}

/// Nobody panics half-way through a change, so what is behind a poisoned lock is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
