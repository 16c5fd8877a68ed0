//! The journal: everything that must survive a crash, locked, in one file with one writer.
//!
//! It keeps what came in until it has been carried everywhere it goes, and then only a content-free line. A message
//! leaves only by [`Journal::settle`], [`Journal::bury`] or an operator's word.

mod command;
mod name;
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Address, Cleartext, DeliveryId, PersonId, RemoteId, SecretBytes, SenderTrust, SpoolId, Timestamp,
    gate::Hold,
    inbox::{Batch, Filling, Incoming, Keep, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor},
};
use serde::{Deserialize, Serialize};

pub use self::command::{Command, Doubt, Said};
pub use name::LinkName;

/// Where messages of a conversation go: asked by the journal for each message in the moment it is committed, so that a
/// message and its deliveries become durable together. Answers from memory, does no I/O, and never blocks.
pub trait Router: Send + Sync + 'static {
    /// Since when the conversation is linked; `None` if it is not, and then nothing of it is kept.
    fn linked_since(&self, from: &Address) -> Option<Timestamp>;
    /// Where one message goes.
    fn route(&self, from: &Address, id: &RemoteId, message: &Cleartext, trust: SenderTrust) -> Vec<Routed>;
    /// What a message says to the bridge itself: then it goes nowhere else. `history`: it was read backwards.
    fn said_to_us(&self, _from: &Address, _incoming: &Incoming, _history: bool) -> Option<Said> {
        None
    }
    /// Whether somebody's words may be for the bridge itself where nothing is linked, so that those which can't be read yet
    /// are kept.
    fn attends(&self, _from: &Address, _sender: &PersonId) -> bool {
        false
    }
    /// Opens what a carrier brought, with the key of the peer at that conversation.
    fn open(&self, from: &Address, parcel: &Parcel) -> Option<(DeliveryId, Cleartext)>;
    /// These are the links from now on. Told by the journal when a change of them is durable, before it takes in or
    /// routes anything more: so what a change moves in the outbox stays in order with what comes after it.
    fn links_are(&self, links: Vec<Link>);
}

/// One conversation that a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// By which link.
    pub link: LinkName,
    /// Where to.
    pub to: Address,
    /// The gate's first word; it speaks again at delivery.
    pub verdict: FirstVerdict,
    /// What its author is to be told about that, where it was written.
    pub tell: Option<String>,
}

/// What the gate said when the message came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstVerdict {
    /// Into the outbox. What only the destination lacks is waited for there, in order.
    Enqueue,
    /// Kept until somebody resumes the link.
    Hold(Hold),
    /// A dead letter.
    Refuse(String),
    /// Our own words come back, by our own mark: nothing to do, and a line that says so.
    Echo,
}

/// Two or more conversations whose messages are carried to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: LinkName,
    /// The conversations, each with the moment from which its messages cross.
    pub ends: Vec<LinkEnd>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Declared in the config, so commands can't remove it.
    pub fixed: bool,
    /// The circuit breaker paused it, not long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<Tripped>,
}

/// How the circuit breaker paused a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    /// How often in a row.
    pub times: u32,
    /// When, the last time.
    pub at: Timestamp,
    /// When it goes on by itself; `None`: when somebody resumes it.
    pub resume_at: Option<Timestamp>,
}

/// One conversation of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// Where.
    pub at: Address,
    /// Messages written before this moment do not cross.
    pub since: Timestamp,
}

/// A delivery at the head of its lane.
#[derive(Debug)]
pub struct Pending {
    /// Its number in the journal; lanes are in its order.
    pub number: i64,
    /// Which delivery it is.
    pub delivery: DeliveryId,
    /// By which link; `None` for words of the bridge itself.
    pub link: Option<LinkName>,
    /// Where it came from; `None` for words of the bridge itself.
    pub from: Option<(Address, RemoteId)>,
    /// The message, unlocked for this attempt.
    pub message: Cleartext,
    /// How sure we are of who wrote it.
    pub trust: SenderTrust,
    /// What it answers, by its name at the destination, if it is known there.
    pub reply_to: Option<RemoteId>,
    /// The message that began its thread, in the same way.
    pub thread: Option<RemoteId>,
    /// What it changes, takes back or reacts to, in the same way.
    pub about: Option<RemoteId>,
    /// What it takes back was itself on its way there as this delivery, enqueued then, when it was erased. Nobody here
    /// knows whether it arrived.
    pub erased: Option<(DeliveryId, Timestamp)>,
    /// How often it was tried before.
    pub attempt: u32,
    /// Not to be tried before.
    pub not_before: Timestamp,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// Nothing stood behind it in its lane. False: perhaps something does.
    pub last: bool,
}

/// A message that will not be delivered unless somebody says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Its number.
    pub number: i64,
    /// The delivery's id, or the event's name if it never became one.
    pub name: String,
    /// Where it came from.
    pub from: Option<Address>,
    /// Where it was to go, if it was known.
    pub to: Option<Address>,
    /// Who sent it, by the network's word.
    pub sender: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether it can be tried again: its content is still here, locked.
    pub kept: bool,
}

/// What became dead letters of one conversation within one hour, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Died {
    /// Where it came from.
    pub from: Address,
    /// Why.
    pub reason: String,
    /// In which hour since the epoch.
    pub hour: i64,
    /// How many.
    pub count: u64,
    /// When the last of them did.
    pub last: Timestamp,
}

/// What was done to some of the dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// To how many.
    pub done: usize,
    /// How many were left, since their content is gone.
    pub left: usize,
    /// After which number to go on; `None` if there is none left.
    pub go_on: Option<i64>,
}

/// What became of words that are said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// They were never said.
    Never,
    /// They wait to be delivered.
    OnItsWay,
    /// They arrived.
    Arrived,
    /// They will not arrive, or nobody remembers whether they did.
    Lost,
}

/// How full the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Deliveries in the outbox.
    pub queued: u64,
    /// Deliveries that are held.
    pub held: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that wait to be read.
    pub unreadable: u64,
    /// Gaps that are open.
    pub gaps: u64,
    /// Received messages that are not routed yet, behind a gap or an event that can't be read.
    pub unrouted: u64,
    /// Deliveries done in the last 30 days.
    pub settled: u64,
    /// Rows that do not open, set aside.
    pub quarantined: u64,
    /// When the oldest queued delivery was enqueued.
    pub oldest: Option<Timestamp>,
    /// Bytes of locked payload.
    pub payload_bytes: u64,
}

/// What waits to be read on one account, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which account.
    pub account: AccountName,
    /// Why it can't be read yet.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Since when the first of them waits.
    pub since: Timestamp,
}

/// How a lane stands, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneReport {
    /// Which conversation.
    pub at: Address,
    /// How many deliveries wait to go there.
    pub queued: u64,
    /// Since when the first of them does.
    pub since: Timestamp,
    /// How often that one was tried in vain.
    pub attempts: u32,
    /// Why, the last time.
    pub cause: Option<String>,
}

/// What became of one message, for `why` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// By which link.
    pub link: Option<LinkName>,
    /// Where to.
    pub to: Option<Address>,
    /// `queued`, `held`, `dead`, `delivered`, `echo`, `unreadable`, `waiting`; `quarantined` if its row does not open;
    /// `dropped` if an operator dropped it, or if it was certain not to be carried, with the reason.
    pub state: &'static str,
    /// Its number, if it is a dead letter.
    pub number: Option<i64>,
    /// Since when, as near as is kept.
    pub at: Timestamp,
    /// Why, if there is a reason.
    pub reason: Option<String>,
    /// What it is called there, once delivered.
    pub delivered_as: Option<RemoteId>,
}

/// Limits, from the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Locked payload at most, in bytes; over this nothing more is accepted. Of one sender, dead letters and events that
    /// can't be read take a sixteenth of it at most; beyond that only their lines and reasons are kept.
    pub payload_bytes: u64,
    /// How long an event that can't be read waits.
    pub unreadable_for: Duration,
    /// How long later messages of the same sender wait for it.
    pub hold_sender_for: Duration,
    /// How long a content-free line is kept.
    pub lines_for: Duration,
    /// How long a dead letter is kept; then it is a content-free line with its reason.
    pub dead_letters_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            payload_bytes: 1 << 30,
            unreadable_for: 7 * day,
            hold_sender_for: Duration::from_secs(30),
            lines_for: 30 * day,
            dead_letters_for: 30 * day,
        }
    }
}

/// Why the journal did not do what was asked. Nothing of it was done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// At its bound, or the disk is full.
    #[error("the journal is full")]
    Full,
    /// It is closed.
    #[error("the journal is closed")]
    Closed,
    /// The database says that it is damaged.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// There is no such thing.
    #[error("{0}")]
    NoSuch(String),
    /// The database failed in another way.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// Why a journal does not open: four different troubles with four different ways out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version.
    #[error(
        "the journal was written by a newer Sealbridge (schema {found}, this one knows {known}): install that version, or a newer one"
    )]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// Another process has it.
    #[error("another Sealbridge has this journal open: stop it first, or give this one another state folder")]
    InUse,
    /// The root key is another one.
    #[error("the root key does not open this journal: give the key that it was made with")]
    WrongKey,
    /// The file is an older copy: what it holds was carried since, and it would be carried again.
    #[error(
        "the journal is an older copy (it counts {found} commits, and there were {outside}): put the newer one back, or a \
         backup with `sealbridge backup restore`; `sealbridge backup adopt` goes on with this copy as with a backup"
    )]
    Older {
        /// How many commits it counts.
        found: u64,
        /// How many there were, by the file beside it.
        outside: u64,
    },
    /// The file is damaged.
    #[error("the journal is damaged ({0}): restore it from a backup, or move it away and start anew")]
    Damaged(String),
    /// The folder or file can't be used.
    #[error("the journal can't be opened: {0}")]
    Unusable(String),
}

/// The journal. Every method that writes returns after the durable commit; many callers share one.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Commits a batch: received messages with their deliveries, unreadables, gaps, echoes, store writes. A message
    /// seen before is passed over; a `once` value seen under another id becomes a dead letter with the reason
    /// "replayed". Incidents are the caller's to tell. A deletion erases, in the same commit, whatever is still kept of
    /// what it names: queued, held, dead or waiting. An edit of somebody else's message is a dead letter. A newer edit
    /// or reaction takes the place of one by the same author that is still queued.
    async fn accept(&self, account: &AccountName, batch: Batch) -> Result<(), JournalError>;
    /// The same for what a carrier brought: opened by [`Router::open`]; what does not open is a dead letter.
    async fn accept_sealed(
        &self,
        account: &AccountName,
        parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), JournalError>;
    /// Gaps that are open, oldest first.
    async fn open_gaps(&self, account: &AccountName) -> Result<Vec<OpenGap>, JournalError>;
    /// Commits a piece of a gap; when it closes, what waited behind it is routed, in order.
    async fn fill(&self, account: &AccountName, filling: Filling) -> Result<(), JournalError>;
    /// Events that wait to be read.
    async fn waiting(
        &self,
        account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, JournalError>;
    /// Commits what became of one of them. One that is readable before later messages of its sender crossed keeps its
    /// place; after that it crosses marked late.
    async fn resolve(&self, account: &AccountName, waiting: i64, resolution: Resolution) -> Result<(), JournalError>;
    /// Lets messages through whose wait is over, and gives up events past their time. Says when to call again at the
    /// latest, if anything is waiting; what arrives after that may make it sooner. To be called at the start too, once
    /// the [`Router`] knows the links: it takes up what could have been routed when the process died.
    async fn expire(&self) -> Result<Option<Timestamp>, JournalError>;
    /// Forgets content-free lines that are older than [`Limits::lines_for`], and lets go of dead letters that are older
    /// than [`Limits::dead_letters_for`], a bounded number a call. Says how many.
    async fn sweep(&self) -> Result<usize, JournalError>;

    /// Reads from an account's store.
    async fn read(&self, account: &AccountName, key: &str) -> Result<Option<SecretBytes>, JournalError>;
    /// Reads every entry whose key starts with `prefix`, in the order of keys.
    async fn read_all(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, JournalError>;
    /// Writes to an account's store.
    async fn write(&self, account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), JournalError>;
    /// Forgets entries of an account's store whose key starts with `prefix` and that are too old or too many, a bounded
    /// number a call. Says how many.
    async fn prune(&self, account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, JournalError>;

    /// All links.
    async fn links(&self) -> Result<Vec<Link>, JournalError>;
    /// Adds or replaces a link. What it has in the outbox stays as it is.
    async fn put_link(&self, link: Link) -> Result<(), JournalError>;
    /// Removes a link. What it still has in the outbox becomes dead letters, kept.
    async fn remove_link(&self, name: &LinkName) -> Result<(), JournalError>;
    /// Puts a conversation in the place of another one of a link, and sends there what was on its way to the other:
    /// what is queued or held, and dead letters, in their old order. Says how many.
    async fn replace_end(&self, link: &LinkName, old: &Address, new: LinkEnd) -> Result<usize, JournalError>;
    /// Lets a link go on, with its held deliveries back in the outbox, in their old places. Says how many.
    async fn resume(&self, link: &LinkName) -> Result<usize, JournalError>;

    /// Enqueues words of the bridge itself. With `once`, the same words for the same place and topic are said only one
    /// time ever; says whether they were enqueued.
    async fn say(&self, to: &Address, message: Cleartext, once: Option<&str>) -> Result<bool, JournalError>;
    /// What became of words that were said `once`.
    async fn said(&self, to: &Address, once: &str) -> Result<Spoken, JournalError>;
    /// Conversations that have something in the outbox.
    async fn lanes(&self) -> Result<Vec<Address>, JournalError>;
    /// How each of them stands.
    async fn lane_reports(&self) -> Result<Vec<LaneReport>, JournalError>;
    /// Waits until a conversation may have something new in the outbox, and says which. Wakes once for many.
    async fn woken(&self) -> Vec<Address>;
    /// The next deliveries of a conversation, oldest first, unlocked; those numbered up to `after` are left out. A row
    /// that does not open is set aside in quarantine, by name, and left out. An answer ends before a message that is
    /// about an earlier one in it: what that is called there is known once it is settled.
    async fn head(&self, lane: &Address, after: i64, limit: usize) -> Result<Vec<Pending>, JournalError>;
    /// It arrived: keep what it is called there, erase the payload once nobody else needs it.
    async fn settle(&self, number: i64, as_id: &RemoteId) -> Result<(), JournalError>;
    /// As [`settle`](Self::settle), for whoever goes on meanwhile: it may wait a moment, so that others share its commit.
    async fn settle_soon(&self, number: i64, as_id: &RemoteId) -> Result<(), JournalError> {
        self.settle(number, as_id).await
    }
    /// Somebody waits for what waits for others: it is committed now.
    async fn hurry(&self) -> Result<(), JournalError> {
        Ok(())
    }
    /// It is not to arrive, and that is as it should be: a line says why.
    async fn leave_out(&self, number: i64, why: &str) -> Result<(), JournalError>;
    /// How often something was erased from the outbox since the start. Whoever took deliveries out before that looks
    /// at the head anew.
    fn erasures(&self) -> u64;
    /// What a message is called at another conversation that it was carried to, or came from.
    async fn called(&self, from: &Address, id: &RemoteId, at: &Address) -> Result<Option<RemoteId>, JournalError>;
    /// The files that messages still need.
    async fn files(&self) -> Result<HashSet<SpoolId>, JournalError>;
    /// It did not arrive; try again, not before `not_before`. Counts the attempt.
    async fn postpone(&self, number: i64, not_before: Timestamp, cause: &str) -> Result<(), JournalError>;
    /// Keep it until somebody resumes its link. If somebody has, since the gate looked, it stays queued.
    async fn hold(&self, number: i64, why: Hold) -> Result<(), JournalError>;
    /// It will not arrive: a dead letter, with its content kept, locked.
    async fn bury(&self, number: i64, reason: &str) -> Result<(), JournalError>;

    /// Dead letters and what is in quarantine, oldest first, after number `after`.
    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, JournalError>;
    /// What became dead letters since a moment, a bounded number of kinds, oldest first. Words of the bridge itself are
    /// left out.
    async fn died_since(&self, since: Timestamp) -> Result<Vec<Died>, JournalError>;
    /// Puts a dead letter back into its outbox, in its old place; an event that can't be read goes back to waiting.
    async fn retry(&self, number: i64) -> Result<(), JournalError>;
    /// Erases a dead letter for good.
    async fn drop_letter(&self, number: i64) -> Result<(), JournalError>;
    /// The same for every one that can be, after number `after`: a bounded number a call, in one commit.
    async fn retry_letters(&self, after: i64) -> Result<Swept, JournalError>;
    /// Erases every one after number `after` for good: a bounded number a call, in one commit.
    async fn drop_letters(&self, after: i64) -> Result<Swept, JournalError>;
    /// What became of a message.
    async fn why(&self, at: &Address, id: &RemoteId) -> Result<Vec<Fact>, JournalError>;
    /// Whether somebody wrote a message that was received in a conversation. False if that is not known.
    async fn wrote(&self, by: &PersonId, at: &Address, id: &RemoteId) -> Result<bool, JournalError>;

    /// What was said to the bridge itself and is not answered, oldest first.
    async fn commands(&self, limit: usize) -> Result<Vec<Command>, JournalError>;
    /// Waits until there may be something new among them. Wakes once for many.
    async fn commanded(&self);
    /// Somebody is about to do it, once: should the process die, the next one finds it begun, and says so.
    async fn begin(&self, number: i64) -> Result<(), JournalError>;
    /// It is done with. In the same commit an answer is enqueued where it was said; `once` as in [`say`](Self::say).
    /// Says whether it was enqueued.
    async fn finish(&self, number: i64, answer: Option<Cleartext>, once: Option<&str>) -> Result<bool, JournalError>;

    /// What waits to be read, by account and reason; the most frequent first, and not without a bound.
    async fn unread(&self) -> Result<Vec<Unread>, JournalError>;
    /// How full it is.
    async fn counts(&self) -> Result<Counts, JournalError>;
    /// A value of the service's own, locked: `read_all` and `write` with no account.
    async fn setting(&self, key: &str) -> Result<Option<SecretBytes>, JournalError>;
    /// Writes one.
    async fn set(&self, key: &str, value: SecretBytes) -> Result<(), JournalError>;
    /// Forgets those whose key starts with `prefix`, except these. Says how many.
    async fn forget_settings(&self, prefix: &str, except: HashSet<String>) -> Result<usize, JournalError>;
    /// Finishes what was asked and closes.
    async fn close(&self);
}

/// A journal that is shared.
pub type SharedJournal = Arc<dyn Journal>;
