//! The network: conversations, the people in them, and a log for each account of what it has not fetched yet.
//!
//! What an account acknowledged is forgotten, so an idle hub holds nothing but 24 bytes for each delivery it knows
//! again. Two hubs are two networks.

mod comparison;
mod event;
mod faults;
mod more;
mod person;
mod said;
mod seat;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use sealbridge_contract::{
    AccountName, Author, Clock, ConversationId, Deduplication, DeliveryId, PersonId, RemoteId, Text,
    inbox::{Echo, Once},
};
use tokio::sync::Notify;

pub(crate) use comparison::Comparison;
pub use event::Says;
pub(crate) use event::{Bytes, Cargo, Content, Cursor, Event, Item, Page, Polled, Put, Readable, Server, What};
pub(crate) use faults::{After, lock};
pub use faults::{Fault, Faults};
pub use more::{How, More, SentFile};
pub use person::LoopbackPerson;
use person::Screen;
pub use said::{Heard, ParcelSeen, Saying};
pub(crate) use seat::Seat;

/// A network in memory. Cheap to clone.
#[derive(Clone)]
pub struct LoopbackHub(Arc<Hub>);

pub(crate) struct Hub {
    name: String,
    clock: Clock,
    /// Told apart from every other hub in what must never repeat.
    salt: DeliveryId,
    messages: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    conversations: HashMap<ConversationId, Room>,
    accounts: HashMap<AccountName, Account>,
    people: HashMap<PersonId, Weak<Screen>>,
    /// How people look.
    pictures: HashMap<PersonId, Vec<u8>>,
    /// Whose identity was compared.
    verified: BTreeSet<PersonId>,
    events: u64,
}

struct Room {
    name: String,
    says: Says,
    accounts: Vec<AccountName>,
    people: BTreeSet<PersonId>,
    levels: BTreeMap<PersonId, i64>,
    screens: Vec<Weak<Screen>>,
    /// The last few, so that they can be replayed.
    recent: VecDeque<Arc<Event>>,
}

#[derive(Default)]
struct Account {
    said: VecDeque<(u64, Arc<Event>)>,
    said_last: u64,
    echoes: VecDeque<(u64, Echo)>,
    echoes_last: u64,
    /// What a limited answer left out.
    left_out: BTreeMap<u64, Arc<Event>>,
    limit: Option<usize>,
    taken: HashMap<DeliveryId, Taken>,
    comparisons: VecDeque<PersonId>,
    changed: Arc<Notify>,
    faults: Arc<Faults>,
}

struct Taken {
    second: u32,
    times: u32,
}

const RECENT: usize = 16;

/// Hubs that settings can name.
static NAMED: Mutex<BTreeMap<String, Weak<Hub>>> = Mutex::new(BTreeMap::new());
static FRESH: AtomicU64 = AtomicU64::new(0);

impl LoopbackHub {
    /// The hub of this name: made if there is none, and gone when nobody holds it any more.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::named_with_clock(name, Clock::system())
    }

    /// The same; if it is made, it lives by this clock.
    #[must_use]
    pub fn named_with_clock(name: &str, clock: Clock) -> Self {
        let mut named = lock(&NAMED);
        named.retain(|_, hub| hub.strong_count() > 0);
        if let Some(hub) = named.get(name).and_then(Weak::upgrade) {
            return Self(hub);
        }
        let (messages, state) = Default::default();
        let hub = Arc::new(Hub { name: name.to_owned(), clock, salt: DeliveryId::random(), messages, state });
        named.insert(name.to_owned(), Arc::downgrade(&hub));
        Self(hub)
    }

    /// A new hub, under a name of this process that no other has.
    #[must_use]
    pub fn fresh(prefix: &str) -> Self {
        Self::named(&format!("{prefix}-{}", FRESH.fetch_add(1, Ordering::Relaxed)))
    }

    /// Its name, for the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Settings of an account on this hub.
    #[must_use]
    pub fn settings(&self) -> crate::Settings {
        crate::Settings::hub(self.name())
    }

    /// Makes a conversation, or gives the one that exists.
    pub fn conversation(&self, name: &str, says: Says) -> ConversationId {
        lock(&self.0.state).conversation(name, says)
    }

    /// Makes `account` a member of `conversation`. It may do this before it connects for the first time.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn join(&self, account: &AccountName, conversation: &ConversationId) {
        self.0.join(account, conversation);
    }

    /// Takes `account` out of `conversation`.
    pub fn kick(&self, account: &AccountName, conversation: &ConversationId) {
        let mut state = lock(&self.0.state);
        let Some(room) = state.conversations.get_mut(conversation) else { return };
        room.accounts.retain(|member| member != account);
        self.0.tell(&mut state, account, conversation, What::Left);
    }

    /// From now on somebody may do so much in a conversation.
    ///
    /// # Panics
    /// If there is no such conversation.
    pub fn raise(&self, person: &PersonId, conversation: &ConversationId, level: i64) {
        lock(&self.0.state).room(conversation).levels.insert(person.clone(), level);
    }

    /// The server now says something else of a conversation's encryption.
    pub fn set_encryption(&self, conversation: &ConversationId, says: Says) {
        if let Some(room) = lock(&self.0.state).conversations.get_mut(conversation) {
            room.says = says;
        }
        self.tell_all(conversation, &|| What::Encryption(says));
    }

    /// The conversation is given up for another.
    pub fn replace(&self, conversation: &ConversationId) {
        self.tell_all(conversation, &|| What::Replaced);
    }

    /// A key that messages waited for arrives at every account.
    pub fn share_key(&self, conversation: &ConversationId, key: &str) {
        self.tell_all(conversation, &|| What::Key(key.to_owned()));
    }

    /// A person of this network. The same name is the same person.
    pub fn person(&self, name: &str) -> LoopbackPerson {
        LoopbackPerson::of(self, name)
    }

    /// What goes wrong for `account`.
    pub fn faults(&self, account: &AccountName) -> Arc<Faults> {
        Arc::clone(&lock(&self.0.state).accounts.entry(account.clone()).or_default().faults)
    }

    /// From now on an answer to `account` has at most this many messages of a conversation, and a gap before them.
    pub fn limit_answers(&self, account: &AccountName, limit: Option<usize>) {
        lock(&self.0.state).accounts.entry(account.clone()).or_default().limit = limit.map(|limit| limit.max(1));
    }

    /// How many events wait for `account`.
    pub fn waiting_for(&self, account: &AccountName) -> usize {
        lock(&self.0.state).accounts.get(account).map_or(0, |account| account.said.len() + account.left_out.len())
    }

    /// The id that `account` has on this network.
    #[must_use]
    pub fn person_id(&self, name: &str) -> PersonId {
        self.0.person_id(name)
    }

    pub(crate) fn seat(&self, account: &AccountName, remembers: Deduplication) -> Seat {
        Seat::new(Arc::clone(&self.0), account.clone(), remembers)
    }

    fn tell_all(&self, conversation: &ConversationId, what: &dyn Fn() -> What) {
        let mut state = lock(&self.0.state);
        let accounts = state.conversations.get(conversation).map(|room| room.accounts.clone()).unwrap_or_default();
        for account in accounts {
            self.0.tell(&mut state, &account, conversation, what());
        }
    }
}

impl Hub {
    fn person_id(&self, name: &str) -> PersonId {
        PersonId::new(format!("{name}@{}", self.name))
    }

    /// Somebody under the name that they have here.
    fn called(&self, id: PersonId) -> Author {
        let name = id.as_str().strip_suffix(&self.name).and_then(|name| name.strip_suffix('@')).map(Text::new);
        Author { id, name }
    }

    fn join(&self, account: &AccountName, conversation: &ConversationId) {
        let mut state = lock(&self.state);
        let room = state.room(conversation);
        if room.accounts.contains(account) {
            return;
        }
        room.accounts.push(account.clone());
        let says = room.says;
        self.tell(&mut state, account, conversation, What::Joined(says));
    }

    fn tell(&self, state: &mut State, account: &AccountName, conversation: &ConversationId, what: What) {
        let id = state.next_id(&self.name);
        let (conversation, sender) = (conversation.clone(), self.person_id("server"));
        let event = Arc::new(Event { id, conversation, sender, at: self.clock.now(), what });
        state.accounts.entry(account.clone()).or_default().push(event);
    }

    /// A value that no two messages share, unless one is a replay.
    fn once(&self) -> Once {
        Once { series: self.salt.as_bytes().to_vec(), index: self.messages.fetch_add(1, Ordering::Relaxed) }
    }
}

impl State {
    fn conversation(&mut self, name: &str, says: Says) -> ConversationId {
        let id = ConversationId::new(name);
        self.conversations.entry(id.clone()).or_insert_with(|| Room {
            name: name.to_owned(),
            says,
            accounts: Vec::new(),
            people: BTreeSet::new(),
            levels: BTreeMap::new(),
            screens: Vec::new(),
            recent: VecDeque::new(),
        });
        id
    }

    /// A conversation that a test names wrongly is an error of the test, and is told there.
    fn room(&mut self, conversation: &ConversationId) -> &mut Room {
        let room = self.conversations.get_mut(conversation);
        room.unwrap_or_else(|| panic!("this hub has no conversation {}", conversation.as_str()))
    }

    fn next_id(&mut self, hub: &str) -> RemoteId {
        self.events += 1;
        RemoteId::new(format!("{hub}/{}", self.events))
    }

    /// Puts an event into the log of every account in its conversation but `except`.
    fn spread(&mut self, event: &Arc<Event>, except: Option<&AccountName>) {
        let Some(room) = self.conversations.get_mut(&event.conversation) else { return };
        room.recent.push_back(Arc::clone(event));
        if room.recent.len() > RECENT {
            room.recent.pop_front();
        }
        for member in room.accounts.iter().filter(|member| Some(*member) != except) {
            if let Some(account) = self.accounts.get_mut(member) {
                account.push(Arc::clone(event));
            }
        }
    }
}

impl Account {
    fn push(&mut self, event: Arc<Event>) {
        self.said_last += 1;
        self.said.push_back((self.said_last, event));
        self.changed.notify_waiters();
    }

    fn push_echo(&mut self, echo: Echo) {
        self.echoes_last += 1;
        self.echoes.push_back((self.echoes_last, echo));
        self.changed.notify_waiters();
    }
}

impl fmt::Debug for LoopbackHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackHub").field("name", &self.0.name).finish_non_exhaustive()
    }
}
