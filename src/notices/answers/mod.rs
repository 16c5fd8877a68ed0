//! What senders are answered, in the dialect that they speak.
//!
//! An answer says what is so: that a notice arrived, that it is kept, or why nothing of it is. Only senders that try again
//! after 429 are told so; the others, which would drop their notice, are told 503. An answer holds no word of the sender but
//! those that its own dialect repeats, as JSON.

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use super::{Dialect, Posted, dialects::Refused};

/// Where one looks how a notice stands, before its id.
pub const DELIVERIES: &str = "/api/v1/deliveries/";

/// Whoever reads it may set up the source; a page in a browser learns nothing by it.
const ELSEWHERE: &str = "a source without a secret hears programs of this machine alone, at a loopback address, and neither \
                         proxies nor browsers: give it a secret with `sealbridge sources rotate`";

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is where it is to be, by the word of the servers there.
    Arrived {
        /// What it is called here.
        id: String,
        /// Where it is.
        events: Vec<Event>,
        /// Why it is not in others of its conversations, and will not be unless somebody retries it.
        refused: Vec<String>,
    },
    /// It is kept, and goes on its way.
    Queued {
        /// What it is called here.
        id: String,
    },
    /// It is well, and says nothing to anybody.
    Silent,
    /// Nothing could be read of it.
    Refused(Refused),
    /// It is not proven from whom it is.
    NotProven,
    /// Its source has no secret, and it is not from a program of this machine, as far as can be seen.
    Elsewhere,
    /// It may be said nowhere.
    ByPolicy {
        /// Why, in our own words.
        why: String,
    },
    /// Its name was given to something else.
    Conflict,
    /// Its sender asks more often than it may.
    TooMany {
        /// When it may come again.
        retry_after: Duration,
    },
    /// Nothing can be kept now.
    NotNow {
        /// When it may come again.
        retry_after: Duration,
        /// Why, in our own words.
        why: String,
    },
}

/// Where a notice arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is called there.
    pub id: String,
    /// Whether it is encrypted there. It is not where a server that the operator runs reads it.
    pub encrypted: bool,
}

/// Whether the senders of a dialect try again after 429, by their specification or in what they were seen to do.
#[must_use]
pub fn heeds_429(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Slack | Dialect::Discord | Dialect::StandardWebhooks | Dialect::Cloudevents)
}

impl Outcome {
    /// How HTTP calls it.
    #[must_use]
    pub fn status(&self, dialect: Dialect) -> StatusCode {
        match self {
            Self::Arrived { .. } | Self::Silent => StatusCode::OK,
            Self::Queued { .. } => StatusCode::ACCEPTED,
            Self::Refused(refused) => refused.status(),
            Self::NotProven => StatusCode::UNAUTHORIZED,
            Self::Elsewhere => StatusCode::FORBIDDEN,
            Self::ByPolicy { .. } | Self::Conflict => StatusCode::CONFLICT,
            Self::TooMany { .. } if heeds_429(dialect) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooMany { .. } | Self::NotNow { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Why nothing came of it.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Arrived { .. } | Self::Queued { .. } | Self::Silent => String::new(),
            Self::Refused(refused) => refused.to_string(),
            Self::NotProven => super::proof::NotProven.to_string(),
            Self::Elsewhere => ELSEWHERE.to_owned(),
            Self::ByPolicy { why } | Self::NotNow { why, .. } => why.clone(),
            Self::Conflict => "this idempotency key was used for something else".to_owned(),
            Self::TooMany { .. } => "more requests than this source may make".to_owned(),
        }
    }

    fn id(&self) -> Option<&str> {
        match self {
            Self::Arrived { id, .. } | Self::Queued { id } => Some(id),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after } | Self::NotNow { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether it arrived everywhere, or at least somewhere.
    fn arrived(&self) -> &'static str {
        match self {
            Self::Arrived { refused, .. } if !refused.is_empty() => "partly arrived",
            _ => "arrived",
        }
    }

    fn is_taken(&self) -> bool {
        matches!(self, Self::Arrived { .. } | Self::Queued { .. } | Self::Silent)
    }
}

/// An answer in a dialect.
#[must_use]
pub fn answer(dialect: Dialect, posted: &Posted<'_>, outcome: &Outcome) -> Response<Vec<u8>> {
    let (status, kind, body) = match dialect {
        Dialect::Slack => slack(dialect, outcome),
        Dialect::Discord => discord(posted, outcome),
        Dialect::Ntfy => ntfy(posted, outcome),
        Dialect::Gotify => gotify(posted, outcome),
        _ => own(dialect, outcome),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let mut put = |name: HeaderName, value: &str| {
        // What could not stand in a header is left out, whatever it is.
        HeaderValue::from_str(value).into_iter().for_each(|value| drop(headers.insert(&name, value)));
    };
    if let (Outcome::Queued { .. }, Some(id)) = (outcome, outcome.id()) {
        put(LOCATION, &format!("{DELIVERIES}{id}"));
    }
    if let Some(id) = outcome.id() {
        let state = if matches!(outcome, Outcome::Queued { .. }) { "queued" } else { outcome.arrived() };
        put(HeaderName::from_static("sealbridge-delivery"), &format!("{id}; {state}"));
    }
    if let Some(after) = outcome.retry_after() {
        put(RETRY_AFTER, &seconds(after).to_string());
    }
    if let Outcome::Refused(Refused::Method(methods)) = outcome {
        put(ALLOW, &methods.replace(" or ", ", "));
    }
    if status == StatusCode::UNAUTHORIZED {
        put(WWW_AUTHENTICATE, "Basic realm=\"sealbridge\"");
    }
    response
}

type Answer = (StatusCode, Option<&'static str>, Vec<u8>);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Whole seconds, and never none: it would be asked again at once.
fn seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

fn as_json(status: StatusCode, value: &Value) -> Answer {
    (status, Some(JSON), value.to_string().into_bytes())
}

/// Our own words, for senders that look at the status alone.
fn own(dialect: Dialect, outcome: &Outcome) -> Answer {
    let value = match outcome {
        Outcome::Arrived { id, events, refused } => {
            let ids: Vec<_> = events.iter().map(|event| &event.id).collect();
            let encrypted = events.iter().all(|event| event.encrypted);
            let mut value = json!({ "id": id, "status": outcome.arrived(), "encrypted": encrypted, "event_ids": ids });
            if !encrypted {
                let clear = events.iter().filter(|event| !event.encrypted).map(|event| event.id.as_str());
                value["in_clear"] = clear.collect::<Value>();
            }
            if !refused.is_empty() {
                // It is not to come again, since it would be said twice where it arrived.
                value["refused"] = json!(refused);
                value["delivery"] = json!(format!("{DELIVERIES}{id}"));
            }
            value
        }
        Outcome::Queued { id } => json!({ "id": id, "status": "queued", "delivery": format!("{DELIVERIES}{id}") }),
        Outcome::Silent => json!({ "status": "silent" }),
        other => json!({ "error": other.why() }),
    };
    as_json(outcome.status(dialect), &value)
}

/// Slack says `ok`, and otherwise why not, as plain text. Its senders take nothing but 200 for well.
fn slack(dialect: Dialect, outcome: &Outcome) -> Answer {
    if outcome.is_taken() {
        return (StatusCode::OK, Some(TEXT), b"ok".to_vec());
    }
    (outcome.status(dialect), Some(TEXT), outcome.why().into_bytes())
}

/// Discord says nothing, or the message if it is asked to wait. By the id in it the message can be changed.
fn discord(posted: &Posted<'_>, outcome: &Outcome) -> Answer {
    let parts: Vec<_> = posted.path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.last() == Some(&"slack") {
        return slack(Dialect::Discord, outcome);
    }
    if !outcome.is_taken() {
        // By this number its senders' libraries know that the message is not there.
        let code = if matches!(outcome, Outcome::Refused(Refused::NotHere(_))) { 10008 } else { 0 };
        let mut value = json!({ "code": code, "message": outcome.why() });
        if let Outcome::TooMany { retry_after } = outcome {
            value["retry_after"] = json!(retry_after.as_secs_f64());
            value["global"] = json!(false);
        }
        return as_json(outcome.status(Dialect::Discord), &value);
    }
    let query = url::form_urlencoded::parse(posted.query.unwrap_or_default().as_bytes());
    let waits =
        query.into_iter().any(|(key, value)| key == "wait" && (value.eq_ignore_ascii_case("true") || value == "1"));
    let changed = match parts.as_slice() {
        [.., "messages", id] => Some(*id),
        _ => None,
    };
    if !waits && changed.is_none() {
        return (StatusCode::NO_CONTENT, None, Vec::new());
    }
    let said = message_of(posted);
    // A changed message is called as it was.
    let id = changed.or(outcome.id()).unwrap_or_default();
    let value = json!({
        "id": id,
        "type": 0,
        "content": said.get("content").and_then(Value::as_str).unwrap_or_default(),
        "channel_id": "0",
        "webhook_id": "0",
        "author": { "id": "0", "username": "sealbridge", "bot": true, "discriminator": "0000", "avatar": null },
        "attachments": [], "embeds": [], "mentions": [], "mention_roles": [], "mention_everyone": false,
        "pinned": false, "tts": false, "flags": 0, "components": [],
        "timestamp": rfc3339(posted), "edited_timestamp": changed.map(|_| rfc3339(posted)),
    });
    as_json(StatusCode::OK, &value)
}

/// What a sender posted as JSON, for those who have it repeated to them.
fn message_of(posted: &Posted<'_>) -> Value {
    serde_json::from_slice(posted.body).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
}

fn rfc3339(posted: &Posted<'_>) -> String {
    mail_parser::DateTime::from_timestamp(posted.at.0.div_euclid(1000).max(0)).to_rfc3339()
}

/// ntfy repeats the message, with an id.
fn ntfy(posted: &Posted<'_>, outcome: &Outcome) -> Answer {
    if !outcome.is_taken() {
        let status = outcome.status(Dialect::Ntfy);
        let code = u32::from(status.as_u16()) * 100 + 1;
        return as_json(status, &json!({ "code": code, "http": status.as_u16(), "error": outcome.why() }));
    }
    let told = super::dialects::ntfy_message(posted);
    let mut value = json!({
        "id": outcome.id().unwrap_or_default(),
        "time": posted.at.0.div_euclid(1000),
        "event": "message",
    });
    for (key, told) in told {
        value[key] = told;
    }
    as_json(StatusCode::OK, &value)
}

/// Gotify repeats the message, with an id, which is a number there.
fn gotify(posted: &Posted<'_>, outcome: &Outcome) -> Answer {
    if !outcome.is_taken() {
        let status = outcome.status(Dialect::Gotify);
        let name = status.canonical_reason().unwrap_or_default();
        let value = json!({ "error": name, "errorCode": status.as_u16(), "errorDescription": outcome.why() });
        return as_json(status, &value);
    }
    let said = message_of(posted);
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let value = json!({
        "id": number(outcome.id().unwrap_or_default()),
        "appid": 1,
        "title": text("title"),
        "message": text("message"),
        "priority": said.get("priority").and_then(Value::as_i64).unwrap_or(0),
        "date": rfc3339(posted),
    });
    as_json(StatusCode::OK, &value)
}

/// A number that a name always has. Nothing is found by it.
fn number(id: &str) -> u32 {
    // FNV-1a.
    id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) >> 1
}

#[cfg(test)]
mod senders;
#[cfg(test)]
mod tests;
