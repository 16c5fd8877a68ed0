//! Whatever is posted: words, a form, a file, or any JSON. Without a template of the operator's own it is shown as well as
//! may be guessed: what looks like a title and a text, or else the values with their names.

use std::borrow::Cow;

use http::Method;
use sealbridge_contract::SecretBytes;
use serde_json::Value;

use super::{
    Refused, fields,
    request::{self, Sort},
    saying::{Field, Saying, Words},
    xml,
};
use crate::notices::{Attachment, Notice, Posted, Severity};

/// So many values are shown of JSON that is not known.
const MOST_VALUES: usize = 20;
/// So many are counted.
const MOST_COUNTED: usize = 1_000;
/// They are looked for so deep.
const DEEPEST: usize = 4;

/// What a title is mostly called, and what the words are.
const TITLES: [&str; 3] = ["title", "subject", "headline"];
const TEXTS: [&str; 8] =
    ["message", "text", "msg", "content", "body", "detailedMessage.markdown", "description", "summary"];
/// What else hookshot's webhooks know.
const HOOKSHOTS: [&str; 2] = ["html", "username"];

/// Reads anything.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only(posted, &[Method::POST, Method::PUT], "POST or PUT")?;
    let mut files = Vec::new();
    let mut saying = match request::sort(posted) {
        Sort::Json => anything(request::json(posted)?),
        Sort::Form => of_form(form_or_json(posted)?),
        Sort::Multipart => {
            let (fields, attached) = request::multipart(posted)?;
            files = attached;
            anything(request::object(fields))
        }
        Sort::Xml => anything(xml::read(request::text(posted)?)?),
        Sort::Html => said(Words::html(request::text(posted)?)),
        Sort::Markdown => said(Words::markdown(request::text(posted)?)),
        Sort::Text => said(Words::plain(request::text(posted)?.trim_end())),
        Sort::Unsaid | Sort::Other => match std::str::from_utf8(posted.body) {
            Ok(text) => unsaid(text),
            Err(_) => {
                files.push(file(posted));
                Saying::default()
            }
        },
    };
    if let Some(title) = request::header(posted, "x-title").or_else(|| request::header(posted, "title")) {
        saying.title = fields::one_line(&title);
    }
    let severity = match request::header(posted, "x-severity").as_deref().map(str::trim) {
        Some(given) => named(given).ok_or(Refused::Unreadable("the severity is low, info, warning or critical"))?,
        None => guessed(&saying.body),
    };
    if saying.is_empty() && files.is_empty() && saying.body.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(Refused::Senseless("the request says nothing"));
    }
    // A template of the operator's own may make something of it.
    if saying.is_empty() && files.is_empty() {
        "a request without values".clone_into(&mut saying.footer);
    }
    Ok(vec![saying.notice_with(severity, files)])
}

/// A severity by our own name for it.
pub(in crate::notices) fn named(word: &str) -> Option<Severity> {
    serde_json::from_value(Value::String(word.to_ascii_lowercase())).ok()
}

fn guessed(body: &Value) -> Severity {
    ["severity", "level", "priority"].iter().find_map(|key| named(&fields::text(body, key))).unwrap_or_default()
}

fn said(words: Words) -> Saying {
    let mut saying = Saying::default();
    saying.say(words);
    saying
}

/// `curl -d` says of everything that it is a form, so JSON is seen as what it is, and words too.
pub(super) fn form_or_json(posted: &Posted<'_>) -> Result<Value, Refused> {
    if posted.body.trim_ascii_start().starts_with(b"{")
        && let Ok(value) = request::json_object(posted)
    {
        return Ok(value);
    }
    match as_form(posted.body) {
        Some(form) => request::form_of(&form).map(request::object),
        None => request::text(posted).map(|words| Value::String(words.to_owned())),
    }
}

/// A body as a form, if it is written as one: a name and a value everywhere, and nothing that a form writes in another way.
/// Words may have a `=` or a `&` in them, and as a form most of them would be lost. Only where the names are known that are
/// before each `=`, blanks may stand in the values, since people write them so by hand, and then a plus is one.
fn as_form(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let body = body.trim_ascii();
    let name = |part: &'_ [u8]| part.iter().position(|byte| *byte == b'=');
    let is_plain = |key: &[u8]| key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"*-._%[]".contains(byte));
    let is_known = |key: &[u8]| {
        let known = TITLES.iter().chain(&TEXTS).chain(&HOOKSHOTS);
        known.into_iter().any(|known| known.as_bytes() == key)
    };
    let by_hand = body.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    let is_field = |part: &[u8]| {
        let key = name(part).map(|at| &part[..at]).filter(|key| !key.is_empty());
        key.is_some_and(|key| if by_hand { is_known(key) } else { is_plain(key) })
    };
    // What browsers write ends with no `&`, and some programs do.
    let mut parts = body.strip_suffix(b"&").unwrap_or(body).split(|byte| *byte == b'&');
    let is_form = parts.all(is_field);
    is_form.then(|| if by_hand { pluses_kept(body).into() } else { body.into() })
}

fn pluses_kept(form: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(form.len());
    for byte in form {
        if *byte == b'+' { kept.extend_from_slice(b"%2B") } else { kept.push(*byte) }
    }
    kept
}

/// What a form says. Of one that is shown by its values, the names without a value are shown, too.
pub(super) fn of_form(body: Value) -> Saying {
    let mut saying = anything(body);
    if !saying.text.is_empty() {
        return saying;
    }
    let alone: Vec<_> = saying
        .body
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| **value == "")
        .map(|(name, _)| name)
        .collect();
    let room = MOST_VALUES.saturating_sub(saying.fields.len());
    let field = |name: &&String| Field { name: fields::one_line(name), value: String::new(), html: String::new() };
    let shown: Vec<_> = alone.iter().take(room).map(field).collect();
    let more = alone.len() - shown.len();
    saying.fields.extend(shown);
    if more > 0 {
        let before = if saying.footer.is_empty() { String::new() } else { format!("{}, ", saying.footer) };
        saying.footer = format!("{before}and {more} more without a value");
    }
    saying
}

fn unsaid(text: &str) -> Saying {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() || value.is_array() => anything(value),
        _ => said(Words::plain(text.trim_end())),
    }
}

fn file(posted: &Posted<'_>) -> Attachment {
    let mime = Some(request::media_type(posted)).filter(|mime| !mime.is_empty());
    let name = request::header(posted, "x-filename").or_else(|| request::header(posted, "filename"));
    let name = name.map_or_else(|| "file".to_owned(), |name| fields::one_line(&name));
    Attachment { name, mime, content: SecretBytes::from(posted.body) }
}

/// JSON of which nothing is known.
pub(super) fn anything(body: Value) -> Saying {
    let mut saying = Saying::default();
    if let Value::String(words) = &body {
        saying.say(Words::plain(words));
        return saying;
    }
    let first = |keys: &[&str]| {
        let found = keys.iter().map(|key| fields::text(&body, key)).find(|text| !text.trim().is_empty());
        found.unwrap_or_default()
    };
    let title = first(&TITLES);
    let text = first(&TEXTS);
    if !text.is_empty() {
        saying.title = fields::one_line(&title);
        saying.say(Words::plain(&text));
    } else {
        saying.title = fields::one_line(&title);
        let mut found = Vec::new();
        values("", &body, DEEPEST, &mut found);
        let more = found.len().saturating_sub(MOST_VALUES);
        let shown = found.into_iter().take(MOST_VALUES).filter(|(_, value)| *value != title);
        saying.fields = shown.map(|(name, value)| Field { name, value, html: String::new() }).collect();
        saying.footer = match more {
            0 => String::new(),
            more if more + MOST_VALUES < MOST_COUNTED => format!("and {more} more values"),
            _ => "and many more values".to_owned(),
        };
    }
    saying.body = body;
    saying
}

fn values(name: &str, value: &Value, deeper: usize, found: &mut Vec<(String, String)>) {
    let inside =
        |key: &str| if name.is_empty() { fields::one_line(key) } else { format!("{name}.{}", fields::one_line(key)) };
    if found.len() >= MOST_COUNTED {
        return;
    }
    match value {
        Value::Object(object) if deeper > 0 => {
            object.iter().for_each(|(key, value)| values(&inside(key), value, deeper - 1, found));
        }
        Value::Array(list) if deeper > 0 => {
            let simple: Vec<_> = list.iter().map(fields::words).filter(|words| !words.is_empty()).collect();
            if simple.len() == list.len() && !list.is_empty() {
                found.push((name.to_owned(), fields::one_line(&simple.join(", "))));
            } else {
                let numbered = list.iter().enumerate();
                numbered.for_each(|(at, value)| values(&inside(&(at + 1).to_string()), value, deeper - 1, found));
            }
        }
        other => {
            let words = fields::one_line(&fields::words(other));
            if !words.is_empty() {
                found.push((name.to_owned(), words));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_values_are_gathered_than_are_counted() {
        let many = serde_json::json!(vec![serde_json::json!({ "a": 1, "b": [{ "c": 2 }] }); 5_000]);
        let mut found = Vec::new();
        values("", &many, DEEPEST, &mut found);
        assert_eq!(found.len(), MOST_COUNTED);
    }
}
