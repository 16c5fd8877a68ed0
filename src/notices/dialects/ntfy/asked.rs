//! What a message of ntfy's asks for: in its JSON, in a header by one of many names, or in the address.

use serde_json::Value;

use crate::notices::{
    Posted,
    dialects::{fields, request},
};

/// What may be asked for: our name for it, its name in JSON, and all names of its header, which are those in the address.
const NAMES: &[(&str, &str, &[&str])] = &[
    ("message", "message", &["x-message", "message", "m"]),
    ("title", "title", &["x-title", "title", "ti", "t"]),
    ("priority", "priority", &["x-priority", "priority", "prio", "p"]),
    ("tags", "tags", &["x-tags", "tags", "tag", "ta"]),
    ("click", "click", &["x-click", "click"]),
    ("attach", "attach", &["x-attach", "attach", "a"]),
    ("filename", "filename", &["x-filename", "filename", "file", "f"]),
    ("actions", "actions", &["x-actions", "actions", "action"]),
    ("markdown", "markdown", &["x-markdown", "markdown", "md"]),
    ("delay", "delay", &["x-delay", "delay", "x-at", "at", "x-in", "in"]),
    ("email", "email", &["x-email", "x-e-mail", "email", "e-mail", "mail", "e"]),
    ("call", "call", &["x-call", "call"]),
    ("unifiedpush", "", &["x-unifiedpush", "unifiedpush", "up"]),
    ("template", "", &["x-template", "template", "tpl"]),
];

/// What is asked for.
pub(super) struct Asked<'a> {
    posted: &'a Posted<'a>,
    query: Vec<(String, String)>,
    json: Option<&'a Value>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(posted: &'a Posted<'a>, json: Option<&'a Value>) -> Self {
        Self { posted, query: request::query(posted), json }
    }

    /// What is asked for by our name for it. Empty if nothing is. The JSON counts before headers, as with ntfy, and those
    /// before the address.
    pub(super) fn get(&self, name: &str) -> String {
        let Some((_, key, headers)) = NAMES.iter().find(|(own, ..)| *own == name) else { return String::new() };
        self.in_json(key).or_else(|| self.in_header(headers)).or_else(|| self.in_query(headers)).unwrap_or_default()
    }

    /// A list: of JSON, or words with commas between them.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let given = self.get(name);
        given.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).take(50).collect()
    }

    fn in_json(&self, key: &str) -> Option<String> {
        let value = self.json?.get(key)?;
        // To Go, nothing and the empty value of what is no text are the same. Words are words, also those of one who forgot
        // to write them as such.
        let is_nothing = value.as_bool() == Some(false) || value.as_f64() == Some(0.0);
        if is_nothing && !matches!(key, "message" | "title") {
            return None;
        }
        let words = match value {
            Value::Array(list) if key == "actions" => Value::Array(list.clone()).to_string(),
            Value::Array(list) => list.iter().map(fields::words).collect::<Vec<_>>().join(","),
            other => fields::words(other),
        };
        Some(words).filter(|words| !words.is_empty())
    }

    fn in_header(&self, names: &[&str]) -> Option<String> {
        let found = names.iter().find_map(|name| request::header(self.posted, name).filter(|value| !value.is_empty()));
        found.map(|value| decoded(value.trim()))
    }

    fn in_query(&self, names: &[&str]) -> Option<String> {
        let value = |name: &&str| self.query.iter().find(|(key, value)| key == name && !value.is_empty());
        names.iter().find_map(value).map(|(_, value)| fields::bounded(value))
    }
}

/// A header's words, of which other than ASCII may be written as in mail: `=?UTF-8?B?…?=`.
fn decoded(value: &str) -> String {
    if !value.contains("=?") {
        return fields::bounded(value);
    }
    let mail = format!("Subject: {value}\r\n\r\n");
    let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes());
    let subject = parsed.as_ref().and_then(|mail| mail.subject()).map(fields::bounded);
    subject.unwrap_or_else(|| fields::bounded(value))
}
