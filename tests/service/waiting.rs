//! A conversation that has to wait: said once in the log, however often it is looked at.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sealbridge::{
    flow::{Dispatch, LaneState, TableHandle, attempt::Attempts},
    store::{JournalError, Limits, Link, Routed, Router, SharedJournal, sqlite::SqliteJournal},
};
use sealbridge_contract::{
    Abilities, Ability, AccountName, Address, AnyTransport, Cleared, Cleartext, Clock, ConversationId, Deduplication,
    DeliveryError, DeliveryId, EndToEnd, Fatal, Flow, Found, Hold, Inbox, Message, PersonId, Receipt, RemoteId,
    RootKey, Rule, Screen, SenderTrust, Slip, Timestamp, Transport, Vault, Verb,
    gate::Encryption,
    inbox::Parcel,
    names::Tags,
    trail::MarkKey,
    transport::{ConversationInfo, Health},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

const ABILITIES: Abilities = Abilities {
    network: "played",
    verbs: &[(Verb::Notice, Ability::Full)],
    deduplication: Deduplication::Always,
    finds: false,
    carries_marks: false,
    most_bytes: 1000,
    most_file: 0,
    reactions_in_clear: false,
};

/// A network that may or may not know yet whether its conversation is encrypted, and counts how often it is asked.
#[derive(Default)]
struct Played {
    pinned: AtomicBool,
    asked: AtomicUsize,
    delivered: AtomicUsize,
    /// So many attempts fail.
    fails: AtomicUsize,
}

#[async_trait]
impl Transport for Played {
    fn abilities(&self) -> &Abilities {
        &ABILITIES
    }
    fn health(&self) -> Health {
        Health::default()
    }
    fn conversations(&self) -> Vec<ConversationInfo> {
        Vec::new()
    }
    async fn find(&self, _slip: &Slip) -> Result<Found, DeliveryError> {
        Ok(Found::NotThere)
    }
    async fn open_direct(&self, _with: &PersonId) -> Result<ConversationId, DeliveryError> {
        Err(DeliveryError::give_up("not here"))
    }
    fn comparison(&self, _with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
        None
    }
}

#[async_trait]
impl EndToEnd for Played {
    async fn run(&self, _inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        stop.cancelled().await;
        Ok(())
    }
    fn encryption(&self, _conversation: &ConversationId) -> Encryption {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.pinned.load(Ordering::SeqCst) { Encryption::Pinned } else { Encryption::Unknown }
    }
    async fn deliver(&self, _message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        let fails = self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(DeliveryError::retry("it is played so"));
        }
        self.delivered.fetch_add(1, Ordering::SeqCst);
        Ok(Receipt { id: RemoteId::new(slip.delivery.to_string()) })
    }
}

/// Nothing comes in, so nothing is asked.
struct Nowhere;

impl Router for Nowhere {
    fn linked_since(&self, _from: &Address) -> Option<Timestamp> {
        None
    }
    fn route(&self, _from: &Address, _id: &RemoteId, _message: &Cleartext, _trust: SenderTrust) -> Vec<Routed> {
        Vec::new()
    }
    fn open(&self, _from: &Address, _parcel: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        None
    }
    fn links_are(&self, _links: Vec<Link>) {}
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn says(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).matches(words).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), holding)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// One conversation on a network that is played, and the journey to it.
struct Stage {
    network: Arc<Played>,
    journal: SharedJournal,
    clock: Clock,
    dispatch: Arc<Dispatch>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), JournalError>>,
    to: Address,
    _folder: TempDir,
}

impl Stage {
    fn set() -> Self {
        let _folder = tempfile::tempdir().expect("there is a place for temporary files");
        let clock = Clock::system();
        let vault = Vault::new(RootKey::random());
        let journal = SqliteJournal::open(_folder.path(), vault, Arc::new(Nowhere), Limits::default(), clock.clone());
        let journal: SharedJournal = Arc::new(journal.expect("a new journal opens"));
        let (network, account) = (Arc::new(Played::default()), AccountName::parse("a").expect("it is a name"));
        let table = TableHandle::new(Arc::new(|_| Rule::default()));
        let transport = AnyTransport::EndToEnd(Arc::clone(&network) as Arc<dyn EndToEnd>);
        table.accounts_are(HashMap::from([(account.clone(), Some(transport))]));
        let key = || Zeroizing::new([7; 32]);
        let (marks, tags) = (MarkKey::new(key()), Tags::new(key()));
        let attempts =
            Attempts::new(table.clone(), Arc::clone(&journal), marks, tags, Timestamp(i64::MIN), clock.clone());
        let dispatch = Dispatch::new(Arc::clone(&journal), table, attempts, clock.clone());
        let (changes, stop) = (watch::Sender::new(0_u64), CancellationToken::new());
        let running = tokio::spawn(Arc::clone(&dispatch).run(changes.subscribe(), stop.clone()));
        let to = Address { account, conversation: ConversationId::new("!room") };
        Self { network, journal, clock, dispatch, changes, stop, running, to, _folder }
    }
}

#[tokio::test]
async fn conversation_that_waits_is_logged_once_and_again_when_it_waits_anew() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let Stage { network, journal, clock, dispatch, changes, stop, running, to, _folder } = Stage::set();
    for turn in 1..=2 {
        network.pinned.store(false, Ordering::SeqCst);
        let before = network.asked.load(Ordering::SeqCst);
        let words = Cleartext::new(Message::notice(clock.now(), "words"));
        journal.say(&to, words, None).await.expect("there is room");
        for looks in 1..=5 {
            until("it is looked at", || network.asked.load(Ordering::SeqCst) >= before + looks).await;
            // Each change of the table wakes the lane, so that it looks again at once.
            changes.send_modify(|count| *count += 1);
        }
        assert_eq!(dispatch.lanes().get(&to), Some(&LaneState::Waits(Hold::EncryptionUnknown)));
        assert_eq!(log.says("A conversation has to wait."), turn, "after {turn} waits");
        network.pinned.store(true, Ordering::SeqCst);
        changes.send_modify(|count| *count += 1);
        until("it goes on", || network.delivered.load(Ordering::SeqCst) == turn && dispatch.lanes().is_empty()).await;
    }
    stop.cancel();
    running.await.expect("it does not panic").expect("the journal works");
}

#[tokio::test]
async fn clock_that_is_moved_by_a_day_holds_up_no_lane() {
    const DAY: i64 = 24 * 3_600_000;
    let Stage { network, journal, clock, dispatch, stop, running, to, _folder, .. } = Stage::set();
    network.pinned.store(true, Ordering::SeqCst);
    for (turn, moved) in [-DAY, DAY, DAY, -DAY, -DAY].into_iter().enumerate() {
        network.fails.store(2, Ordering::SeqCst);
        let words = Cleartext::new(Message::notice(clock.now(), "words"));
        journal.say(&to, words, None).await.expect("there is room");
        let rests = || matches!(dispatch.lanes().get(&to), Some(LaneState::Retries(_)));
        until("an attempt failed", || network.fails.load(Ordering::SeqCst) < 2 && rests()).await;
        clock.shift(moved);
        until("it is delivered", || network.delivered.load(Ordering::SeqCst) == turn + 1).await;
    }
    assert!(journal.dead_letters(0, 10).await.expect("the journal reads").is_empty(), "nothing is given up");
    stop.cancel();
    running.await.expect("it does not panic").expect("the journal works");
}
