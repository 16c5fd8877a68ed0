//! How full the journal is, and what the operator is told of it: once an episode, not once a message.

use std::collections::BTreeMap;

use sealbridge_contract::Address;

use crate::{config::Size, notices, store::Share};

/// How full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Fine,
    Nearly,
    Full,
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Fullness {
    level: Level,
    /// The disk was full, rather than the journal at its bound.
    disk: bool,
}

impl Fullness {
    /// Takes a look; `refused`: something was not accepted since the last one. Gives words for the operator, if this is
    /// news. An episode ends when there is ample room again.
    pub fn look(&mut self, used: u64, most: u64, refused: bool) -> Option<String> {
        let share = |tenths: u64| most / 10 * tenths;
        let seen = match (refused, self.level) {
            (true, _) => Level::Full,
            (false, Level::Full) if self.disk => Level::Fine,
            (false, level) if used >= share(7) => level.max(if used >= share(8) { Level::Nearly } else { Level::Fine }),
            (false, _) => Level::Fine,
        };
        let before = std::mem::replace(&mut self.level, seen);
        let amount = format!("{} of {}", Size(used), Size(most));
        match (before, seen) {
            (Level::Fine, Level::Nearly) => Some(format!(
                "The journal is nearly full: {amount}. `sealbridge status` says what waits in it. When it is full, \
                 messages stay on their networks."
            )),
            (Level::Fine | Level::Nearly, Level::Full) => {
                self.disk = used < share(9);
                Some(if self.disk {
                    "The disk under the journal is full. Nothing is lost: messages stay on their networks until there \
                     is room. Make room on it."
                        .into()
                } else {
                    format!(
                        "The journal is full: {amount}. Nothing is lost: messages stay on their networks until there is \
                         room. Retry or drop dead letters, resume paused links, or raise `journal.most_payload`."
                    )
                })
            }
            (Level::Full, Level::Fine) => Some("There is room in the journal again, and messages cross.".into()),
            _ => None,
        }
    }

    /// What is wrong now, in a few words.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        match (self.level, self.disk) {
            (Level::Full, true) => Some("the disk under the journal is full: messages stay on their networks"),
            (Level::Full, false) => Some("the journal is full: messages stay on their networks"),
            _ => None,
        }
    }
}

/// Which sources have as much waiting as they may, and how much that was when the operator was told.
#[derive(Debug, Default)]
pub struct Crowded(BTreeMap<Address, u64>);

impl Crowded {
    /// Takes a look. Gives words for the operator, if there is news. An episode ends when half of it is gone.
    pub fn look(&mut self, shares: &[Share]) -> Vec<String> {
        let waits = |at: &Address| shares.iter().find(|share| share.at == *at).map_or(0, |share| share.messages);
        self.0.retain(|at, told| waits(at) > *told / 2);
        let taken = shares.iter().filter(|share| share.is_taken);
        let news = taken.filter(|share| self.0.insert(share.at.clone(), share.messages).is_none());
        news.map(words).collect()
    }
}

/// What the operator is told of a source that has as much waiting as it may.
#[must_use]
pub fn words(share: &Share) -> String {
    format!("{}: {}", notices::in_words(&share.at), waiting(share))
}

/// The same, without its name.
#[must_use]
pub fn waiting(share: &Share) -> String {
    let files = if share.files > 0 { format!(", with files of {}", Size(share.files)) } else { String::new() };
    format!(
        "{} messages wait, {}{files}. That is as much as one source may have, so nothing more is taken of it until some of \
         them are delivered; whoever brings more is told so, and others go on. `sealbridge status` says what is waited for.",
        share.messages,
        Size(share.bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(looks: &[(u64, bool, Option<&str>)]) {
        let mut fullness = Fullness::default();
        for (turn, (used, refused, expected)) in looks.iter().enumerate() {
            let told = fullness.look(*used, 1000, *refused);
            let as_expected = match (&told, expected) {
                (Some(told), Some(expected)) => told.contains(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(as_expected, "look {turn}: {told:?}");
        }
    }

    #[test]
    fn each_step_is_told_once_an_episode() {
        check(&[
            (799, false, None),
            (800, false, Some("nearly full")),
            (900, false, None),
            (750, false, None),
            (850, false, None),
            (990, true, Some("is full")),
            (990, true, None),
            (990, false, None),
            (900, true, None),
            (690, false, Some("room")),
            (800, false, Some("nearly full")),
        ]);
    }

    #[test]
    fn full_disk_is_told_as_such_and_ends_when_something_is_accepted() {
        check(&[(10, true, Some("disk")), (10, true, None), (10, false, Some("room")), (10, true, Some("disk"))]);
    }

    #[test]
    fn source_that_has_its_share_waiting_is_told_once_until_half_of_it_is_gone() {
        let at = notices::SourceName::parse("job").expect("a name").address();
        let share = |messages, is_taken| Share { at: at.clone(), messages, bytes: 9000, files: 0, is_taken };
        let mut crowded = Crowded::default();
        let told = [(10, false), (100, true), (99, false), (100, true), (50, false), (120, true), (120, true)]
            .map(|(messages, is_taken)| crowded.look(&[share(messages, is_taken)]).len());
        assert_eq!(told, [0, 1, 0, 0, 0, 1, 0]);
        assert!(crowded.look(&[]).is_empty());
        let told = crowded.look(&[share(40, true)]);
        assert!(told.len() == 1 && told[0].starts_with("source job: 40 messages wait"), "{told:?}");
    }

    #[test]
    fn trouble_lasts_as_long_as_the_episode() {
        let mut fullness = Fullness::default();
        assert_eq!(fullness.trouble(), None);
        fullness.look(10, 1000, true);
        assert!(fullness.trouble().is_some_and(|words| words.contains("disk")));
        fullness.look(10, 1000, false);
        assert_eq!(fullness.trouble(), None);
    }
}
