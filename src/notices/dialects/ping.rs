//! Signs of life, asked for as healthchecks has them: `/KEY`, and behind it `/start`, `/fail`, `/log` or the code with which
//! a job ended.

use http::Method;
use serde_json::{Value, json};

use super::{Refused, fields, request};
use crate::notices::{Alert, Incident, Notice, Posted, Severity};

/// Behind a key. Everything else is the key itself.
const WORDS: [&str; 3] = ["start", "fail", "log"];

/// What stands behind the key: one of a few words, or a code from 0 to 255.
#[must_use]
pub(in crate::notices) fn told(path: &str) -> Option<&str> {
    let last = path.rsplit('/').find(|part| !part.is_empty())?;
    let is_code = last.len() <= 3 && last.parse::<u8>().is_ok();
    (WORDS.contains(&last) || is_code).then_some(last)
}

/// Reads one. That a job failed is an incident, which the next one that goes well ends. All else says nothing.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::PUT];
    request::only(posted, &METHODS, "GET, HEAD, POST or PUT")?;
    let why = match told(posted.path) {
        Some("start" | "log") => return Ok(Vec::new()),
        None | Some("0") => None,
        Some("fail") => Some("It says so itself".to_owned()),
        Some(code) => Some(format!("It ended with {code}")),
    };
    let firing = why.is_some();
    let severity = if firing { Severity::Critical } else { Severity::Low };
    let words = fields::bounded(&String::from_utf8_lossy(posted.body));
    let values = json!({
        "name": "the job", "summary": why.unwrap_or_default(), "description": if firing { words.trim_end() } else { "" },
        "instance": "", "labels": {}, "annotations": {}, "values": {}, "links": [],
        "starts_at": "", "ends_at": "", "words": { "firing": "Failed", "resolved": "Well again" },
    });
    let alert = Alert { fingerprint: "job".to_owned(), firing, severity: Severity::Critical, values };
    let incident =
        Incident { group: "job".to_owned(), alerts: vec![alert], only_if_known: true, ..Incident::default() };
    let values = json!({ "title": "the job", "body": Value::Null });
    Ok(vec![Notice::news(values, severity, incident)])
}
