//! One incident, one message: what is kept of something that began, changes and ends. Pure: a request in, what is to be
//! said out.

use std::{borrow::Cow, collections::BTreeMap};

use sealbridge_contract::{RemoteId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Acknowledged, Alert, Incident, Severity, Who, dialects::moment};

/// So many alerts of one incident are kept apart. Of more, those that ended first are forgotten first, and what begins where
/// all go on is said each time that it is told of.
const MOST_ALERTS: usize = 2_000;
/// Of so many it is kept what templates see of them. Of the others, which ended or began before, only who they are.
const MOST_WHOLE: usize = 200;
/// What is kept of those, each so long at most.
const BRIEF: [&str; 4] = ["name", "summary", "instance", "starts_at"];
pub(super) const LONGEST_BRIEF: usize = 200;
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

/// What a request changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins: a message of its own.
    Begins,
    /// Some of its alerts began, ended or changed: its message is edited, and a reply in its thread says what changed.
    Changes {
        /// Those that began.
        began: Vec<String>,
        /// Those that matter more than they did.
        worsened: Vec<String>,
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
        let (mut began, mut worsened, mut ended, mut changed) = (Vec::new(), Vec::new(), Vec::new(), false);
        for alert in &incident.alerts {
            known.make_room_for(&alert.fingerprint);
            let before = known.alerts.get(&alert.fingerprint);
            let was_firing = before.is_some_and(|before| before.firing && !before.began_before(incident, alert));
            changed |= before.is_none_or(|before| before.severity != alert.severity);
            match (was_firing, alert.firing) {
                (false, true) => began.push(alert.fingerprint.clone()),
                (true, false) => ended.push(alert.fingerprint.clone()),
                (true, true) if before.is_some_and(|before| before.severity < alert.severity) => {
                    worsened.push(alert.fingerprint.clone());
                }
                _ => {}
            }
            let since = before.filter(|_| was_firing == alert.firing).map_or(now, |before| before.since);
            let (firing, severity, mut values) = (alert.firing, alert.severity, alert.values.clone());
            if was_firing && firing && !incident.dated {
                before.into_iter().for_each(|before| before.keep_beginning(&mut values));
            }
            known.alerts.insert(alert.fingerprint.clone(), KnownAlert { firing, severity, values, since });
        }
        known.shorten_some();
        let step = match () {
            () if is_new && known.firing() == 0 => Step::EndsUnknown,
            () if is_new => Step::Begins,
            () if known.firing() == 0 => Step::Ends { ended },
            () if began.is_empty() && ended.is_empty() && !changed => Step::Repeats,
            () => Step::Changes { began, worsened, ended },
        };
        match &step {
            Step::Repeats => known.repeats += 1,
            // Whoever looks after it has not seen what began since, or how bad it is by now.
            Step::Changes { began, worsened, .. } if !began.is_empty() || !worsened.is_empty() => {
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
            incident.alerts.iter().any(|alert| alert.fingerprint == *fingerprint && known.began_before(incident, alert))
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
            Step::Changes { began, worsened, ended } => {
                let severities =
                    began.iter().chain(worsened).filter_map(|name| self.alerts.get(name)).map(|alert| alert.severity);
                severities.max().unwrap_or(if ended.is_empty() { self.severity() } else { Severity::Info })
            }
            Step::Begins | Step::Repeats => self.severity(),
        }
    }

    /// Whether it changes anything that somebody says that they look after it, or no longer. Whoever takes their word back
    /// takes nobody else's, and what is proven is not taken over by what is not.
    #[must_use]
    pub fn may_be_acknowledged(&self, by: Who<'_>, looks_after: bool, proven: bool) -> bool {
        match &self.acknowledged {
            Some(who) if who.proven && !proven => false,
            Some(who) => (by.is(who) && who.proven == proven) != looks_after,
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

    /// The same, with little more than what its alerts are called, in no more than so many characters of each.
    #[must_use]
    pub fn in_brief(mut self, longest: usize) -> Self {
        self.alerts.values_mut().for_each(|alert| alert.values = brief(&alert.values, longest));
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
        all.into_iter().skip(MOST_WHOLE).for_each(|alert| alert.values = brief(&alert.values, LONGEST_BRIEF));
    }
}

impl KnownAlert {
    /// Whether its sender tells of another outbreak, which began later.
    fn began_before(&self, incident: &Incident, alert: &Alert) -> bool {
        let began = |values: &Value| moment::parse(values.get("starts_at")?.as_str()?);
        let both = began(&self.values).zip(began(&alert.values));
        incident.dated && alert.firing && both.is_some_and(|(known, told)| told.saturating_sub(known) >= ANEW)
    }

    /// Since when it goes on is what was told first.
    fn keep_beginning(&self, values: &mut Value) {
        if let (Some(began), Some(values)) = (self.values.get("starts_at"), values.as_object_mut()) {
            values.insert("starts_at".to_owned(), began.clone());
        }
    }
}

fn brief(values: &Value, longest: usize) -> Value {
    let short = |key: &str| {
        let text: String = values.get(key)?.as_str()?.chars().take(longest).collect();
        Some((key.to_owned(), text.into()))
    };
    Value::Object(BRIEF.into_iter().filter_map(short).collect())
}

#[cfg(test)]
mod tests;
