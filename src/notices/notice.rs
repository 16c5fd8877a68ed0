//! What a sender posted, and what is in it.

use std::fmt;

use http::{HeaderMap, Method};
use sealbridge_contract::{SecretBytes, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One request, whole, as its sender made it. It holds words of the sender, so nothing of it is shown.
pub struct Posted<'a> {
    /// How.
    pub method: &'a Method,
    /// Where, behind the source's own path; empty, or it begins with `/`.
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// When it came.
    pub at: Timestamp,
}

impl fmt::Debug for Posted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Posted({} bytes)", self.body.len())
    }
}

/// How much a notice matters. In order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may be read some day.
    Low,
    /// It is news.
    #[default]
    Info,
    /// Something may become wrong.
    Warning,
    /// Something is wrong, and a person must act.
    Critical,
}

/// One notice of a request.
pub struct Notice {
    /// What its template sees. Texts in it are the sender's and are escaped wherever they become HTML.
    pub values: Value,
    /// How much it matters.
    pub severity: Severity,
    /// Its sender wants it heard, however little it matters: it is said as people say things, so that their devices sound.
    pub aloud: bool,
    /// What its sender calls it, so that the same one twice is said once.
    pub id: Option<String>,
    /// What goes on, if it is news of something that begins, changes and ends.
    pub incident: Option<Incident>,
    /// The sender's name of an earlier notice whose place it takes.
    pub instead_of: Option<String>,
    /// What is attached to it.
    pub attachments: Vec<Attachment>,
}

impl Notice {
    /// One that says nothing but this.
    #[must_use]
    pub fn new(values: Value, severity: Severity) -> Self {
        Self { values, severity, aloud: false, id: None, incident: None, instead_of: None, attachments: Vec::new() }
    }

    /// News of something that goes on.
    #[must_use]
    pub fn news(values: Value, severity: Severity, incident: Incident) -> Self {
        Self { incident: Some(incident), ..Self::new(values, severity) }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").field("severity", &self.severity).finish_non_exhaustive()
    }
}

/// Something that begins, changes and ends, as far as one request tells of it.
#[derive(Default)]
pub struct Incident {
    /// What it is called by its sender in every request about it (Alertmanager: `groupKey`).
    pub group: String,
    /// What is told of each of its alerts. One that is not named here is as it was: a request tells what changed.
    pub alerts: Vec<Alert>,
    /// That it is over is news only if it was known to go on.
    pub only_if_known: bool,
    /// It is of our own making, and worded by a template of ours whatever the source's is.
    pub ours: bool,
    /// `starts_at` of an alert is when its outbreak began, so one that began later is another. Otherwise it may be when
    /// its sender looked last.
    pub dated: bool,
}

impl Incident {
    /// How much it matters: as much as the worst that goes on.
    pub(super) fn severity(&self) -> Severity {
        let firing = self.alerts.iter().filter(|alert| alert.firing);
        firing.map(|alert| alert.severity).max().unwrap_or(Severity::Low)
    }

    /// What a request is called that tells of ends alone, by whose and of when. Without the moments of all of them nothing
    /// tells one end from the next.
    pub(super) fn end(&self) -> Option<String> {
        let end = |alert: &Alert| {
            let at = |key: &str| alert.values.get(key).and_then(Value::as_str).unwrap_or_default();
            let is_over = !alert.firing && !at("ends_at").is_empty();
            is_over.then(|| [&alert.fingerprint, at("starts_at"), at("ends_at")].join("\n"))
        };
        let ends: Vec<_> = self.alerts.iter().map(end).collect::<Option<_>>()?;
        (!ends.is_empty()).then(|| format!("{}\n{}", self.group, ends.join("\n")))
    }
}

/// One alert of an incident.
pub struct Alert {
    /// What it is called in every request.
    pub fingerprint: String,
    /// It goes on; else it is over.
    pub firing: bool,
    /// How much it matters.
    pub severity: Severity,
    /// What its template sees.
    pub values: Value,
}

impl fmt::Debug for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incident({} alerts)", self.alerts.len())
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alert").field("firing", &self.firing).finish_non_exhaustive()
    }
}

/// A file that came with a notice.
#[derive(Debug)]
pub struct Attachment {
    /// Its name, as the sender gave it.
    pub name: String,
    /// Its type, if the sender gave one.
    pub mime: Option<String>,
    /// What is in it.
    pub content: SecretBytes,
}
