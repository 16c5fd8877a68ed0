//! A source that is to be heard again and again: whether it is, and what is said when it is not. Pure.

use std::time::Duration;

use sealbridge_contract::Timestamp;
use serde_json::{Value, json};

use super::{Alert, Incident, Notice, Severity};

/// Whoever looks after a source is asleep if they look less often: the machine was, and nobody could be heard.
const ASLEEP: Duration = Duration::from_secs(15);

/// What is known of one source.
#[derive(Debug)]
pub(super) struct Vigil {
    every: Duration,
    /// The alert that is its sign of life. Without one every request is.
    alert: Option<String>,
    heard: Timestamp,
    looked: Timestamp,
    /// Whether it was said that it is missing. `None`: since the start nobody knows.
    missing: Option<bool>,
}

impl Vigil {
    /// One that begins now: what was before the start nobody could hear.
    pub(super) fn new(every: Duration, alert: Option<String>, now: Timestamp) -> Self {
        Self { every, alert, heard: now, looked: now, missing: None }
    }

    /// Takes in what a request said, and takes away what is a sign of life and nothing else. Whether it is to be said that
    /// the source is heard again.
    pub(super) fn hear(&mut self, notices: &mut Vec<Notice>, now: Timestamp) -> bool {
        if let Some(alert) = &self.alert {
            let mut lives = false;
            notices.retain_mut(|notice| without(notice, alert, &mut lives));
            if !lives {
                return false;
            }
        }
        self.heard = now;
        self.missing != Some(false)
    }

    /// Whether it is to be said now that the source is missing, and since when it is.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<Timestamp> {
        if now.since(self.looked) > ASLEEP {
            self.heard = now;
        }
        self.looked = now;
        // Where the clock was moved back, what was heard is not to come.
        self.heard = self.heard.min(now);
        let is_late = now.since(self.heard) > self.every;
        (is_late && self.missing != Some(true)).then_some(self.heard)
    }

    /// It was said.
    pub(super) fn said(&mut self, missing: bool) {
        self.missing = Some(missing);
    }

    /// What is said, as an incident of the source's own.
    pub(super) fn notice(&self, firing: bool, since: Timestamp) -> Notice {
        let moment = |at: Timestamp| mail_parser::DateTime::from_timestamp(at.0.div_euclid(1000)).to_rfc3339();
        let summary = format!("Nothing was heard for more than {}", humantime(self.every));
        let values = json!({
            "name": "the source", "summary": if firing { summary } else { String::new() }, "description": "", "instance": "",
            "labels": {}, "annotations": {}, "values": {}, "links": [], "ends_at": "",
            "starts_at": if firing { moment(since) } else { String::new() },
            "words": { "firing": "Missing", "resolved": "Heard again" },
        });
        let alert = Alert { fingerprint: "vigil".to_owned(), firing, severity: Severity::Critical, values };
        // A space stands in no name that a sender gives.
        let group = " vigil".to_owned();
        // After a start of ours it is missed since then, which is no other outbreak.
        let incident = Incident { group, alerts: vec![alert], only_if_known: true, ours: true, dated: false };
        let values = json!({ "title": "the source", "body": Value::Null });
        let severity = if firing { Severity::Critical } else { Severity::Low };
        Notice::news(values, severity, incident)
    }
}

/// Takes the alert of this name out of a notice, and says if it `lives`. Whether anything is left to be said.
fn without(notice: &mut Notice, name: &str, lives: &mut bool) -> bool {
    let Some(incident) = &mut notice.incident else { return true };
    let all = incident.alerts.len();
    incident.alerts.retain(|alert| {
        let is_sign = alert.values["labels"]["alertname"] == name;
        *lives |= is_sign && alert.firing;
        !is_sign
    });
    if incident.alerts.len() == all {
        return true;
    }
    let Some(first) = incident.alerts.first() else { return false };
    // A group whose alerts have no name in common is called by its first.
    let labels = notice.values["title"].as_str().and_then(|title| title.strip_prefix(name));
    if let Some(labels) = labels.filter(|labels| labels.is_empty() || labels.starts_with(" (")) {
        let title = format!("{}{labels}", first.values["name"].as_str().unwrap_or_default());
        notice.values["title"] = title.into();
    }
    notice.severity = incident.severity();
    true
}

/// Seconds, minutes or hours, whichever are whole.
pub(super) fn humantime(long: Duration) -> String {
    match long.as_secs() {
        seconds if seconds == 0 || seconds % 60 != 0 => format!("{} s", long.as_secs_f64()),
        seconds if seconds % 3600 != 0 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn vigil(alert: Option<&str>) -> Vigil {
        Vigil::new(Duration::from_secs(60), alert.map(str::to_owned), Timestamp(0))
    }

    /// Looks every ten seconds until then, and says when something was to be said.
    fn look_until(vigil: &mut Vigil, from: i64, until: i64) -> Vec<i64> {
        let mut said = Vec::new();
        for now in (from..=until).step_by(10_000) {
            if vigil.look(Timestamp(now)).is_some() {
                said.push(now);
                vigil.said(true);
            }
        }
        said
    }

    fn alerts(all: &[(&str, bool)]) -> Notice {
        let alert = |(name, firing): &(&str, bool)| Alert {
            fingerprint: (*name).to_owned(),
            firing: *firing,
            severity: Severity::Info,
            values: json!({ "name": name, "labels": { "alertname": name } }),
        };
        let incident = Incident { group: "g".into(), alerts: all.iter().map(alert).collect(), ..Incident::default() };
        Notice::news(json!({}), Severity::Info, incident)
    }

    #[test]
    fn whoever_is_not_heard_is_missed_once_and_whoever_comes_back_is_told_of() {
        let mut vigil = vigil(None);
        assert_eq!(look_until(&mut vigil, 0, 5 * MINUTE), [70_000]);
        assert!(vigil.hear(&mut Vec::new(), Timestamp(5 * MINUTE)));
        vigil.said(false);
        assert!(!vigil.hear(&mut Vec::new(), Timestamp(5 * MINUTE + 1)));
        assert_eq!(look_until(&mut vigil, 5 * MINUTE, 7 * MINUTE), [6 * MINUTE + 10_000]);
    }

    #[test]
    fn whoever_is_not_heard_is_missed_though_the_clock_was_moved_back() {
        let mut vigil = vigil(None);
        vigil.hear(&mut Vec::new(), Timestamp(120 * MINUTE));
        assert_eq!(look_until(&mut vigil, 0, 5 * MINUTE), [70_000]);
    }

    #[test]
    fn nobody_is_missed_while_the_machine_was_asleep() {
        let mut vigil = vigil(None);
        assert_eq!(vigil.look(Timestamp(9_000)), None);
        assert_eq!(vigil.look(Timestamp(60 * MINUTE)), None);
        assert_eq!(look_until(&mut vigil, 60 * MINUTE, 62 * MINUTE), [61 * MINUTE + 10_000]);
    }

    #[test]
    fn sign_of_life_is_the_alert_that_always_fires_and_it_is_never_said() {
        let mut vigil = vigil(Some("Watchdog"));
        let mut all = vec![alerts(&[("Watchdog", true)]), alerts(&[("Disk", true)])];
        assert!(vigil.hear(&mut all, Timestamp(MINUTE)));
        vigil.said(false);
        assert_eq!(all.len(), 1, "the other alert is said");
        // Alertmanager goes on, and nothing evaluates its rules any more.
        let mut over = vec![alerts(&[("Watchdog", false)])];
        assert!(!vigil.hear(&mut over, Timestamp(MINUTE + 1)) && over.is_empty());
        assert!(!vigil.hear(&mut vec![alerts(&[("Disk", false)])], Timestamp(MINUTE + 2)));
        assert_eq!(look_until(&mut vigil, MINUTE, 3 * MINUTE), [2 * MINUTE + 10_000]);
        // Beside others it is taken out of what is said of these, and counts as well.
        let mut mixed = vec![alerts(&[("Watchdog", true), ("Disk", true)])];
        mixed[0].values["title"] = "Watchdog (site=a)".into();
        assert!(vigil.hear(&mut mixed, Timestamp(3 * MINUTE)));
        let said = mixed[0].incident.as_ref().expect("an incident");
        assert_eq!((mixed.len(), said.alerts.len(), said.alerts[0].fingerprint.as_str()), (1, 1, "Disk"));
        assert_eq!(mixed[0].values["title"], "Disk (site=a)");
    }
}
