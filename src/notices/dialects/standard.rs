//! Standard Webhooks: `{type, timestamp, data}`, which many services send alike.

use serde_json::Value;

use super::{Refused, fields, raw, request, saying::Saying};
use crate::notices::{Notice, Posted, Severity};

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = request::json_object(posted)?;
    let kind = fields::line(&body, "type");
    let mut saying = match body.get("data").filter(|data| data.is_object() && !kind.is_empty()) {
        Some(data) => raw::anything(data.clone()),
        None => raw::anything(body.clone()),
    };
    if !kind.is_empty() {
        saying.title = titled(&kind, &saying);
        saying.event = kind;
    }
    saying.body = body;
    if saying.is_empty() {
        return Err(Refused::Senseless("the request says nothing"));
    }
    let severity = raw::named(&fields::text(&saying.body, "data.severity")).unwrap_or(Severity::Info);
    let id = request::header(posted, "webhook-id").map(std::borrow::Cow::into_owned);
    Ok(vec![Notice { id, ..saying.notice(severity) }])
}

/// The kind of event, and behind it what has a title of its own.
pub(super) fn titled(kind: &str, saying: &Saying) -> String {
    if saying.title.is_empty() { kind.to_owned() } else { fields::one_line(&format!("{kind}: {}", saying.title)) }
}

/// Whether JSON says anything at all.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}
