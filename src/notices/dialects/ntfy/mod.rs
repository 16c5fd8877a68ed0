//! ntfy's publishing: words or a file at `/TOPIC`, JSON at `/`, or everything in the address.

mod asked;

use asked::Asked;
use http::Method;
use sealbridge_contract::SecretBytes;
use serde_json::Value;

use super::{
    MOST_TEXT, Refused, fields, request,
    saying::{Link, Saying, Words},
};
use crate::notices::{Attachment, Notice, Posted, Severity};

/// Reads one message.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    let path = request::path(posted);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [_, "json" | "sse" | "raw" | "ws" | "auth"] | ["v1" | "file", ..] => {
            return Err(Refused::NotHere("messages are only published here; nobody subscribes"));
        }
        [_, "publish" | "send" | "trigger"] => {
            request::only(posted, &[Method::GET, Method::POST, Method::PUT], "GET, POST or PUT")?;
        }
        [] | [_] => request::only(posted, &[Method::POST, Method::PUT], "POST or PUT")?,
        _ => return Err(Refused::NotHere("a message is published at /TOPIC or, as JSON, at /")),
    }
    let json = if path.is_empty() { as_json(posted)? } else { None };
    let asked = Asked::new(posted, json.as_ref());
    refuse_what_is_not_offered(&asked)?;
    let severity = severity(&asked.get("priority"))?;
    let mut saying = Saying { title: fields::one_line(&asked.get("title")), ..Saying::default() };
    let body = if json.is_some() { &[] } else { posted.body };
    let (words, file) = words_or_file(&asked, body);
    let markdown = matches!(asked.get("markdown").to_lowercase().as_str(), "1" | "yes" | "true")
        || request::sort(posted) == request::Sort::Markdown;
    saying.say(if markdown { Words::markdown(&words) } else { Words::plain(&words) });
    tag(&mut saying, &asked.list("tags"));
    saying.link("Open", &asked.get("click"));
    let attached = asked.get("attach");
    let name = asked.get("filename");
    saying.link(if name.is_empty() { "Attachment" } else { &name }, &attached);
    saying.links.extend(actions(&asked.get("actions")));
    if saying.is_empty() && file.is_none() {
        // ntfy's own word for a message without any.
        saying.text = "triggered".to_owned();
    }
    saying.event = topic(&path, json.as_ref());
    saying.body = json.unwrap_or_default();
    // "High" sounds there, too.
    let aloud = severity >= Severity::Warning;
    Ok(vec![Notice { aloud, ..saying.notice_with(severity, file.into_iter().collect()) }])
}

/// What ntfy's answer repeats of a message: only what it has.
pub(in crate::notices) fn repeated(posted: &Posted<'_>) -> Vec<(&'static str, Value)> {
    let path = request::path(posted);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let json = if path.is_empty() { as_json(posted).ok().flatten() } else { None };
    let asked = Asked::new(posted, json.as_ref());
    let (message, _) = words_or_file(&asked, if json.is_some() { &[] } else { posted.body });
    let mut told = vec![("topic", Value::from(topic(&path, json.as_ref()))), ("message", Value::from(message))];
    let title = fields::one_line(&asked.get("title"));
    if !title.is_empty() {
        told.push(("title", title.into()));
    }
    let priority = match severity(&asked.get("priority")) {
        Ok(Severity::Low) => 2,
        Ok(Severity::Warning) => 4,
        Ok(Severity::Critical) => 5,
        _ => 3,
    };
    told.push(("priority", priority.into()));
    let tags = asked.list("tags");
    if !tags.is_empty() {
        told.push(("tags", tags.into()));
    }
    told
}

/// Whether a request is one as ntfy's senders publish: JSON that names its topic at `/`, or else something other than JSON at
/// a topic as ntfy has them.
pub(in crate::notices) fn is_published(posted: &Posted<'_>) -> bool {
    let path = posted.path.strip_prefix('/').unwrap_or(posted.path);
    let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
    let topic = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match (topic.len(), rest.as_slice()) {
        (0, []) => true,
        (1..=64, [] | ["publish" | "send" | "trigger"]) => {
            topic.bytes().all(is_in) && request::sort(posted) != request::Sort::Json
        }
        _ => false,
    }
}

/// What the topic is called.
fn topic(path: &[&str], json: Option<&Value>) -> String {
    let given = path.first().map(|topic| fields::one_line(topic));
    given.or_else(|| Some(fields::line(json?, "topic"))).unwrap_or_default()
}

/// The message as JSON, which is published at `/`. Other bodies are words, since a source's own address is a topic, too.
fn as_json(posted: &Posted<'_>) -> Result<Option<Value>, Refused> {
    if !posted.body.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    match request::json(posted) {
        Ok(value) if value.get("topic").is_some_and(Value::is_string) => Ok(Some(value)),
        Ok(_) => Err(Refused::Unreadable("the JSON names no topic")),
        Err(refused) => Err(refused),
    }
}

fn refuse_what_is_not_offered(asked: &Asked<'_>) -> Result<(), Refused> {
    let not_offered = [
        ("delay", "delayed messages are not offered"),
        ("email", "mail is not sent from here"),
        ("call", "nobody is called from here"),
        ("template", "templates are the operator's, in the config of this source"),
    ];
    for (name, why) in not_offered {
        let given = asked.get(name);
        if !given.is_empty() && !matches!(given.as_str(), "0" | "no" | "false") {
            return Err(Refused::Senseless(why));
        }
    }
    if asked.get("unifiedpush") == "1" {
        return Err(Refused::Senseless("UnifiedPush is not offered"));
    }
    Ok(())
}

fn severity(priority: &str) -> Result<Severity, Refused> {
    Ok(match priority.trim().to_lowercase().as_str() {
        "1" | "min" | "2" | "low" => Severity::Low,
        "" | "0" | "3" | "default" => Severity::Info,
        "4" | "high" => Severity::Warning,
        "5" | "max" | "urgent" => Severity::Critical,
        // A header of a draft of HTTP's, which browsers send by themselves.
        other if other.starts_with("u=") || other == "i" => Severity::Info,
        _ => {
            return Err(Refused::Unreadable("the priority is none of 1 to 5, min, low, default, high, max and urgent"));
        }
    })
}

/// The words, and the file: what is no text, is too much of it, or has a file's name.
fn words_or_file(asked: &Asked<'_>, body: &[u8]) -> (String, Option<Attachment>) {
    let message = asked.get("message").replace("\\n", "\n");
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= MOST_TEXT);
    let is_file = !asked.get("filename").is_empty() && asked.get("attach").is_empty() && !body.is_empty();
    match text {
        Some(text) if !is_file => {
            let text = text.trim();
            (if text.is_empty() { message } else { text.to_owned() }, None)
        }
        _ => {
            let unnamed =
                if text.is_some() || std::str::from_utf8(body).is_ok() { "attachment.txt" } else { "attachment.bin" };
            let name = fields::one_line(&asked.get("filename"));
            let name = if name.is_empty() { unnamed.to_owned() } else { name };
            (message, Some(Attachment { name, mime: None, content: SecretBytes::from(body) }))
        }
    }
}

/// Tags that are names of emoji stand before the title, or else before the words; the others are named.
fn tag(saying: &mut Saying, tags: &[String]) {
    let mut emoji = String::new();
    for tag in tags {
        match emojis::get_by_shortcode(tag) {
            Some(found) => emoji.push_str(&format!("{found} ")),
            None => saying.tags.push(fields::one_line(tag)),
        }
    }
    if emoji.is_empty() {
        return;
    }
    if saying.title.is_empty() {
        saying.text.insert_str(0, &emoji);
        if !saying.html.is_empty() {
            // It begins with the tag of its first paragraph.
            let inside = saying.html.find('>').filter(|_| saying.html.starts_with("<p>")).map_or(0, |end| end + 1);
            saying.html.insert_str(inside, &emoji);
        }
    } else {
        saying.title.insert_str(0, &emoji);
    }
}

/// What may be opened of a message's actions. What else a phone would do is not offered in a room.
fn actions(given: &str) -> Vec<Link> {
    if given.trim_start().starts_with(['[', '{']) {
        let list: Value = serde_json::from_str(given).unwrap_or_default();
        let list = list.get("actions").cloned().unwrap_or(list);
        let views = list.as_array().into_iter().flatten().filter(|one| fields::text(one, "action") == "view");
        return views.filter_map(|one| Link::to(&fields::line(one, "label"), &fields::text(one, "url"))).collect();
    }
    given.split([';', '\n']).filter_map(simple_action).collect()
}

/// `view, Open, https://…` or `action=view, label=Open, url=https://…`
fn simple_action(given: &str) -> Option<Link> {
    let mut parts = [String::new(), String::new(), String::new()];
    for (at, part) in given.split(',').map(str::trim).enumerate() {
        let (place, value) = match part.split_once('=') {
            Some(("action", value)) => (0, value),
            Some(("label", value)) => (1, value),
            Some(("url", value)) => (2, value),
            _ => (at, part),
        };
        if let Some(slot) = parts.get_mut(place) {
            *slot = value.trim_matches(['"', '\'']).to_owned();
        }
    }
    let [action, label, url] = parts;
    (action == "view").then(|| Link::to(&label, &url))?
}
