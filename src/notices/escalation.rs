//! Incidents that nobody looks after: somebody else is told, once, elsewhere or in the incident's thread, and how it goes on
//! there, too.

use std::time::Duration;

use sealbridge_contract::{Body, Kind, Message, Target, Timestamp, html::escape, inbox::StoreWrite};

use super::{
    Desk, Known, NotTaken, Origin, Severity, SourceName, Step,
    brought::{Author, changed, course, kept, points},
    calling::call,
    desk::Said,
    dialects::moment,
    gather::Gathering,
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
}

/// What becomes of an incident that nobody looked after in time.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody else is told.
    Never,
    /// It is looked at again then.
    Later(Timestamp),
    /// Somebody else is told.
    Now,
}

/// The same, with what is said.
#[derive(Debug)]
pub(super) enum Escalated {
    Never,
    Later(Timestamp),
    Said(Origin, Vec<(sealbridge_contract::RemoteId, Message)>, Vec<StoreWrite>),
}

impl Escalation {
    /// As the config says of a source.
    pub(super) fn of(name: &SourceName, section: &config::Source) -> Option<Self> {
        let next = || Origin::next(name, section.name.as_deref());
        Some(Self {
            after: section.escalate_after?.0,
            from: section.escalate_from,
            whom: section.escalate_mention.clone(),
            next: (!section.escalate_to.is_empty()).then(next),
        })
    }

    fn judge(&self, known: Option<&Known>, now: Timestamp) -> Verdict {
        let Some(known) = known else { return Verdict::Never };
        if known.firing() == 0 || known.escalated.is_some() || known.severity() < self.from {
            return Verdict::Never;
        }
        match known.silenced_until {
            Some(until) if until > now => Verdict::Later(until),
            // Whoever looks after it may take that back.
            _ if known.acknowledged.is_some() => Verdict::Later(now.plus(self.after)),
            _ => Verdict::Now,
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
        if known.escalated.is_none() && known.severity() >= escalation.from {
            gathering.waits_for(key, escalation.after, was_acknowledged && known.acknowledged.is_none());
        }
    }

    /// Tells somebody else of an incident, if nobody looks after it.
    ///
    /// # Errors
    /// [`NotTaken`]: the journal does not answer.
    pub(super) async fn escalate(&self, desk: &Desk, key: &str) -> Result<Escalated, NotTaken> {
        let (known, now) = (self.known(desk, key).await?, desk.clock().now());
        let Some(escalation) = &self.escalation else { return Ok(Escalated::Never) };
        let known = match (escalation.judge(known.as_ref(), now), known) {
            (Verdict::Now, Some(known)) => known,
            (Verdict::Later(at), _) => return Ok(Escalated::Later(at)),
            _ => return Ok(Escalated::Never),
        };
        let (after, since) = (humantime(escalation.after), moment::shown(known.since.0).unwrap_or_default());
        let head = format!("🔺 Nobody said within {after} that they look after this. It goes on since {since}.");
        let alerts = known.course();
        let body = self.body(wording::root(self.template_for(&known), &course(&known, &alerts)));
        // A person is to act, whatever it is.
        let kind = Kind::Text(call(&escalation.whom, after_line(&head, &body)));
        let thread = escalation.next.is_none().then(|| Target::new(known.root.clone()));
        let message = Message { thread, ..Message::of(self.origin().author(), now, kind) };
        let id = Desk::fresh_id();
        let known = Known { escalated: Some(id.clone()), ..known };
        let writes = vec![points(&id, key), StoreWrite::put(key, kept(&known))];
        let origin = escalation.next.as_ref().unwrap_or(self.origin());
        Ok(Escalated::Said(origin.clone(), vec![(id, message)], writes))
    }

    /// How an incident goes on, where somebody else was told of it.
    pub(super) fn beside(&self, desk: &Desk, known: &Known, step: &Step) -> Vec<Said> {
        let next = self.escalation.as_ref().and_then(|escalation| escalation.next.as_ref());
        let (Some(next), Some(root)) = (next, &known.escalated) else { return Vec::new() };
        let said = |message| (next.address().clone(), Desk::fresh_id(), message);
        let mut beside = vec![said(self.edited(desk, known, root))];
        if let Step::Ends { ended } = step {
            let alerts = known.course();
            let (course, changed) = (course(known, &alerts), changed(&alerts, ended.iter()));
            let info = (Severity::Info, Severity::Info);
            beside.push(said(self.news(desk, self.template_for(known), &course, &changed, root, info)));
        }
        beside
    }
}

/// Words with a line before them.
fn after_line(line: &str, body: &Body) -> Body {
    let html = body.html.as_ref().map_or_else(|| escape(body.plain.as_str()), |html| html.as_str().to_owned());
    let html = Some(format!("<p>{}</p>{html}", escape(line)).into());
    Body { html, ..Body::plain(format!("{line}\n{}", body.plain.as_str())) }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::RemoteId;
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
        let escalation = Escalation { after, from: Severity::Warning, whom: Vec::new(), next: None };
        let now = Timestamp(100_000);
        let judge = |known: &Known| escalation.judge(Some(known), now);
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
        let acknowledged = Some(Acknowledged { by: "Ann".into(), at: now, proven: false });
        assert_eq!(judge(&Known { acknowledged, ..known() }), Verdict::Later(Timestamp(160_000)));
        assert_eq!(escalation.judge(None, now), Verdict::Never);
    }
}
