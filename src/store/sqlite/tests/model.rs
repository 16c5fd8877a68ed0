//! The journal against a model that is simple enough to be seen right: order, no loss, no doubles, late marks.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use sealbridge_contract::inbox::{Arrived, Filling, Resolution};

use super::*;

#[derive(Clone, Debug)]
enum Act {
    /// A readable message of a sender.
    Say(u8),
    /// An event of a sender that can't be read yet; whether it holds the sender.
    Hide(u8, bool),
    /// A gap that hides so many messages, each of the sender of its number's remainder.
    Skip(u8),
    /// One piece of a gap: which gap, how many messages, whether the last piece again.
    Fill(u8, u8, bool),
    /// A key comes for one of the waiting events.
    Reveal(u8),
    /// One of the waiting events was nothing for us.
    Dismiss(u8),
    /// Time passes; a hold is over after it.
    Pass,
    /// Somebody calls for what is due.
    Expire,
    /// The oldest so many deliveries arrive.
    Deliver(u8),
    /// Something that was seen before comes again.
    Repeat(u8),
    /// The process dies and starts again.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..3_u8).prop_map(Act::Say),
        2 => (0..3_u8, any::<bool>()).prop_map(|(sender, holds)| Act::Hide(sender, holds)),
        1 => (0..5_u8).prop_map(Act::Skip),
        3 => (any::<u8>(), 0..4_u8, any::<bool>()).prop_map(|(gap, many, again)| Act::Fill(gap, many, again)),
        2 => any::<u8>().prop_map(Act::Reveal),
        1 => any::<u8>().prop_map(Act::Dismiss),
        1 => Just(Act::Pass),
        1 => Just(Act::Expire),
        2 => (0..4_u8).prop_map(Act::Deliver),
        1 => any::<u8>().prop_map(Act::Repeat),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..40)
}

#[derive(Debug)]
struct Event {
    name: String,
    sender: String,
    /// Can't be read yet; until when it holds its sender, in moved time.
    hidden: Option<Option<u32>>,
    /// A later message of the sender crossed before it.
    passed: bool,
    routed: bool,
}

/// One conversation, as a person would draw it: what is known in order, and gaps with what they hide, oldest first.
#[derive(Debug)]
enum Slot {
    Event(Event),
    Gap { from: String, hides: VecDeque<(String, String)>, filled: VecDeque<Event> },
}

#[derive(Default, Debug)]
struct Model {
    slots: Vec<Slot>,
    /// What crossed, in order: its name and whether it is late.
    crossed: Vec<(String, bool)>,
    now: u32,
    names: u32,
}

impl Model {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("${:04}", self.names)
    }

    /// Lets cross what may. A hold whose time is over ends only when somebody looks.
    fn route(&mut self) {
        let mut earlier: Vec<(String, Option<u32>)> = Vec::new();
        let mut passed_by: BTreeMap<String, usize> = BTreeMap::new();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            let event = match slot {
                Slot::Gap { .. } => break,
                Slot::Event(event) => event,
            };
            if let Some(hold) = event.hidden {
                earlier.push((event.sender.clone(), hold));
                continue;
            }
            let held = earlier.iter().any(|(sender, hold)| *sender == event.sender && hold.is_some());
            if !event.routed && !held {
                event.routed = true;
                self.crossed.push((event.name.clone(), event.passed));
                passed_by.insert(event.sender.clone(), place);
            }
        }
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if let Slot::Event(event) = slot
                && event.hidden.is_some()
                && passed_by.get(&event.sender).is_some_and(|by| *by > place)
            {
                event.passed = true;
            }
        }
    }

    fn end_holds(&mut self) {
        let now = self.now;
        for event in self.slots.iter_mut().filter_map(Slot::event) {
            if event.hidden.flatten().is_some_and(|until| until <= now) {
                event.hidden = Some(None);
            }
        }
    }

    fn hidden(&self) -> Vec<String> {
        let waits = |slot: &Slot| match slot {
            Slot::Event(event) => event.hidden.is_some().then(|| event.name.clone()),
            Slot::Gap { .. } => None,
        };
        self.slots.iter().filter_map(waits).collect()
    }
}

impl Slot {
    fn event(&mut self) -> Option<&mut Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap { .. } => None,
        }
    }
}

/// A hold lasts one step of time here and half a minute there.
const STEP: i64 = 31_000;

fn sender(number: u8) -> String {
    format!("@{number}")
}

fn spoken((name, sender): &(String, String)) -> Event {
    Event { name: name.clone(), sender: sender.clone(), hidden: None, passed: false, routed: false }
}

/// Both at once.
struct Both<'a> {
    model: Model,
    pair: Pair<'a>,
    delivered: Vec<(String, bool)>,
    last_piece: BTreeMap<i64, Vec<(String, String)>>,
}

impl Both<'_> {
    async fn arrive(&mut self, what: Arrived) {
        self.model.end_holds();
        self.model.route();
        self.pair.arrive(vec![what]).await;
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Say(by) => {
                let (name, sender) = (self.model.name(), sender(*by));
                self.arrive(said(&sender, &name)).await;
                self.model.slots.push(Slot::Event(spoken(&(name, sender))));
            }
            Act::Hide(by, holds) => {
                let (name, sender) = (self.model.name(), sender(*by));
                self.arrive(unreadable(&sender, &name, *holds)).await;
                let hidden = Some(holds.then_some(self.model.now + 1));
                self.model.slots.push(Slot::Event(Event { name, sender, hidden, passed: false, routed: false }));
            }
            Act::Skip(many) => {
                let from = self.model.name();
                let hides = (0..*many).map(|n| (self.model.name(), sender(n % 3))).collect();
                self.arrive(gap(&from)).await;
                self.model.slots.push(Slot::Gap { from, hides, filled: VecDeque::new() });
            }
            Act::Fill(which, many, again) => self.fill(*which, *many, *again).await,
            Act::Reveal(which) => self.resolve(*which, true).await,
            Act::Dismiss(which) => self.resolve(*which, false).await,
            Act::Pass => {
                self.model.now += 1;
                self.pair.clock.shift(STEP);
            }
            Act::Expire => {
                self.model.end_holds();
                self.pair.journal.expire().await.expect("the journal writes");
            }
            Act::Deliver(many) => {
                for pending in self.pair.head().await.into_iter().take(usize::from(*many)) {
                    let name = words(&pending.message);
                    self.pair.journal.settle(pending.number, &id(&format!("there {name}"))).await.expect("pending");
                    self.delivered.push((name, pending.message.caveats().late));
                }
            }
            Act::Repeat(which) => {
                let slots = self.model.slots.len().max(1);
                let again = match self.model.slots.get(usize::from(*which) % slots) {
                    Some(Slot::Event(event)) if event.hidden.is_none() => Some(said(&event.sender, &event.name)),
                    Some(Slot::Event(event)) => Some(unreadable(&event.sender, &event.name, true)),
                    Some(Slot::Gap { from, .. }) => Some(gap(from)),
                    None => None,
                };
                if let Some(again) = again {
                    self.arrive(again).await;
                }
            }
            Act::Restart => {}
        }
        self.model.route();
    }

    async fn fill(&mut self, which: u8, many: u8, again: bool) {
        let open = self.pair.journal.open_gaps(&self.pair.a.account).await.expect("the journal reads");
        let gaps: Vec<usize> =
            (0..self.model.slots.len()).filter(|at| matches!(self.model.slots[*at], Slot::Gap { .. })).collect();
        assert_eq!(open.len(), gaps.len());
        if gaps.is_empty() {
            return;
        }
        let which = usize::from(which) % gaps.len();
        let gap = open[which].id;
        let Slot::Gap { hides, filled, .. } = &mut self.model.slots[gaps[which]] else { return };
        let mut piece = if again { self.last_piece.remove(&gap).unwrap_or_default() } else { Vec::new() };
        for _ in 0..many {
            let Some(newest) = hides.pop_back() else { break };
            filled.push_front(spoken(&newest));
            piece.push(newest);
        }
        let next = (!hides.is_empty()).then(|| "more".to_owned());
        if next.is_none() {
            let filled: Vec<Slot> = filled.drain(..).map(Slot::Event).collect();
            self.model.slots.splice(gaps[which]..=gaps[which], filled);
        }
        self.last_piece.insert(gap, piece.clone());
        let arrivals = piece.iter().map(|(name, sender)| said(sender, name)).collect();
        let filling = Filling { gap, arrivals, next };
        self.pair.journal.fill(&self.pair.a.account, filling).await.expect("the gap is open");
    }

    async fn resolve(&mut self, which: u8, readable: bool) {
        let account = self.pair.a.account.clone();
        let waiting = self.pair.journal.waiting(&account, Default::default(), 0, 100).await.expect("the journal reads");
        let hidden = self.model.hidden();
        assert_eq!(waiting.len(), hidden.len());
        if hidden.is_empty() {
            return;
        }
        let which = usize::from(which) % hidden.len();
        let name = String::from_utf8_lossy(secret(&waiting[which].raw)).replace("raw ", "");
        let at = self.model.slots.iter().position(|slot| matches!(slot, Slot::Event(event) if event.name == name));
        let at = at.expect("what waits there waits here");
        let resolution = match (&mut self.model.slots[at], readable) {
            (Slot::Event(event), true) => {
                event.hidden = None;
                Resolution::Readable(incoming(&name, message(&event.sender, &name)))
            }
            _ => {
                self.model.slots.remove(at);
                Resolution::NotForUs
            }
        };
        self.pair.journal.resolve(&account, waiting[which].id, resolution).await.expect("it waits");
    }

    async fn check(&self, after: &Act) {
        let mut crossed = self.delivered.clone();
        for pending in self.pair.head().await {
            crossed.push((words(&pending.message), pending.message.caveats().late));
        }
        assert_eq!(crossed, self.model.crossed, "after {after:?}");
        let counts = self.pair.journal.counts().await.expect("the journal reads");
        let gaps = self.model.slots.iter().filter(|slot| matches!(slot, Slot::Gap { .. })).count();
        assert_eq!((counts.gaps, counts.unreadable), (gaps as u64, self.model.hidden().len() as u64));
        assert_eq!(counts.settled, self.delivered.len() as u64);
        let nothing = counts.queued + counts.unreadable + counts.unrouted == 0;
        assert_eq!(nothing, counts.payload_bytes == 0, "bytes are counted to the last: {counts:?}");
    }
}

async fn run(acts: &[Act]) {
    let folder = Folder::new();
    let mut both =
        Both { model: Model::default(), pair: Pair::new(&folder), delivered: Vec::new(), last_piece: BTreeMap::new() };
    for act in acts {
        if matches!(act, Act::Restart) {
            let Both { model, pair, delivered, last_piece } = both;
            both = Both { model, pair: pair.reopen(), delivered, last_piece };
        }
        both.act(act).await;
        both.check(act).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_order_is_kept_and_nothing_is_lost_or_doubled(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(&acts));
    }
}
