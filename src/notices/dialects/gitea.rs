//! Gitea's and Forgejo's webhooks, and those of Gogs, which came before them.

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
    let of = |what: &str| {
        let names = ["x-forgejo", "x-gitea", "x-gogs"].map(|forge| format!("{forge}-{what}"));
        names.iter().find_map(|name| request::header(posted, name).map(std::borrow::Cow::into_owned))
    };
    // `pull_request_assign` is an event there, and `assigned` its action all the same.
    let event = of("event").unwrap_or_else(|| forge::guessed(&body).to_owned());
    let event = match event.as_str() {
        "ping" => return Ok(Vec::new()),
        "issue_assign" | "issue_label" | "issue_milestone" => "issues",
        "pull_request_assign"
        | "pull_request_label"
        | "pull_request_milestone"
        | "pull_request_sync"
        | "pull_request_review_request" => "pull_request",
        "pull_request_review_approved" => "pull_request_approved",
        "pull_request_review_rejected" => "pull_request_rejected",
        "pull_request_review_comment" => "pull_request_comment",
        other => other,
    };
    let notice = forge::notice(event, body).map(|notice| Notice { id: of("delivery"), ..notice });
    Ok(notice.into_iter().collect())
}
