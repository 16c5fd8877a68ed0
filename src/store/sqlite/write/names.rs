//! Which names were seen before, without asking the disk for each.
//!
//! An index of a million names, each a random number, would have to write a page of its own for nearly every message.
//! So names are indexed in eras: a message writes to the newest era's few pages, and a filter of each era says, from
//! memory, that a name is certainly not in it. Where it can't say that, the era's index is asked.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::Outcome;

/// As many names an era has; its pages stay few enough to be shared by the messages of one commit.
const NAMES: usize = 4096;
/// Sixteen bits a name and eight probes: one era in two thousand has to be asked in vain.
const WORDS: usize = NAMES * 16 / 64;
const PROBES: u64 = 8;

pub(super) struct Names {
    eras: BTreeMap<i64, Box<[u64]>>,
    newest: i64,
    in_newest: usize,
}

impl Names {
    /// Reads every name's key once, from the index.
    pub(super) fn read(connection: &Connection) -> Outcome<Self> {
        let mut names = Self { eras: BTreeMap::new(), newest: 0, in_newest: 0 };
        let mut statement = connection.prepare("SELECT era, key FROM received ORDER BY era")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (era, key) = (row.get(0)?, row.get(1)?);
            if era != names.newest {
                (names.newest, names.in_newest) = (era, 0);
            }
            names.put(key);
        }
        Ok(names)
    }

    /// Takes a new name in. Says in which era it belongs.
    pub(super) fn add(&mut self, key: i64) -> i64 {
        if self.in_newest >= NAMES {
            (self.newest, self.in_newest) = (self.newest + 1, 0);
        }
        self.put(key);
        self.newest
    }

    fn put(&mut self, key: i64) {
        self.in_newest += 1;
        let bits = self.eras.entry(self.newest).or_insert_with(|| vec![0; WORDS].into_boxed_slice());
        for (word, bit) in probes(key) {
            bits[word] |= bit;
        }
    }

    /// The eras that may have this name, newest first.
    pub(super) fn may_have(&self, key: i64) -> Vec<i64> {
        let has = |bits: &[u64]| probes(key).all(|(word, bit)| bits[word] & bit != 0);
        self.eras.iter().rev().filter(|(_, bits)| has(bits)).map(|(era, _)| *era).collect()
    }

    /// Forgets eras whose names are all gone.
    pub(super) fn forget_before(&mut self, era: i64) {
        self.eras = self.eras.split_off(&era.min(self.newest));
    }
}

/// The key is a digest, so its halves serve as two hashes.
fn probes(key: i64) -> impl Iterator<Item = (usize, u64)> {
    let (start, step) = (key.cast_unsigned() >> 32, key.cast_unsigned() | 1);
    (0..PROBES).map(move |probe| {
        let bit = start.wrapping_add(step.wrapping_mul(probe)) % (WORDS as u64 * 64);
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::super::keys::name_key, *};

    #[test]
    fn name_that_was_taken_in_is_never_denied_and_few_others_are_suspected() {
        let mut names = Names { eras: BTreeMap::new(), newest: 0, in_newest: 0 };
        let key = |number: i64| name_key(1, &format!("${number}"));
        let eras: Vec<i64> = (0..50_000).map(|number| names.add(key(number))).collect();
        assert_eq!(eras.last(), Some(&(49_999 / 4096)));
        for (number, era) in (0..).zip(&eras) {
            assert!(names.may_have(key(number)).contains(era), "{number}");
        }
        let suspected: usize = (50_000..60_000).map(|number| names.may_have(key(number)).len()).sum();
        assert!(suspected < 400, "{suspected} of 10000 names in {} eras", names.eras.len());
        names.forget_before(5);
        assert!(names.may_have(key(0)).iter().all(|era| *era >= 5));
        assert!(names.may_have(key(49_999)).contains(&12));
    }
}
