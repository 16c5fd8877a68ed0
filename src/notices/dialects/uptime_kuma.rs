//! Uptime Kuma's notification "webhook": JSON, or a form with JSON in it.

use serde_json::{Value, json};

use super::{
    Refused, fields,
    request::{self, Sort},
    saying::{Saying, Words},
};
use crate::notices::{Alert, Incident, Notice, Posted, Severity};

/// Reads one. That something went down or came up again is an incident; all else is said as it is.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = match request::sort(posted) {
        Sort::Multipart => in_form(request::multipart(posted)?.0)?,
        Sort::Form if !posted.body.trim_ascii_start().starts_with(b"{") => in_form(request::form(posted)?)?,
        _ => request::json_object(posted)?,
    };
    let message = fields::text(&body, "msg");
    let status = fields::number(&body, "heartbeat.status");
    let monitor = fields::number(&body, "monitor.id").or_else(|| fields::number(&body, "heartbeat.monitorID"));
    if let (Some(status @ (0 | 1)), Some(monitor)) = (status, monitor) {
        return Ok(vec![incident(body, status == 0, monitor)]);
    }
    if message.trim().is_empty() {
        return Err(Refused::Senseless("the request says nothing"));
    }
    let mut saying = Saying { title: fields::line(&body, "monitor.name"), ..Saying::default() };
    saying.say(Words::plain(&message));
    saying.body = body;
    Ok(vec![saying.notice(Severity::Info)])
}

fn in_form(fields: request::Fields) -> Result<Value, Refused> {
    let data = fields.into_iter().find(|(key, _)| key == "data");
    let (_, data) = data.ok_or(Refused::Senseless("the form has no data"))?;
    let value: Value = request::json_of(data.as_bytes())?;
    if value.is_object() { Ok(value) } else { Err(Refused::Senseless("the JSON is no object")) }
}

fn incident(body: Value, firing: bool, monitor: i64) -> Notice {
    let name = fields::line(&body, "monitor.name");
    let name = if name.is_empty() { format!("monitor {monitor}") } else { name };
    let key = if firing { "starts_at" } else { "ends_at" };
    let mut values = json!({
        "name": name,
        "summary": fields::one_line(&fields::text(&body, "heartbeat.msg")),
        "description": "", "instance": "", "labels": {}, "annotations": {}, "values": {}, "starts_at": "", "ends_at": "",
        "words": { "firing": "Down", "resolved": "Up" },
        "links": links(&body),
    });
    values[key] = Value::String(utc(&fields::line(&body, "heartbeat.time")));
    let severity = if firing { Severity::Critical } else { Severity::Low };
    let alert = Alert { fingerprint: "monitor".to_owned(), firing, severity: Severity::Critical, values };
    // It may tell again that a monitor is still down, by a beat of another time, which it says is not important.
    let dated = fields::at(&body, "heartbeat.important").and_then(Value::as_bool) == Some(true);
    let incident = Incident { group: format!("monitor {monitor}"), alerts: vec![alert], dated, ..Incident::default() };
    let values = json!({ "title": name, "body": body });
    Notice::news(values, severity, incident)
}

/// Where the monitor looks. What was never filled in is `https://`.
fn links(body: &Value) -> Vec<Value> {
    let url = fields::link_at(body, "monitor.url");
    let link = || json!({ "label": "Monitored", "url": url });
    if url.len() > "https://".len() { vec![link()] } else { Vec::new() }
}

/// `2023-07-31 18:56:15.374`, which is in UTC without saying so.
fn utc(time: &str) -> String {
    if time.is_empty() { String::new() } else { format!("{}Z", time.replacen(' ', "T", 1)) }
}
