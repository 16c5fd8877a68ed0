//! What the config says of when a source's notices are said. Pure.

use std::time::Duration;

use sealbridge_contract::Timestamp;

use super::{
    Severity, SourceName,
    gather::GATHERED,
    quiet::{Window, held_by},
};
use crate::config;

/// What the config says of a source.
#[derive(Debug)]
pub(super) struct Policy {
    /// So many are said one by one within a time of this length.
    pub(super) burst: Option<(u32, Duration)>,
    /// The same words are said once within so long, and counted.
    pub(super) fold_for: Option<Duration>,
    /// Its own quiet hours, and those of its conversations.
    pub(super) quiet: Vec<Window>,
}

/// Which quiet hours hold it: all of them, those alone that let pass least, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    Calm = 0,
    Middle = 1,
    Loud = 2,
}

impl Urgency {
    pub(super) const ALL: [Self; 3] = [Self::Calm, Self::Middle, Self::Loud];

    pub(super) fn key(self, source: &SourceName) -> String {
        let sort = match self {
            Self::Calm => "calm",
            Self::Middle => "middle",
            Self::Loud => "loud",
        };
        format!("{GATHERED}{source}/{sort}")
    }
}

impl Policy {
    /// The policy of a source, of which the config says that its conversations have the same quiet hours.
    pub(super) fn of(section: &config::Source, notices: &config::Notices) -> Self {
        let mut quiet = notices.windows(&section.to);
        let own = section.window().filter(|own| !quiet.contains(own));
        quiet.extend(own);
        Self {
            burst: section.burst.map(|burst| (burst, section.gather_for.0)),
            fold_for: section.fold_for.map(|long| long.0),
            quiet,
        }
    }

    #[cfg(test)]
    pub(super) const NONE: Self = Self { burst: None, fold_for: None, quiet: Vec::new() };

    /// Whether its notices are told one after the other.
    pub(super) fn takes_turns(&self) -> bool {
        self.gathers() || self.fold_for.is_some()
    }

    /// Whether anything is ever gathered.
    pub(super) fn gathers(&self) -> bool {
        self.burst.is_some() || !self.quiet.is_empty()
    }

    pub(super) fn urgency(&self, severity: Severity) -> Urgency {
        let holding = self.quiet.iter().filter(|window| severity < window.below).count();
        match holding {
            // A burst of what is critical has a digest of its own without quiet hours, too.
            0 if !self.quiet.is_empty() || severity == Severity::Critical => Urgency::Loud,
            some if some == self.quiet.len() => Urgency::Calm,
            _ => Urgency::Middle,
        }
    }

    /// Until when quiet hours hold what matters so much, if they do.
    pub(super) fn held_until(&self, severity: Severity, now: Timestamp) -> Option<Timestamp> {
        held_by(&self.quiet, severity, now)
    }

    /// When what is gathered since then is said, as far as that is known now.
    pub(super) fn due(&self, urgency: Urgency, since: Timestamp, now: Timestamp) -> Timestamp {
        match (self.quiet_until(urgency, now), self.burst) {
            (Some(until), _) => until,
            (None, Some((_, long))) => since.plus(long),
            (None, None) => now,
        }
    }

    pub(super) fn quiet_until(&self, urgency: Urgency, now: Timestamp) -> Option<Timestamp> {
        let most = self.quiet.iter().map(|window| window.below).max();
        let holds = |window: &&Window| match urgency {
            Urgency::Calm => true,
            Urgency::Middle => Some(window.below) == most,
            Urgency::Loud => false,
        };
        let ends = |window: &Window| window.hours.end(&window.zone, now);
        self.quiet.iter().filter(holds).filter_map(ends).max()
    }
}
