//! Hookshot's generic webhooks: `{text, html, username}` as JSON or form, or anything at all.

use http::Method;
use serde_json::Value;

use super::{
    Refused, fields, raw,
    request::{self, Sort},
    saying::{Saying, Words},
    xml,
};
use crate::notices::{Notice, Posted, Severity};

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only(posted, &[Method::POST, Method::PUT], "POST or PUT")?;
    let mut otherwise: fn(Value) -> Saying = raw::anything;
    let body = match request::sort(posted) {
        Sort::Json => request::json(posted)?,
        Sort::Form => {
            otherwise = raw::of_form;
            raw::form_or_json(posted)?
        }
        Sort::Multipart => request::object(request::multipart(posted)?.0),
        Sort::Xml => xml::read(request::text(posted)?)?,
        Sort::Html => serde_json::json!({ "html": request::text(posted)? }),
        _ => serde_json::from_slice(posted.body)
            .ok()
            .filter(Value::is_object)
            .map_or_else(|| request::text(posted).map(|text| Value::String(text.to_owned())), Ok)?,
    };
    let saying = saying(body, otherwise);
    if saying.is_empty() {
        return Err(Refused::Senseless("the request says nothing"));
    }
    Ok(vec![saying.notice(Severity::Info)])
}

/// What it says, or `otherwise` of what is not hookshot's own.
fn saying(body: Value, otherwise: fn(Value) -> Saying) -> Saying {
    let (text, html) = (fields::text(&body, "text"), fields::text(&body, "html"));
    if text.trim().is_empty() && html.trim().is_empty() {
        return otherwise(body);
    }
    let mut saying = Saying { author: fields::line(&body, "username"), ..Saying::default() };
    saying.say(match (text.as_str(), html.as_str()) {
        (text, "") => Words::markdown(text),
        ("", html) => Words::html(html),
        (text, html) => Words { plain: fields::bounded(text), ..Words::html(html) },
    });
    saying.body = body;
    saying
}
