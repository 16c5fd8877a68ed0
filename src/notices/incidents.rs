//! One incident, one message: what is kept of something that began, changes and ends. Pure: a request in, what is to be
//! said out.

use std::{borrow::Cow, collections::BTreeMap};

use sealbridge_contract::{RemoteId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Alert, Incident, Severity, dialects::moment};

/// So many alerts of one incident are kept apart. Of more, those that ended first are forgotten first, and what begins where
/// all go on is said each time that it is told of.
const MOST_ALERTS: usize = 2_000;
/// Of so many it is kept what templates see of them. Of the others, which ended or began before, only who they are.
const MOST_WHOLE: usize = 200;
/// What is kept of those, each so long at most.
const BRIEF: [&str; 4] = ["name", "summary", "instance", "starts_at"];
const LONGEST_BRIEF: usize = 200;
/// An alert that its sender says to have begun so much later than it is known to is another, and the end of the first was
/// not heard. Two senders of one alert may differ by less.
const ANEW: i64 = 60_000;

/// An incident that goes on. Kept locked, since it has the sender's words in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The message that it is.
    pub root: RemoteId,
    /// Since when it is known.
    pub since: Timestamp,
    /// What the last request said of it as a whole.
    pub values: Value,
    /// Its alerts, by what their sender calls them.
    pub alerts: BTreeMap<String, KnownAlert>,
    /// How often it was told again without news since the last news.
    pub repeats: u32,
    /// Who said that they look after it.
    pub acknowledged: Option<Acknowledged>,
    /// Until when nothing more is told of it, by somebody's word.
    pub silenced_until: Option<Timestamp>,
    /// What was said of it beside its message, so that a reply to any of that is a reply to it.
    pub said: Vec<RemoteId>,
    /// It is of our own making: [`Incident::ours`].
    #[serde(default)]
    pub ours: bool,
    /// How it is told of.
    #[serde(default)]
    pub told: Told,
    /// By what somebody else was told that nobody looks after it.
    #[serde(default)]
    pub escalated: Option<RemoteId>,
    /// More began since somebody else was told.
    #[serde(default)]
    pub more_since: bool,
}

/// How an incident is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// By a message of its own.
    #[default]
    Alone,
    /// Not yet: its root is a digest that is still to be said.
    Later,
    /// With others, in a digest, which was said. It has no message of its own until there is news of it.
    Together,
}

/// One alert, as it was told last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownAlert {
    /// It goes on.
    pub firing: bool,
    /// How much it matters.
    pub severity: Severity,
    /// What its template sees.
    pub values: Value,
    /// Since when it is so.
    pub since: Timestamp,
}

/// Who said that they look after an incident. A server could have made a reaction up, so it changes nothing but words, and
/// whether somebody else is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Under which name they appear.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// It is proven that it was them.
    #[serde(default)]
    pub proven: bool,
}

/// What a request changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins: a message of its own.
    Begins,
    /// Some of its alerts began, ended or changed: its message is edited, and a reply in its thread says what changed.
    Changes {
        /// Those that began.
        began: Vec<String>,
        /// Those that ended.
        ended: Vec<String>,
    },
    /// Nothing is new: its message says how often.
    Repeats,
    /// All of it is over.
    Ends {
        /// The alerts that ended last.
        ended: Vec<String>,
    },
    /// Something is over that is not known: it is said for itself.
    EndsUnknown,
}

impl Known {
    /// Takes in what a request tells. `root` is what its message will be called if it begins.
    #[must_use]
    pub fn hear(
        known: Option<Self>,
        incident: &Incident,
        values: &Value,
        root: RemoteId,
        now: Timestamp,
    ) -> (Step, Self) {
        let is_new = known.is_none();
        let fresh = || Self {
            root,
            since: now,
            values: Value::Null,
            alerts: BTreeMap::new(),
            repeats: 0,
            acknowledged: None,
            silenced_until: None,
            said: Vec::new(),
            ours: incident.ours,
            told: Told::Alone,
            escalated: None,
            more_since: false,
        };
        let mut known = known.unwrap_or_else(fresh);
        known.values = values.clone();
        // Nothing is told of what is silenced.
        if incident.alerts.iter().any(|alert| known.goes_on(alert)) {
            known.silenced_until = None;
        }
        let (mut began, mut ended, mut changed) = (Vec::new(), Vec::new(), false);
        for alert in &incident.alerts {
            known.make_room_for(&alert.fingerprint);
            let before = known.alerts.get(&alert.fingerprint);
            let was_firing = before.is_some_and(|before| before.firing && !before.began_before(alert));
            changed |= before.is_none_or(|before| before.severity != alert.severity);
            match (was_firing, alert.firing) {
                (false, true) => began.push(alert.fingerprint.clone()),
                (true, false) => ended.push(alert.fingerprint.clone()),
                _ => {}
            }
            let since = before.filter(|_| was_firing == alert.firing).map_or(now, |before| before.since);
            let (firing, severity, values) = (alert.firing, alert.severity, alert.values.clone());
            known.alerts.insert(alert.fingerprint.clone(), KnownAlert { firing, severity, values, since });
        }
        known.shorten_some();
        let step = match () {
            () if is_new && known.firing() == 0 => Step::EndsUnknown,
            () if is_new => Step::Begins,
            () if known.firing() == 0 => Step::Ends { ended },
            () if began.is_empty() && ended.is_empty() && !changed => Step::Repeats,
            () => Step::Changes { began, ended },
        };
        match &step {
            Step::Repeats => known.repeats += 1,
            // Whoever looks after it has not seen what began since.
            Step::Changes { began, .. } if !began.is_empty() => {
                (known.repeats, known.acknowledged) = (0, None);
                known.more_since = known.escalated.is_some();
            }
            _ => known.repeats = 0,
        }
        // Its template sees it beside what the request said.
        if let (Some(values), true) = (known.values.as_object_mut(), known.repeats > 0) {
            values.insert("repeats".into(), known.repeats.into());
        }
        (step, known)
    }

    /// Whether all of it was over before what a request tells of began, though nobody was told of the end: none is sent of
    /// what is silenced.
    #[must_use]
    pub fn ended_unheard(&self, incident: &Incident) -> bool {
        let is_anew = |(fingerprint, known): (&String, &KnownAlert)| {
            incident.alerts.iter().any(|alert| alert.fingerprint == *fingerprint && known.began_before(alert))
        };
        let mut firing = self.alerts.iter().filter(|(_, alert)| alert.firing).peekable();
        firing.peek().is_some() && firing.all(is_anew)
    }

    /// The same when all of it is over.
    #[must_use]
    pub fn over(mut self) -> Self {
        self.alerts.values_mut().for_each(|alert| alert.firing = false);
        (self.acknowledged, self.silenced_until) = (None, None);
        self
    }

    fn goes_on(&self, alert: &Alert) -> bool {
        alert.firing && self.alerts.get(&alert.fingerprint).is_some_and(|known| known.firing)
    }

    /// How much the news of a step matters: that something ended is news, whatever it was.
    #[must_use]
    pub fn news(&self, step: &Step) -> Severity {
        match step {
            Step::Ends { .. } | Step::EndsUnknown => Severity::Info,
            Step::Changes { began, ended } => {
                let severities = began.iter().filter_map(|name| self.alerts.get(name)).map(|alert| alert.severity);
                severities.max().unwrap_or(if ended.is_empty() { self.severity() } else { Severity::Info })
            }
            Step::Begins | Step::Repeats => self.severity(),
        }
    }

    /// Whether it changes anything that somebody says that they look after it, or no longer. Whoever takes their word back
    /// takes nobody else's, and what is proven is not taken over by what is not.
    #[must_use]
    pub fn may_be_acknowledged(&self, by: &str, looks_after: bool, proven: bool) -> bool {
        match &self.acknowledged {
            Some(who) if who.proven && !proven => false,
            Some(who) => (who.by == by && who.proven == proven) != looks_after,
            None => looks_after,
        }
    }

    /// All that was said of it, its message included.
    pub fn messages(&self) -> impl Iterator<Item = &RemoteId> {
        self.said.iter().chain([&self.root]).chain(&self.escalated)
    }

    /// Whether somebody else was told of all that goes on.
    #[must_use]
    pub fn is_escalated(&self) -> bool {
        self.escalated.is_some() && !self.more_since
    }

    /// How many alerts go on.
    #[must_use]
    pub fn firing(&self) -> usize {
        self.alerts.values().filter(|alert| alert.firing).count()
    }

    /// How much it matters: as much as the worst that goes on, or that went on if all is over.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let over = self.firing() == 0;
        let counts = self.alerts.values().filter(|alert| over || alert.firing);
        counts.map(|alert| alert.severity).max().unwrap_or_default()
    }

    /// Its alerts as they are now, in the order of their names.
    #[must_use]
    pub fn course(&self) -> Vec<Alert> {
        let alert = |(fingerprint, known): (&String, &KnownAlert)| Alert {
            fingerprint: fingerprint.clone(),
            firing: known.firing,
            severity: known.severity,
            values: known.values.clone(),
        };
        self.alerts.iter().map(alert).collect()
    }

    /// Forgets one that ended, if an alert has no room otherwise.
    fn make_room_for(&mut self, fingerprint: &str) {
        if self.alerts.len() < MOST_ALERTS || self.alerts.contains_key(fingerprint) {
            return;
        }
        let over = self.alerts.iter().filter(|(_, alert)| !alert.firing).min_by_key(|(_, alert)| alert.since);
        if let Some(over) = over.map(|(fingerprint, _)| fingerprint.clone()) {
            self.alerts.remove(&over);
        }
    }

    /// What is kept of it: of too much that goes on, not what began last.
    #[must_use]
    pub fn to_keep(&self) -> Cow<'_, Self> {
        if self.alerts.len() <= MOST_ALERTS {
            return Cow::Borrowed(self);
        }
        let mut all: Vec<_> = self.alerts.iter().map(|(fingerprint, alert)| (alert.since, fingerprint)).collect();
        all.sort();
        let mut known = self.clone();
        for (_, fingerprint) in all.into_iter().skip(MOST_ALERTS) {
            known.alerts.remove(fingerprint);
        }
        Cow::Owned(known)
    }

    /// The same, with little more than what its alerts are called.
    #[must_use]
    pub fn in_brief(mut self) -> Self {
        self.alerts.values_mut().for_each(|alert| alert.values = brief(&alert.values));
        let title = self.values.get("title").and_then(Value::as_str).unwrap_or_default();
        self.values = json!({ "title": title.chars().take(LONGEST_BRIEF).collect::<String>() });
        self
    }

    fn shorten_some(&mut self) {
        if self.alerts.len() <= MOST_WHOLE {
            return;
        }
        let mut all: Vec<_> = self.alerts.values_mut().collect();
        all.sort_by_key(|alert| std::cmp::Reverse((alert.firing, alert.since)));
        all.into_iter().skip(MOST_WHOLE).for_each(|alert| alert.values = brief(&alert.values));
    }
}

impl KnownAlert {
    /// Whether its sender tells of another outbreak, which began later.
    fn began_before(&self, alert: &Alert) -> bool {
        let began = |values: &Value| moment::parse(values.get("starts_at")?.as_str()?);
        let both = began(&self.values).zip(began(&alert.values));
        alert.firing && both.is_some_and(|(known, told)| told.saturating_sub(known) >= ANEW)
    }
}

fn brief(values: &Value) -> Value {
    let short = |key: &str| {
        let text: String = values.get(key)?.as_str()?.chars().take(LONGEST_BRIEF).collect();
        Some((key.to_owned(), text.into()))
    };
    Value::Object(BRIEF.into_iter().filter_map(short).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(alerts: &[(&str, bool)]) -> Incident {
        let alert = |(name, firing): &(&str, bool)| Alert {
            fingerprint: (*name).to_owned(),
            firing: *firing,
            severity: Severity::Warning,
            values: json!({ "name": name }),
        };
        Incident { group: "g".into(), alerts: alerts.iter().map(alert).collect(), ..Incident::default() }
    }

    fn hear(known: Option<Known>, alerts: &[(&str, bool)], at: i64) -> (Step, Known) {
        Known::hear(known, &incident(alerts), &Value::Null, RemoteId::new(format!("root-{at}")), Timestamp(at))
    }

    #[test]
    fn windows_of_differences_lose_no_resolution() {
        // As Alertmanager tells of two alerts that end one after the other: each request has only what changed.
        let (step, known) = hear(None, &[("a", true), ("b", true)], 1);
        assert_eq!(step, Step::Begins);
        let (step, known) = hear(Some(known), &[("a", false), ("b", true)], 2);
        assert_eq!(step, Step::Changes { began: vec![], ended: vec!["a".into()] });
        assert_eq!((known.firing(), known.alerts["b"].since), (1, Timestamp(1)));
        let (step, known) = hear(Some(known), &[("b", false)], 3);
        assert_eq!(step, Step::Ends { ended: vec!["b".into()] });
        assert_eq!((known.firing(), known.alerts.len()), (0, 2));
        assert_eq!(known.root, RemoteId::new("root-1"));
    }

    #[test]
    fn what_is_told_again_is_counted_and_said_once() {
        let (_, known) = hear(None, &[("a", true)], 1);
        let (step, known) = hear(Some(known), &[("a", true)], 2);
        assert_eq!((step, known.repeats), (Step::Repeats, 1));
        let (step, known) = hear(Some(known), &[("b", true)], 3);
        assert_eq!((step, known.repeats), (Step::Changes { began: vec!["b".into()], ended: vec![] }, 0));
    }

    #[test]
    fn whoever_looks_after_it_has_not_seen_what_began_since() {
        let (_, known) = hear(None, &[("a", true), ("b", true)], 1);
        let acknowledged = Some(Acknowledged { by: "Ann".into(), at: Timestamp(2), proven: false });
        let known = Known { acknowledged: acknowledged.clone(), ..known };
        let (_, known) = hear(Some(known), &[("a", false)], 3);
        assert_eq!(known.acknowledged, acknowledged, "less is wrong than they know");
        let (_, known) = hear(Some(known), &[("c", true)], 4);
        assert_eq!(known.acknowledged, None);
    }

    /// Alerts that began then, in minutes, as their sender says.
    fn outbreaks(alerts: &[(&str, i64)]) -> Incident {
        let mut incident = incident(&alerts.iter().map(|(name, _)| (*name, true)).collect::<Vec<_>>());
        for (alert, (_, at)) in incident.alerts.iter_mut().zip(alerts) {
            alert.values["starts_at"] = format!("2026-11-30T10:{at:02}:00Z").into();
        }
        incident
    }

    fn hear_outbreaks(known: Option<Known>, alerts: &[(&str, i64)], at: i64) -> (Step, Known) {
        Known::hear(known, &outbreaks(alerts), &Value::Null, RemoteId::new(format!("root-{at}")), Timestamp(at))
    }

    #[test]
    fn outbreak_after_an_end_that_nobody_heard_is_news_and_nobody_looks_after_it() {
        let acknowledged = Some(Acknowledged { by: "Ann".into(), at: Timestamp(2), proven: false });
        let (_, known) = hear_outbreaks(None, &[("a", 1), ("b", 1)], 1);
        let known = Known { acknowledged: acknowledged.clone(), ..known };
        // As two servers that watch the same may say it.
        let (step, known) = hear_outbreaks(Some(known), &[("a", 1), ("b", 1)], 2);
        assert_eq!((step, &known.acknowledged), (Step::Repeats, &acknowledged));
        assert!(!known.ended_unheard(&outbreaks(&[("a", 1), ("b", 1)])));
        // One of them began anew, while the other goes on.
        assert!(!known.ended_unheard(&outbreaks(&[("a", 30)])));
        let (step, known) = hear_outbreaks(Some(known), &[("a", 30), ("b", 1)], 3);
        assert_eq!(step, Step::Changes { began: vec!["a".into()], ended: vec![] });
        assert_eq!((known.acknowledged.clone(), known.alerts["a"].since), (None, Timestamp(3)));
        // All of them did.
        assert!(known.ended_unheard(&outbreaks(&[("a", 50), ("b", 50), ("c", 50)])));
        assert!(!known.ended_unheard(&incident(&[("a", false), ("b", false)])));
        let over = Known { silenced_until: Some(Timestamp(9)), ..known }.over();
        assert_eq!((over.firing(), over.silenced_until, over.alerts.len()), (0, None, 2));
        assert!(!over.ended_unheard(&outbreaks(&[("a", 55)])), "its end was heard");
    }

    #[test]
    fn what_is_told_of_is_not_silenced_any_more() {
        let (_, known) = hear(None, &[("a", true), ("b", true)], 1);
        let known = Known { silenced_until: Some(Timestamp(1_000)), ..known };
        let (_, other) = hear(Some(known.clone()), &[("c", true), ("a", false)], 2);
        assert_eq!(other.silenced_until, Some(Timestamp(1_000)), "it may be another that is told of");
        let (_, known) = hear(Some(known), &[("b", true)], 3);
        assert_eq!(known.silenced_until, None);
    }

    #[test]
    fn what_begins_after_somebody_else_was_told_is_told_to_them_too() {
        let (_, known) = hear(None, &[("a", true)], 1);
        let known = Known { escalated: Some(RemoteId::new("e")), ..known };
        let (_, known) = hear(Some(known), &[("a", true)], 2);
        assert!(!known.more_since);
        let (_, known) = hear(Some(known), &[("b", true)], 3);
        assert!(known.more_since);
    }

    #[test]
    fn end_of_what_is_not_known_is_said_for_itself() {
        assert_eq!(hear(None, &[("a", false)], 1).0, Step::EndsUnknown);
    }

    #[test]
    fn incident_without_end_takes_no_more_than_its_room() {
        let names: Vec<_> = (0..3 * MOST_ALERTS).map(|number| format!("alert {number}")).collect();
        let mut known = None;
        for (at, some) in (0..).zip(names.chunks(500)) {
            let some: Vec<_> = some.iter().map(|name| (name.as_str(), true)).collect();
            known = Some(hear(known, &some, at).1.to_keep().into_owned());
        }
        let known = known.expect("it is known");
        assert_eq!((known.alerts.len(), known.firing()), (MOST_ALERTS, MOST_ALERTS));
        // What has no room is said all the same, each time anew.
        for at in [1 << 18, 1 << 19] {
            let (step, more) = hear(Some(known.clone()), &[("more", true)], at);
            assert_eq!(step, Step::Changes { began: vec!["more".into()], ended: vec![] });
            assert!(more.course().iter().any(|alert| alert.fingerprint == "more"));
            assert_eq!(more.to_keep().alerts, known.alerts);
        }
        // One that ends makes room for another.
        let (_, known) = hear(Some(known), &[("alert 7", false)], 1 << 20);
        let (step, known) = hear(Some(known), &[("fresh", true)], 1 << 21);
        assert_eq!(step, Step::Changes { began: vec!["fresh".into()], ended: vec![] });
        assert!(known.alerts.len() == MOST_ALERTS && !known.alerts.contains_key("alert 7"));
    }

    #[test]
    fn as_many_alerts_as_one_request_brings_are_known_again_and_none_of_them_is_over_with_the_others() {
        let names: Vec<_> = (0..MOST_ALERTS).map(|number| format!("alert {number}")).collect();
        let all = |firing| names.iter().map(|name| (name.as_str(), firing)).collect::<Vec<_>>();
        let (step, known) = hear(None, &all(true), 1);
        assert_eq!((step, known.firing()), (Step::Begins, MOST_ALERTS));
        let acknowledged = Some(Acknowledged { by: "Ann".into(), at: Timestamp(2), proven: false });
        let (step, known) = hear(Some(Known { acknowledged: acknowledged.clone(), ..known }), &all(true), 3);
        assert_eq!((step, known.acknowledged.clone()), (Step::Repeats, acknowledged));
        let kept = known.alerts.values().map(|alert| alert.values.clone()).collect::<Vec<_>>();
        let kept = serde_json::to_vec(&kept).expect("values").len();
        assert!(kept < MOST_ALERTS * 40, "{kept}");
        let (step, known) = hear(Some(known), &all(false)[1..], 4);
        assert!(matches!(step, Step::Changes { .. }) && known.firing() == 1);
        assert_eq!(hear(Some(known), &all(false)[..1], 5).0, Step::Ends { ended: vec![names[0].clone()] });
    }
}
