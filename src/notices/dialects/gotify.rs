//! Gotify's messages, `POST /message`.

use super::{
    Refused, fields,
    request::{self, Sort},
    saying::{Saying, Words},
};
use crate::notices::{Notice, Posted, Severity};

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    let path = request::path(posted);
    if !matches!(path.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), [] | ["message"]) {
        return Err(Refused::NotHere("messages are posted at /message; nothing else of Gotify's is offered"));
    }
    request::only_post(posted)?;
    let body = match request::sort(posted) {
        Sort::Form if !posted.body.trim_ascii_start().starts_with(b"{") => request::object(request::form(posted)?),
        Sort::Multipart => request::object(request::multipart(posted)?.0),
        _ => request::json_object(posted)?,
    };
    let message = fields::text(&body, "message");
    if message.trim().is_empty() {
        return Err(Refused::Unreadable("the message is required"));
    }
    // Its keys have colons in them, so they are no path.
    let extra = |key: &str| body.get("extras").and_then(|extras| extras.get(key)).cloned().unwrap_or_default();
    let markdown = fields::text(&extra("client::display"), "contentType") == "text/markdown";
    let mut saying = Saying { title: fields::line(&body, "title"), ..Saying::default() };
    saying.say(if markdown { Words::markdown(&message) } else { Words::plain(&message) });
    let notification = extra("client::notification");
    saying.link("Open", &fields::text(&notification, "click.url"));
    saying.link("Picture", &fields::text(&notification, "bigImageUrl"));
    let severity = match fields::number(&body, "priority") {
        None => Severity::Info,
        Some(..=0) => Severity::Low,
        Some(1..=4) => Severity::Info,
        Some(5..=7) => Severity::Warning,
        Some(8..) => Severity::Critical,
    };
    saying.body = body;
    Ok(vec![saying.notice(severity)])
}
