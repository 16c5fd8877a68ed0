//! The circuit breaker: notices that messages go round a loop whose other half lost our mark.
//!
//! Another bridge that joins the same conversations brings each message back by an author of its own. If it puts a name in
//! front, every turn ends with the whole former one and is longer. If not, the same words come back from a conversation
//! that they were delivered to. In each conversation it is always the same author who brings them, and each turn follows
//! the former within the time of a round trip. People who agree, cheer or repeat themselves do one or the other, not all
//! of it a dozen times; and where the one who said it first takes turns too, as people do who play, it takes longer.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    hash::RandomState,
    time::Duration,
};

use sealbridge_contract::{Address, Cleartext, PersonId, Timestamp};

use crate::store::LinkName;

/// So many turns are a loop, if each is longer than the former.
const TURNS: u32 = 12;
/// So many, if the words stay as they are: one person may repeat another's for fun.
const TURNS_UNCHANGED: u32 = 24;
/// So many, if nobody but the bringers was seen to say it. That is two people who play, or a loop that began before we did.
const TURNS_OF_ITS_OWN: u32 = 60;
/// A turn takes no longer than this.
const ROUND_TRIP: Duration = Duration::from_secs(10);
/// Only so many recent messages of a link are compared.
const REMEMBERED: usize = 64;

/// What the breaker saw, for the operator. No words of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// How often they came back.
    pub turns: u32,
    /// In how long a time.
    pub within: Duration,
    /// Who brought them last.
    pub by: PersonId,
    /// And where.
    pub at: Address,
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, within, by, at } = self;
        let seconds = within.as_secs().max(1);
        let by = by.as_str();
        write!(f, "the same words came back {turns} times in {seconds} s, at last by {by:?} in {at}")
    }
}

/// One message that crossed, and the chain that it ends.
struct Crossed {
    hash: u64,
    length: usize,
    at: Timestamp,
    chain: Chain,
}

#[derive(Clone)]
struct Chain {
    turns: u32,
    began: Timestamp,
    /// Who said it first; `None` if that one was seen to bring a loop back before.
    origin: Option<PersonId>,
    /// Whether the one who said it first takes turns.
    own: bool,
    /// Whether the last turn was longer than the one before.
    grown: bool,
    /// Who brings it back, in each conversation.
    bringers: Vec<(Address, PersonId)>,
    /// Where it was sent.
    sent_to: Vec<Address>,
}

impl Chain {
    fn begin(origin: Option<PersonId>, now: Timestamp) -> Self {
        Self { turns: 0, began: now, origin, own: false, grown: false, bringers: Vec::new(), sent_to: Vec::new() }
    }

    /// The chain with one turn more; `None` if this is none. `grown`: the former words are at its end, and it is longer.
    fn turn(&self, by: &PersonId, at: &Address, grown: bool) -> Option<Self> {
        let known = self.bringers.iter().find(|(conversation, _)| conversation == at);
        let same_bringer = known.is_none_or(|(_, bringer)| bringer == by);
        let comes_back = grown || self.sent_to.contains(at);
        if !same_bringer || !comes_back {
            return None;
        }
        let own = self.own || self.origin.as_ref() == Some(by);
        let mut chain = Self { turns: self.turns + 1, own, grown, ..self.clone() };
        if known.is_none() {
            chain.bringers.push((at.clone(), by.clone()));
        }
        Some(chain)
    }

    fn is_a_loop(&self) -> bool {
        let most = match (self.own, self.grown) {
            (true, _) => TURNS_OF_ITS_OWN,
            (false, true) => TURNS,
            (false, false) => TURNS_UNCHANGED,
        };
        self.turns >= most
    }
}

/// What recently crossed each link, as hashes under a key that the process forgets.
pub struct Breaker {
    key: RandomState,
    recent: HashMap<LinkName, VecDeque<Crossed>>,
    /// Who brought loops back before.
    suspects: HashMap<LinkName, HashSet<PersonId>>,
}

impl Breaker {
    /// One that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { key: RandomState::new(), recent: HashMap::new(), suspects: HashMap::new() }
    }

    /// Notes a message that crosses a link, once, wherever it goes. Says what was seen if it is one turn too many of a
    /// loop.
    pub fn notes(
        &mut self,
        link: &LinkName,
        (from, to): (&Address, &[&Address]),
        message: &Cleartext,
        now: Timestamp,
    ) -> Option<Loop> {
        let length = message.plain_len();
        let hash = message.tail_hash(&self.key, length).filter(|_| length > 0)?;
        if !self.recent.contains_key(link) {
            self.recent.insert(link.clone(), VecDeque::with_capacity(REMEMBERED));
        }
        let recent = self.recent.get_mut(link)?;
        recent.retain(|crossed| now.since(crossed.at) <= ROUND_TRIP);
        let ends_with = |crossed: &Crossed| message.tail_hash(&self.key, crossed.length) == Some(crossed.hash);
        let mut chain = recent
            .iter()
            .rev()
            .filter(|crossed| crossed.length <= length && ends_with(crossed))
            .find_map(|crossed| crossed.chain.turn(message.author(), from, crossed.length < length))
            .unwrap_or_else(|| {
                let suspect = self.suspects.get(link).is_some_and(|known| known.contains(message.author()));
                Chain::begin((!suspect).then(|| message.author().clone()), now)
            });
        for to in to {
            if !chain.sent_to.contains(to) {
                chain.sent_to.push((*to).clone());
            }
        }
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        let seen = chain.is_a_loop().then(|| {
            let bringers = chain.bringers.iter().map(|(_, bringer)| bringer.clone());
            self.suspects.entry(link.clone()).or_default().extend(bringers);
            let (turns, within) = (chain.turns, now.since(chain.began));
            Loop { turns, within, by: message.author().clone(), at: from.clone() }
        });
        recent.push_back(Crossed { hash, length, at: now, chain });
        seen
    }

    /// Begins to count anew, when a link is resumed.
    pub fn forget(&mut self, link: &LinkName) {
        self.recent.remove(link);
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaker")
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, Author, ConversationId, Message};

    use super::*;

    /// A link of these conversations, and what is said in one of them.
    struct Rooms {
        breaker: Breaker,
        rooms: Vec<Address>,
        now: i64,
    }

    impl Rooms {
        fn new(names: &[&str]) -> Self {
            let account = AccountName::parse("a").expect("a name");
            let room = |name: &&str| Address { account: account.clone(), conversation: ConversationId::new(*name) };
            Self { breaker: Breaker::new(), rooms: names.iter().map(room).collect(), now: 0 }
        }

        fn said(&mut self, room: usize, author: &str, words: &str) -> Option<Loop> {
            self.now += 100;
            let author = Author { id: PersonId::new(author), name: None };
            let message = Cleartext::new(Message::text(author, Timestamp(self.now), words));
            let others: Vec<_> =
                self.rooms.iter().enumerate().filter(|(at, _)| *at != room).map(|(_, to)| to).collect();
            let link = LinkName::parse("l").expect("a name");
            self.breaker.notes(&link, (&self.rooms[room], &others), &message, Timestamp(self.now))
        }
    }

    #[test]
    fn loop_that_puts_a_name_in_front_is_broken() {
        for rooms in [&["a", "b"][..], &["a", "b", "c"]] {
            let mut link = Rooms::new(rooms);
            let mut words = "ok".to_owned();
            assert_eq!(link.said(0, "@alice", &words), None);
            let turn = (1..100).find_map(|turn| {
                words = format!("bot: {words}");
                // Another bridge from b to a: it always comes back where it was said.
                link.said(0, "@bot", &words).map(|seen| (turn, seen))
            });
            let (turn, seen) = turn.expect("it is seen");
            assert_eq!((turn, seen.turns), (TURNS, TURNS), "each message counts once, however many hear it");
            assert_eq!(seen.to_string(), "the same words came back 12 times in 1 s, at last by \"@bot\" in a/a");
        }
    }

    #[test]
    fn loop_that_leaves_the_words_as_they_are_is_broken() {
        // A bridge between a and b, and one beside that joins b and c of three.
        for (rooms, path) in [(&["a", "b"][..], [1, 0]), (&["a", "b", "c"], [1, 2])] {
            let mut link = Rooms::new(rooms);
            assert_eq!(link.said(0, "@alice", "ok"), None);
            let seen = (0..100).find(|turn| link.said(path[turn % 2], ["@bot:b", "@bot:a"][turn % 2], "ok").is_some());
            assert_eq!(seen, Some(23), "{rooms:?}");
        }
    }

    #[test]
    fn loop_amid_other_talk_is_broken() {
        let mut link = Rooms::new(&["a", "b"]);
        link.said(0, "@alice", "ok");
        let seen = (0..100).find(|turn| {
            assert_eq!(link.said(0, "@bob", &format!("message {turn}")), None);
            assert_eq!(link.said(1, &format!("@p{turn}"), "ok"), None, "others say it, too");
            link.said(1, "@bot", "ok").is_some()
        });
        assert!(seen.is_some());
    }

    #[test]
    fn loop_that_goes_on_after_a_rest_or_began_before_us_is_broken() {
        let mut link = Rooms::new(&["a", "b"]);
        let turn = |link: &mut Rooms, turn: usize| link.said(1 - turn % 2, ["@bot:b", "@bot:a"][turn % 2], "ok");
        // Nobody knows who said it first.
        let seen = (0..100).find_map(|at| turn(&mut link, at)).expect("it is seen");
        assert_eq!(seen.turns, TURNS_OF_ITS_OWN);
        link.breaker.forget(&LinkName::parse("l").expect("a name"));
        link.now += 60_000;
        let seen = (0..100).find_map(|at| turn(&mut link, at)).expect("it is seen");
        assert_eq!(seen.turns, TURNS_UNCHANGED, "whoever brought it back once is known");
    }

    #[test]
    fn people_are_no_loop() {
        type Turn = fn(usize) -> (usize, String, String);
        let cases: [(&str, usize, Turn); 9] = [
            ("one who repeats himself", 500, |_| (0, "@alice".into(), "same words".into())),
            ("two who repeat each other in one room", 500, |n| (0, ["@alice", "@bob"][n % 2].into(), "same".into())),
            ("two who repeat each other across", 50, |n| (n % 2, ["@alice", "@bob"][n % 2].into(), "same".into())),
            ("one who repeats another's words", 500, |n| {
                (0, if n == 0 { "@alice" } else { "@bob" }.into(), "ha".into())
            }),
            ("one who repeats them elsewhere", 20, |n| {
                if n == 0 { (0, "@alice".into(), "ha".into()) } else { (1, "@bob".into(), "ha".into()) }
            }),
            ("many who cheer in one room", 500, |n| (0, format!("@p{n}"), "+1".into())),
            ("many who cheer everywhere", 500, |n| (n % 2, format!("@p{n}"), "+1".into())),
            ("few who cheer everywhere", 50, |n| (n % 2, format!("@p{}", n * 7 % 5), "+1".into())),
            ("a busy room", 500, |n| (n % 2, format!("@p{}", n % 3), format!("message {n}"))),
        ];
        for (what, count, turn) in cases {
            let mut link = Rooms::new(&["a", "b"]);
            for n in 0..count {
                let (room, author, words) = turn(n);
                assert_eq!(link.said(room, &author, &words), None, "{what}, message {n}");
            }
        }
    }

    #[test]
    fn one_who_adds_to_his_own_words_is_no_loop() {
        let mut link = Rooms::new(&["a", "b"]);
        let mut words = "ha".to_owned();
        for _ in 0..50 {
            assert_eq!(link.said(0, "@alice", &words), None);
            words.push_str("ha");
        }
    }

    #[test]
    fn slow_agreement_is_no_loop() {
        let mut link = Rooms::new(&["a", "b"]);
        for n in 0..50 {
            assert_eq!(link.said(n % 2, ["@alice", "@bob"][n % 2], "+1"), None);
            link.said(n % 2, "@carol", "+1");
            link.now += 20_000;
        }
    }
}
