//! Who can read a conversation, how we know who they are, and who of them everybody was told of.

mod book;

use serde::{Deserialize, Serialize};

pub use self::book::Book;
use crate::{Author, PersonId, Timestamp};

/// The public key that stands for a person, as their network writes it: a Matrix master key in unpadded base64, an
/// OpenPGP fingerprint. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// Wraps what the network writes.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// What the network writes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How we know that an identity is a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// People compared it.
    Verified,
    /// It came through an invitation that they followed: SecureJoin.
    SecureJoin,
    /// Their devices are signed by it. That it is theirs is their server's word.
    CrossSigned,
    /// It came with a message, and nothing else vouches for it.
    FirstSeen,
    /// They have none.
    Unknown,
    /// Whoever has its other half reads, by the operator's word: the config names it.
    Named,
    /// A server of the operator's own, by their word, to which nothing is encrypted.
    ReadsInClear,
}

impl Proof {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Verified => "verified by comparison",
            Self::SecureJoin => "verified through an invitation",
            Self::CrossSigned => "cross-signed, not verified",
            Self::FirstSeen => "first seen, not verified",
            Self::Unknown => "no identity",
            Self::Named => "a key that the config names",
            Self::ReadsInClear => "in clear, as a server that the operator runs",
        }
    }
}

/// What somebody gets of what the bridge says in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// All of it.
    Reads,
    /// They came after the conversation was bridged, or have an identity now and had none before: nothing, until they
    /// are admitted.
    New,
    /// Their identity is another than the one that was pinned: nothing, and neither does anybody else, until somebody
    /// has looked.
    Changed,
    /// They are only invited: nothing.
    Invited,
    /// They have no identity that anything could be encrypted for.
    NoIdentity,
}

/// One device or key of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What the network calls it.
    pub id: String,
    /// Its public key, as the network writes it.
    pub key: Option<String>,
    /// Why it gets no keys; `None` if it does.
    pub withheld: Option<String>,
}

/// Somebody who is in a conversation, or invited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub person: PersonId,
    /// What they call themselves.
    pub name: Option<String>,
    /// Their identity now.
    pub identity: Option<Identity>,
    /// The identity that was pinned, if it is another.
    pub pinned: Option<Identity>,
    /// Their identity is the one that was pinned, or nothing was pinned of them.
    #[serde(skip)]
    pub as_pinned: bool,
    /// How we know that it is theirs.
    pub proof: Proof,
    /// When it was pinned.
    pub since: Option<Timestamp>,
    /// What they get.
    pub standing: Standing,
    /// Their devices, as far as the network tells.
    pub devices: Vec<Device>,
}

/// Everybody who can read a conversation, or could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audience {
    /// Everybody but us.
    pub members: Vec<Member>,
    /// Which readership of the conversation it is: higher each time that somebody is admitted.
    pub turn: u64,
    /// The network lets us choose who of a conversation gets a message. If not, all of it waits while somebody is new.
    pub chooses: bool,
    /// Anybody who finds the conversation can see who writes there and when, though not what.
    pub open: bool,
}

impl Audience {
    /// Those who stand so.
    pub fn standing(&self, standing: Standing) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.standing == standing)
    }
}

/// Who is in a conversation, ourselves included, and as what each of them appears there: who is carried to it must not be
/// taken for one of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roll(pub Vec<Author>);

/// Somebody as they were when it was decided that they may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Who.
    pub person: PersonId,
    /// Their identity then.
    pub identity: Option<Identity>,
}

impl Admission {
    /// Lets somebody in at whom nobody looked. That no identity is shown at this moment takes none away: whoever hides it
    /// could show another next. They read once the pinned one is shown.
    #[must_use]
    pub fn unseen(member: &Member) -> Self {
        Self { person: member.person.clone(), identity: member.identity.clone().or_else(|| member.pinned.clone()) }
    }
}

impl From<&Member> for Admission {
    fn from(member: &Member) -> Self {
        Self { person: member.person.clone(), identity: member.identity.clone() }
    }
}
