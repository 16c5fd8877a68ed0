//! GitHub's webhooks, as JSON or as a form with JSON in it.

use super::{
    Refused, forge,
    request::{self, Sort},
    slack,
};
use crate::notices::{Notice, Posted};

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = match request::sort(posted) {
        Sort::Form if !posted.body.trim_ascii_start().starts_with(b"{") => slack::payload(request::form(posted)?)?,
        _ => request::json_object(posted)?,
    };
    let event = request::header(posted, "x-github-event");
    let event = event.as_deref().unwrap_or_else(|| forge::guessed(&body));
    if event == "ping" {
        return Ok(Vec::new());
    }
    let notice = forge::notice(event, body).map(|notice| Notice {
        id: request::header(posted, "x-github-delivery").map(std::borrow::Cow::into_owned),
        ..notice
    });
    Ok(notice.into_iter().collect())
}
