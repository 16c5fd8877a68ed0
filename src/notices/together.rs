//! What is kept of notices that are said together: how many of which severity, the beginnings of some, and the incidents
//! among them. Pure, and bounded however many there are.

use std::collections::BTreeSet;

use sealbridge_contract::{DeliveryId, RemoteId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Severity, wording::Digest};

/// So many different lines are shown; what is beyond is counted.
pub(super) const MOST_LINES: usize = 25;
/// A line has at most so many characters.
const LONGEST_LINE: usize = 200;
/// With so many incidents it is full, and said whatever the hour.
pub(super) const MOST_INCIDENTS: usize = 200;
/// How the name of a digest begins, so that one who wants to change a notice that is in it changes nothing of the others.
const NAMED: &str = "together-";

/// Notices that wait to be said as one message. Kept locked, since it has the senders' words in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Together {
    /// What its message will be called.
    pub(super) id: RemoteId,
    /// When the first of them came.
    pub(super) since: Timestamp,
    /// When it is to be said.
    pub(super) due: Timestamp,
    /// How many there are of each severity, from the lowest.
    counts: [u32; 4],
    lines: Vec<Line>,
    /// How many are in no line.
    more: u32,
    /// The keys of incidents of which it will tell.
    incidents: BTreeSet<String>,
}

/// What is shown of one of them, or of several that say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    text: String,
    times: u32,
    /// It is of this incident, and changes with it.
    incident: Option<String>,
}

/// Whether a digest is called so, or will be.
pub(super) fn is_together(id: &str) -> bool {
    id.starts_with(NAMED)
}

/// What a message is called that tells of several things.
pub(super) fn fresh_id() -> RemoteId {
    RemoteId::new(format!("{NAMED}{}", DeliveryId::random()))
}

impl Together {
    /// An empty one, to be said then.
    pub(super) fn new(now: Timestamp, due: Timestamp) -> Self {
        let id = fresh_id();
        let (counts, lines, more, incidents) = Default::default();
        Self { id, since: now, due, counts, lines, more, incidents }
    }

    /// Takes in one notice, of which `words` are the plain words. One of an incident stands in the place of what was known
    /// of it.
    pub(super) fn take(&mut self, severity: Severity, words: &str, incident: Option<&str>) {
        let count = &mut self.counts[severity as usize];
        *count = count.saturating_add(1);
        self.incidents.extend(incident.map(str::to_owned));
        let text = line(words);
        let is_it = |line: &&mut Line| match incident {
            Some(incident) => line.incident.as_deref() == Some(incident),
            None => line.incident.is_none() && line.text == text,
        };
        let is_room = self.lines.len() < MOST_LINES;
        match self.lines.iter_mut().find(is_it) {
            Some(line) => {
                line.times = line.times.saturating_add(1);
                line.text = text;
            }
            None if is_room => {
                self.lines.push(Line { text, times: 1, incident: incident.map(str::to_owned) });
            }
            None => self.more = self.more.saturating_add(1),
        }
    }

    /// Whether it will tell of an incident.
    pub(super) fn tells_of(&self, incident: &str) -> bool {
        self.incidents.contains(incident)
    }

    /// An incident gets a message of its own. That it was told of until now stays counted.
    pub(super) fn leave(&mut self, incident: &str) {
        self.incidents.remove(incident);
        let of_it = self.lines.iter_mut().filter(|line| line.incident.as_deref() == Some(incident));
        of_it.for_each(|line| line.incident = None);
    }

    /// Whether it was perhaps said before that moment, by whoever it was gathered for then.
    pub(super) fn may_be_said_before(&self, moment: Timestamp) -> bool {
        self.since < moment && (self.due < moment || self.is_full())
    }

    /// Whether it has room for no more incidents.
    pub(super) fn is_full(&self) -> bool {
        self.incidents.len() >= MOST_INCIDENTS
    }

    pub(super) fn incidents(&self) -> impl Iterator<Item = &String> {
        self.incidents.iter()
    }

    /// How many there are of each severity of which there are some, from the highest.
    pub(super) fn counts(&self) -> Vec<(Severity, u32)> {
        let all = [Severity::Low, Severity::Info, Severity::Warning, Severity::Critical];
        all.into_iter().zip(self.counts).rev().filter(|(_, count)| *count > 0).collect()
    }

    /// What is told of them: of the incidents among them so many `go_on`, and so many are over.
    pub(super) fn as_digest<'a>(&'a self, (go_on, over): (usize, usize), head: Option<&'a str>) -> Digest<'a> {
        let lines = self.lines.iter().map(|line| (line.text.as_str(), line.times)).collect();
        Digest { counts: self.counts(), lines, more: self.more, since: self.since, go_on, over, head }
    }

    /// How much the worst of them matters.
    pub(super) fn severity(&self) -> Severity {
        self.counts().first().map(|(severity, _)| *severity).unwrap_or_default()
    }
}

/// The first line of words, or its beginning.
fn line(words: &str) -> String {
    let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    match first.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}…", first[..at].trim_end()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Together {
        Together::new(Timestamp(1), Timestamp(60_000))
    }

    /// All that it shows and counts by lines is what was taken.
    #[track_caller]
    fn check(together: &Together, taken: u32) {
        let shown: u32 = together.lines.iter().map(|line| line.times).sum();
        assert_eq!(shown + together.more, taken);
        assert_eq!(together.counts().iter().map(|(_, count)| count).sum::<u32>(), taken);
    }

    #[test]
    fn every_notice_is_counted_once_however_many_there_are_and_however_long() {
        let mut together = empty();
        for number in 0..1000_u32 {
            together.take(Severity::Info, &format!("\n notice {number} {}\nmore", "ä".repeat(500)), None);
        }
        check(&together, 1000);
        assert_eq!((together.lines.len(), together.more), (MOST_LINES, 1000 - MOST_LINES as u32));
        assert!(together.lines[0].text.starts_with("notice 0 ää") && together.lines[0].text.chars().count() <= 201);
        let kept = serde_json::to_vec(&together).expect("texts and numbers");
        assert!(kept.len() < 32 * 1024, "{}", kept.len());
        assert_eq!(serde_json::from_slice::<Together>(&kept).expect("it is one"), together);
    }

    #[test]
    fn same_words_are_one_line_and_severities_are_told_from_the_worst() {
        let mut together = empty();
        for severity in [Severity::Info, Severity::Warning, Severity::Info] {
            together.take(severity, "the disk is full", None);
        }
        check(&together, 3);
        assert_eq!(together.counts(), [(Severity::Warning, 1), (Severity::Info, 2)]);
        assert_eq!((together.lines.len(), together.severity()), (1, Severity::Warning));
    }

    #[test]
    fn incident_is_one_line_as_it_is_now_and_one_that_leaves_stays_counted() {
        let mut together = empty();
        together.take(Severity::Warning, "Disk", Some("a"));
        together.take(Severity::Warning, "Disk", Some("b"));
        together.take(Severity::Info, "Resolved: Disk", Some("a"));
        check(&together, 3);
        let texts: Vec<_> = together.lines.iter().map(|line| (line.text.as_str(), line.times)).collect();
        assert_eq!(texts, [("Resolved: Disk", 2), ("Disk", 1)]);
        together.leave("b");
        assert!(together.tells_of("a") && !together.tells_of("b"));
        check(&together, 3);
        assert!(!together.is_full());
        (0..MOST_INCIDENTS).for_each(|number| together.take(Severity::Low, "x", Some(&number.to_string())));
        assert!(together.is_full());
    }
}
