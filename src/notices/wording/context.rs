//! What templates see. There is nothing of the service in it but what is put in here.

use sealbridge_contract::Timestamp;
use serde_json::{Value, json};

use super::{Course, Digest, mark, severity_name};
use crate::notices::{Alert, Notice, Severity, dialects::moment};

/// What every template sees, whatever it is of: empty, where there is nothing.
fn nothing() -> Value {
    json!({
        "title": "", "url": "", "text": "", "html": "", "author": "", "state": null, "footer": "", "event": "",
        "fields": [], "sections": [], "items": [], "links": [], "tags": [], "files": [], "body": null,
        "mark": null, "alerts": [], "changed": [], "firing": 0, "resolved": 0, "truncated": 0,
        "receiver": "", "external_url": "", "group_labels": {}, "common_labels": {}, "common_annotations": {},
        "acknowledged": null, "silenced_until": "", "repeats": 0,
    })
}

/// What is seen of a notice.
pub(super) fn notice(notice: &Notice) -> Value {
    let mut context = object(&notice.values);
    context["severity"] = severity_name(notice.severity).into();
    context["files"] = notice.attachments.iter().map(|file| file.name.as_str()).collect();
    if let Some(mark) = mark::of(&notice.values, notice.severity) {
        context["mark"] = json!(mark);
    }
    context
}

/// What is seen of an incident: its values, its alerts in the order in which they matter, and what people did.
pub(super) fn incident(course: &Course<'_>) -> Value {
    let mut alerts: Vec<_> = course.alerts.iter().collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse((alert.firing, alert.severity)));
    let firing = alerts.iter().filter(|alert| alert.firing);
    let severity = firing.clone().map(|alert| alert.severity).max().unwrap_or(Severity::Low);
    let mut context = object(course.values);
    context["severity"] = severity_name(severity).into();
    context["mark"] = json!(mark::of_alerts(course.alerts));
    context["firing"] = firing.count().into();
    context["resolved"] = alerts.iter().filter(|alert| !alert.firing).count().into();
    context["alerts"] = alerts.into_iter().map(alert).collect();
    if let Some(who) = course.acknowledged {
        context["acknowledged"] = json!({ "by": who.by, "at": shown(who.at), "proven": who.proven });
    }
    if let Some(until) = course.silenced_until {
        context["silenced_until"] = shown(until).into();
    }
    context
}

/// What is seen of one alert beside the values of its incident, as if it had no other.
pub(super) fn alone(alert: &Alert) -> Value {
    let values = Value::Object(serde_json::Map::new());
    let course =
        Course { values: &values, alerts: std::slice::from_ref(alert), acknowledged: None, silenced_until: None };
    let mut context = json!({});
    let all = incident(&course);
    for key in ["severity", "mark", "firing", "resolved", "alerts"] {
        context[key] = all[key].clone();
    }
    context["severity"] = severity_name(alert.severity).into();
    context
}

/// The same, and which of the alerts changed.
pub(super) fn change(course: &Course<'_>, changed: &[&Alert]) -> Value {
    let mut context = incident(course);
    context["changed"] = changed.iter().map(|changed| alert(changed)).collect();
    context
}

/// What is seen of notices that are said together.
pub(super) fn digest(digest: &Digest<'_>, count: u32) -> Value {
    let part =
        |(severity, count): &(Severity, u32)| json!({ "mark": mark::of_severity(*severity, None), "count": count });
    let line = |(text, times): &(&str, u32)| json!({ "text": text, "times": times });
    json!({
        "count": count, "parts": digest.counts.iter().map(part).collect::<Vec<_>>(),
        "lines": digest.lines.iter().map(line).collect::<Vec<_>>(), "more": digest.more,
        "since": digest.since.0 / 1000, "go_on": digest.go_on, "over": digest.over, "head": digest.head,
    })
}

fn shown(at: Timestamp) -> String {
    moment::shown(at.0).unwrap_or_default()
}

fn alert(alert: &Alert) -> Value {
    let mut shown = if alert.values.is_object() { alert.values.clone() } else { json!({}) };
    shown["firing"] = alert.firing.into();
    shown["severity"] = severity_name(alert.severity).into();
    shown["mark"] = json!(mark::of_alert(alert));
    shown
}

/// The values of a notice, over what is there of every notice.
pub(super) fn object(values: &Value) -> Value {
    let mut context = nothing();
    match (context.as_object_mut(), values.as_object()) {
        (Some(context), Some(values)) => context.extend(values.iter().map(|(key, value)| (key.clone(), value.clone()))),
        _ => context["body"] = values.clone(),
    }
    context
}
