//! Slack's incoming webhooks, and those of Mattermost and Rocket.Chat, which are parts of them.

use serde_json::Value;

use super::{
    Refused, fields, mrkdwn,
    request::{self, Sort},
    saying::{Field, Link, Saying, Section, Words},
    slack_blocks,
};
use crate::notices::{Notice, Posted, Severity};

/// Slack takes so many attachments at most.
const MOST_SECTIONS: usize = 100;

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = match request::sort(posted) {
        Sort::Form if !posted.body.trim_ascii_start().starts_with(b"{") => payload(request::form(posted)?)?,
        Sort::Multipart => payload(request::multipart(posted)?.0)?,
        _ => request::json_object(posted)?,
    };
    if fields::list(&body, "attachments").len() > MOST_SECTIONS {
        return Err(Refused::TooMuch("more than 100 attachments in one message"));
    }
    let (saying, severity) = saying(body);
    if saying.is_empty() {
        return Err(Refused::Senseless("there is no text"));
    }
    Ok(vec![saying.notice(severity)])
}

/// The JSON in a form's one field.
pub(super) fn payload(fields: request::Fields) -> Result<Value, Refused> {
    let payload = fields.into_iter().find(|(key, _)| key == "payload" || key == "payload_json");
    let (_, payload) = payload.ok_or(Refused::Senseless("the form has no payload"))?;
    let value: Value = request::json_of(payload.as_bytes())?;
    if value.is_object() { Ok(value) } else { Err(Refused::Senseless("the JSON is no object")) }
}

fn saying(body: Value) -> (Saying, Severity) {
    let mut saying = Saying { author: fields::line(&body, "username"), ..Saying::default() };
    let blocks = slack_blocks::read(fields::list(&body, "blocks"));
    if blocks.words.plain.is_empty() {
        // Where there are blocks, the text is what stands in their place where none are shown.
        saying.say(mrkdwn::read(&fields::text(&body, "text")));
    } else {
        saying.say(blocks.words);
    }
    saying.links = blocks.links;
    let attachments = fields::list(&body, "attachments");
    saying.sections = attachments.iter().filter_map(|one| section(one).if_any()).collect();
    let severity = attachments.iter().map(|one| severity(&fields::text(one, "color"))).max().unwrap_or_default();
    saying.body = body;
    (saying, severity)
}

/// What Slack's names of colours mean to those who use them.
fn severity(colour: &str) -> Severity {
    match colour {
        "danger" => Severity::Critical,
        "warning" => Severity::Warning,
        _ => Severity::Info,
    }
}

fn colour(given: &str) -> String {
    let named = match given {
        "good" => "#2eb67d",
        "warning" => "#c77c02",
        "danger" => "#d0312d",
        other => other,
    };
    let hex = named.trim_start_matches('#');
    let is_hex = hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { format!("#{hex}").to_lowercase() } else { String::new() }
}

fn section(attachment: &Value) -> Section {
    let blocks = slack_blocks::read(fields::list(attachment, "blocks"));
    let mut words = mrkdwn::read(&fields::text(attachment, "text"));
    let title = fields::one_line(&mrkdwn::read(&fields::text(attachment, "title")).plain);
    let told: Vec<_> = fields::list(attachment, "fields").iter().map(field).collect();
    if !blocks.words.plain.is_empty() {
        words = blocks.words;
    } else if words.plain.is_empty() && title.is_empty() && told.is_empty() {
        words = Words::plain(&mrkdwn::read(&fields::text(attachment, "fallback")).plain);
    }
    let mut links = blocks.links;
    for action in fields::list(attachment, "actions") {
        links.extend(Link::to(&fields::line(action, "text"), &fields::text(action, "url")));
    }
    links.extend(Link::to("Picture", &fields::text(attachment, "image_url")));
    Section {
        before: mrkdwn::read(&fields::text(attachment, "pretext")).plain,
        author: fields::line(attachment, "author_name"),
        title,
        url: fields::link_at(attachment, "title_link"),
        text: words.plain,
        html: words.html,
        colour: colour(&fields::text(attachment, "color")),
        fields: told,
        links,
        footer: fields::one_line(&mrkdwn::read(&fields::text(attachment, "footer")).plain),
    }
}

fn field(field: &Value) -> Field {
    let value = mrkdwn::read(&fields::text(field, "value"));
    let name = fields::one_line(&mrkdwn::read(&fields::text(field, "title")).plain);
    Field { name, value: value.plain, html: value.html }
}
