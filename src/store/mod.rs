//! The journal: everything that must survive a crash, locked, in one file with one writer.
//!
//! It keeps what came in until it has been carried everywhere it goes, and then only a content-free line. A message
//! leaves only by [`Journal::settle`], [`Journal::bury`] or an operator's word.

mod command;
mod errors;
mod forms;
mod name;
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Address, Cleartext, DeliveryId, PersonId, RemoteId, SecretBytes, SenderTrust, SpoolId, Timestamp,
    gate::Hold,
    inbox::{Batch, Filling, Incoming, Keep, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor},
};

pub use self::{
    command::{Command, Doubt, Said},
    errors::{JournalError, OpenError},
    forms::{
        Counts, DeadLetter, Died, Fact, FirstVerdict, LaneReport, Limits, Link, LinkEnd, Pending, REPLACED, Routed,
        Share, Spoken, Swept, Tripped, Unread,
    },
    name::LinkName,
};

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
    /// Whether each conversation of an account may have a share of the journal waiting, and no more: what programs bring must
    /// not take the room of what people say.
    fn is_bounded(&self, _account: &AccountName) -> bool {
        false
    }
    /// Opens what a carrier brought, with the key of the peer at that conversation.
    fn open(&self, from: &Address, parcel: &Parcel) -> Option<(DeliveryId, Cleartext)>;
    /// These are the links from now on. Told by the journal when a change of them is durable, before it takes in or
    /// routes anything more: so what a change moves in the outbox stays in order with what comes after it.
    fn links_are(&self, links: Vec<Link>);
}

/// The journal. Every method that writes returns after the durable commit; many callers share one.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Commits a batch: received messages with their deliveries, unreadables, gaps, echoes, store writes. A message
    /// seen before is passed over; a `once` value seen under another id becomes a dead letter with the reason
    /// "replayed". Incidents are the caller's to tell. A deletion erases, in the same commit, whatever is still kept of
    /// what it names: queued, held, dead or waiting. An edit of somebody else's message is a dead letter. A newer edit
    /// or reaction takes the place of one by the same author that is still queued. Of a bounded account nothing but
    /// deletions is taken from a conversation that has its share of the journal waiting: [`JournalError::ShareTaken`].
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
    /// How many entries there are whose key starts with `prefix`, by what stands behind it up to the next slash.
    async fn tally(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, usize)>, JournalError>;
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
    /// What each conversation of a bounded account has waiting, by their names; those that have something.
    async fn shares(&self) -> Result<Vec<Share>, JournalError>;
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
