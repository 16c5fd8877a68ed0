//! Alertmanager's webhook, and Grafana's, which is the same with more in it.
//!
//! A request tells of a group what changed since the last one. So it becomes an incident: whoever takes it keeps the state
//! of each alert by its fingerprint.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Refused, fields, request};
use crate::notices::{Alert, Incident, Notice, Posted, Severity};

/// More alerts than this are told of in no request; Alertmanager's `max_alerts` is the remedy.
const MOST_ALERTS: usize = 2_000;

/// Alertmanager's own have 16 characters.
const LONGEST_FINGERPRINT: usize = 64;

/// Reads Alertmanager's webhook, version 4.
pub(super) fn alertmanager(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    read(posted)
}

/// Reads Grafana's webhook: the contact point of its alerting since 9.
pub(super) fn grafana(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    read(posted)
}

fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    request::only_post(posted)?;
    let body = request::json_object(posted)?;
    if !body.get("alerts").is_some_and(Value::is_array) {
        return Err(Refused::Senseless("there is no list of alerts"));
    }
    let told = fields::list(&body, "alerts");
    if told.len() > MOST_ALERTS {
        return Err(Refused::TooMuch("more than 2000 alerts in one request"));
    }
    let mut alerts = BTreeMap::new();
    let usual = fields::text(&body, "status");
    for alert in told {
        let alert = one(alert, &usual)?;
        // Old senders tell of the same one twice.
        alerts.insert(alert.fingerprint.clone(), alert);
    }
    if alerts.is_empty() {
        return Ok(Vec::new());
    }
    let alerts: Vec<_> = alerts.into_values().collect();
    let incident = Incident { group: group(&body), alerts, dated: true, ..Incident::default() };
    let severity = incident.severity();
    Ok(vec![Notice::news(values(body), severity, incident)])
}

/// What the group is called. An old or odd sender's has the labels by which it is grouped.
fn group(body: &Value) -> String {
    match fields::text(body, "groupKey") {
        key if !key.is_empty() => key,
        _ => format!("{}:{}", fields::text(body, "receiver"), digest(body.get("groupLabels"))),
    }
}

/// What the template sees of the group.
fn values(mut body: Value) -> Value {
    let mut values = json!({
        "title": title(&body),
        "receiver": fields::line(&body, "receiver"),
        "external_url": fields::link_at(&body, "externalURL"),
        "truncated": fields::number(&body, "truncatedAlerts").unwrap_or(0).max(0),
        "group_labels": simple(&body, "groupLabels"),
        "common_labels": simple(&body, "commonLabels"),
        "common_annotations": simple(&body, "commonAnnotations"),
    });
    // Its alerts are there already, and all of this is kept for as long as the incident goes on.
    body.as_object_mut().map(|body| body.remove("alerts"));
    values["body"] = body;
    values
}

/// What goes on in the group, on one line.
fn title(body: &Value) -> String {
    let label = |key: &str| {
        let found = ["groupLabels", "commonLabels"].map(|labels| fields::line(body, &format!("{labels}.{key}")));
        found.into_iter().find(|label| !label.is_empty())
    };
    let first = || fields::list(body, "alerts").first().map(|alert| fields::line(alert, "labels.alertname"));
    let name = label("alertname").or_else(|| first().filter(|name| !name.is_empty()));
    let name = name.unwrap_or_else(|| "Alerts".to_owned());
    let labels = fields::object(body, "groupLabels").filter(|(key, _)| *key != "alertname");
    let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={}", fields::words(value))).collect();
    if labels.is_empty() { name } else { fields::one_line(&format!("{name} ({})", labels.join(", "))) }
}

/// One alert. Of one that does not say how it is, the `usual` state holds, which is that of its group.
fn one(alert: &Value, usual: &str) -> Result<Alert, Refused> {
    let Some(labels) = alert.get("labels").filter(|labels| labels.is_object()) else {
        return Err(Refused::Senseless("an alert has no labels"));
    };
    let status = fields::text(alert, "status");
    let firing = match if status.is_empty() { usual } else { &status } {
        "firing" | "alerting" => true,
        "resolved" | "ok" | "normal" => false,
        _ => return Err(Refused::Senseless("an alert is neither firing nor resolved")),
    };
    let fingerprint = match fields::text(alert, "fingerprint") {
        given if (1..=LONGEST_FINGERPRINT).contains(&given.len()) => given,
        _ => digest(Some(labels)),
    };
    let severity = severity(labels);
    let annotation = |names: &[&str]| {
        let found = names.iter().map(|name| fields::text(alert, &format!("annotations.{name}")));
        found.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default()
    };
    let summary = annotation(&["summary", "message", "title", "info"]);
    let description = annotation(&["description"]);
    let shown_label = |names: &[&str]| {
        let found = names.iter().map(|name| fields::line(labels, name));
        found.into_iter().find(|label| !label.is_empty()).unwrap_or_default()
    };
    let values = json!({
        "name": match fields::line(labels, "alertname") { name if name.is_empty() => "Alert".to_owned(), name => name },
        "summary": fields::one_line(&summary),
        "description": if description == summary { String::new() } else { description },
        "instance": shown_label(&["instance", "host", "hostname", "node", "pod"]),
        "labels": simple(alert, "labels"),
        "annotations": simple(alert, "annotations"),
        "starts_at": moment(alert, "startsAt"),
        "ends_at": if firing { String::new() } else { moment(alert, "endsAt") },
        "values": alert.get("values").filter(|values| values.is_object()).cloned().unwrap_or_else(|| json!({})),
        "links": links(alert),
    });
    Ok(Alert { fingerprint, firing, severity, values })
}

/// Where somebody may look about an alert, in the order in which it helps.
fn links(alert: &Value) -> Vec<Value> {
    let places = [
        ("Runbook", &["annotations.runbook_url", "annotations.runbook"][..]),
        ("Dashboard", &["dashboardURL", "annotations.dashboard_url", "annotations.dashboard"]),
        ("Panel", &["panelURL"]),
        ("Picture", &["imageURL"]),
        ("Source", &["generatorURL"]),
        ("Silence", &["silenceURL"]),
    ];
    let link = |(label, paths): (&str, &[&str])| {
        let url = paths.iter().map(|path| fields::link_at(alert, path)).find(|url| !url.is_empty())?;
        Some(json!({ "label": label, "url": url }))
    };
    places.into_iter().filter_map(link).collect()
}

/// A moment as its sender wrote it. The year 1 stands for none.
fn moment(alert: &Value, key: &str) -> String {
    let written = fields::line(alert, key);
    if written.starts_with("0001-") { String::new() } else { written }
}

/// The simple values of an object, as words.
fn simple(value: &Value, path: &str) -> BTreeMap<String, String> {
    let simple = fields::object(value, path).map(|(key, value)| (fields::one_line(key), fields::words(value)));
    simple.filter(|(_, words)| !words.is_empty()).collect()
}

/// How much an alert matters, by the labels that are usual for it. Without any it is a warning: somebody wrote a rule.
fn severity(labels: &Value) -> Severity {
    let usual = ["severity", "priority", "level", "criticality"];
    let given = usual.iter().map(|name| fields::text(labels, name).to_lowercase());
    match given.into_iter().find(|label| !label.is_empty()).as_deref() {
        Some("critical" | "crit" | "page" | "fatal" | "emergency" | "disaster" | "error" | "high" | "p0" | "p1") => {
            Severity::Critical
        }
        Some("info" | "informational" | "information" | "notice" | "p4") => Severity::Info,
        Some("none" | "low" | "debug" | "ok" | "p5") => Severity::Low,
        _ => Severity::Warning,
    }
}

/// A name of labels, whatever their order.
fn digest(labels: Option<&Value>) -> String {
    let Some(labels) = labels.and_then(Value::as_object) else { return "none".to_owned() };
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    let mut hash = Sha256::new();
    for (key, value) in sorted {
        for part in [key.clone(), value.to_string()] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}
