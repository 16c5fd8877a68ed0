//! Counts what rooms were shown of what programs posted. Pure: it sees only what a person sees.

use std::collections::{BTreeMap, BTreeSet};

/// A notice, by its room and the tag that it has in its words.
pub(super) type Tagged = (String, String);

/// What rooms are to be shown.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Taken, by the word of who posted it: to be there once.
    pub(super) taken: BTreeSet<Tagged>,
    /// Its sender was told nothing: to be there once or not at all.
    pub(super) perhaps: BTreeSet<Tagged>,
}

/// What they were shown.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How often each is named, in a message of its own or in a line of a digest.
    named: BTreeMap<Tagged, usize>,
    /// Of each room, how many its digests count without a line.
    unnamed: BTreeMap<String, usize>,
    digests: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) heard: usize,
    pub(super) lost: usize,
    pub(super) duplicated: usize,
    /// Of those heard, without a line of their own.
    pub(super) counted: usize,
    pub(super) digests: usize,
}

impl Heard {
    /// Takes in the words of one message. An edit shows what is there already, and is none.
    pub(super) fn take(&mut self, room: &str, body: &str) {
        self.digests += usize::from(body.contains(" gathered since "));
        for line in body.lines() {
            for tag in line.split_whitespace().filter(|word| word.starts_with("notice-")) {
                *self.named.entry((room.to_owned(), tag.to_owned())).or_default() += times(line);
            }
            *self.unnamed.entry(room.to_owned()).or_default() += without_a_line(line);
        }
    }

    /// Those that are to be there and are named nowhere.
    pub(super) fn not_named<'a>(&'a self, wanted: &'a BTreeSet<Tagged>) -> impl Iterator<Item = &'a Tagged> {
        wanted.iter().filter(|one| !self.named.contains_key(*one))
    }

    /// Judges it by what is wanted.
    pub(super) fn judge(&self, wanted: &Wanted) -> Count {
        let in_room = |room: &str, all: &BTreeSet<Tagged>| self.not_named(all).filter(|one| one.0 == room).count();
        let rooms: BTreeSet<_> = wanted.taken.iter().map(|one| &one.0).chain(self.unnamed.keys()).collect();
        let (mut lost, mut too_many) = (0, 0);
        for room in rooms {
            let counted = self.unnamed.get(room).copied().unwrap_or_default();
            let (least, perhaps) = (in_room(room, &wanted.taken), in_room(room, &wanted.perhaps));
            lost += least.saturating_sub(counted);
            too_many += counted.saturating_sub(least + perhaps);
        }
        let is_wanted = |one: &Tagged| wanted.taken.contains(one) || wanted.perhaps.contains(one);
        let again = self.named.iter().map(|(one, times)| if is_wanted(one) { times - 1 } else { *times });
        Count {
            heard: wanted.taken.len() - lost,
            lost,
            duplicated: too_many + again.sum::<usize>(),
            counted: self.unnamed.values().sum(),
            digests: self.digests,
        }
    }

    /// Those that are there more often than they are to be, with how often.
    pub(super) fn too_often<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = (&'a Tagged, usize)> {
        let is_wanted = |one: &Tagged| wanted.taken.contains(one) || wanted.perhaps.contains(one);
        let named = self.named.iter().map(|(one, times)| (one, *times));
        named.filter(move |(one, times)| *times > usize::from(is_wanted(one)))
    }
}

/// How often a line of a digest says that it was there.
fn times(line: &str) -> usize {
    let times = |line: &str| line.trim_end().strip_suffix("×)")?.rsplit_once(" (")?.1.parse().ok();
    times(line).unwrap_or(1)
}

/// How many notices a digest counts of which it has no line.
fn without_a_line(line: &str) -> usize {
    let more = |line: &str| line.trim().strip_prefix("and ")?.strip_suffix(" more")?.parse().ok();
    more(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "room6: 🗂\u{fe0f} 27 notices gathered since 2026-11-30 12:18 UTC: 🔵 27 Info\n  \
                          - notice-a-2-28 is done\n  - invoice.paid: notice-a-4-26\n  and 25 more";

    fn wanted(taken: &[&str], perhaps: &[&str]) -> Wanted {
        let of = |tags: &[&str]| tags.iter().map(|tag| ("r".to_owned(), (*tag).to_owned())).collect();
        Wanted { taken: of(taken), perhaps: of(perhaps) }
    }

    /// Heard, lost and duplicated.
    fn judged(wanted: &Wanted, bodies: &[&str]) -> (usize, usize, usize) {
        let mut heard = Heard::default();
        bodies.iter().for_each(|body| heard.take("r", body));
        let count = heard.judge(wanted);
        (count.heard, count.lost, count.duplicated)
    }

    #[test]
    fn what_is_lost_said_twice_or_was_never_posted_is_seen() {
        let two = wanted(&["notice-a-1", "notice-a-2"], &["notice-a-3"]);
        let said = "job: notice-a-1 is done";
        assert_eq!(judged(&two, &[said, "notice-a-2"]), (2, 0, 0));
        assert_eq!(judged(&two, &[said, "notice-a-2", "notice-a-3"]), (2, 0, 0));
        assert_eq!(judged(&two, &[said]), (1, 1, 0), "one is lost");
        assert_eq!(judged(&two, &[said, said, "notice-a-2"]), (2, 0, 1), "one is there twice");
        assert_eq!(judged(&two, &[said, "notice-a-2", "notice-a-3", "notice-a-3"]), (2, 0, 1), "perhaps is not twice");
        assert_eq!(judged(&two, &[said, "notice-a-2", "notice-a-4"]), (2, 0, 1), "nobody can have heard of it");
        assert_eq!(judged(&two, &["- notice-a-1 (2×)", "- notice-a-2"]), (2, 0, 1), "twice within a digest");
    }

    #[test]
    fn notices_that_a_digest_only_counts_are_there_as_often_as_it_counts_them() {
        let mut heard = Heard::default();
        heard.take("r", DIGEST);
        let tags: Vec<_> = (0..25).map(|number| format!("notice-b-{number}")).collect();
        let tags: Vec<_> = tags.iter().map(String::as_str).chain(["notice-a-2-28", "notice-a-4-26"]).collect();
        let all = heard.judge(&wanted(&tags, &[]));
        assert_eq!(all, Count { heard: 27, lost: 0, duplicated: 0, counted: 25, digests: 1 });
        assert_eq!(judged(&wanted(&tags[1..], &[]), &[DIGEST]), (26, 0, 1), "one more than there are is counted");
        assert_eq!(judged(&wanted(&tags[1..], &tags[..1]), &[DIGEST]), (26, 0, 0), "perhaps that one");
        assert_eq!(judged(&wanted(&[&tags[..], &["notice-c-1"]].concat(), &[]), &[DIGEST]), (27, 1, 0));
        assert_eq!((without_a_line("and so on"), without_a_line(" - and 3 more or less"), times("a (2)")), (0, 0, 1));
    }
}
