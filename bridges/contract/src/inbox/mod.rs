//! What comes in: batches that are committed whole, before anything is acknowledged to a network.

mod store;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AccountName, Cleartext, ConversationId, DeliveryId, PersonId, RemoteId, Sealed, SecretBytes, SenderTrust, Signal,
    Timestamp,
};

pub use self::store::{AccountStore, Keep, StoreWrite};

/// What one answer of a network held. [`Inbox::accept`] commits all of it or nothing.
#[derive(Debug, Default)]
pub struct Batch {
    /// What arrived, in the network's order within each conversation.
    pub arrivals: Vec<Arrival>,
    /// Deliveries of ours that came back to us: proof that they arrived.
    pub echoes: Vec<Echo>,
    /// Writes to the account's own store, the cursor among them.
    pub store: Vec<StoreWrite>,
    /// What a person must be told.
    pub incidents: Vec<Incident>,
}

/// One thing that arrived in a conversation.
#[derive(Debug)]
pub struct Arrival {
    /// Where.
    pub conversation: ConversationId,
    /// What it is.
    pub what: Arrived,
}

/// What arrived.
#[derive(Debug)]
pub enum Arrived {
    /// A message that we can read.
    Message(Incoming),
    /// An event that can't be read yet. It waits, locked.
    Unreadable(Unreadable),
    /// Between what came before and what comes next, something is missing.
    Gap {
        /// Where to start reading backwards; only the transport understands it.
        from: String,
        /// Where to stop; only the transport understands it. `None`: at our own join.
        until: Option<String>,
    },
    /// A message that is certain never to be read or carried: a dead letter.
    Refused {
        /// The network's name for it.
        id: RemoteId,
        /// Who sent it, by the network's word.
        sender: PersonId,
        /// Why, in words for the operator. Never words of the message.
        reason: String,
    },
}

/// A message that we can read.
#[derive(Debug)]
pub struct Incoming {
    /// The network's name for it. The same name twice is the same message: it is carried once.
    pub id: RemoteId,
    /// The message.
    pub message: Cleartext,
    /// How sure we are of who wrote it.
    pub trust: SenderTrust,
    /// The key of the identity that proves its sender, if their id does not name it already (Matrix: the master key of
    /// their cross-signing identity, in unpadded base64). It is the one that this very message rests on, not the one
    /// that the sender has now.
    pub identity: Option<String>,
    /// A value that no two messages of this account share, if the encryption has one. The same value under another name
    /// is a replay and is refused, for ever.
    pub once: Option<Once>,
}

/// A value that no two messages of an account share: a number within a series. Values of one series lie together on
/// disk, so remembering one costs little, however many there are.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Once {
    /// Names the series (Matrix: room and Megolm session). Not a secret.
    pub series: Vec<u8>,
    /// The number within it (Matrix: the message index).
    pub index: u64,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Once({})", self.index)
    }
}

/// An event that can't be read yet.
#[derive(Debug)]
pub struct Unreadable {
    /// The network's name for it.
    pub id: RemoteId,
    /// Who sent it, by the network's word.
    pub sender: PersonId,
    /// The event as it came. Kept locked until it can be read, or until it is given up.
    pub raw: SecretBytes,
    /// What it waits for, so that it can be found when that comes (Matrix: the Megolm session id).
    pub hint: String,
    /// Why it can't be read, in words for the operator.
    pub reason: String,
    /// Whether later messages of the same sender wait for it a while. A message refused on trust holds up nobody.
    pub holds_sender: bool,
}

/// A delivery of ours that came back to us.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Where.
    pub conversation: ConversationId,
    /// Which delivery.
    pub delivery: DeliveryId,
    /// What the network calls it.
    pub id: RemoteId,
}

/// What a person must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The conversation it is about.
    pub conversation: Option<ConversationId>,
    /// The same `topic` for the same conversation is told once: `plaintext-in-encrypted-room`.
    pub topic: String,
    /// In plain words, for a person. Never words of a message.
    pub words: String,
    /// Who is told.
    pub audience: Audience,
}

/// Who is told of an [`Incident`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The operator, in the admin room.
    Operator,
    /// The people in the conversation, and the operator.
    Conversation,
}

/// A gap that is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// Its number, given by the journal.
    pub id: i64,
    /// Where.
    pub conversation: ConversationId,
    /// Where to read on from: the gap's start, or what the last [`Filling`] said.
    pub from: String,
    /// Where to stop. `None`: at our own join.
    pub until: Option<String>,
    /// Messages older than this were written before the conversation was linked, and do not cross.
    pub not_before: Timestamp,
}

/// A piece of a gap: what one backward read brought.
#[derive(Debug)]
pub struct Filling {
    /// Which gap.
    pub gap: i64,
    /// What was read, newest first, as it came.
    pub arrivals: Vec<Arrived>,
    /// Where to read on from; `None` when the gap is closed.
    pub next: Option<String>,
}

/// Which waiting events are meant.
#[derive(Clone, Debug, Default)]
pub struct WaitingFor {
    /// Only of this conversation.
    pub conversation: Option<ConversationId>,
    /// Only those that wait for this.
    pub hint: Option<String>,
    /// Only of this sender.
    pub sender: Option<PersonId>,
}

/// An event that waits to be read.
#[derive(Debug)]
pub struct Waiting {
    /// Its number, given by the journal.
    pub id: i64,
    /// Where.
    pub conversation: ConversationId,
    /// Who sent it, by the network's word.
    pub sender: PersonId,
    /// The event as it came.
    pub raw: SecretBytes,
    /// Since when it waits.
    pub since: Timestamp,
}

/// What became of an event that waited.
#[derive(Debug)]
pub enum Resolution {
    /// It can be read now.
    Readable(Incoming),
    /// It still waits, perhaps for something else.
    Still {
        /// What it waits for now.
        hint: String,
        /// Why, in words for the operator.
        reason: String,
        /// Whether later messages of the same sender wait for it a while.
        holds_sender: bool,
    },
    /// It is certain never to be read: a dead letter.
    Refused {
        /// Why, in words for the operator.
        reason: String,
    },
    /// It was something that is not carried, such as a verification event.
    NotForUs,
}

/// Why a batch was not accepted. Nothing of it was kept; the transport offers it again, and acknowledges nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The journal is at its bound, or the disk is full. It goes on by itself when there is room.
    #[error("the journal is full; messages stay on their network until there is room")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The journal failed. The service stops and says why.
    #[error("the journal failed")]
    Failed,
}

impl NotAccepted {
    /// How long to wait before offering the batch again, or `None` if there is no use.
    #[must_use]
    pub fn again_in(self) -> Option<Duration> {
        (self == Self::Full).then_some(Duration::from_secs(1))
    }
}

/// The journey's side of the inbox.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Commits a batch durably, and returns only then.
    async fn accept(&self, account: &AccountName, batch: Batch) -> Result<(), NotAccepted>;
    /// Opens what a carrier brought and accepts it; returns after the durable commit. `cursor` is committed with it.
    async fn accept_sealed(
        &self,
        account: &AccountName,
        parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), NotAccepted>;
    /// The gaps that are still open, oldest first.
    async fn open_gaps(&self, account: &AccountName) -> Result<Vec<OpenGap>, NotAccepted>;
    /// Commits a piece of a gap.
    async fn fill(&self, account: &AccountName, filling: Filling) -> Result<(), NotAccepted>;
    /// Events that wait to be read, oldest first, at most `limit` after number `after`.
    async fn waiting(
        &self,
        account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, NotAccepted>;
    /// Commits what became of an event that waited.
    async fn resolve(&self, account: &AccountName, waiting: i64, resolution: Resolution) -> Result<(), NotAccepted>;
    /// Reads from the account's own store.
    async fn read(&self, account: &AccountName, key: &str) -> Result<Option<SecretBytes>, NotAccepted>;
    /// Reads every entry of the account's own store whose key starts with `prefix`, in the order of keys.
    async fn read_all(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted>;
    /// Writes to the account's own store; returns after the durable commit.
    async fn write(&self, account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), NotAccepted>;
    /// Forgets entries of the account's own store that are too old or too many, a bounded number a call. Says how many.
    async fn prune(&self, account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, NotAccepted>;
    /// Passes on what somebody does just now. Never waits, and keeps nothing.
    fn signal(&self, _account: &AccountName, _conversation: &ConversationId, _signal: Signal) {}
    /// Who can read in a conversation may have changed. Never waits; whoever hears it asks the transport.
    fn audience_moved(&self, _account: &AccountName, _conversation: &ConversationId) {}
    /// The conversations of an account of which somebody elsewhere wants to know what people do just now. Answers from
    /// memory.
    fn listens(&self, _account: &AccountName) -> Vec<ConversationId> {
        Vec::new()
    }
    /// Whether somebody may tell the bridge what to do, so that their words count where nothing is carried, too.
    /// Answers from memory.
    fn attends(&self, _account: &AccountName, _person: &PersonId) -> bool {
        false
    }
    /// Whether what is said in a conversation is carried anywhere. Answers from memory.
    fn is_linked(&self, _account: &AccountName, _conversation: &ConversationId) -> bool {
        true
    }
}

/// What a carrier brought in one conversation.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Where.
    pub conversation: ConversationId,
    /// The network's name for it.
    pub id: RemoteId,
    /// What it is.
    pub sealed: Sealed,
}

/// One account's way to hand in what it received. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    account: AccountName,
    intake: Arc<dyn Intake>,
}

impl Inbox {
    /// The inbox of `account`.
    #[must_use]
    pub fn new(account: AccountName, intake: Arc<dyn Intake>) -> Self {
        Self { account, intake }
    }

    /// Commits a batch durably. Only after this may a transport acknowledge it to its network.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing of it was kept.
    pub async fn accept(&self, batch: Batch) -> Result<(), NotAccepted> {
        self.intake.accept(&self.account, batch).await
    }

    /// The gaps that are still open, oldest first.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn open_gaps(&self) -> Result<Vec<OpenGap>, NotAccepted> {
        self.intake.open_gaps(&self.account).await
    }

    /// Commits a piece of a gap.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing of it was kept.
    pub async fn fill(&self, filling: Filling) -> Result<(), NotAccepted> {
        self.intake.fill(&self.account, filling).await
    }

    /// Events that wait to be read, oldest first: at most `limit` of those after number `after`.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn waiting(&self, filter: WaitingFor, after: i64, limit: usize) -> Result<Vec<Waiting>, NotAccepted> {
        self.intake.waiting(&self.account, filter, after, limit).await
    }

    /// Commits what became of an event that waited.
    ///
    /// # Errors
    /// [`NotAccepted`]: it still waits.
    pub async fn resolve(&self, waiting: i64, resolution: Resolution) -> Result<(), NotAccepted> {
        self.intake.resolve(&self.account, waiting, resolution).await
    }

    /// Passes on what somebody does just now. Never waits; where nobody wants to know, it is forgotten.
    pub fn signal(&self, conversation: &ConversationId, signal: Signal) {
        self.intake.signal(&self.account, conversation, signal);
    }

    /// Says that who can read in a conversation may have changed: whoever hears it asks
    /// [`Transport::audience`](crate::Transport::audience).
    pub fn audience_moved(&self, conversation: &ConversationId) {
        self.intake.audience_moved(&self.account, conversation);
    }

    /// The conversations of which somebody elsewhere wants to know what people do just now: of others a transport need
    /// not ask its network. Answers from memory.
    #[must_use]
    pub fn listens(&self) -> Vec<ConversationId> {
        self.intake.listens(&self.account)
    }

    /// Whether what is said in a conversation is carried anywhere: of others a transport need neither fetch nor
    /// remember anything. Answers from memory.
    #[must_use]
    pub fn is_linked(&self, conversation: &ConversationId) -> bool {
        self.intake.is_linked(&self.account, conversation)
    }

    /// Whether somebody may tell the bridge what to do: their words are handed in from a conversation of which nothing
    /// is carried, too. Answers from memory.
    #[must_use]
    pub fn attends(&self, person: &PersonId) -> bool {
        self.intake.attends(&self.account, person)
    }

    /// The account's own store.
    #[must_use]
    pub fn store(&self) -> AccountStore {
        AccountStore::new(self.account.clone(), Arc::clone(&self.intake))
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("account", &self.account).finish_non_exhaustive()
    }
}

/// A carrier's inbox: it takes only what is sealed, so a carrier can't bring words of its own.
#[derive(Clone)]
pub struct SealedInbox(Inbox);

impl SealedInbox {
    /// The inbox of `account`.
    #[must_use]
    pub fn new(account: AccountName, intake: Arc<dyn Intake>) -> Self {
        Self(Inbox::new(account, intake))
    }

    /// Commits parcels and the cursor durably. Only after this may a carrier acknowledge them to its network.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing was kept.
    pub async fn accept(&self, parcels: Vec<Parcel>, cursor: Vec<StoreWrite>) -> Result<(), NotAccepted> {
        self.0.intake.accept_sealed(&self.0.account, parcels, cursor).await
    }

    /// The account's own store.
    #[must_use]
    pub fn store(&self) -> AccountStore {
        self.0.store()
    }
}

impl fmt::Debug for SealedInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
