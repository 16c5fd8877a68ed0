//! Incidents that nobody looks after: somebody else is told, once, elsewhere or in the incident's thread, and how it goes on
//! there, too.

use std::time::Duration;

use sealbridge_contract::{Body, Kind, Message, RemoteId, Target, Timestamp, html::escape, inbox::StoreWrite};

use super::{
    Desk, Known, Origin, Severity, SourceName, Step, Told,
    brought::{Author, also_said, changed, course},
    calling::call,
    desk::Said,
    dialects::moment,
    digest::tells_of,
    gather::Gathering,
    keeping::{kept, points},
    quiet::{Window, held_by},
    together::{self, MOST_LINES, Together, is_together},
    vigil::humantime,
    wording,
};
use crate::config;

/// When somebody else is told, and who.
#[derive(Debug)]
pub(super) struct Escalation {
    pub(super) after: Duration,
    from: Severity,
    whom: Vec<String>,
    /// What is told elsewhere comes from here. `None`: it is told in the incident's thread.
    next: Option<Origin>,
    /// The quiet hours of where it is told.
    quiet: Vec<Window>,
}

/// What becomes of an incident that nobody looked after in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody else is told.
    Never,
    /// It is looked at again then.
    Later(Timestamp),
    /// Somebody else is told.
    Now,
}

/// Of more than so many incidents at once is told by one message, or by as many as have a line for each.
const MOST_ALONE: usize = 5;

/// What somebody else is told, of which incidents, and what is to be remembered with it.
#[derive(Debug)]
pub(super) struct Escalated {
    pub(super) of: Vec<String>,
    pub(super) origin: Origin,
    pub(super) said: (RemoteId, Message),
    pub(super) writes: Vec<StoreWrite>,
}

impl Escalation {
    /// As the config says of a source.
    pub(super) fn of(name: &SourceName, section: &config::Source, notices: &config::Notices) -> Option<Self> {
        let next = || Origin::next(name, section.name.as_deref());
        Some(Self {
            after: section.escalate_after?.0,
            from: section.escalate_from,
            whom: section.escalate_mention.clone(),
            next: (!section.escalate_to.is_empty()).then(next),
            quiet: notices.windows(&section.escalate_to),
        })
    }

    /// The line that says why somebody else is told.
    fn head(&self, known: &Known) -> String {
        let (after, since) = (humantime(self.after), moment::shown(known.since.0).unwrap_or_default());
        format!("🔺 Nobody said within {after} that they look after this. It goes on since {since}.")
    }

    /// What becomes of an incident. `quiet` says until when what matters so much is held where the incident is told.
    pub(super) fn judge(
        &self,
        known: &Known,
        quiet: impl Fn(Severity) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Verdict {
        if known.firing() == 0 || known.is_escalated() || known.severity() < self.from {
            return Verdict::Never;
        }
        match known.silenced_until {
            Some(until) if until > now => Verdict::Later(until),
            // Whoever looks after it may take that back, and what nobody was told of nobody can look after.
            _ if known.acknowledged.is_some() || known.told == Told::Later => Verdict::Later(now.plus(self.after)),
            _ => {
                let until = quiet(known.severity()).max(held_by(&self.quiet, known.severity(), now));
                until.map_or(Verdict::Now, Verdict::Later)
            }
        }
    }
}

impl Author {
    /// Sees to it that somebody else is told of an incident if nobody looks after it, or not any more.
    pub(super) fn wait_for_somebody(
        &self,
        key: &str,
        known: &Known,
        was_acknowledged: bool,
        gathering: &mut Gathering<'_>,
    ) {
        if known.firing() == 0 {
            return gathering.waits_no_more(key);
        }
        let Some(escalation) = &self.escalation else { return };
        if !known.is_escalated() && known.severity() >= escalation.from {
            gathering.waits_for(key, escalation.after, was_acknowledged && known.acknowledged.is_none());
        }
    }

    /// Where what somebody else is told elsewhere comes from.
    pub(super) fn next(&self) -> Option<&Origin> {
        self.escalation.as_ref().and_then(|escalation| escalation.next.as_ref())
    }

    /// Tells somebody else of incidents that nobody looks after, of many at once by one message. `due`: since when they are
    /// to be told, which counts where that may have been done already.
    pub(super) fn escalate(
        &self,
        desk: &Desk,
        escalation: &Escalation,
        due: Timestamp,
        of: Vec<(String, Known)>,
    ) -> Vec<Escalated> {
        let at = desk.dated(&self.escalates_from(escalation), due);
        if of.len() > MOST_ALONE {
            let some = of.chunks(MOST_LINES).map(|some| self.escalated_together(escalation, at, some.to_vec()));
            return some.collect();
        }
        of.into_iter().map(|(key, known)| self.escalated(escalation, at, key, known)).collect()
    }

    fn escalated(&self, escalation: &Escalation, at: Timestamp, key: String, known: Known) -> Escalated {
        let alerts = known.course();
        let body = self.body(wording::root(self.template_for(&known), &course(&known, &alerts)));
        let message = self.tells(escalation, at, after_line(&escalation.head(&known), &body));
        // What began since they were told is said below that, which goes on to be what is edited.
        let first = known.escalated.clone().filter(|first| escalation.next.is_some() && !is_together(first.as_str()));
        let above = first.clone().or_else(|| escalation.next.is_none().then(|| known.root.clone()));
        let said = (Desk::fresh_id(), Message { thread: above.map(Target::new), ..message });
        let (stays, also) = match first {
            Some(first) => (first, Some(said.0.clone())),
            None => (said.0.clone(), known.escalated.clone().filter(|before| !is_together(before.as_str()))),
        };
        let mut known = Known { escalated: Some(stays), more_since: false, ..known };
        let mut writes = vec![points(&said.0, &key)];
        writes.extend(also.and_then(|id| also_said(&mut known, id)));
        writes.push(StoreWrite::put(&key, kept(&known)));
        Escalated { of: vec![key], origin: self.escalates_from(escalation), said, writes }
    }

    fn escalated_together(&self, escalation: &Escalation, at: Timestamp, due: Vec<(String, Known)>) -> Escalated {
        let id = together::fresh_id();
        let mut all = Together::new(at, at);
        let mut writes = Vec::new();
        for (key, known) in &due {
            let alerts = known.course();
            let words = self.body(wording::root(self.template_for(known), &course(known, &alerts)));
            all.take(known.severity(), words.plain.as_str(), Some(key));
            // What tells of it alone goes on to be what is edited.
            let alone =
                known.escalated.clone().filter(|first| escalation.next.is_some() && !is_together(first.as_str()));
            let also = alone.is_some().then(|| id.clone());
            let escalated = Some(alone.unwrap_or_else(|| id.clone()));
            let mut known = Known { escalated, more_since: false, ..known.clone() };
            writes.extend(also.and_then(|id| also_said(&mut known, id)));
            writes.push(StoreWrite::put(key, kept(&known)));
        }
        let of: Vec<_> = due.into_iter().map(|(key, _)| key).collect();
        writes.push(tells_of(&id, &of));
        let after = humantime(escalation.after);
        let head = format!("🔺 Nobody said within {after} that they look after {} incidents", of.len());
        let body = self.body(wording::digest(&self.together, &all.as_digest((0, 0), Some(&head))));
        let said = (id, self.tells(escalation, at, body));
        Escalated { of, origin: self.escalates_from(escalation), said, writes }
    }

    /// A person is to act, whatever it is.
    fn tells(&self, escalation: &Escalation, at: Timestamp, body: Body) -> Message {
        Message::of(self.origin().author(), at, Kind::Text(call(&escalation.whom, body)))
    }

    fn escalates_from(&self, escalation: &Escalation) -> Origin {
        escalation.next.as_ref().unwrap_or(self.origin()).clone()
    }

    /// How an incident goes on, where somebody else was told of it.
    pub(super) fn beside(&self, desk: &Desk, known: &Known, step: &Step) -> Vec<Said> {
        let (Some(escalation), Some(root)) = (&self.escalation, &known.escalated) else { return Vec::new() };
        let Some(next) = &escalation.next else { return Vec::new() };
        let said = |message| (next.address().clone(), Desk::fresh_id(), message);
        // One that tells of others too stays as it is.
        let is_alone = !is_together(root.as_str());
        let edited = || {
            let head = (known.firing() > 0).then(|| escalation.head(known));
            said(self.edited_below(desk, known, root, head.as_deref()))
        };
        let mut beside: Vec<_> = is_alone.then(edited).into_iter().collect();
        // Its end is seen in its message, and calls nobody at night.
        let is_quiet = held_by(&escalation.quiet, Severity::Info, desk.clock().now()).is_some();
        if let Step::Ends { ended } = step
            && !is_quiet
        {
            let alerts = known.course();
            let (course, changed) = (course(known, &alerts), changed(&alerts, ended.iter()));
            let info = (Severity::Info, Severity::Info);
            beside.push(said(self.news(desk, self.template_for(known), &course, &changed, root, info)));
        }
        beside
    }
}

/// Words with a line before them.
pub(super) fn after_line(line: &str, body: &Body) -> Body {
    let html = body.html.as_ref().map_or_else(|| escape(body.plain.as_str()), |html| html.as_str().to_owned());
    let html = Some(format!("<p>{}</p>{html}", escape(line)).into());
    Body { html, ..Body::plain(format!("{line}\n{}", body.plain.as_str())) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::notices::{Acknowledged, Alert, Incident};

    fn known(severity: Severity, firing: bool) -> Known {
        let alert = Alert { fingerprint: "a".into(), firing, severity, values: Value::Null };
        let incident = Incident { group: "g".into(), alerts: vec![alert], ..Incident::default() };
        Known::hear(None, &incident, &Value::Null, RemoteId::new("root"), Timestamp(0)).1
    }

    #[test]
    fn somebody_else_is_told_of_what_goes_on_and_matters_and_nobody_looks_after_or_silenced() {
        let after = Duration::from_secs(60);
        let escalation = Escalation { after, from: Severity::Warning, whom: Vec::new(), next: None, quiet: Vec::new() };
        let now = Timestamp(100_000);
        let judge = |known: &Known| escalation.judge(known, |_| None, now);
        for (severity, firing, verdict) in [
            (Severity::Critical, true, Verdict::Now),
            (Severity::Warning, true, Verdict::Now),
            (Severity::Info, true, Verdict::Never),
            (Severity::Critical, false, Verdict::Never),
        ] {
            assert_eq!(judge(&known(severity, firing)), verdict, "{severity:?} {firing}");
        }
        let known = || known(Severity::Critical, true);
        assert_eq!(judge(&Known { escalated: Some(RemoteId::new("e")), ..known() }), Verdict::Never);
        let silenced = |until| Known { silenced_until: Some(Timestamp(until)), ..known() };
        assert_eq!(judge(&silenced(200_000)), Verdict::Later(Timestamp(200_000)));
        assert_eq!(judge(&silenced(100_000)), Verdict::Now);
        let acknowledged = Some(Acknowledged { by: "Ann".into(), id: None, at: now, proven: false });
        assert_eq!(judge(&Known { acknowledged, ..known() }), Verdict::Later(Timestamp(160_000)));
        assert_eq!(judge(&Known { told: Told::Later, ..known() }), Verdict::Later(Timestamp(160_000)));
        let quiet = |severity| (severity < Severity::Critical).then_some(Timestamp(300_000));
        assert_eq!(escalation.judge(&known(), quiet, now), Verdict::Now);
        let warning = self::known(Severity::Warning, true);
        assert_eq!(escalation.judge(&warning, quiet, now), Verdict::Later(Timestamp(300_000)));
        // 1970 began at midnight UTC, where it is told also by night.
        let hours = "00:00-07:00".parse().expect("hours");
        let window = Window { hours, zone: Default::default(), below: Severity::Critical };
        let escalation = Escalation { quiet: vec![window], ..escalation };
        let morning = Timestamp(7 * 3_600_000);
        assert_eq!(escalation.judge(&warning, quiet, now), Verdict::Later(morning));
        assert_eq!(escalation.judge(&known(), quiet, now), Verdict::Now);
    }
}
