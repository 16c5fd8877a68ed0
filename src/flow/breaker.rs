//! The circuit breaker: notices that the same words go round a loop whose other half lost our mark.
//!
//! A loop through a strange bridge brings each message back by another author, with a name put in front; so what comes
//! back *ends with* what crossed before, and what comes back next ends with that. Such a chain is counted. One author
//! who repeats himself makes no chain.

use std::{
    collections::{HashMap, VecDeque},
    hash::RandomState,
    time::Duration,
};

use sealbridge_contract::{Cleartext, PersonId, Timestamp};

use crate::store::LinkName;

/// So long a chain is a loop.
const LONGEST_CHAIN: u32 = 12;
/// Only so recent messages are compared.
const WINDOW: Duration = Duration::from_secs(30);
/// Only so many recent messages of a link are compared.
const REMEMBERED: usize = 64;

struct Crossed {
    hash: u64,
    length: usize,
    author: PersonId,
    chain: u32,
    /// When the chain began: a slow one is agreement, not a loop.
    began: Timestamp,
    at: Timestamp,
}

/// What recently crossed each link, as hashes under a key that the process forgets.
pub struct Breaker {
    key: RandomState,
    recent: HashMap<LinkName, VecDeque<Crossed>>,
}

impl Breaker {
    /// One that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { key: RandomState::new(), recent: HashMap::new() }
    }

    /// Notes a message that crosses a link. True: it is one turn too many of a loop.
    pub fn trips(&mut self, link: &LinkName, message: &Cleartext, now: Timestamp) -> bool {
        let length = message.plain_len();
        let Some(hash) = message.tail_hash(&self.key, length).filter(|_| length > 0) else { return false };
        if !self.recent.contains_key(link) {
            self.recent.insert(link.clone(), VecDeque::with_capacity(REMEMBERED));
        }
        let Some(recent) = self.recent.get_mut(link) else { return false };
        recent.retain(|crossed| now.since(crossed.at) <= WINDOW);
        let before = recent
            .iter()
            .rev()
            .find(|crossed| message.tail_hash(&self.key, crossed.length).is_some_and(|tail| tail == crossed.hash));
        let (chain, began) = match before {
            Some(crossed) if now.since(crossed.began) > WINDOW => (0, now),
            Some(crossed) if crossed.author != *message.author() || crossed.chain > 0 => {
                (crossed.chain + 1, crossed.began)
            }
            _ => (0, now),
        };
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(Crossed { hash, length, author: message.author().clone(), chain, began, at: now });
        chain >= LONGEST_CHAIN
    }

    /// Forgets a link, when it is resumed.
    pub fn forget(&mut self, link: &LinkName) {
        self.recent.remove(link);
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Breaker")
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{Author, Message};

    use super::*;

    fn said(breaker: &mut Breaker, author: &str, words: &str, at: i64) -> bool {
        let author = Author { id: PersonId::new(author), name: None };
        let message = Cleartext::new(Message::text(author, Timestamp(at), words));
        breaker.trips(&LinkName::parse("l").expect("a name"), &message, Timestamp(at))
    }

    #[test]
    fn loop_that_lost_the_mark_is_broken() {
        let mut breaker = Breaker::new();
        let mut words = "ok".to_owned();
        assert!(!said(&mut breaker, "@alice:a", &words, 0));
        let turns = (1..100).find(|turn| {
            words = format!("bot: {words}");
            said(&mut breaker, "@bot:b", &words, *turn * 100)
        });
        assert_eq!(turns, Some(i64::from(LONGEST_CHAIN)));
    }

    #[test]
    fn person_who_repeats_himself_and_a_busy_room_are_no_loop() {
        let mut breaker = Breaker::new();
        for turn in 0..200 {
            assert!(!said(&mut breaker, "@alice:a", "same words", turn));
            assert!(!said(&mut breaker, "@bob:a", &format!("message {turn} of bob"), turn));
        }
    }

    #[test]
    fn slow_agreement_is_no_loop() {
        let mut breaker = Breaker::new();
        for turn in 0..50 {
            assert!(!said(&mut breaker, &format!("@p{turn}:a"), "+1", turn * 10_000));
        }
    }
}
