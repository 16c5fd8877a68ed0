//! Where transports hand in what they received: committed durably, and only then acknowledged.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Address, Cleartext, Clock, ConversationId, Message, NotAccepted, PersonId, SecretBytes, Signal,
    inbox::{
        Audience, Batch, Filling, Incident, Intake, Keep, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor,
    },
    names,
};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{audience::Moved, table::TableHandle};
use crate::{
    config::Operator,
    store::{JournalError, SharedJournal},
};

/// The desk: journal behind it, the operator's room beside it.
pub struct Desk {
    journal: SharedJournal,
    admin: OnceLock<Address>,
    table: TableHandle,
    signals: mpsc::Sender<(Address, Signal)>,
    moved: Arc<Moved>,
    /// Who may tell the bridge what to do.
    operator: Operator,
    clock: Clock,
    /// Something was not accepted, since the journal was full.
    refused: AtomicBool,
    trouble: Mutex<Option<&'static str>>,
}

impl Desk {
    /// A desk that commits to `journal`.
    #[must_use]
    pub fn new(
        journal: SharedJournal,
        table: TableHandle,
        signals: mpsc::Sender<(Address, Signal)>,
        operator: Operator,
        clock: Clock,
    ) -> Arc<Self> {
        let (admin, refused, trouble) = (OnceLock::new(), AtomicBool::new(false), Mutex::default());
        Arc::new(Self { journal, admin, table, signals, moved: Arc::default(), operator, clock, refused, trouble })
    }

    /// Conversations whose readers may have changed.
    #[must_use]
    pub fn moved(&self) -> Arc<Moved> {
        Arc::clone(&self.moved)
    }

    /// Where the operator is told things.
    #[must_use]
    pub fn admin(&self) -> Option<&Address> {
        self.admin.get()
    }

    /// Whether something was refused for want of room since this was asked last.
    pub fn refused_since(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    /// Says what is wrong with the journal, for `status`.
    pub fn set_trouble(&self, trouble: Option<&'static str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What is wrong with the journal.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the operator is told things. The first word stands.
    pub fn set_admin(&self, room: Address) {
        let _ = self.admin.set(room);
    }

    /// Tells the operator, in the admin room if there is one and in the log. With `once`, only one time ever.
    ///
    /// # Errors
    /// [`JournalError`]: it was not enqueued.
    pub async fn tell_operator(&self, words: &str, once: Option<&str>) -> Result<(), JournalError> {
        if let Some(room) = self.admin.get() {
            self.tell(room, words, once).await?;
        }
        Ok(())
    }

    /// Says something in a conversation, as an encrypted notice.
    ///
    /// # Errors
    /// [`JournalError`]: it was not enqueued.
    pub async fn tell(&self, at: &Address, words: &str, once: Option<&str>) -> Result<(), JournalError> {
        let message = Cleartext::new(Message::notice(self.clock.now(), words));
        self.journal.say(at, message, once).await.map(|_| ())
    }

    fn refuse(&self, error: JournalError) -> NotAccepted {
        match error {
            JournalError::Full => {
                self.refused.store(true, Ordering::Relaxed);
                NotAccepted::Full
            }
            // There is room for others, so the journal is not in trouble.
            JournalError::ShareTaken => NotAccepted::Full,
            JournalError::Closed => NotAccepted::Stopping,
            JournalError::Damaged(_) | JournalError::NoSuch(_) | JournalError::Failed(_) => {
                error!(%error, "The journal did not take what came in.");
                NotAccepted::Failed
            }
        }
    }

    /// Told before the batch is committed: should the process die in between, the same batch comes again, and what is
    /// said once stays said once.
    async fn tell_incident(&self, account: &AccountName, incident: &Incident) -> Result<(), JournalError> {
        warn!(%account, topic = ?incident.topic, conversation = ?incident.conversation, "Needs a person.");
        let place =
            incident.conversation.clone().map(|conversation| Address { account: account.clone(), conversation });
        if let (Audience::Conversation, Some(place)) = (incident.audience, &place) {
            self.tell(place, &incident.words, Some(&incident.topic)).await?;
        }
        let whereabouts = place.map_or_else(|| account.to_string(), |place| names::id(&place.to_string()));
        let topic = format!("{} {whereabouts}", incident.topic);
        self.tell_operator(&format!("{whereabouts}: {}", incident.words), Some(&topic)).await
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

#[async_trait]
impl Intake for Desk {
    async fn accept(&self, account: &AccountName, mut batch: Batch) -> Result<(), NotAccepted> {
        for incident in std::mem::take(&mut batch.incidents) {
            self.tell_incident(account, &incident).await.map_err(|error| self.refuse(error))?;
        }
        self.journal.accept(account, batch).await.map_err(|error| self.refuse(error))
    }

    async fn accept_sealed(
        &self,
        account: &AccountName,
        parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), NotAccepted> {
        self.journal.accept_sealed(account, parcels, cursor).await.map_err(|error| self.refuse(error))
    }

    async fn open_gaps(&self, account: &AccountName) -> Result<Vec<OpenGap>, NotAccepted> {
        self.journal.open_gaps(account).await.map_err(|error| self.refuse(error))
    }

    async fn fill(&self, account: &AccountName, filling: Filling) -> Result<(), NotAccepted> {
        self.journal.fill(account, filling).await.map_err(|error| self.refuse(error))
    }

    async fn waiting(
        &self,
        account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, NotAccepted> {
        self.journal.waiting(account, filter, after, limit).await.map_err(|error| self.refuse(error))
    }

    async fn resolve(&self, account: &AccountName, waiting: i64, resolution: Resolution) -> Result<(), NotAccepted> {
        match self.journal.resolve(account, waiting, resolution).await {
            // Resolved already, by another trigger or before a crash: what was wanted is so.
            Err(JournalError::NoSuch(_)) => Ok(()),
            other => other.map_err(|error| self.refuse(error)),
        }
    }

    async fn read(&self, account: &AccountName, key: &str) -> Result<Option<SecretBytes>, NotAccepted> {
        self.journal.read(account, key).await.map_err(|error| self.refuse(error))
    }

    async fn read_all(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted> {
        self.journal.read_all(account, prefix).await.map_err(|error| self.refuse(error))
    }

    async fn write(&self, account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), NotAccepted> {
        self.journal.write(account, writes).await.map_err(|error| self.refuse(error))
    }

    async fn prune(&self, account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, NotAccepted> {
        self.journal.prune(account, prefix, keep).await.map_err(|error| self.refuse(error))
    }

    fn listens(&self, account: &AccountName) -> Vec<ConversationId> {
        self.table.now().signalling(account)
    }

    fn attends(&self, account: &AccountName, person: &PersonId) -> bool {
        self.operator.attends(account, person)
    }

    fn is_linked(&self, account: &AccountName, conversation: &ConversationId) -> bool {
        let at = Address { account: account.clone(), conversation: conversation.clone() };
        self.table.now().linked_since(&at).is_some()
    }

    fn audience_moved(&self, account: &AccountName, conversation: &ConversationId) {
        self.moved.note(Address { account: account.clone(), conversation: conversation.clone() });
    }

    fn signal(&self, account: &AccountName, conversation: &ConversationId, signal: Signal) {
        let from = Address { account: account.clone(), conversation: conversation.clone() };
        // Where too many wait, this one is forgotten.
        let _ = self.signals.try_send((from, signal));
    }
}
