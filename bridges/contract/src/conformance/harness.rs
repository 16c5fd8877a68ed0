//! What a transport's own test provides: accounts to try it with, and a far side that speaks, hears and fails.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Details, MemoryIntake};
use crate::{
    AnyTransport, Clock, ConversationId, DeliveryId, PersonId, RemoteId, Signal, Spool, Trail, inbox::AccountStore,
};

/// Why a case, or a thing that it needs, ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This network has no such thing; says why.
    NotApplicable(String),
    /// The transport, or the harness, does not do what it must.
    Failed(String),
}

impl Stop {
    /// This network has no such thing.
    pub fn cannot(why: impl Into<String>) -> Self {
        Self::NotApplicable(why.into())
    }

    /// The promise is not kept.
    pub fn failed(how: impl Into<String>) -> Self {
        Self::Failed(how.into())
    }
}

/// What a case, or a thing that it needs, comes to.
pub type Told<T = ()> = Result<T, Stop>;

/// A network to try a transport on.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Sets up a new account of ours, an encrypted conversation that it is in, and a peer in the same conversation.
    /// The account's own store is in `intake`. For a carrier, the peer seals and opens with [`MemoryIntake::far`].
    async fn rig(&self, intake: &Arc<MemoryIntake>) -> Told<Rig>;

    /// Why nothing ever comes in from this network, if that is so. Then what needs somebody to speak there counts as not
    /// applicable, for this reason, and whatever goes out is tried all the same.
    fn nothing_comes_in(&self) -> Option<&'static str> {
        None
    }

    /// How long to wait for what must happen.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How many cases are played at once. Where a rig mostly waits for others, such as a mail server, several are as
    /// quick as one.
    fn at_once(&self) -> usize {
        1
    }

    /// How long to watch that something does not happen.
    fn quiet(&self) -> Duration {
        Duration::from_millis(200)
    }
}

/// What one case is played with.
pub struct Rig {
    /// Our account.
    pub account: crate::AccountName,
    /// The conversation that it shares with the peer.
    pub conversation: ConversationId,
    /// Our side.
    pub near: Box<dyn Near>,
    /// The far side.
    pub peer: Box<dyn Peer>,
}

/// Our side of a network.
#[async_trait]
pub trait Near: Send + Sync {
    /// Connects the account: for the first time, or again after a stop or a kill.
    async fn connect(&self, store: AccountStore, spool: Arc<dyn Spool>, clock: Clock) -> Told<AnyTransport>;
}

/// Something that a peer says.
#[derive(Default)]
pub struct Say {
    /// In which way.
    pub how: How,
    /// The words.
    pub words: String,
    /// The same, formatted.
    pub html: Option<String>,
    /// In answer to this.
    pub reply_to: Option<RemoteId>,
    /// With these marks.
    pub trail: Trail,
    /// Whatever else there is.
    pub details: Details,
}

/// The ways to say something. A peer says with [`Stop::cannot`] which of them its network has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// Ordinary words.
    #[default]
    Text,
    /// "/me waves".
    Emote,
    /// A machine's words.
    Notice,
    /// New words for an earlier message.
    Edit,
    /// An earlier message is taken back.
    Redaction,
    /// Emoji on an earlier message.
    Reaction,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Music or another recording.
    Audio,
    /// A voice message.
    Voice,
    /// A file to be kept.
    File,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// A question.
    Poll,
}

/// Something that a peer heard.
pub struct Overheard {
    /// What the network calls it.
    pub id: RemoteId,
    /// Which delivery it is, if the peer can see that.
    pub delivery: Option<DeliveryId>,
    /// Under which name it appears, if the network has such a thing; otherwise the name is in the words.
    pub author: Option<String>,
    /// What is read.
    pub words: String,
    /// The same, formatted.
    pub html: Option<String>,
    /// In which way it is said.
    pub how: How,
    /// What it answers.
    pub reply_to: Option<RemoteId>,
    /// Which bridges carried it.
    pub trail: Trail,
    /// Whatever else there is.
    pub details: Details,
}

/// How the network is to fail the next delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It refuses it for good.
    Refuse,
    /// It says: not before this long.
    Throttle(Duration),
    /// It takes it, and its answer is lost.
    LoseAnswer,
}

/// The far side. What it can't do it says, with the reason, as [`Stop::NotApplicable`]; nothing is assumed.
#[async_trait]
pub trait Peer: Send + Sync {
    /// As our account sees the peer.
    fn id(&self) -> PersonId;
    /// What the peer calls itself; `None` if the network has no names.
    fn name(&self) -> Option<String>;
    /// Whether our own deliveries come back to our account.
    fn echoes(&self) -> Told;
    /// Says something, and gives the name by which our account will know it.
    async fn say(&self, say: Say) -> Told<RemoteId>;
    /// Everything that was heard so far, oldest first.
    async fn heard(&self) -> Told<Vec<Overheard>>;
    /// From now on has this picture, a PNG.
    async fn has_picture(&self, _picture: Vec<u8>) -> Told {
        Err(Stop::cannot("people have no pictures there"))
    }
    /// Does something just now, as its own program would tell the others; who does it is left out.
    async fn does(&self, _signal: Signal) -> Told {
        Err(Stop::cannot("nobody is told there what somebody does just now"))
    }
    /// What it was told that others do just now.
    async fn told(&self) -> Told<Vec<Signal>> {
        Err(Stop::cannot("nobody is told there what somebody does just now"))
    }
    /// Says words in clear, into the encrypted conversation.
    async fn say_in_clear(&self, words: &str) -> Told<RemoteId>;
    /// Says words whose key is held back until [`Peer::share_key`].
    async fn say_without_key(&self, words: &str) -> Told<RemoteId>;
    /// Shares the key that was held back.
    async fn share_key(&self) -> Told;
    /// The same ciphertext once more, under another name.
    async fn replay(&self, id: &RemoteId) -> Told<RemoteId>;
    /// From now on an answer to our account has at most this many messages, and leaves a gap before them.
    async fn limit_answers(&self, most: usize) -> Told;
    /// The conversation stops to be encrypted.
    async fn stop_encrypting(&self) -> Told;
    /// Another conversation with our account in it, which never was encrypted.
    async fn unencrypted_conversation(&self) -> Told<ConversationId>;
    /// The network can't be reached.
    async fn go_away(&self) -> Told;
    /// It can again.
    async fn come_back(&self) -> Told;
    /// The next delivery fails.
    async fn fail_next(&self, failure: Failure) -> Told;
    /// Everything that somebody else's servers keep, as they keep it.
    async fn stored(&self) -> Told<Vec<Vec<u8>>>;
    /// The parcels that a carrier brought, as they arrived, oldest first.
    async fn parcels(&self) -> Told<Vec<Vec<u8>>>;
    /// Puts bytes of somebody else into a carrier's conversation.
    async fn inject(&self, bytes: Vec<u8>) -> Told<RemoteId>;
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("account", &self.account).finish_non_exhaustive()
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Say").field("how", &self.how).finish_non_exhaustive()
    }
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overheard").field("id", &self.id).finish_non_exhaustive()
    }
}
