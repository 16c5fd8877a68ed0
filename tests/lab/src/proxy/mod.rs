//! A reverse proxy before one homeserver, which does to requests what networks do.
//!
//! Rules are added and removed while it runs. It knows HTTP, so a connection can be cut after the
//! homeserver accepted a request, which is the case that no cut cable reproduces at will.

mod capture;
mod forward;
mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use rule::{Active, Fault, Rule};

use capture::Capture;

/// Runs on the runtime that started it, and ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// One request as a client sent it.
#[derive(Clone)]
pub struct Seen {
    pub method: String,
    /// With the query, percent-decoded.
    pub path: String,
    pub body: Bytes,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.method, self.path, self.body.len())
    }
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Active>>,
    /// `None` while nobody records.
    seen: Mutex<Option<Vec<Seen>>>,
    /// `None` while nobody captures.
    capture: Mutex<Option<Arc<Capture>>>,
    pending: AtomicUsize,
    begun: AtomicUsize,
    line: watch::Sender<Line>,
}

/// The state of the cable, so to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Up,
    Down,
    Gone,
}

impl Proxy {
    /// Starts a proxy on a free port before `upstream`, the address of a homeserver.
    pub async fn before(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let client = reqwest::Client::builder()
            .no_proxy()
            .gzip(false)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .context("Make a client")?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client,
            rules: Mutex::default(),
            seen: Mutex::default(),
            capture: Mutex::default(),
            pending: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            line: watch::Sender::new(Line::Up),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { url, shared, accepting })
    }

    /// The address for clients, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a rule to work, behind those already there.
    pub fn add(&self, rule: Rule) -> Active {
        let active = Active::new(rule);
        lock(&self.shared.rules).push(active.clone());
        active
    }

    /// Removes every rule.
    pub fn clear(&self) {
        for rule in lock(&self.shared.rules).drain(..) {
            rule.remove();
        }
    }

    /// Cuts every connection, and each new one too, until [`Proxy::go_online`].
    pub fn go_offline(&self) {
        self.shared.line.send_replace(Line::Down);
    }

    pub fn go_online(&self) {
        self.shared.line.send_replace(Line::Up);
    }

    /// How many requests are with the homeserver now. A sync that waits for news is none of them.
    pub fn pending(&self) -> usize {
        self.pending_watch().pending()
    }

    /// The same, for whoever looks again and again.
    pub fn pending_watch(&self) -> PendingWatch {
        PendingWatch(Arc::clone(&self.shared))
    }

    /// From now on keeps every request in memory.
    pub fn record(&self) {
        lock(&self.shared.seen).get_or_insert_default();
    }

    /// What was recorded, in order; forgets it.
    pub fn take_seen(&self) -> Vec<Seen> {
        let mut seen = lock(&self.shared.seen);
        seen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From now on adds every byte that goes through to a file: paths, heads and bodies of requests and of what the
    /// homeserver answers. What comes compressed stands there as it came.
    pub fn capture_into(&self, file: &Path) -> Result<()> {
        *lock(&self.shared.capture) = Some(Arc::new(Capture::into_file(file)?));
        Ok(())
    }

    /// Fails if something went through since then that is not in the file.
    pub fn ensure_captured(&self) -> Result<()> {
        let whole = lock(&self.shared.capture).as_ref().is_some_and(|capture| capture.is_whole());
        ensure!(whole, "Not everything that went through the proxy was kept");
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.line.send_replace(Line::Gone);
        self.clear();
        self.accepting.abort();
    }
}

impl Shared {
    fn rules(&self) -> Vec<Active> {
        let mut rules = lock(&self.rules);
        rules.retain(|rule| !rule.is_removed());
        rules.clone()
    }

    /// Counts a request for as long as the answer is held.
    fn pend(&self, path: &str) -> Option<Pending<'_>> {
        let waits_for_news = path.split('?').next().is_some_and(|path| path.ends_with("/sync"));
        (!waits_for_news).then(|| {
            self.pending.fetch_add(1, Ordering::Relaxed);
            self.begun.fetch_add(1, Ordering::Relaxed);
            Pending(&self.pending)
        })
    }

    fn capture(&self) -> Option<Arc<Capture>> {
        lock(&self.capture).clone()
    }

    fn see(&self, request: impl FnOnce() -> Seen) {
        if let Some(seen) = lock(&self.seen).as_mut() {
            seen.push(request());
        }
    }
}

/// Sees how many requests are with the homeserver. A sync that waits for news is none of them.
#[derive(Debug, Clone)]
pub struct PendingWatch(Arc<Shared>);

impl PendingWatch {
    /// Now.
    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Relaxed)
    }

    /// Since the proxy was started, those that are answered included.
    pub fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }
}

struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
            // Out of file descriptors: there is room again once a connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut line = shared.line.subscribe();
    // A cable adds no delay of its own; without the option the connection still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { forward::carry(&shared, request).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        _ = line.wait_for(|line| *line != Line::Up) => {}
        // An error is a fault that we made, or a client that went away.
        _ = connection => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
