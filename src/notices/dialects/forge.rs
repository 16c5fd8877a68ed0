//! What GitHub, Gitea and Forgejo tell of a repository, which is nearly the same.

use serde_json::Value;

use super::{
    fields,
    saying::{Item, Saying, State, Words},
};
use crate::notices::{Notice, Severity};

/// So many commits of a push are named.
const MOST_COMMITS: usize = 10;

/// Where the thing stands in the body that an event is about, by the event's name, and what it is called.
const ABOUT: &[(&str, &str, &str)] = &[
    ("issues", "issue", "issue"),
    ("issue_comment", "issue", "issue"),
    ("pull_request", "pull_request", "pull request"),
    ("pull_request_review", "pull_request", "pull request"),
    ("pull_request_review_comment", "pull_request", "pull request"),
    ("pull_request_comment", "pull_request", "pull request"),
    ("pull_request_approved", "pull_request", "pull request"),
    ("pull_request_rejected", "pull_request", "pull request"),
    ("discussion", "discussion", "discussion"),
    ("discussion_comment", "discussion", "discussion"),
    ("release", "release", "release"),
    ("milestone", "milestone", "milestone"),
    ("label", "label", "label"),
    ("dependabot_alert", "alert", "Dependabot alert"),
    ("code_scanning_alert", "alert", "code scanning alert"),
    ("secret_scanning_alert", "alert", "secret scanning alert"),
    ("repository_vulnerability_alert", "alert", "vulnerability alert"),
    ("package", "package", "package"),
    ("registry_package", "registry_package", "package"),
];

/// What an event says. `None`: it is told of, and says nothing to anybody.
pub(super) fn notice(event: &str, body: Value) -> Option<Notice> {
    let (mut saying, severity) = match event {
        "push" => (push(&body)?, Severity::Info),
        "create" | "delete" => (reference(event, &body), Severity::Info),
        "fork" => (simple(&body, "forked the repository to", &fields::line(&body, "forkee.full_name")), Severity::Info),
        "star" | "watch" => (simple(&body, "starred the repository", ""), Severity::Low),
        "workflow_run" => run(&body, "workflow_run", "workflow")?,
        "check_suite" => run(&body, "check_suite", "checks")?,
        "deployment_status" => deployment(&body),
        "status" => status(&body)?,
        // Each is a part of a run that is told of as a whole.
        "workflow_job" | "check_run" => return None,
        _ => {
            let grave = matches!(fields::text(&body, "alert.security_advisory.severity").as_str(), "high" | "critical");
            (about(event, &body), if grave { Severity::Warning } else { Severity::Info })
        }
    };
    event.clone_into(&mut saying.event);
    saying.body = body;
    Some(saying.notice(severity))
}

/// Which event a body tells of, if no header says so.
pub(super) fn guessed(body: &Value) -> &'static str {
    let has = |key: &str| body.get(key).is_some_and(|value| !value.is_null());
    match () {
        () if has("zen") && has("hook") => "ping",
        () if has("commits") && has("ref") => "push",
        () if has("workflow_run") => "workflow_run",
        () if has("check_suite") => "check_suite",
        () if has("deployment_status") => "deployment_status",
        () if has("pull_request") && has("review") => "pull_request_review",
        () if has("pull_request") => "pull_request",
        () if has("issue") && has("comment") => "issue_comment",
        () if has("issue") => "issues",
        () if has("discussion") => "discussion",
        () if has("release") => "release",
        () if has("alert") => "dependabot_alert",
        () if has("ref") && has("ref_type") => "create",
        () if has("forkee") => "fork",
        () => "event",
    }
}

/// Who did it.
fn who(body: &Value) -> String {
    let names = ["sender.login", "sender.username", "pusher.name", "pusher.login", "pusher.username"];
    let found = names.iter().map(|path| fields::line(body, path)).find(|name| !name.is_empty());
    found.unwrap_or_else(|| "somebody".to_owned())
}

/// `[owner/name] who `: how the title of everything begins that is told of a repository.
fn begin(body: &Value) -> String {
    let places = ["repository.full_name", "organization.login", "repository.name"];
    let place = places.iter().map(|path| fields::line(body, path)).find(|name| !name.is_empty());
    place.map_or_else(|| format!("{} ", who(body)), |place| format!("[{place}] {} ", who(body)))
}

fn simple(body: &Value, did: &str, what: &str) -> Saying {
    let title = fields::one_line(&format!("{}{did} {what}", begin(body)));
    Saying { title, url: fields::link_at(body, "repository.html_url"), ..Saying::default() }
}

/// `refs/heads/main` without what says that it is a branch.
pub(super) fn short(reference: &str) -> &str {
    reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/")).unwrap_or(reference)
}

fn push(body: &Value) -> Option<Saying> {
    let reference = fields::line(body, "ref");
    let is = |key: &str| body.get(key) == Some(&Value::Bool(true));
    let nothing = |key: &str| {
        let id = fields::text(body, key);
        !id.is_empty() && id.bytes().all(|byte| byte == b'0')
    };
    let what = if reference.starts_with("refs/tags/") { "tag" } else { "branch" };
    if is("deleted") || nothing("after") {
        return Some(simple(body, &format!("deleted the {what}"), short(&reference)));
    }
    let commits = fields::list(body, "commits");
    let count = fields::number(body, "total_commits").and_then(|count| usize::try_from(count).ok());
    let count = count.unwrap_or(commits.len());
    let created = is("created") || nothing("before");
    let did = match (created, count) {
        (true, 0) => format!("pushed the new {what}"),
        (true, _) => format!("pushed {} to the new {what}", commits_of(count)),
        (false, 0) if !is("forced") => return None,
        (false, _) if is("forced") => format!("force-pushed {} to", commits_of(count)),
        (false, _) => format!("pushed {} to", commits_of(count)),
    };
    let mut saying = simple(body, &did, short(&reference));
    let compare = ["compare", "compare_url"].map(|key| fields::link_at(body, key));
    saying.url = compare.into_iter().find(|url| !url.is_empty()).unwrap_or(saying.url);
    saying.items = commits.iter().take(MOST_COMMITS).map(commit).collect();
    more(&mut saying, count);
    Some(saying)
}

/// `3 commits`
pub(super) fn commits_of(count: usize) -> String {
    if count == 1 { "1 commit".to_owned() } else { format!("{count} commits") }
}

/// Says how many commits there are that are not named.
pub(super) fn more(saying: &mut Saying, count: usize) {
    let unnamed = count.saturating_sub(saying.items.len());
    if unnamed > 0 {
        saying.footer = format!("and {unnamed} more");
    }
}

/// A commit in a list.
pub(super) fn commit(commit: &Value) -> Item {
    let author = ["author.username", "author.name"].map(|path| fields::line(commit, path));
    let author = author.into_iter().find(|name| !name.is_empty());
    let message = fields::first_line(&fields::text(commit, "message"));
    let text = author.map_or(message.clone(), |author| format!("{message} ({author})"));
    let id: String = fields::line(commit, "id").chars().take(8).collect();
    Item { label: id, url: fields::link_at(commit, "url"), text }
}

fn reference(event: &str, body: &Value) -> Saying {
    let kind = fields::line(body, "ref_type");
    let did = if event == "create" { "created the" } else { "deleted the" };
    simple(body, &format!("{did} {kind}"), short(&fields::line(body, "ref")))
}

/// A word for how something ended, and how much that matters. `None`: it has not ended.
pub(super) fn outcome(ended: &str) -> Option<(Severity, Option<State>)> {
    Some(match ended {
        "success" | "completed" => (Severity::Info, State::well("Success")),
        "failure" | "failed" | "error" | "startup_failure" => (Severity::Critical, State::unwell("Failed")),
        "timed_out" => (Severity::Critical, State::unwell("Timed out")),
        "action_required" => (Severity::Warning, State::unwell("Action required")),
        "cancelled" | "canceled" => (Severity::Info, State::unwell("Cancelled")),
        "neutral" | "skipped" | "stale" => (Severity::Low, None),
        _ => return None,
    })
}

fn run(body: &Value, key: &str, what: &str) -> Option<(Saying, Severity)> {
    let run = body.get(key)?;
    let (severity, state) = outcome(&fields::text(run, "conclusion"))?;
    let name = ["name", "display_title", "app.name"].map(|path| fields::line(run, path));
    let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let place = fields::line(body, "repository.full_name");
    let title = fields::one_line(&format!("[{place}] {what} {name}"));
    let mut saying = Saying { title, state, url: fields::link_at(run, "html_url"), ..Saying::default() };
    saying.field("Branch", fields::line(run, "head_branch"));
    saying.field("Commit", fields::first_line(&fields::text(run, "head_commit.message")));
    saying.field("Started by", fields::line(run, "actor.login"));
    Some((saying, severity))
}

fn deployment(body: &Value) -> (Saying, Severity) {
    let (severity, state) = outcome(&fields::text(body, "deployment_status.state")).unwrap_or_default();
    let place = fields::line(body, "deployment.environment");
    let mut saying = simple(body, "deployed to", &place);
    saying.url = fields::link_at(body, "deployment_status.target_url");
    if state.is_none() {
        saying.field("State", fields::line(body, "deployment_status.state"));
    }
    saying.state = state;
    (saying, severity)
}

fn status(body: &Value) -> Option<(Saying, Severity)> {
    let (severity, state) = outcome(&fields::text(body, "state"))?;
    let mut saying = simple(body, "set the state of", &fields::line(body, "sha").chars().take(8).collect::<String>());
    saying.url = fields::link_at(body, "target_url");
    saying.field("By", fields::line(body, "context"));
    saying.say(Words::plain(&fields::text(body, "description")));
    saying.state = state;
    Some((saying, severity))
}

/// Something that was opened, closed, spoken of, labelled, …
fn about(event: &str, body: &Value) -> Saying {
    let action = fields::line(body, "action");
    let Some((_, key, what)) = ABOUT.iter().find(|(name, ..)| *name == event) else {
        let told = format!("{event} {action}");
        let told = format!("{}: {}", begin(body).trim_end(), told.replace('_', " "));
        let url = fields::link_at(body, "repository.html_url");
        return Saying { title: fields::one_line(&told), url, ..Saying::default() };
    };
    let thing = body.get(*key).unwrap_or(&Value::Null);
    let spoken = ["comment", "review"].iter().find_map(|key| body.get(key).filter(|value| value.is_object()));
    let did = did(event, &action, thing, spoken);
    let named = name_of(thing, what);
    let mut saying = Saying { title: fields::one_line(&format!("{}{did} {named}", begin(body))), ..Saying::default() };
    let place = spoken.unwrap_or(thing);
    let url = [fields::link_at(place, "html_url"), fields::link_at(place, "url"), fields::link_at(thing, "html_url")];
    saying.url = url.into_iter().find(|url| !url.is_empty()).unwrap_or_default();
    let opens = matches!(action.as_str(), "opened" | "created" | "published" | "submitted" | "reviewed");
    if opens {
        let written = ["body", "content"].map(|path| fields::text(place, path));
        let written = written.into_iter().find(|text| !text.trim().is_empty());
        saying.say(Words::excerpt(written.as_deref().unwrap_or_default()));
    }
    saying.field("Label", fields::line(body, "label.name"));
    saying.field("Assigned to", fields::line(body, "assignee.login"));
    saying.field("Severity", fields::line(thing, "security_advisory.severity"));
    saying.field("Package", fields::line(thing, "dependency.package.name"));
    saying
}

fn did(event: &str, action: &str, thing: &Value, spoken: Option<&Value>) -> String {
    let merged = thing.get("merged") == Some(&Value::Bool(true));
    let review = spoken.map(|review| fields::text(review, "state").to_lowercase()).unwrap_or_default();
    match (event, action) {
        ("pull_request", "closed") if merged => "merged",
        ("pull_request", "synchronize" | "synchronized") => "pushed to",
        ("pull_request_approved", _) => "approved",
        ("pull_request_rejected", _) => "asked for changes of",
        ("pull_request_review", "submitted" | "reviewed") => match review.as_str() {
            "approved" => "approved",
            "changes_requested" => "asked for changes of",
            _ => "reviewed",
        },
        (_, "created" | "reviewed") if spoken.is_some() => "commented on",
        (_, "edited" | "deleted") if spoken.is_some() => return format!("{action} a comment on"),
        (_, "") => "told of",
        _ => return action.replace('_', " "),
    }
    .to_owned()
}

/// `issue #3: It fails`
fn name_of(thing: &Value, what: &str) -> String {
    let number = fields::number(thing, "number").map(|number| format!(" #{number}")).unwrap_or_default();
    let names = ["title", "name", "tag_name", "security_advisory.summary", "rule.description"];
    let name = names.iter().map(|path| fields::line(thing, path)).find(|name| !name.is_empty());
    match name {
        None => format!("{what}{number}"),
        Some(name) if number.is_empty() => format!("{what} {name}"),
        Some(name) => format!("{what}{number}: {name}"),
    }
}
