//! Who reacts to one message with what: between networks that tell each emoji by itself and those that tell whole sets.

use serde::{Deserialize, Serialize};

use super::{Reaction, Target};
use crate::{PersonId, RemoteId, SecretBytes};

/// All reactions to one message that a transport knows of. It keeps one for messages that came in, to tell whole sets
/// where its network tells single ones; and one for messages where our account reacts for several people.
#[derive(Default, Serialize, Deserialize)]
pub struct Tally(Vec<One>);

#[derive(Serialize, Deserialize)]
struct One {
    person: PersonId,
    emoji: String,
    /// What the network calls this very reaction, if it does.
    id: Option<RemoteId>,
}

impl Tally {
    /// As many reactions of all people are kept at most; later ones are not taken in.
    pub const MOST: usize = 512;

    /// Takes in one emoji of a person. Says whether that changes anything.
    pub fn add(&mut self, person: &PersonId, emoji: &str, id: Option<&RemoteId>) -> bool {
        let known = self.0.iter().any(|one| one.person == *person && one.emoji == emoji);
        let theirs = self.of(person).count();
        if known || theirs >= Reaction::MOST || self.0.len() >= Self::MOST || emoji.len() > Reaction::LONGEST {
            return false;
        }
        self.0.push(One { person: person.clone(), emoji: emoji.to_owned(), id: id.cloned() });
        true
    }

    /// Whether one of this name was taken in.
    #[must_use]
    pub fn has(&self, id: &RemoteId) -> bool {
        self.0.iter().any(|one| one.id.as_ref() == Some(id))
    }

    /// Takes one out by its own name. Says whose it was.
    pub fn remove(&mut self, id: &RemoteId) -> Option<PersonId> {
        let at = self.0.iter().position(|one| one.id.as_ref() == Some(id))?;
        Some(self.0.remove(at).person)
    }

    /// What a person reacts with is this and nothing else.
    pub fn set(&mut self, person: &PersonId, reaction: &Reaction) {
        let wanted = |emoji: &str| reaction.all.iter().any(|text| text.as_str() == emoji);
        self.0.retain(|one| one.person != *person || wanted(&one.emoji));
        for emoji in &reaction.all {
            self.add(person, emoji.as_str(), None);
        }
    }

    /// What a person reacts with.
    pub fn of(&self, person: &PersonId) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |one| one.person == *person).map(|one| one.emoji.as_str())
    }

    /// The same as what is handed in.
    #[must_use]
    pub fn reaction(&self, person: &PersonId, to: Target) -> Reaction {
        Reaction::new(to, self.of(person))
    }

    /// What anybody reacts with, none twice: what one account shows for all of them.
    #[must_use]
    pub fn union(&self) -> Vec<&str> {
        let mut union = Vec::new();
        for one in &self.0 {
            if !union.contains(&one.emoji.as_str()) {
                union.push(one.emoji.as_str());
            }
        }
        union
    }

    /// Whether nobody reacts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the account's own store, which is locked.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        SecretBytes::new(serde_json::to_vec(self).expect("it has only texts"))
    }

    /// From there. What can't be read is nothing: a reaction may be shown too little, never too much.
    #[must_use]
    pub fn from_bytes(bytes: &SecretBytes) -> Self {
        serde_json::from_slice(bytes.expose()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tally({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;

    fn target() -> Target {
        Target::new(RemoteId::new("$m"))
    }

    #[test]
    fn single_reactions_become_sets_and_sets_become_what_one_account_shows() {
        let (ann, ben) = (PersonId::new("@ann:x"), PersonId::new("@ben:x"));
        let mut tally = Tally::default();
        assert!(tally.add(&ann, "👍", Some(&RemoteId::new("$1"))));
        assert!(!tally.add(&ann, "👍", Some(&RemoteId::new("$2"))), "the same twice changes nothing");
        tally.add(&ann, "❤", Some(&RemoteId::new("$3")));
        tally.set(&ben, &Reaction::new(target(), ["👍", "🎉"]));
        let all: Vec<_> =
            tally.reaction(&ann, target()).all.iter().map(|text: &Text| text.as_str().to_owned()).collect();
        assert_eq!(all, ["👍", "❤"]);
        assert_eq!(tally.union(), ["👍", "❤", "🎉"]);
        let mut tally = Tally::from_bytes(&tally.to_bytes());
        assert_eq!(tally.remove(&RemoteId::new("$1")), Some(ann.clone()));
        assert_eq!(tally.union(), ["❤", "👍", "🎉"], "the other's stays");
        tally.set(&ben, &Reaction::new(target(), Vec::<String>::new()));
        assert_eq!(tally.union(), ["❤"]);
        assert_eq!(tally.remove(&RemoteId::new("$1")), None);
    }

    #[test]
    fn flood_of_reactions_is_bounded() {
        let mut tally = Tally::default();
        for person in 0..1000 {
            for emoji in 0..100 {
                tally.add(&PersonId::new(format!("@{person}:x")), &format!("e{emoji}"), None);
            }
        }
        assert_eq!(tally.0.len(), Tally::MOST);
        assert_eq!(tally.of(&PersonId::new("@0:x")).count(), Reaction::MOST);
    }
}
