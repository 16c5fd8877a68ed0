//! The egress guard: the last door before the homeserver.
//!
//! Every request passes it, whoever made it. It trusts no type and no library: it reads what is about to leave, and
//! what is not on its list stays here. It knows nothing of how a message came about, so it catches mistakes of ours
//! and of the libraries alike. What it can't tell is whether ciphertext is ciphertext of the right thing: it sees the
//! form, and to whom it goes. Which room a key is of is said beside the request; who may have it, it finds out itself.

mod addresses;
mod backup;
mod home;
mod keys;
mod rules;
mod stop;
mod times;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ruma::{DeviceId, OwnedUserId, UserId};
use tokio::sync::Notify;
use url::Url;

use super::{Errand, error::HttpError};
pub(crate) use addresses::{is_event, is_name};
use home::Home;
pub(crate) use rules::{DECLINING, LEAVING};
pub use stop::Stop;
use times::Times;

/// Who may be sent an encrypted to-device message, by what is known locally.
#[async_trait]
pub(in super::super) trait Doorkeeper: Send + Sync {
    /// Whose requests they are.
    fn account(&self) -> Option<OwnedUserId>;

    /// Refuses a device that may not get room keys or whose curve25519 key is not `key`, in base64, and for the key of a
    /// room whoever may not read there.
    async fn admits(&self, errand: &Errand, user: &UserId, device: &DeviceId, key: &str) -> Result<(), Stop>;
}

/// What the guard has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// How many requests passed.
    pub passed: u64,
    /// How long it looked at them, all in all.
    pub took: Duration,
    /// The longest look at one.
    pub longest: Duration,
    /// Half of the looks took no longer, to a quarter.
    pub median: Duration,
    /// 95 of a hundred took no longer, to a quarter.
    pub p95: Duration,
    /// What was stopped, and how often.
    pub stopped: BTreeMap<Stop, u64>,
}

/// The guard of one account's requests.
pub(super) struct Guard {
    home: Home,
    doorkeeper: OnceLock<Arc<dyn Doorkeeper>>,
    passed: AtomicU64,
    took: AtomicU64,
    longest: AtomicU64,
    times: Times,
    stopped: Mutex<BTreeMap<Stop, u64>>,
    changed: Notify,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// The guard of requests to one homeserver; all others are stopped.
    pub(super) fn new(homeserver: &Url) -> Self {
        Self {
            home: Home::new(homeserver),
            doorkeeper: OnceLock::new(),
            passed: AtomicU64::default(),
            took: AtomicU64::default(),
            longest: AtomicU64::default(),
            times: Times::default(),
            stopped: Mutex::default(),
            changed: Notify::default(),
        }
    }

    /// Names who knows the account and the devices. Until then no encrypted to-device message passes.
    pub(super) fn set_doorkeeper(&self, doorkeeper: Arc<dyn Doorkeeper>) {
        if let Some(account) = doorkeeper.account() {
            self.home.is_of(&account);
        }
        // The first stays: nobody but the engine sets it, once.
        let _ = self.doorkeeper.set(doorkeeper);
    }

    /// Judges a request whose whole body is there.
    pub(super) async fn judge(&self, request: &http::Request<Vec<u8>>) -> Result<(), HttpError> {
        let start = Instant::now();
        // In a test build alone: what a homeserver gets from a service whose guard sleeps.
        fail::fail_point!("matrix::no-guard", |_| Ok(()));
        let judged = home::headers(request.headers());
        let judged = judged.and_then(|()| rules::judge(&self.home, request.method(), request.uri(), request.body()));
        let judged = match judged {
            Ok(recipients) => self.admits_all(request.extensions().get(), &recipients).await,
            Err(stop) => Err(stop),
        };
        self.note(start, judged)
    }

    /// Judges a request whose body streams: ciphertext of a file on its way to the media store.
    pub(super) fn judge_upload(&self, request: &reqwest::Request) -> Result<(), HttpError> {
        let start = Instant::now();
        self.note(start, rules::judge_upload(&self.home, request.method(), request.url(), request.headers()))
    }

    async fn admits_all(&self, errand: Option<&Errand>, recipients: &[rules::Recipient]) -> Result<(), Stop> {
        if recipients.is_empty() {
            return Ok(());
        }
        let doorkeeper = self.doorkeeper.get().ok_or(Stop::UnknownRecipient)?;
        let errand = errand.ok_or(Stop::UnknownRecipient)?;
        for rules::Recipient { user, device, key } in recipients {
            doorkeeper.admits(errand, user, device, key).await?;
        }
        Ok(())
    }

    fn note(&self, start: Instant, judged: Result<(), Stop>) -> Result<(), HttpError> {
        let took = start.elapsed();
        self.times.note(took);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.took.fetch_add(took, Ordering::Relaxed);
        self.longest.fetch_max(took, Ordering::Relaxed);
        let Err(stop) = judged else {
            self.passed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        tracing::error!(%stop, "The egress guard stopped a request. This is a fault of the bridge; please report it.");
        *self.stopped.lock().unwrap_or_else(|lock| lock.into_inner()).entry(stop).or_default() += 1;
        self.changed.notify_one();
        Err(HttpError::new(super::HttpErrorKind::Stopped(stop)))
    }

    pub(super) fn watch(&self) -> Watch {
        Watch {
            passed: self.passed.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.took.load(Ordering::Relaxed)),
            longest: Duration::from_nanos(self.longest.load(Ordering::Relaxed)),
            median: self.times.within(50),
            p95: self.times.within(95),
            stopped: self.stopped.lock().unwrap_or_else(|lock| lock.into_inner()).clone(),
        }
    }

    /// Resolves when something was stopped.
    pub(super) async fn stopped(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests;
