//! What somebody said to the bridge itself: taken in with the batch that brought it, answered once.

use sealbridge_contract::{Address, PersonId, RemoteId, SecretBytes, Text, Timestamp};
use serde::{Deserialize, Serialize};

/// Something that was said to the bridge itself and is not answered yet.
#[derive(Debug)]
pub struct Command {
    /// Its number in the journal.
    pub number: i64,
    /// Where it was said, and where it is answered.
    pub at: Address,
    /// What the network calls it.
    pub id: RemoteId,
    /// What was said.
    pub said: Said,
    /// When it was taken in.
    pub since: Timestamp,
    /// Somebody began to do it, and nobody knows how far that went: the process died.
    pub begun: bool,
}

/// What was said, and all that was known of it in the moment when it came in.
#[derive(Debug)]
pub struct Said {
    /// The words after the one that calls the bridge. Empty if there is a doubt.
    pub words: Text,
    /// By whom.
    pub by: PersonId,
    /// The key of the identity that proves them, if the network has one beside their id.
    pub identity: Option<String>,
    /// In reply to what.
    pub reply_to: Option<RemoteId>,
    /// Why nothing is done for it, whoever said it.
    pub doubt: Option<Doubt>,
}

/// Why nothing is done for what was said to the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Its encryption does not prove who wrote it.
    #[error("nobody can tell for certain who wrote it: say it from a device that its owner has signed")]
    NotProven,
    /// Another bridge carried it, or it is shown as somebody else's.
    #[error("it was carried here for somebody else")]
    Relayed,
    /// It was read backwards.
    #[error("it came out of the history: say it again")]
    History,
    /// It is older than a few minutes, or its key came late.
    #[error("it came late: say it again")]
    Late,
    /// It is more than one short line.
    #[error("it is more than one short line")]
    NotOneLine,
}

/// The form in which it is locked.
#[derive(Serialize, Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    words: std::borrow::Cow<'a, str>,
    by: PersonId,
    identity: Option<String>,
    reply_to: Option<RemoteId>,
    doubt: Option<Doubt>,
}

impl Said {
    /// As bytes that are to be locked.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        let Self { words, by, identity, reply_to, doubt } = self;
        let (by, identity, reply_to) = (by.clone(), identity.clone(), reply_to.clone());
        let form = Form { words: words.as_str().into(), by, identity, reply_to, doubt: *doubt };
        SecretBytes::new(serde_json::to_vec(&form).expect("it has texts alone"))
    }

    /// From such bytes; `None` if they are not of this form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Form { words, by, identity, reply_to, doubt } = serde_json::from_slice(bytes).ok()?;
        Some(Self { words: Text::new(words), by, identity, reply_to, doubt })
    }
}
