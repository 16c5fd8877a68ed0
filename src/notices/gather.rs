//! Which notices of a source are said at once, and which are gathered and said as one message: those of a burst beyond its
//! first, and those of quiet hours; and when somebody else is told of an incident. Pure.
//!
//! What quiet hours let pass has a digest and a count of its own, so that a flood of news delays nothing of it.

use std::{collections::BTreeMap, time::Duration};

use sealbridge_contract::{RemoteId, SecretBytes, Timestamp, inbox::StoreWrite};

use super::{
    Severity, SourceName,
    policy::{Policy, Urgency},
    together::Together,
};
/// Where what is gathered is kept in the account's own store.
pub(super) const GATHERED: &str = "together/";
/// Where it is kept when somebody else is told that nobody looks after an incident.
const WAITS: &str = "escalation/";
/// Nothing is gathered for longer. What is further off was set by a clock that was moved back since.
const LONGEST: Duration = Duration::from_secs(26 * 3600);

/// What is gathered of a source, and how many notices it said lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    open: [Option<Together>; 3],
    lately: [Option<Lately>; 3],
    /// When somebody else is told that nobody looks after an incident, by its key.
    waits: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Lately {
    began: Timestamp,
    said: u32,
}

/// What one request does to it. Until it is kept, nothing of it is so.
#[derive(Debug)]
pub(super) struct Gathering<'a> {
    policy: &'a Policy,
    gathered: Gathered,
    changed: [bool; 3],
    held: Option<RemoteId>,
    waits: Vec<String>,
    at_once: bool,
    /// It is one of several, of which none is folded, so that the request is one message or so many.
    is_one_of_several: bool,
    now: Timestamp,
}

impl Gathered {
    /// The keys under which it is kept.
    pub(super) fn keys(source: &SourceName) -> [String; 3] {
        Urgency::ALL.map(|urgency| urgency.key(source))
    }

    /// Before the key of an incident, where it is kept when somebody else is told of it.
    pub(super) fn waits_before(source: &SourceName) -> String {
        format!("{WAITS}{source}/")
    }

    /// As it was kept under each of these. What can't be read holds nothing any more.
    pub(super) fn kept(source: &SourceName, kept: [Option<SecretBytes>; 3], waits: Vec<(String, SecretBytes)>) -> Self {
        let open = kept.map(|kept| kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()));
        let before = Self::waits_before(source);
        let wait = |(key, at): (String, SecretBytes)| {
            Some((key.strip_prefix(&before)?.to_owned(), serde_json::from_slice(at.expose()).ok()?))
        };
        Self { open, lately: Default::default(), waits: waits.into_iter().filter_map(wait).collect() }
    }

    /// The incidents of which it is time to tell somebody else, who is told after so long, and since when it is.
    pub(super) fn overdue(&self, after: Duration, now: Timestamp) -> Vec<(String, Timestamp)> {
        // One that is further off than that was put off for a silence, or set before the clock was moved.
        let longest = after.max(super::silence::LONGEST);
        let is_time = |(_, at): &(&String, &Timestamp)| at.has_come(now, longest);
        self.waits.iter().filter(is_time).map(|(key, at)| (key.clone(), *at)).collect()
    }

    /// Whether somebody else is told of an incident when it is time.
    pub(super) fn is_waiting(&self, incident: &str) -> bool {
        self.waits.contains_key(incident)
    }

    /// It is told then, or not at all. What is to be kept of that.
    pub(super) fn waits(&mut self, source: &SourceName, incident: &str, at: Option<Timestamp>) -> StoreWrite {
        match at {
            Some(at) => drop(self.waits.insert(incident.to_owned(), at)),
            None => drop(self.waits.remove(incident)),
        }
        self.wait(source, incident)
    }

    fn wait(&self, source: &SourceName, incident: &str) -> StoreWrite {
        let key = format!("{}{incident}", Self::waits_before(source));
        match self.waits.get(incident) {
            Some(at) => StoreWrite::put(key, SecretBytes::new(serde_json::to_vec(at).expect("a number"))),
            None => StoreWrite::delete(key),
        }
    }

    /// When that is to be said of which this is the name. `None`: nothing of this name is gathered.
    pub(super) fn due_of(&self, id: &str) -> Option<Timestamp> {
        self.open.iter().flatten().find(|open| open.id.as_str() == id).map(|open| open.due)
    }

    /// What is to be said now, with the key under which it is kept.
    pub(super) fn due(&self, policy: &Policy, source: &SourceName, now: Timestamp) -> Option<(String, Together)> {
        Urgency::ALL.into_iter().find_map(|urgency| {
            let open = self.open[urgency as usize].as_ref()?;
            // What was gathered in a burst when quiet hours began waits with the rest. Where they are over by a config
            // that was changed since, nothing waits for their end.
            let due = open.due.min(policy.due(urgency, open.since, now));
            let is_time = due.has_come(now, LONGEST) && policy.quiet_until(urgency, now).is_none();
            // Where the hours of a source and of its conversation leave no time between them, it is said all the same.
            let is_late = now.since(open.since) >= LONGEST;
            (is_time || is_late || open.is_full()).then(|| (urgency.key(source), open.clone()))
        })
    }

    /// What may have been said before that moment, with the key under which it is kept.
    pub(super) fn said_before(&self, moment: Timestamp, source: &SourceName) -> Option<(String, Together)> {
        Urgency::ALL.into_iter().find_map(|urgency| {
            let open = self.open[urgency as usize].as_ref().filter(|open| open.may_be_said_before(moment))?;
            Some((urgency.key(source), open.clone()))
        })
    }

    /// It was said.
    pub(super) fn said(&mut self, id: &RemoteId) {
        for open in &mut self.open {
            open.take_if(|open| open.id == *id);
        }
    }
}

impl<'a> Gathering<'a> {
    pub(super) fn new(policy: &'a Policy, gathered: Gathered, now: Timestamp) -> Self {
        Self {
            policy,
            gathered,
            changed: [false; 3],
            held: None,
            waits: Vec::new(),
            at_once: false,
            is_one_of_several: false,
            now,
        }
    }

    /// One that is said at once, whatever the policy.
    pub(super) fn at_once(policy: &'a Policy, gathered: Gathered, now: Timestamp) -> Self {
        Self { at_once: true, ..Self::new(policy, gathered, now) }
    }

    /// The request has so many notices.
    pub(super) fn of(self, notices: usize) -> Self {
        Self { is_one_of_several: notices > 1, ..self }
    }

    /// For how long the same words are said once.
    pub(super) fn folds_for(&self) -> Option<Duration> {
        self.policy.fold_for.filter(|_| !self.is_one_of_several && !self.at_once)
    }

    /// Somebody else is told of an incident so long after now, if nobody looks after it. One that waits already goes on
    /// waiting, unless it is to begin `anew`.
    pub(super) fn waits_for(&mut self, incident: &str, after: Duration, anew: bool) {
        if anew || !self.gathered.waits.contains_key(incident) {
            self.gathered.waits.insert(incident.to_owned(), self.now.plus(after));
            self.waits.push(incident.to_owned());
        }
    }

    /// Nobody else is told of an incident any more.
    pub(super) fn waits_no_more(&mut self, incident: &str) {
        if self.gathered.waits.remove(incident).is_some() {
            self.waits.push(incident.to_owned());
        }
    }

    /// Whether what matters so much is held now. What is not counts as said.
    pub(super) fn holds(&mut self, severity: Severity) -> bool {
        if !self.policy.gathers() || self.at_once {
            return false;
        }
        let urgency = self.policy.urgency(severity);
        // Nothing overtakes what is gathered already.
        if self.gathered.open[urgency as usize].is_some() || self.policy.quiet_until(urgency, self.now).is_some() {
            return true;
        }
        let Some((burst, long)) = self.policy.burst else { return false };
        let lately = self.lately(urgency, long);
        if lately.said >= burst {
            return true;
        }
        lately.said += 1;
        false
    }

    fn lately(&mut self, urgency: Urgency, long: Duration) -> &mut Lately {
        let lately = &mut self.gathered.lately[urgency as usize];
        lately.take_if(|lately| lately.began.plus(long).has_come(self.now, long));
        lately.get_or_insert(Lately { began: self.now, said: 0 })
    }

    /// Gathers a notice that is held. Of an incident whose beginning is gathered already, there.
    pub(super) fn take(&mut self, severity: Severity, words: &str, incident: Option<&str>) -> RemoteId {
        let urgency = incident.and_then(|incident| self.home(incident)).unwrap_or(self.policy.urgency(severity));
        let now = self.now;
        let since = self.policy.burst.map_or(now, |(_, long)| self.lately(urgency, long).began);
        let due = self.policy.due(urgency, since, now);
        self.changed[urgency as usize] = true;
        let open = self.gathered.open[urgency as usize].get_or_insert_with(|| Together::new(now, due));
        open.take(severity, words, incident);
        self.held = Some(open.id.clone());
        open.id.clone()
    }

    /// Whether a change of an incident whose beginning is gathered is, too, if it matters so much: unless it has become
    /// urgent since.
    pub(super) fn holds_of(&mut self, incident: &str, severity: Severity) -> bool {
        match self.home(incident) {
            Some(home) if home >= self.policy.urgency(severity) => true,
            _ => self.holds(severity),
        }
    }

    /// An incident gets a message of its own.
    pub(super) fn leave(&mut self, incident: &str) {
        if let Some(home) = self.home(incident) {
            self.changed[home as usize] = true;
            self.gathered.open[home as usize].iter_mut().for_each(|open| open.leave(incident));
        }
    }

    fn home(&self, incident: &str) -> Option<Urgency> {
        let tells = |urgency: &Urgency| {
            self.gathered.open[*urgency as usize].as_ref().is_some_and(|open| open.tells_of(incident))
        };
        Urgency::ALL.into_iter().find(tells)
    }

    /// The digest in which something of the request will be said.
    pub(super) fn held(&self) -> Option<&RemoteId> {
        self.held.as_ref()
    }

    /// What is to be kept of it.
    pub(super) fn writes(&self, source: &SourceName) -> Vec<StoreWrite> {
        let changed = Urgency::ALL.into_iter().filter(|urgency| self.changed[*urgency as usize]);
        let write = |urgency: Urgency| {
            let open = self.gathered.open[urgency as usize].as_ref()?;
            let open = serde_json::to_vec(open).expect("texts and numbers");
            Some(StoreWrite::put(urgency.key(source), SecretBytes::new(open)))
        };
        let waits = self.waits.iter().map(|incident| self.gathered.wait(source, incident));
        changed.filter_map(write).chain(waits).collect()
    }

    /// What is so once it is kept.
    pub(super) fn gathered(&self) -> &Gathered {
        &self.gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::quiet::Window;

    const SECOND: i64 = 1000;
    const HOUR: i64 = 3600 * SECOND;

    fn policy(burst: Option<u32>, quiet: Option<&str>) -> Policy {
        let quiet = quiet.into_iter().map(|hours| window(hours, Severity::Critical)).collect();
        Policy { burst: burst.map(|burst| (burst, Duration::from_secs(60))), quiet, ..Policy::NONE }
    }

    fn window(hours: &str, below: Severity) -> Window {
        Window { hours: hours.parse().expect("hours"), zone: Default::default(), below }
    }

    fn name() -> SourceName {
        SourceName::parse("job").expect("a name")
    }

    /// A source, as its requests come.
    struct Source(Policy, Gathered);

    impl Source {
        /// One notice at that moment. Whether it was held.
        fn brings(&mut self, severity: Severity, at: i64) -> bool {
            let mut gathering = Gathering::new(&self.0, self.1.clone(), Timestamp(at));
            let held = gathering.holds(severity);
            if held {
                gathering.take(severity, "words", None);
            }
            assert_eq!((gathering.held().is_some(), gathering.writes(&name()).len()), (held, usize::from(held)));
            self.1 = gathering.gathered().clone();
            held
        }

        /// Of so many at once, how many are held.
        fn held_of(&mut self, many: usize, severity: Severity, at: i64) -> usize {
            (0..many).filter(|_| self.brings(severity, at)).count()
        }

        /// How many are said together at that moment, if some are.
        fn says(&mut self, at: i64) -> Option<u32> {
            let (_, due) = self.1.due(&self.0, &name(), Timestamp(at))?;
            self.1.said(&due.id);
            Some(due.counts().iter().map(|(_, count)| count).sum())
        }
    }

    #[test]
    fn burst_is_said_one_by_one_up_to_its_bound_and_the_rest_at_the_end_of_its_time() {
        let mut source = Source(policy(Some(10), None), Gathered::default());
        assert_eq!(source.held_of(50, Severity::Info, 5 * SECOND), 40);
        assert_eq!(
            (source.says(64 * SECOND), source.says(65 * SECOND), source.says(65 * SECOND)),
            (None, Some(40), None)
        );
        // A new time has begun; nothing overtakes what is gathered and not yet said.
        assert_eq!(source.held_of(12, Severity::Info, 66 * SECOND), 2);
        assert!(source.brings(Severity::Info, 127 * SECOND));
        assert_eq!(source.says(127 * SECOND), Some(3));
        assert!(!source.brings(Severity::Info, 127 * SECOND));
    }

    #[test]
    fn flood_of_news_delays_nothing_that_is_critical_and_a_flood_of_that_is_gathered_by_itself() {
        let mut source = Source(policy(Some(3), None), Gathered::default());
        assert_eq!(source.held_of(20, Severity::Info, 0), 17);
        assert_eq!(source.held_of(5, Severity::Critical, 1), 2);
        assert_eq!((source.says(60 * SECOND), source.says(60 * SECOND + 1)), (Some(17), Some(2)));
    }

    #[test]
    fn quiet_hours_hold_what_matters_less_until_their_end_and_never_what_is_critical() {
        // 1970 began at midnight UTC.
        let mut source = Source(policy(None, Some("22:00-07:00")), Gathered::default());
        assert!(!source.brings(Severity::Warning, 22 * HOUR - 1));
        assert_eq!(source.held_of(3, Severity::Warning, 22 * HOUR), 3);
        assert!(!source.brings(Severity::Critical, 23 * HOUR));
        assert!(source.brings(Severity::Low, 30 * HOUR));
        assert_eq!((source.says(31 * HOUR - 1), source.says(31 * HOUR), source.says(31 * HOUR)), (None, Some(4), None));
        assert!(!source.brings(Severity::Warning, 31 * HOUR));
        let warnings_pass = Policy { quiet: vec![window("22:00-07:00", Severity::Warning)], ..Policy::NONE };
        let mut source = Source(warnings_pass, Gathered::default());
        assert!(!source.brings(Severity::Warning, 23 * HOUR) && source.brings(Severity::Info, 23 * HOUR));
    }

    #[test]
    fn quiet_hours_of_a_source_and_of_its_conversation_both_hold_and_each_lets_pass_what_it_does() {
        let quiet = vec![window("22:00-07:00", Severity::Warning), window("06:00-09:00", Severity::Critical)];
        let mut source = Source(Policy { quiet, ..Policy::NONE }, Gathered::default());
        // By night the source's own: a warning passes, whatever is gathered already.
        assert_eq!(source.held_of(2, Severity::Info, 23 * HOUR), 2);
        assert!(!source.brings(Severity::Warning, 23 * HOUR + 1));
        // From six on the conversation's, too, and after seven those alone.
        assert!(source.brings(Severity::Warning, 30 * HOUR) && !source.brings(Severity::Critical, 30 * HOUR));
        assert_eq!(source.says(31 * HOUR), None, "what the night held waits for the morning to be over");
        assert!(source.brings(Severity::Info, 32 * HOUR) && source.brings(Severity::Warning, 32 * HOUR));
        assert_eq!(
            (source.says(33 * HOUR - 1), source.says(33 * HOUR), source.says(33 * HOUR)),
            (None, Some(3), Some(2))
        );
        assert!(!source.brings(Severity::Low, 33 * HOUR));
    }

    #[test]
    fn hours_that_leave_no_time_between_them_hold_nothing_for_ever() {
        let quiet = vec![window("00:00-12:00", Severity::Critical), window("12:00-00:00", Severity::Critical)];
        let mut source = Source(Policy { quiet, ..Policy::NONE }, Gathered::default());
        assert!(source.brings(Severity::Info, HOUR));
        assert_eq!((source.says(26 * HOUR), source.says(27 * HOUR)), (None, Some(1)));
    }

    #[test]
    fn burst_on_the_brink_of_quiet_hours_waits_for_their_end_unless_it_is_critical() {
        let mut source = Source(policy(Some(1), Some("22:00-07:00")), Gathered::default());
        let brink = 22 * HOUR - SECOND;
        assert_eq!(source.held_of(4, Severity::Info, brink) + source.held_of(4, Severity::Critical, brink), 6);
        assert_eq!((source.says(brink + 60 * SECOND), source.says(brink + 60 * SECOND)), (Some(3), None));
        assert_eq!(source.says(31 * HOUR), Some(3));
    }

    #[test]
    fn what_was_gathered_is_said_after_the_clock_was_moved_back_and_after_the_config_gathers_no_more() {
        let mut source = Source(policy(Some(0), None), Gathered::default());
        assert!(source.brings(Severity::Info, 48 * HOUR));
        assert_eq!(source.says(HOUR), Some(1), "it is not waited for as long as the clock was moved");
        assert!(source.brings(Severity::Info, 48 * HOUR));
        source.0 = Policy::NONE;
        assert!(!source.brings(Severity::Info, 48 * HOUR + SECOND));
        assert_eq!(source.says(48 * HOUR + 60 * SECOND), Some(1));
    }

    #[test]
    fn what_is_kept_is_what_is_gathered() {
        let policy = policy(Some(0), None);
        let mut gathering = Gathering::new(&policy, Gathered::default(), Timestamp(1));
        let id = gathering.take(Severity::Critical, "words", Some("incident"));
        let [calm, middle, loud] = Gathered::keys(&name());
        let mut writes = gathering.writes(&name());
        assert_eq!(writes.iter().map(|write| &write.key).collect::<Vec<_>>(), [&loud]);
        assert!(calm != loud && middle != loud && calm != middle);
        let kept = Gathered::kept(&name(), [None, None, writes.remove(0).value], Vec::new());
        assert_eq!(kept.due_of(id.as_str()), Some(Timestamp(1).plus(Duration::from_secs(60))));
        let unreadable = [Some(SecretBytes::new(b"{".to_vec())), None, None];
        assert_eq!(Gathered::kept(&name(), unreadable, Vec::new()).due_of(id.as_str()), None);
    }

    #[test]
    fn somebody_else_is_told_of_an_incident_when_it_is_time_also_by_what_is_kept() {
        let (policy, minute) = (Policy::NONE, Duration::from_secs(60));
        let mut gathering = Gathering::new(&policy, Gathered::default(), Timestamp(0));
        gathering.waits_for("a", minute, false);
        gathering.waits_for("b", minute, false);
        gathering.waits_no_more("b");
        gathering.now = Timestamp(30 * SECOND);
        gathering.waits_for("a", minute, false);
        let writes = gathering.writes(&name());
        let kept = writes.into_iter().filter_map(|write| Some((write.key, write.value?))).collect();
        let mut kept = Gathered::kept(&name(), [None, None, None], kept);
        assert_eq!(kept.overdue(minute, Timestamp(60 * SECOND - 1)), []);
        assert_eq!(kept.overdue(minute, Timestamp(60 * SECOND)), [("a".to_owned(), Timestamp(60 * SECOND))]);
        assert!(kept.waits(&name(), "a", Some(Timestamp(90 * SECOND))).value.is_some());
        assert_eq!(kept.overdue(minute, Timestamp(60 * SECOND)), []);
        assert!(kept.waits(&name(), "a", None).value.is_none() && kept.overdue(minute, Timestamp(HOUR)).is_empty());
    }

    #[test]
    fn incident_stays_where_its_beginning_is_gathered_unless_it_becomes_urgent() {
        let policy = policy(None, Some("22:00-07:00"));
        let mut gathering = Gathering::new(&policy, Gathered::default(), Timestamp(23 * HOUR));
        gathering.take(Severity::Warning, "words", Some("incident"));
        assert!(gathering.holds_of("incident", Severity::Info) && !gathering.holds_of("incident", Severity::Critical));
        gathering.leave("incident");
        assert!(gathering.holds_of("incident", Severity::Info), "it is night");
        let (_, open) = gathering.gathered().due(&policy, &name(), Timestamp(31 * HOUR)).expect("it is said");
        assert!(!open.tells_of("incident") && open.counts() == [(Severity::Warning, 1)]);
    }
}
