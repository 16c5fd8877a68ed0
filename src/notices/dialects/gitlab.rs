//! GitLab's webhooks of projects, groups and the whole system.

use serde_json::Value;

use super::{
    Refused, fields, forge, request,
    saying::{Saying, State, Words},
};
use crate::notices::{Notice, Posted, Severity};

/// So many commits of a push are named.
const MOST_COMMITS: usize = 10;

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = request::json_object(posted)?;
    let kind =
        [fields::text(&body, "object_kind"), fields::text(&body, "event_name"), fields::text(&body, "event_type")];
    let Some(kind) = kind.into_iter().find(|kind| !kind.is_empty()) else {
        return Err(Refused::Senseless("the JSON names no kind of event"));
    };
    let read = match kind.as_str() {
        "push" | "tag_push" => push(&body, &kind).map(|saying| (saying, Severity::Info)),
        "pipeline" => pipeline(&body),
        "build" => job(&body),
        "deployment" => deployment(&body),
        "note" => Some((note(&body), Severity::Info)),
        "release" => Some((release(&body), Severity::Info)),
        _ => Some((about(&body, &kind), Severity::Info)),
    };
    let Some((mut saying, severity)) = read else { return Ok(Vec::new()) };
    saying.event = kind;
    saying.body = body;
    let id = ["idempotency-key", "webhook-id"].iter().find_map(|name| request::header(posted, name));
    let id = id.map(std::borrow::Cow::into_owned);
    Ok(vec![Notice { id, ..saying.notice(severity) }])
}

fn who(body: &Value) -> String {
    let names = ["user.name", "user_name", "user.username", "user_username"];
    let found = names.iter().map(|path| fields::line(body, path)).find(|name| !name.is_empty());
    found.unwrap_or_else(|| "somebody".to_owned())
}

fn place(body: &Value) -> String {
    let names = ["project.path_with_namespace", "project_name", "group.full_path", "group_path", "project.name"];
    names.iter().map(|path| fields::line(body, path)).find(|name| !name.is_empty()).unwrap_or_default()
}

fn titled(body: &Value, what: &str) -> Saying {
    let place = place(body);
    let place = if place.is_empty() { String::new() } else { format!("[{place}] ") };
    Saying { title: fields::one_line(&format!("{place}{what}")), ..Saying::default() }
}

fn push(body: &Value, kind: &str) -> Option<Saying> {
    let reference = fields::line(body, "ref");
    let (name, what) = (forge::short(&reference), if kind == "tag_push" { "tag" } else { "branch" });
    let nothing = |key: &str| {
        let id = fields::text(body, key);
        !id.is_empty() && id.bytes().all(|byte| byte == b'0')
    };
    let commits = fields::list(body, "commits");
    let count = fields::number(body, "total_commits_count").and_then(|count| usize::try_from(count).ok());
    let count = count.unwrap_or(commits.len());
    let did = match (nothing("after"), nothing("before"), count) {
        (true, ..) => format!("deleted the {what}"),
        (_, true, _) if kind == "tag_push" => "pushed the tag".to_owned(),
        (_, true, 0) => format!("pushed the new {what}"),
        (_, true, _) => format!("pushed {} to the new {what}", forge::commits_of(count)),
        (_, false, 0) => return None,
        (_, false, _) => format!("pushed {} to", forge::commits_of(count)),
    };
    let mut saying = titled(body, &format!("{} {did} {name}", who(body)));
    saying.url = fields::link_at(body, "project.web_url");
    if !nothing("after") && kind == "push" {
        saying.items = commits.iter().take(MOST_COMMITS).map(forge::commit).collect();
        forge::more(&mut saying, count);
    }
    Some(saying)
}

fn pipeline(body: &Value) -> Option<(Saying, Severity)> {
    let (severity, state) = forge::outcome(&fields::text(body, "object_attributes.status"))?;
    let number = fields::number(body, "object_attributes.id").unwrap_or_default();
    let name = fields::line(body, "object_attributes.name");
    let mut saying = titled(body, &format!("pipeline #{number} {name}"));
    let url = fields::link_at(body, "object_attributes.url");
    let web = fields::link_at(body, "project.web_url");
    saying.url = if url.is_empty() && !web.is_empty() { format!("{web}/-/pipelines/{number}") } else { url };
    saying.state = state;
    saying.field("Branch", fields::line(body, "object_attributes.ref"));
    saying.field("Commit", fields::first_line(&fields::text(body, "commit.message")));
    saying.field("Started by", who(body));
    let failed = fields::list(body, "builds").iter().filter(|job| fields::text(job, "status") == "failed");
    let failed: Vec<_> = failed.map(|job| fields::line(job, "name")).take(MOST_COMMITS).collect();
    saying.field("Failed jobs", failed.join(", "));
    Some((saying, severity))
}

/// A job alone. That one succeeded is told of with its pipeline.
fn job(body: &Value) -> Option<(Saying, Severity)> {
    let (severity, state) = forge::outcome(&fields::text(body, "build_status"))?;
    if state.as_ref().is_none_or(|state| state.good) {
        return None;
    }
    let mut saying = titled(body, &format!("job {}", fields::line(body, "build_name")));
    saying.state = state;
    saying.field("Branch", fields::line(body, "ref"));
    saying.field("Stage", fields::line(body, "build_stage"));
    saying.field("Why", fields::line(body, "build_failure_reason").replace('_', " "));
    Some((saying, severity))
}

fn deployment(body: &Value) -> Option<(Saying, Severity)> {
    let (severity, state) = forge::outcome(&fields::text(body, "status"))?;
    let mut saying = titled(body, &format!("{} deployed to {}", who(body), fields::line(body, "environment")));
    saying.url = fields::link_at(body, "deployable_url");
    saying.state = state;
    saying.field("Commit", fields::line(body, "commit_title"));
    Some((saying, severity))
}

/// `issue #3: It fails`, of what stands there.
fn name_of(thing: &Value, what: &str) -> String {
    let sign = if what == "merge request" { "!" } else { "#" };
    let number = fields::number(thing, "iid").map(|number| format!(" {sign}{number}")).unwrap_or_default();
    match fields::line(thing, "title") {
        title if title.is_empty() => format!("{what}{number}"),
        title => format!("{what}{number}: {title}"),
    }
}

fn note(body: &Value) -> Saying {
    let kinds = [("merge_request", "merge request"), ("issue", "issue"), ("snippet", "snippet")];
    let on = kinds.iter().find_map(|(key, what)| Some(name_of(body.get(*key).filter(|on| on.is_object())?, what)));
    let commit = || {
        let id: String = fields::line(body, "commit.id").chars().take(8).collect();
        format!("commit {id}")
    };
    let mut saying = titled(body, &format!("{} commented on {}", who(body), on.unwrap_or_else(commit)));
    saying.url = fields::link_at(body, "object_attributes.url");
    saying.say(Words::excerpt(&fields::text(body, "object_attributes.note")));
    saying
}

fn release(body: &Value) -> Saying {
    let (name, action) = (fields::line(body, "name"), fields::line(body, "action"));
    let did = match action.as_str() {
        "create" => "published",
        "update" => "changed",
        "delete" => "deleted",
        _ => "told of",
    };
    let mut saying = titled(body, &format!("{did} the release {name}"));
    saying.url = fields::link_at(body, "url");
    if action == "create" {
        saying.say(Words::excerpt(&fields::text(body, "description")));
    }
    saying
}

/// Something that was opened, closed, merged, …
fn about(body: &Value, kind: &str) -> Saying {
    let thing = body.get("object_attributes").unwrap_or(body);
    let action = fields::line(thing, "action");
    let did = match action.as_str() {
        "open" => "opened",
        "close" => "closed",
        "reopen" => "reopened",
        "update" => "changed",
        "merge" => "merged",
        "approved" | "approval" => "approved",
        "unapproved" | "unapproval" => "took back the approval of",
        "create" => "created",
        "delete" => "deleted",
        _ => "told of",
    };
    let what = kind.replace('_', " ");
    let mut saying = titled(body, &format!("{} {did} {}", who(body), name_of(thing, &what)));
    saying.url = fields::link_at(thing, "url");
    if matches!(action.as_str(), "open" | "create") {
        let written = [fields::text(thing, "description"), fields::text(thing, "content")];
        let written = written.into_iter().find(|text| !text.trim().is_empty());
        saying.say(Words::excerpt(written.as_deref().unwrap_or_default()));
    }
    if body.get("object_attributes").and_then(|thing| thing.get("confidential")) == Some(&Value::Bool(true)) {
        saying.field("Confidential", "yes");
    }
    if action == "merge" {
        saying.state = State::well("Merged");
    }
    saying
}
