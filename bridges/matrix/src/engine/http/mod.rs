//! Our HTTP client for one homeserver: time limits, size limits, and errors without bodies.
//!
//! It repeats nothing by itself, except a request whose token was just refreshed. It follows no redirect, and speaks
//! plain HTTP to loopback only.

mod class;
mod errand;
mod error;
mod exchange;
mod guard;
mod media;
mod permitted;
mod retry;
mod tokens;

use std::{
    fmt,
    sync::{
        Arc, Mutex as SyncMutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::HeaderValue;
use ruma::{
    OwnedEventId, RoomId, TransactionId,
    api::{
        SupportedVersions,
        client::{
            discovery::get_supported_versions, message::send_message_event, session::refresh_token,
            to_device::send_event_to_device,
        },
    },
    serde::Raw,
};
use secrecy::ExposeSecret;
use tokio::sync::{Mutex, OnceCell};
use tracing::{debug, instrument};
use url::Url;

pub(crate) use self::guard::{DECLINING, LEAVING, is_event, is_name};
pub use self::{
    class::Class,
    error::{HttpError, HttpErrorKind, Interactive},
    guard::{Stop, Watch},
    permitted::Permitted,
    retry::{Retries, retrying},
    tokens::{KeepFailed, TokenKeeper, Tokens},
};
pub(super) use self::{errand::Errand, guard::Doorkeeper};
use self::{
    exchange::{is_loopback, read},
    guard::Guard,
    permitted::OnWire,
};
use super::EncryptedContent;

/// A client for one homeserver, cheap to clone.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    guard: Guard,
    homeserver: Url,
    tokens: RwLock<Option<Tokens>>,
    keeper: RwLock<Option<Arc<dyn TokenKeeper>>>,
    refreshing: Mutex<()>,
    versions: OnceCell<Arc<SupportedVersions>>,
    sent: AtomicU64,
    in_flight: AtomicU64,
    /// What the homeserver last said the time is, and when it said so.
    told_time: SyncMutex<Option<(HeaderValue, Instant)>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("host", &self.inner.homeserver.host_str()).finish_non_exhaustive()
    }
}

impl Http {
    /// Why nothing may be sent to an address, if that is so.
    pub(super) fn check_address(homeserver: &Url) -> Result<(), &'static str> {
        match homeserver.scheme() {
            "https" => Ok(()),
            "http" if is_loopback(homeserver) => Ok(()),
            "http" => Err("plain http is for loopback only; give an https address"),
            _ => Err("the address is not http or https"),
        }
    }

    /// Checks the address and builds the client; sends nothing.
    pub fn new(homeserver: &Url) -> Result<Self, HttpError> {
        Self::check_address(homeserver).map_err(HttpErrorKind::Refused)?;
        let loopback = is_loopback(homeserver);
        let mut builder = reqwest::Client::builder()
            .user_agent("Sealbridge")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(60));
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| HttpErrorKind::Refused("no TLS client could be built"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                guard: Guard::new(homeserver),
                homeserver: homeserver.clone(),
                tokens: RwLock::new(None),
                keeper: RwLock::new(None),
                refreshing: Mutex::new(()),
                versions: OnceCell::new(),
                sent: AtomicU64::new(0),
                in_flight: AtomicU64::new(0),
                told_time: SyncMutex::default(),
            }),
        })
    }

    pub fn homeserver(&self) -> &Url {
        &self.inner.homeserver
    }

    /// Replaces the tokens, from the next request on.
    pub fn set_tokens(&self, tokens: Tokens) {
        *self.inner.tokens.write().unwrap_or_else(|lock| lock.into_inner()) = Some(tokens);
    }

    /// Names who makes refreshed tokens durable. Without a keeper nothing is refreshed.
    pub fn set_keeper(&self, keeper: Arc<dyn TokenKeeper>) {
        *self.inner.keeper.write().unwrap_or_else(|lock| lock.into_inner()) = Some(keeper);
    }

    pub(super) fn tokens(&self) -> Option<Tokens> {
        self.inner.tokens.read().unwrap_or_else(|lock| lock.into_inner()).clone()
    }

    /// What the egress guard has seen.
    pub fn watch(&self) -> Watch {
        self.inner.guard.watch()
    }

    /// Resolves when the egress guard stopped something.
    pub async fn something_stopped(&self) {
        self.inner.guard.stopped().await;
    }

    /// What time it is by the homeserver's clock, in milliseconds since the epoch and to the second.
    #[must_use]
    pub fn its_time(&self) -> Option<i64> {
        let (said, at) = self.inner.told_time.lock().unwrap_or_else(|lock| lock.into_inner()).clone()?;
        let said = httpdate::parse_http_date(said.to_str().ok()?).ok()?;
        let said = said.duration_since(SystemTime::UNIX_EPOCH).ok()?.saturating_add(at.elapsed());
        i64::try_from(said.as_millis()).ok()
    }

    /// Names who knows which devices may get keys.
    pub(super) fn set_doorkeeper(&self, doorkeeper: Arc<dyn Doorkeeper>) {
        self.inner.guard.set_doorkeeper(doorkeeper);
    }

    /// Requests sent since the client was made.
    pub fn requests_sent(&self) -> u64 {
        self.inner.sent.load(Ordering::Relaxed)
    }

    /// Requests on the wire right now.
    pub fn in_flight(&self) -> u64 {
        self.inner.in_flight.load(Ordering::Relaxed)
    }

    /// What the homeserver speaks; asked once.
    pub async fn versions(&self) -> Result<Arc<SupportedVersions>, HttpError> {
        let asked = self
            .inner
            .versions
            .get_or_try_init(|| async {
                let request = get_supported_versions::Request::new();
                let none = SupportedVersions { versions: [].into(), features: [].into() };
                let http = request.into_http(self.inner.homeserver.as_str(), None, &none)?;
                let answer = self.exchange(http, Class::Short).await?;
                let answer = read::<get_supported_versions::Response>(answer)?;
                Ok::<_, HttpError>(Arc::new(answer.as_supported_versions()))
            })
            .await?;
        Ok(Arc::clone(asked))
    }

    /// Sends one request of the closed list.
    pub async fn send<R: Permitted>(&self, request: R, class: Class) -> Result<R::IncomingResponse, HttpError> {
        self.send_any(request, class).await
    }

    /// Sends what the engine encrypted, into the room it was encrypted for. No other room event can leave.
    pub async fn send_encrypted(
        &self,
        content: &EncryptedContent,
        txn: &TransactionId,
    ) -> Result<OwnedEventId, HttpError> {
        let request = send_message_event::v3::Request::new_raw(
            content.room().to_owned(),
            txn.to_owned(),
            kind_of(content).into(),
            content.raw().clone().cast_unchecked(),
        );
        Ok(self.send_any(request, Class::Short).await?.event_id)
    }

    /// Sends a reaction: its only caller makes nothing but emoji of Unicode's own list.
    pub(super) async fn send_annotation(
        &self,
        room: &RoomId,
        txn: &TransactionId,
        content: &serde_json::Value,
    ) -> Result<OwnedEventId, HttpError> {
        let raw = Raw::new(content).map_err(|_| HttpErrorKind::Malformed)?.cast_unchecked();
        let request =
            send_message_event::v3::Request::new_raw(room.to_owned(), txn.to_owned(), "m.reaction".into(), raw);
        Ok(self.send_any(request, Class::Short).await?.event_id)
    }

    /// Sends messages to devices, and says to the guard what for. Without an errand none leaves that is encrypted.
    pub(super) async fn send_to_device(
        &self,
        request: send_event_to_device::v3::Request,
        errand: Errand,
    ) -> Result<send_event_to_device::v3::Response, HttpError> {
        self.send_on(request, Class::Short, Some(errand)).await
    }

    pub(super) async fn send_any<R: OnWire>(&self, request: R, class: Class) -> Result<R::IncomingResponse, HttpError> {
        self.send_on(request, class, None).await
    }

    async fn send_on<R: OnWire>(
        &self,
        request: R,
        class: Class,
        errand: Option<Errand>,
    ) -> Result<R::IncomingResponse, HttpError> {
        let tokens = self.tokens();
        match self.attempt(request.clone(), class, tokens.as_ref(), errand.clone()).await {
            Err(HttpError { kind: HttpErrorKind::UnknownToken { soft_logout: true } }) if self.can_refresh() => {
                self.refresh_unless_newer(tokens.as_ref()).await?;
                self.attempt(request, class, self.tokens().as_ref(), errand).await
            }
            result => result,
        }
    }

    async fn attempt<R: OnWire>(
        &self,
        request: R,
        class: Class,
        tokens: Option<&Tokens>,
        errand: Option<Errand>,
    ) -> Result<R::IncomingResponse, HttpError> {
        let versions = if R::NEEDS_VERSIONS {
            self.versions().await?
        } else {
            Arc::new(SupportedVersions { versions: [].into(), features: [].into() })
        };
        let token = tokens.map(|tokens| tokens.access.expose_secret());
        let mut request = request.into_http(self.inner.homeserver.as_str(), token, &versions)?;
        if let Some(errand) = errand {
            request.extensions_mut().insert(errand);
        }
        read(self.exchange(request, class).await?)
    }

    /// Uses the refresh token now; other callers wait. The new tokens are used only after the keeper has them.
    pub async fn refresh(&self) -> Result<(), HttpError> {
        self.refresh_unless_newer(self.tokens().as_ref()).await
    }

    fn can_refresh(&self) -> bool {
        self.tokens().is_some_and(|tokens| tokens.refresh.is_some())
            && self.inner.keeper.read().unwrap_or_else(|lock| lock.into_inner()).is_some()
    }

    #[instrument(skip_all)]
    async fn refresh_unless_newer(&self, seen: Option<&Tokens>) -> Result<(), HttpError> {
        let _single = self.inner.refreshing.lock().await;
        let now = self.tokens();
        let access = |tokens: Option<&Tokens>| tokens.map(|t| t.access.expose_secret().to_owned());
        if access(now.as_ref()) != access(seen) {
            return Ok(());
        }
        let keeper = self.inner.keeper.read().unwrap_or_else(|lock| lock.into_inner()).clone();
        let (Some(keeper), Some(old)) = (keeper, now.and_then(|tokens| tokens.refresh)) else {
            return Err(HttpErrorKind::UnknownToken { soft_logout: false }.into());
        };
        let request = refresh_token::v3::Request::new(old.expose_secret().to_owned());
        let answer = self.attempt(request, Class::Short, None, None).await?;
        let tokens =
            Tokens { access: answer.access_token.into(), refresh: answer.refresh_token.map(Into::into).or(Some(old)) };
        keeper.keep(&tokens).await.map_err(|KeepFailed| HttpErrorKind::NotKept)?;
        self.set_tokens(tokens);
        debug!("Tokens refreshed.");
        Ok(())
    }
}

fn kind_of(_: &EncryptedContent) -> &'static str {
    // In a test build alone: as an engine would that was led to send in clear.
    fail::fail_point!("matrix::cleartext", |_| "m.room.message");
    "m.room.encrypted"
}

#[cfg(test)]
mod tests;
