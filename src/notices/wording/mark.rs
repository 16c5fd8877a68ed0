//! How a state is shown: an emoji, a word and a colour, never the colour alone.

use serde::Serialize;
use serde_json::Value;

use crate::notices::{Alert, Severity};

/// A mark of how something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mark {
    pub emoji: &'static str,
    pub word: String,
    pub colour: &'static str,
}

const GREEN: &str = "#1a7f37";

/// That it is well.
pub(super) fn well(word: &str) -> Mark {
    Mark { emoji: "✅", word: word.to_owned(), colour: GREEN }
}

/// How much it matters.
pub(super) fn of_severity(severity: Severity, word: Option<&str>) -> Mark {
    let (emoji, usual, colour) = match severity {
        Severity::Critical => ("🔴", "Critical", "#d0312d"),
        Severity::Warning => ("⚠️", "Warning", "#b35900"),
        Severity::Info => ("🔵", "Info", "#1f6feb"),
        Severity::Low => ("⚪", "Low", "#6e7781"),
    };
    Mark { emoji, word: word.unwrap_or(usual).to_owned(), colour }
}

/// The mark of a notice. One that is only news, and names no state, has none.
pub(super) fn of(values: &Value, severity: Severity) -> Option<Mark> {
    let state = values.get("state").filter(|state| state.is_object());
    let word = state.and_then(|state| state.get("word")).and_then(Value::as_str);
    match (word, state.and_then(|state| state.get("good")).and_then(Value::as_bool)) {
        (Some(word), Some(true)) => Some(well(word)),
        (word @ Some(_), _) => Some(of_severity(severity, word)),
        (None, _) => (severity >= Severity::Warning).then(|| of_severity(severity, None)),
    }
}

/// The mark of an alert.
pub(super) fn of_alert(alert: &Alert) -> Mark {
    let word = |key: &str| alert.values.get("words").and_then(|words| words.get(key)).and_then(Value::as_str);
    if alert.firing {
        of_severity(alert.severity, word("firing"))
    } else {
        well(word("resolved").unwrap_or("Resolved"))
    }
}

/// The mark of an incident: of the worst that goes on, or that nothing does any more.
pub(super) fn of_alerts(alerts: &[Alert]) -> Mark {
    let worst = alerts.iter().filter(|alert| alert.firing).max_by_key(|alert| alert.severity);
    match (worst, alerts) {
        (Some(worst), _) => of_alert(worst),
        (None, [only]) => of_alert(only),
        (None, _) => well("Resolved"),
    }
}
