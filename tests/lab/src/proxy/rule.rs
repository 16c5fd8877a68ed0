//! What a fault proxy does to which requests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::Value;
use tokio::sync::watch;

type Change = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// One thing that can go wrong between a client and its homeserver.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// Waits before forwarding; later rules apply too.
    Delay(Duration),
    /// 429 with `M_LIMIT_EXCEEDED`; the homeserver never sees the request.
    Throttle { retry_after_ms: u64 },
    /// This status with an error body; the homeserver never sees the request.
    Fail(u16),
    /// Cuts the connection; the homeserver never sees the request.
    DropBefore,
    /// Cuts the connection after the homeserver answered, so the client can't know.
    DropAfter,
    /// Keeps the homeserver's answer until the rule is removed, then cuts the connection: it has done what was asked.
    HoldAnswer,
    /// Passes the answer on and then spaces, without an end, until whoever reads gives up.
    Endless,
    /// Sends the client elsewhere; the homeserver never sees the request.
    Redirect { to: String },
    /// Passes half of the request on, then cuts the connection to the homeserver and the client's.
    CutRequest,
    /// Passes half of the answer on, then cuts the connection.
    CutAnswer,
    /// Neither answers nor closes until the rule is removed; the homeserver never sees the request.
    Hang,
    /// Passes the answer on this slowly; later rules apply too.
    Trickle { bytes_per_second: u32 },
    /// Changes a JSON answer; later rules apply too.
    Rewrite(Change),
    /// Answers in the homeserver's place.
    Answer { status: u16, body: Value },
}

impl Fault {
    /// Changes a JSON answer on its way to the client. Most answers to a sync lack most fields, and
    /// indexing a [`Value`] mutably adds what is missing as null: use `pointer_mut`.
    pub fn rewrite(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Rewrite(Arc::new(change))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(time) => f.debug_tuple("Delay").field(time).finish(),
            Self::Throttle { retry_after_ms } => write!(f, "Throttle({retry_after_ms} ms)"),
            Self::Fail(status) => write!(f, "Fail({status})"),
            Self::DropBefore => f.write_str("DropBefore"),
            Self::DropAfter => f.write_str("DropAfter"),
            Self::HoldAnswer => f.write_str("HoldAnswer"),
            Self::Endless => f.write_str("Endless"),
            Self::Redirect { .. } => f.write_str("Redirect"),
            Self::CutRequest => f.write_str("CutRequest"),
            Self::CutAnswer => f.write_str("CutAnswer"),
            Self::Hang => f.write_str("Hang"),
            Self::Trickle { bytes_per_second } => write!(f, "Trickle({bytes_per_second} B/s)"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::Answer { status, .. } => write!(f, "Answer({status})"),
        }
    }
}

/// Which requests a fault strikes, and how many of them.
#[derive(Debug, Clone)]
pub struct Rule {
    method: Option<String>,
    path: Regex,
    let_pass: u32,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// `method` may be `*`. `path` is a regular expression that has to be found in the path and
    /// query, percent-decoded.
    pub fn new(method: &str, path: &str, fault: Fault) -> Result<Self> {
        Ok(Self {
            method: (method != "*").then(|| method.to_ascii_uppercase()),
            path: Regex::new(path).context("The path of a rule")?,
            let_pass: 0,
            times: u32::MAX,
            fault,
        })
    }

    /// Strikes so many requests and is then spent.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets so many matching requests pass first.
    pub fn after(mut self, requests: u32) -> Self {
        self.let_pass = requests;
        self
    }
}

/// A rule at work: removed with [`Active::remove`], or when the proxy ends.
#[derive(Debug, Clone)]
pub struct Active {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rule: Rule,
    seen: AtomicU32,
    struck: AtomicU32,
    removed: watch::Sender<bool>,
}

impl Active {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            inner: Arc::new(Inner {
                rule,
                seen: AtomicU32::new(0),
                struck: AtomicU32::new(0),
                removed: watch::Sender::new(false),
            }),
        }
    }

    /// How many requests the rule has struck.
    pub fn struck(&self) -> u32 {
        self.inner.struck.load(Ordering::SeqCst)
    }

    /// Waits until the rule has struck so many requests.
    pub async fn wait_struck(&self, times: u32, within: Duration) -> Result<()> {
        let wait = async {
            while self.struck() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(within, wait)
            .await
            .with_context(|| format!("Struck {} of {times} requests", self.struck()))
    }

    /// Ends the rule. Requests that hang on it are cut.
    pub fn remove(&self) {
        self.inner.removed.send_replace(true);
    }

    pub(super) fn is_removed(&self) -> bool {
        *self.inner.removed.borrow()
    }

    /// The fault, if this request is struck; counts it.
    pub(super) fn strike(&self, method: &str, path: &str) -> Option<Fault> {
        let rule = &self.inner.rule;
        let other_method = rule.method.as_deref().is_some_and(|wanted| wanted != method);
        if self.is_removed() || other_method || !rule.path.is_match(path) {
            return None;
        }
        if self.inner.seen.fetch_add(1, Ordering::SeqCst) < rule.let_pass {
            return None;
        }
        let free = |struck: u32| (struck < rule.times).then_some(struck + 1);
        let counted = self.inner.struck.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free);
        counted.is_ok().then(|| rule.fault.clone())
    }

    pub(super) async fn until_removed(&self) {
        let mut removed = self.inner.removed.subscribe();
        // The sender lives as long as we do.
        let _ = removed.wait_for(|removed| *removed).await;
    }
}
