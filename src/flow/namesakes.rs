//! Who could be taken for whom: people of one name in one conversation.

use std::{
    collections::HashMap,
    hash::RandomState,
    sync::{Mutex, PoisonError},
};

use sealbridge_contract::{Address, Cleartext, PersonId};

/// So many names of a conversation are remembered at most; then it is begun anew.
const REMEMBERED: usize = 4096;

/// The names that people had in each conversation since the start, as hashes under a key that the process forgets.
pub struct Namesakes {
    key: RandomState,
    seen: Mutex<HashMap<Address, HashMap<u64, Bearer>>>,
}

enum Bearer {
    One(PersonId),
    Several,
}

impl Namesakes {
    /// One that remembers nobody.
    #[must_use]
    pub fn new() -> Self {
        Self { key: RandomState::new(), seen: Mutex::default() }
    }

    /// Notes under which name somebody appears in a conversation. True: another had a name there that looks the same.
    pub fn meets(&self, at: &Address, message: &Cleartext) -> bool {
        let Some(name) = message.name_hash(&self.key) else { return false };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let names = seen.entry(at.clone()).or_default();
        if names.len() >= REMEMBERED && !names.contains_key(&name) {
            names.clear();
        }
        let bearer = names.entry(name).or_insert_with(|| Bearer::One(message.author().clone()));
        match bearer {
            Bearer::One(person) if person == message.author() => false,
            bearer => {
                *bearer = Bearer::Several;
                true
            }
        }
    }
}

impl Default for Namesakes {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Namesakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namesakes")
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, Author, ConversationId, Message, Timestamp};

    use super::*;

    #[test]
    fn second_of_a_name_and_then_the_first_too_are_told_apart() {
        let namesakes = Namesakes::new();
        let at = |room: &str| Address {
            account: AccountName::parse("a").expect("a name"),
            conversation: ConversationId::new(room),
        };
        let meets = |room: &str, id: &str, name: &str| {
            let author = Author { id: PersonId::new(id), name: Some(name.into()) };
            namesakes.meets(&at(room), &Cleartext::new(Message::text(author, Timestamp(0), "hi")))
        };
        assert!(!meets("r", "@ann:x", "Ann"));
        assert!(!meets("r", "@ann:x", "Ann"));
        assert!(meets("r", "@mallory:x", "А\u{200b}nn"), "a Cyrillic A looks the same");
        assert!(meets("r", "@ann:x", "Ann"));
        assert!(!meets("other", "@mallory:x", "Ann"));
        assert!(!meets("r", "@ben:x", "Ben"));
    }
}
