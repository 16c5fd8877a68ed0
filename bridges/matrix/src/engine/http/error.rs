//! What can go wrong with one request, without a word of what was in it.

use std::time::{Duration, SystemTime};

use ruma::api::error::RetryAfter;
use serde::Deserialize;

/// A failed request. Carries no body, no URL and no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct HttpError {
    pub kind: HttpErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// Nothing usable came back: no connection, or one that broke.
    #[error("the homeserver could not be reached")]
    Network,
    #[error("the homeserver did not answer in time")]
    Timeout,
    #[error("the answer was larger than allowed")]
    TooLarge,
    #[error("the homeserver limits our rate")]
    Limited { retry_after: Option<Duration> },
    #[error("the homeserver failed with status {status}")]
    Server { status: u16 },
    #[error("the homeserver refused with status {status} {errcode}")]
    Client { status: u16, errcode: String },
    /// No homeserver's words: a proxy, a gateway or another site answered in its place.
    #[error("something that is no homeserver answered with status {status}")]
    Stranger { status: u16 },
    /// The server wants the user to prove themselves once more.
    #[error("the homeserver asks for interactive authentication")]
    Interactive(Interactive),
    #[error("the access token is not valid")]
    UnknownToken { soft_logout: bool },
    /// One-time keys under these names already exist: the crypto store was rolled back.
    #[error("one-time keys with the same names were uploaded before")]
    OneTimeKeyExists,
    #[error("the answer made no sense")]
    Malformed,
    /// Refused by us, before anything was sent.
    #[error("refused before sending: {0}")]
    Refused(&'static str),
    /// The egress guard stopped it.
    #[error("the egress guard stopped it: {0}")]
    Stopped(super::Stop),
    /// Refreshed tokens could not be made durable, so they are not used.
    #[error("refreshed tokens could not be stored")]
    NotKept,
}

/// One round of user-interactive authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interactive {
    pub session: Option<String>,
    /// A flow exists that a password alone completes.
    pub password_suffices: bool,
    /// The account lives at an identity provider that wants a browser.
    pub needs_browser: bool,
    /// This is the answer to a wrong password.
    pub rejected: bool,
}

impl HttpError {
    pub(crate) fn new(kind: HttpErrorKind) -> Self {
        Self { kind }
    }

    /// Whether the same request may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            HttpErrorKind::Network
                | HttpErrorKind::Timeout
                | HttpErrorKind::Limited { .. }
                | HttpErrorKind::Server { .. }
                | HttpErrorKind::Stranger { .. }
        )
    }

    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            HttpErrorKind::Limited { retry_after } => retry_after,
            _ => None,
        }
    }

    pub fn errcode(&self) -> Option<&str> {
        match &self.kind {
            HttpErrorKind::Client { errcode, .. } => Some(errcode),
            _ => None,
        }
    }

    /// The thing asked for does not exist, by the homeserver's own word: what stands before it may say 404 too.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.kind, HttpErrorKind::Client { status: 404, errcode } if errcode == "M_NOT_FOUND")
    }

    pub(super) fn from_transport(error: &reqwest::Error) -> Self {
        Self::new(if error.is_timeout() {
            HttpErrorKind::Timeout
        } else if error.is_decode() {
            HttpErrorKind::Malformed
        } else {
            HttpErrorKind::Network
        })
    }

    /// Reads an unsuccessful answer.
    pub(super) fn from_answer(status: u16, headers: &http::HeaderMap, body: &[u8]) -> Self {
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        let errcode = said.errcode.unwrap_or_default();
        Self::new(match status {
            429 => HttpErrorKind::Limited {
                retry_after: said.retry_after_ms.map(Duration::from_millis).or_else(|| retry_after_header(headers)),
            },
            401 if errcode == "M_UNKNOWN_TOKEN" || errcode == "M_MISSING_TOKEN" => {
                HttpErrorKind::UnknownToken { soft_logout: said.soft_logout }
            }
            401 if said.flows.is_some() => HttpErrorKind::Interactive(interactive(
                said.session,
                &said.flows.unwrap_or_default(),
                !errcode.is_empty(),
            )),
            400 if said.error.as_deref().is_some_and(is_one_time_key_conflict) => HttpErrorKind::OneTimeKeyExists,
            500.. => HttpErrorKind::Server { status },
            // A proxy has limits of its own for what may be sent, and another try is no shorter.
            413 => HttpErrorKind::Client { status, errcode: printable(errcode) },
            _ if errcode.is_empty() => HttpErrorKind::Stranger { status },
            _ => HttpErrorKind::Client { status, errcode: printable(errcode) },
        })
    }
}

impl From<HttpErrorKind> for HttpError {
    fn from(kind: HttpErrorKind) -> Self {
        Self::new(kind)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    errcode: Option<String>,
    error: Option<String>,
    retry_after_ms: Option<u64>,
    soft_logout: bool,
    session: Option<String>,
    flows: Option<Vec<Flow>>,
}

#[derive(Deserialize)]
struct Flow {
    #[serde(default)]
    stages: Vec<String>,
}

fn interactive(session: Option<String>, flows: &[Flow], rejected: bool) -> Interactive {
    let alone = |stage: &str| flows.iter().any(|flow| flow.stages == [stage]);
    Interactive {
        session,
        password_suffices: alone("m.login.password"),
        needs_browser: alone("m.oauth") || alone("org.matrix.cross_signing_reset"),
        rejected,
    }
}

fn retry_after_header(headers: &http::HeaderMap) -> Option<Duration> {
    match RetryAfter::try_from(headers.get(http::header::RETRY_AFTER)?).ok()? {
        RetryAfter::Delay(delay) => Some(delay),
        RetryAfter::DateTime(time) => Some(time.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

// There is no error code of its own for it; Synapse and its relatives say it in these words.
fn is_one_time_key_conflict(message: &str) -> bool {
    message.starts_with("One time key") && message.contains("already exists")
}

// A hostile server chooses the code; it must not be able to write our log.
fn printable(errcode: String) -> String {
    errcode.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> HttpErrorKind {
        HttpError::from_answer(status, &http::HeaderMap::new(), body.as_bytes()).kind
    }

    #[test]
    fn each_refusal_has_its_own_kind() {
        let client = |status, code: &str| HttpErrorKind::Client { status, errcode: code.to_owned() };
        let cases = [
            (404, r#"{"errcode":"M_NOT_FOUND","error":"canary"}"#, client(404, "M_NOT_FOUND")),
            (403, "<html>canary</html>", HttpErrorKind::Stranger { status: 403 }),
            (404, r#"{"error":"canary"}"#, HttpErrorKind::Stranger { status: 404 }),
            (401, "", HttpErrorKind::Stranger { status: 401 }),
            (302, "", HttpErrorKind::Stranger { status: 302 }),
            (413, "<html>canary</html>", client(413, "")),
            (400, r#"{"errcode":"M_UNKNOWN\n[31mcanary"}"#, client(400, "M_UNKNOWN31mcanary")),
            (502, "<html>canary</html>", HttpErrorKind::Server { status: 502 }),
            (
                429,
                r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#,
                HttpErrorKind::Limited { retry_after: Some(Duration::from_millis(1500)) },
            ),
            (429, "no json", HttpErrorKind::Limited { retry_after: None }),
            (
                401,
                r#"{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}"#,
                HttpErrorKind::UnknownToken { soft_logout: true },
            ),
            (
                400,
                r#"{"errcode":"M_UNKNOWN","error":"One time key signed_curve25519:AAAA already exists. Old key: x"}"#,
                HttpErrorKind::OneTimeKeyExists,
            ),
            (
                401,
                r#"{"session":"s","flows":[{"stages":["m.login.password"]}]}"#,
                HttpErrorKind::Interactive(Interactive {
                    session: Some("s".to_owned()),
                    password_suffices: true,
                    needs_browser: false,
                    rejected: false,
                }),
            ),
        ];
        for (status, body, kind) in cases {
            assert_eq!(read(status, body), kind, "status {status}");
        }
    }

    #[test]
    fn error_never_repeats_the_servers_message() {
        let error =
            HttpError::from_answer(403, &http::HeaderMap::new(), br#"{"errcode":"M_FORBIDDEN","error":"canary"}"#);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn retry_after_header_counts_when_the_body_is_silent() {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"));
        let error = HttpError::from_answer(429, &headers, b"");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.is_transient());
    }
}
