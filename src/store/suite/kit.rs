//! What the suite's promises are written with.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use sealbridge_contract::{
    AccountName, Address, Arrival, Arrived, Author, Batch, Cleartext, Clock, ConversationId, DeliveryId, Destination,
    Message, Origin, PeerKey, PersonId, RemoteId, Rule, SecretBytes, SenderTrust, Slip, Target, Timestamp, Verdict,
    gate::{Encryption, Hold},
    inbox::{Incoming, Parcel, Unreadable},
    judge,
};

use crate::{
    flow::commands,
    store::{FirstVerdict, Journal, Limits, Link, LinkEnd, LinkName, Pending, Routed, Router, Said},
};

/// One place where a journal is kept, and the way to open it. Opening it again finds what was there.
pub(crate) trait Engine: Sync {
    fn open(&self, router: Arc<TestRouter>, limits: Limits, clock: Clock) -> Arc<dyn Journal>;
}

/// The moment at which the suite begins. The clock of a test starts there and moves only when told to.
pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000);

/// A router that a test sets up.
#[derive(Default)]
pub(crate) struct TestRouter {
    routes: Mutex<HashMap<Address, Vec<Routed>>>,
    since: Mutex<HashMap<Address, Timestamp>>,
    links: Mutex<Vec<Link>>,
    asked: AtomicUsize,
    peer: Option<PeerKey>,
}

impl TestRouter {
    /// Each of `ends` goes to all the others, by the link "l".
    pub(crate) fn linking(ends: &[&Address]) -> Arc<Self> {
        let router = Self { peer: Some(peer()), ..Self::default() };
        for from in ends {
            let others = ends.iter().filter(|to| to != &from);
            router.route_to(from, others.map(|to| routed(to, FirstVerdict::Enqueue)).collect());
        }
        Arc::new(router)
    }

    pub(crate) fn route_to(&self, from: &Address, to: Vec<Routed>) {
        lock(&self.routes).insert(from.clone(), to);
        lock(&self.since).entry(from.clone()).or_insert(Timestamp(0));
    }

    pub(crate) fn link_since(&self, from: &Address, since: Timestamp) {
        lock(&self.since).insert(from.clone(), since);
    }

    /// How often it was asked where a message goes.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The links as the journal told them last.
    pub(crate) fn links(&self) -> Vec<Link> {
        lock(&self.links).clone()
    }

    pub(crate) fn unlink(&self, from: &Address) {
        lock(&self.since).remove(from);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router for TestRouter {
    fn linked_since(&self, from: &Address) -> Option<Timestamp> {
        lock(&self.since).get(from).copied()
    }

    fn route(&self, from: &Address, id: &RemoteId, _: &Cleartext, _: SenderTrust) -> Vec<Routed> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_ne!(id.as_str(), "$panic", "a router that panics");
        let paused: Vec<_> =
            lock(&self.links).iter().filter(|link| link.paused.is_some()).map(|link| link.name.clone()).collect();
        let mut routes = lock(&self.routes).get(from).cloned().unwrap_or_default();
        for routed in routes.iter_mut().filter(|routed| paused.contains(&routed.link)) {
            routed.verdict = FirstVerdict::Hold(Hold::Paused);
        }
        routes
    }

    fn said_to_us(&self, _: &Address, incoming: &Incoming, history: bool) -> Option<Said> {
        commands::hear(incoming, history, START)
    }

    fn attends(&self, _: &Address, sender: &PersonId) -> bool {
        sender.as_str() == "@admin"
    }

    fn is_bounded(&self, account: &AccountName) -> bool {
        account.as_str() == "programs"
    }

    fn open(&self, _: &Address, parcel: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        self.peer.as_ref()?.open(&parcel.sealed)
    }

    fn links_are(&self, links: Vec<Link>) {
        *lock(&self.links) = links;
    }
}

pub(crate) fn peer() -> PeerKey {
    PeerKey::new(&zeroize::Zeroizing::new([7; 32]))
}

pub(crate) fn routed(to: &Address, verdict: FirstVerdict) -> Routed {
    Routed { link: link("l"), to: to.clone(), verdict, tell: None }
}

pub(crate) fn link(name: &str) -> LinkName {
    LinkName::parse(name).expect("a link's name")
}

/// A link between conversations that can be changed.
pub(crate) fn linking(name: &str, ends: &[&Address]) -> Link {
    let end = |at: &&Address| LinkEnd { at: (*at).clone(), since: START };
    Link { name: link(name), ends: ends.iter().map(end).collect(), paused: None, fixed: false, tripped: None }
}

pub(crate) fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("an account's name")
}

pub(crate) fn at(account_name: &str, conversation: &str) -> Address {
    Address { account: account(account_name), conversation: ConversationId::new(conversation) }
}

/// One linked pair and a journal between them.
pub(crate) struct Pair<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) router: Arc<TestRouter>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) a: Address,
    pub(crate) b: Address,
}

impl<'a> Pair<'a> {
    pub(crate) fn new(engine: &'a dyn Engine) -> Self {
        Self::with(engine, Limits::default())
    }

    pub(crate) fn with(engine: &'a dyn Engine, limits: Limits) -> Self {
        let (a, b) = (at("one", "!a"), at("two", "!b"));
        let router = TestRouter::linking(&[&a, &b]);
        let clock = Clock::system();
        let journal = engine.open(Arc::clone(&router), limits, clock.clone());
        Self { engine, journal, router, clock, limits, a, b }
    }

    /// Drops the journal as it is and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Self { engine, journal, router, clock, limits, a, b } = self;
        drop(journal);
        let journal = engine.open(Arc::clone(&router), limits, clock.clone());
        Self { engine, journal, router, clock, limits, a, b }
    }

    /// What arrives in conversation a.
    pub(crate) async fn arrive(&self, arrivals: Vec<Arrived>) {
        self.journal.accept(&self.a.account, batch(&self.a, arrivals)).await.expect("there is room");
    }

    /// The words in lane b.
    pub(crate) async fn lane(&self) -> Vec<String> {
        self.head().await.iter().map(|pending| words(&pending.message)).collect()
    }

    pub(crate) async fn head(&self) -> Vec<Pending> {
        self.journal.head(&self.b, 0, usize::MAX).await.expect("the journal reads")
    }

    pub(crate) async fn only(&self) -> Pending {
        let mut head = self.head().await;
        assert_eq!(head.len(), 1, "one delivery and no more");
        head.remove(0)
    }

    /// The number of the only event that waits in the account of a.
    pub(crate) async fn waiting(&self) -> i64 {
        let waiting =
            self.journal.waiting(&self.a.account, Default::default(), 0, 10).await.expect("the journal reads");
        assert_eq!(waiting.len(), 1, "one event waits and no more");
        waiting[0].id
    }
}

pub(crate) fn batch(at: &Address, arrivals: Vec<Arrived>) -> Batch {
    let arrivals = arrivals.into_iter().map(|what| Arrival { conversation: at.conversation.clone(), what }).collect();
    Batch { arrivals, ..Batch::default() }
}

pub(crate) fn message(sender: &str, words: &str) -> Message {
    Message::text(Author { id: PersonId::new(sender), name: None }, START, words)
}

pub(crate) fn incoming(id: &str, message: Message) -> Incoming {
    let (id, message) = (RemoteId::new(id), Cleartext::new(message));
    Incoming { id, message, trust: SenderTrust::Proven, identity: None, once: None }
}

/// A message of `sender` whose words are its name.
pub(crate) fn said(sender: &str, id: &str) -> Arrived {
    Arrived::Message(incoming(id, message(sender, id)))
}

pub(crate) fn reply(sender: &str, id: &str, to: &RemoteId) -> Arrived {
    let mut message = message(sender, id);
    message.reply_to = Some(Target::new(to.clone()));
    Arrived::Message(incoming(id, message))
}

pub(crate) fn gap(from: &str) -> Arrived {
    Arrived::Gap { from: from.into(), until: Some("until".into()) }
}

pub(crate) fn unreadable(sender: &str, id: &str, holds_sender: bool) -> Arrived {
    Arrived::Unreadable(Unreadable {
        id: RemoteId::new(id),
        sender: PersonId::new(sender),
        raw: SecretBytes::new(format!("raw {id}").into_bytes()),
        hint: format!("key of {id}"),
        reason: "its key is missing".into(),
        holds_sender,
    })
}

pub(crate) fn parcel(at: &Address, id: &str, delivery: DeliveryId, words: &str) -> Parcel {
    let message = Cleartext::new(message("@far", words));
    let (key, rule) = (peer(), Rule::default());
    let to = Destination::Carrier(Some(&key));
    let Verdict::Seal(sealing) = judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &rule)
    else {
        panic!("a carrier whose peer is known gets what is sealed");
    };
    let slip = Slip::new(at.conversation.clone(), delivery, Timestamp(0));
    Parcel { conversation: at.conversation.clone(), id: RemoteId::new(id), sealed: sealing.seal(&slip) }
}

/// The words of a message, got as a transport gets them.
pub(crate) fn words(message: &Cleartext) -> String {
    let (to, rule) = (Destination::EndToEnd(Encryption::Pinned), Rule { most_hops: 1000, ..Rule::default() });
    let Verdict::Speak(cleared) = judge(message, Origin { sender: SenderTrust::Local, said: message }, &to, &rule)
    else {
        panic!("a pinned conversation is spoken to");
    };
    cleared.message().body().map(|body| body.plain.as_str().to_owned()).unwrap_or_default()
}

pub(crate) fn id(name: &str) -> RemoteId {
    RemoteId::new(name)
}

pub(crate) fn secret(bytes: &SecretBytes) -> &[u8] {
    bytes.expose()
}

pub(crate) fn notice(words: &str) -> Cleartext {
    Cleartext::new(Message::notice(START, words))
}
