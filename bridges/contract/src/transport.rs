//! The three kinds of transport. Which one a network is decides what the compiler lets it read.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    Abilities, AccountName, Cleared, Clock, ConversationId, DeliveryError, Flow, Found, Inbox, Invitation, PersonId,
    Picture, PictureId, Receipt, RemoteId, Screen, Sealed, SealedInbox, Signal, Slip, Spool,
    audience::{Admission, Audience, Roll},
    gate::{Encryption, OperatorRunFacts},
    inbox::AccountStore,
};

/// What every transport is given when it is made.
pub struct Context {
    /// Its account.
    pub account: AccountName,
    /// A folder of its own, mode 0700, for stores that a library insists on keeping itself.
    pub folder: PathBuf,
    /// A key of its own for such a store. The same at every start.
    pub store_key: StoreKey,
    /// Its own small store in the journal.
    pub store: AccountStore,
    /// Where files lie on their way in and out.
    pub spool: Arc<dyn Spool>,
    /// The clock.
    pub clock: Clock,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("account", &self.account).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A key for a store that a library keeps itself.
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The key, for the store.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKey(redacted)")
    }
}

/// Why a transport can't go on. The service stops the account and says why; nothing that waits for it is lost.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The session, token or password is not accepted any more.
    #[error("{0}")]
    Auth(String),
    /// Something that must hold does not: the device is not cross-signed, the store was rolled back.
    #[error("{0}")]
    Policy(String),
    /// What the service keeps is an older copy, or there is another one at work: nothing of the service may go on.
    #[error("{0}")]
    RolledBack(String),
    /// The journal does not take anything any more.
    #[error("the journal failed")]
    Journal,
    /// A library or a store failed.
    #[error("{0}")]
    Broken(String),
}

/// How an account is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// Connected, and receiving.
    pub connected: bool,
    /// When something was last received, even an empty answer, in milliseconds since the epoch.
    pub last_heard: Option<i64>,
    /// What is wrong, in words for the operator.
    pub trouble: Option<String>,
    /// Who we are there.
    pub identity: Option<String>,
    /// What the last door before the network stopped since the start, by the names of its reasons: a reason that never
    /// arose is there with a nought. Empty where there is no such door.
    #[serde(skip)]
    pub stopped: BTreeMap<&'static str, u64>,
}

/// Something that a look at an account found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Messages don't cross, or may be read by somebody who should not, until somebody acts.
    pub grave: bool,
    /// What it is about: `rate-limit`.
    pub topic: &'static str,
    /// What was seen and what to do, in words for the operator.
    pub words: String,
}

/// A conversation that an account can reach.
#[derive(Clone, Debug, Serialize)]
pub struct ConversationInfo {
    /// What the network calls it.
    pub id: ConversationId,
    /// What people call it.
    pub name: Option<String>,
    /// What is known of its encryption.
    pub encryption: Encryption,
    /// How many people are in it, ourselves included.
    pub members: usize,
}

/// What every transport has.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Its datasheet.
    fn abilities(&self) -> &Abilities;
    /// How it is doing. Answers from memory.
    fn health(&self) -> Health;
    /// The conversations that it can reach. Answers from memory.
    fn conversations(&self) -> Vec<ConversationInfo>;
    /// How much somebody may do in a conversation, where the network has such a thing (Matrix: their power level, as the
    /// homeserver says it). Answers from memory.
    fn standing(&self, _conversation: &ConversationId, _person: &PersonId) -> Option<i64> {
        None
    }
    /// Looks for a delivery in doubt. Called only if the datasheet says `finds`.
    ///
    /// # Errors
    /// [`DeliveryError`] with [`Fate::Retry`](crate::Fate::Retry) if it can't be looked for now.
    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError>;
    /// What the network calls a delivery if it has it, where that follows from the delivery alone. Then what may have
    /// arrived can be deleted there, though nobody can look for it.
    fn name_of(&self, _slip: &Slip) -> Option<RemoteId> {
        None
    }
    /// Opens a direct, encrypted conversation with a person, or gives the one that exists. Used for the admin room.
    ///
    /// # Errors
    /// [`DeliveryError`]; with [`Fate::GiveUp`](crate::Fate::GiveUp) if the network has no such thing.
    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError>;
    /// An invitation to a conversation of ours. `None` if the network has none that anybody may follow.
    ///
    /// # Errors
    /// [`DeliveryError`]; with [`Fate::GiveUp`](crate::Fate::GiveUp) if there is no such conversation.
    async fn invitation(&self, _to: &ConversationId) -> Result<Option<Invitation>, DeliveryError> {
        Ok(None)
    }
    /// A flow that compares identities with a person: started by us, or, with `None`, the next one that somebody else
    /// starts. `None` if the network has no such thing. `screen` is where its steps are shown.
    fn comparison(&self, with: Option<&PersonId>, screen: Screen) -> Option<Box<dyn Flow>>;
    /// Tells the people in a conversation what somebody elsewhere does just now, if the datasheet says that it is
    /// carried. Bounded in time; what can't be told is forgotten.
    async fn signal(&self, _to: &ConversationId, _signal: &Signal) {}
    /// Looks up the picture of somebody in this network, by the name that a message of theirs brought: see
    /// [`Pictures::picture`](crate::Pictures::picture).
    async fn picture(&self, _of: &PictureId) -> Option<Picture> {
        None
    }
    /// Everybody who can read a conversation, or could. Asks the network for keys that are not known yet, and for nothing
    /// else. `None`: the network
    /// has no such thing, or the conversation is not known. Who was there when a conversation is asked about for the
    /// first time reads; whoever comes later is [`New`](crate::audience::Standing::New) until [`admit`](Self::admit).
    ///
    /// # Errors
    /// [`DeliveryError`] with [`Fate::Retry`](crate::Fate::Retry) if it can't be said now.
    async fn audience(&self, _of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
        Ok(None)
    }
    /// Who is in a conversation, and under which name. The same `Arc` while nobody comes, goes or is called otherwise, so
    /// that it may be asked for with every message; asks nobody outside this machine. `None`: the network does not tell.
    ///
    /// # Errors
    /// [`DeliveryError`] if it can't be said now.
    async fn roll(&self, _of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
        Ok(None)
    }
    /// Whether somebody may be new in a conversation, or gone from it, since its audience was asked for. Answers from
    /// memory, and with true if in doubt.
    fn may_have_moved(&self, _of: &ConversationId) -> bool {
        true
    }
    /// From now on these people read, each as long as their identity is the one that is said here. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`DeliveryError`]: nobody was admitted.
    async fn admit(&self, _to: &ConversationId, _who: &[Admission]) -> Result<(), DeliveryError> {
        Ok(())
    }
    /// Forgets whose identity was pinned: they are new wherever they are. False: nobody is known by that name.
    ///
    /// # Errors
    /// [`DeliveryError`]: nothing was forgotten.
    async fn forget_person(&self, _person: &PersonId) -> Result<bool, DeliveryError> {
        Ok(false)
    }
    /// Writes what a backup needs of the account and the journal does not have, into a file of its own folder. Only for
    /// whoever makes the backup, who erases it. `None`: the journal has all of it.
    ///
    /// # Errors
    /// [`DeliveryError`]: there is no such file.
    async fn export(&self) -> Result<Option<PathBuf>, DeliveryError> {
        Ok(None)
    }
    /// Looks closer than [`health`](Self::health), with requests if need be, and says only what is not in order.
    /// Bounded in time.
    async fn doctor(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// A network with its own end-to-end encryption.
#[async_trait]
pub trait EndToEnd: Transport {
    /// Receives until `stop`, and returns only then or when it can't go on. It never acknowledges to the network what
    /// `inbox` has not accepted. Passing troubles are its own to retry.
    ///
    /// # Errors
    /// [`Fatal`]: a person must act.
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal>;
    /// What is known of a conversation's encryption. Answers from memory: the gate asks it for every message.
    fn encryption(&self, conversation: &ConversationId) -> Encryption;
    /// Encrypts and delivers. Called for one message at a time in each conversation. Bounded in time. Its future may
    /// be dropped at any await.
    ///
    /// # Errors
    /// [`DeliveryError`], whose fate says whether it may be tried again.
    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError>;
}

/// A server that the operator runs: it may read.
#[async_trait]
pub trait OperatorRun: Transport {
    /// As [`EndToEnd::run`].
    ///
    /// # Errors
    /// [`Fatal`]: a person must act.
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal>;
    /// What the gate must know of the server that has a conversation. Answers from memory. One that the operator did not
    /// name is declared by nobody.
    fn facts(&self, of: &ConversationId) -> OperatorRunFacts;
    /// As [`EndToEnd::deliver`].
    ///
    /// # Errors
    /// [`DeliveryError`], whose fate says whether it may be tried again.
    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError>;
}

/// Somebody else's server. No method of it mentions a message that can be read.
#[async_trait]
pub trait Carrier: Transport {
    /// As [`EndToEnd::run`], with an inbox that takes only what is sealed.
    ///
    /// # Errors
    /// [`Fatal`]: a person must act.
    async fn run(&self, inbox: SealedInbox, stop: CancellationToken) -> Result<(), Fatal>;
    /// Carries a parcel. The same bytes at every attempt.
    ///
    /// # Errors
    /// [`DeliveryError`], whose fate says whether it may be tried again.
    async fn carry(&self, parcel: &Sealed, slip: &Slip) -> Result<Receipt, DeliveryError>;
}

/// A transport of any kind. Cheap to clone.
#[derive(Clone)]
pub enum AnyTransport {
    /// Its own end-to-end encryption.
    EndToEnd(Arc<dyn EndToEnd>),
    /// The operator's own server.
    OperatorRun(Arc<dyn OperatorRun>),
    /// Somebody else's server.
    Carrier(Arc<dyn Carrier>),
}

impl AnyTransport {
    /// What every transport has.
    #[must_use]
    pub fn common(&self) -> &dyn Transport {
        match self {
            Self::EndToEnd(t) => t.as_ref(),
            Self::OperatorRun(t) => t.as_ref(),
            Self::Carrier(t) => t.as_ref(),
        }
    }
}

impl std::fmt::Debug for AnyTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::EndToEnd(_) => "EndToEnd",
            Self::OperatorRun(_) => "OperatorRun",
            Self::Carrier(_) => "Carrier",
        };
        write!(f, "{kind}({})", self.common().abilities().network)
    }
}
