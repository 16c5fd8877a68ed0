//! Who could be taken for whom: people of one name in one conversation, whether they are carried there or sit in it.
//!
//! What is remembered outlives a restart: it lies locked in the journal, as numbers that tell nothing without our key.
//! Where more names are had than are remembered, whoever is new there gets a tag. So nobody is forgotten because others
//! come with many names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealbridge_contract::{
    Address, Timestamp, Transport,
    audience::Roll,
    names::{Named, Tags},
};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::table::Table;
use crate::store::{Journal, JournalError, SharedJournal};

/// So many names of a conversation are remembered.
const MOST: usize = 1024;
/// So many names of one person there; the one that they used least lately makes room.
const OF_ONE: usize = 8;
/// A name that nobody used for so many days is free.
const FREE_AFTER: i64 = 180;
/// That a name is still in use is written down every so many days.
const NOTED_EVERY: i64 = 7;

const MILLISECONDS_OF_A_DAY: i64 = 24 * 3_600_000;
const KEPT: &str = "names/";

/// The names that people have in each conversation.
pub struct Namesakes {
    journal: SharedJournal,
    tags: Arc<Tags>,
    /// Of those who are carried there.
    known: Mutex<HashMap<Address, Names>>,
    /// Of those who sit in it, as of the roll that stands beside them.
    residents: Mutex<HashMap<Address, (Arc<Roll>, Residents)>>,
}

/// Whose each look is; `None` if several people's.
type Residents = HashMap<u64, Option<u64>>;

impl Namesakes {
    /// What this journal remembers.
    #[must_use]
    pub fn new(journal: SharedJournal, tags: Arc<Tags>) -> Self {
        Self { journal, tags, known: Mutex::default(), residents: Mutex::default() }
    }

    /// Notes under which name somebody appears in a conversation. True: somebody else could be taken for them there, or
    /// that can't be told. `at_home`: they come from the same account, so that one of their id who sits there is they.
    pub async fn meets(
        &self,
        at: &Address,
        transport: &dyn Transport,
        named: Named,
        at_home: bool,
        now: Timestamp,
    ) -> bool {
        let met = self.try_meets(at, named, now).await.unwrap_or_else(|error| {
            warn!(%at, %error, "Names can't be remembered: everybody there gets a tag.");
            self.known().remove(at);
            true
        });
        met || self.is_of_a_resident(at, transport, named, at_home).await
    }

    /// Whether somebody else who sits in the conversation is called so; the bridge itself is one of them.
    async fn is_of_a_resident(&self, at: &Address, transport: &dyn Transport, named: Named, at_home: bool) -> bool {
        let roll = match transport.roll(&at.conversation).await {
            Ok(Some(roll)) => roll,
            Ok(None) => return false,
            Err(error) => {
                debug!(%at, %error, "Who is there can't be said, so whoever is carried there gets a tag.");
                return true;
            }
        };
        let mut known = self.residents.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match known.get_mut(at) {
            Some(known) => known,
            None => known.entry(at.clone()).or_default(),
        };
        if !Arc::ptr_eq(&known.0, &roll) {
            *known = (Arc::clone(&roll), looks_of(&roll, &self.tags));
        }
        known.1.get(&named.look).is_some_and(|whose| !at_home || *whose != Some(named.person))
    }

    async fn try_meets(&self, at: &Address, named: Named, now: Timestamp) -> Result<bool, JournalError> {
        let key = key(at);
        if !self.known().contains_key(at) {
            let kept = self.journal.setting(&key).await?;
            let names = kept.map(|kept| serde_json::from_slice(kept.expose())).transpose();
            let names = names.map_err(|error| JournalError::Damaged(error.to_string()))?.unwrap_or_default();
            self.known().entry(at.clone()).or_insert(names);
        }
        let (met, changed) = {
            let mut known = self.known();
            let names = known.entry(at.clone()).or_default();
            let met = names.meet(named, now.0 / MILLISECONDS_OF_A_DAY);
            let changed = met.changed.then(|| serde_json::to_vec(names).expect("names are numbers"));
            (met, changed)
        };
        if let Some(changed) = changed {
            self.journal.set(&key, changed.into()).await?;
        }
        Ok(met.namesake)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Address, Names>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Namesakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namesakes")
    }
}

/// Forgets the names of conversations that are not linked any more.
///
/// # Errors
/// [`JournalError`]: nothing was forgotten.
pub async fn forget_unlinked(journal: &dyn Journal, table: &Table) -> Result<usize, JournalError> {
    let linked = table.links().flat_map(|link| &link.ends).map(|end| key(&end.at));
    journal.forget_settings(KEPT, linked.collect()).await
}

fn key(at: &Address) -> String {
    format!("{KEPT}{at}")
}

fn looks_of(roll: &Roll, tags: &Tags) -> Residents {
    let mut looks = Residents::with_capacity(roll.0.len());
    for Named { look, person } in roll.0.iter().map(|resident| tags.named(resident)) {
        looks.entry(look).and_modify(|whose| *whose = None).or_insert(Some(person));
    }
    looks
}

/// Names of those who are carried to one conversation, by what they look like.
#[derive(Default, Serialize, Deserialize)]
struct Names(BTreeMap<u64, Bearer>);

#[derive(Serialize, Deserialize)]
struct Bearer {
    /// Who had it first.
    person: u64,
    /// Others had it, too.
    several: bool,
    /// The day on which it was noted last that it is used.
    day: i64,
}

struct Met {
    namesake: bool,
    changed: bool,
}

impl Names {
    fn meet(&mut self, Named { look, person }: Named, day: i64) -> Met {
        if let Some(bearer) = self.0.get_mut(&look).filter(|bearer| day - bearer.day < FREE_AFTER) {
            let another = bearer.person != person && !bearer.several;
            let changed = another || day - bearer.day >= NOTED_EVERY;
            bearer.several |= another;
            if changed {
                bearer.day = day;
            }
            return Met { namesake: bearer.several, changed };
        }
        self.0.retain(|_, bearer| day - bearer.day < FREE_AFTER);
        self.make_room_for(person);
        if self.0.len() >= MOST {
            return Met { namesake: true, changed: false };
        }
        self.0.insert(look, Bearer { person, several: false, day });
        Met { namesake: false, changed: true }
    }

    fn make_room_for(&mut self, person: u64) {
        let theirs = self.0.iter().filter(|(_, bearer)| bearer.person == person && !bearer.several);
        let mut theirs: Vec<_> = theirs.map(|(look, bearer)| (bearer.day, *look)).collect();
        theirs.sort_unstable();
        let too_many = (theirs.len() + 1).saturating_sub(OF_ONE);
        for (_, look) in theirs.into_iter().take(too_many) {
            self.0.remove(&look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(names: &mut Names, look: u64, person: u64, day: i64) -> bool {
        let met = names.meet(Named { look, person }, day);
        let kept = serde_json::to_vec(names).expect("names are numbers");
        *names = serde_json::from_slice(&kept).expect("it was just written");
        met.namesake
    }

    #[test]
    fn second_of_a_name_and_then_the_first_too_are_told_apart() {
        let mut names = Names::default();
        assert!(!meets(&mut names, 1, 10, 0));
        assert!(!meets(&mut names, 1, 10, 0));
        assert!(meets(&mut names, 1, 20, 0));
        assert!(meets(&mut names, 1, 10, 0));
        assert!(!meets(&mut names, 2, 20, 0));
    }

    #[test]
    fn nobody_is_forgotten_because_others_come_with_many_names() {
        let mut names = Names::default();
        assert!(!meets(&mut names, 0, 1, 0));
        for look in 1..5000 {
            meets(&mut names, look, 2, 0);
        }
        assert_eq!(names.0.len(), 1 + OF_ONE, "one person has few names");
        for person in 3..5000 {
            meets(&mut names, 10_000 + person, person, 0);
        }
        assert_eq!(names.0.len(), MOST);
        assert!(meets(&mut names, 9_999_999, 5000, 0), "who can't be remembered gets a tag");
        assert!(meets(&mut names, 0, 5000, 0), "the first is remembered");
    }

    #[test]
    fn name_that_nobody_uses_is_free_after_a_while_and_one_in_use_is_not() {
        let mut names = Names::default();
        meets(&mut names, 1, 10, 0);
        meets(&mut names, 2, 20, 0);
        for day in (0..300).step_by(30) {
            assert!(!meets(&mut names, 1, 10, day));
        }
        assert!(meets(&mut names, 1, 30, 300));
        assert!(!meets(&mut names, 2, 30, 300));
    }
}
