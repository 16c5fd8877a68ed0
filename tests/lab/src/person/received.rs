//! What a person received, in the order in which their client saw it.

use serde::Deserialize;
use serde_json::Value;

/// One thing that happened to a person.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Received {
    Message(Message),
    /// Any other event of a room's timeline that is no state: reactions, redactions, edits sent as
    /// events of their own.
    Event(Event),
    Undecryptable(Undecryptable),
    /// Who writes, or who has read what.
    Ephemeral(Ephemeral),
    /// A sender told us that it will not give us a key.
    Withheld(Withheld),
    Invite(Invite),
    Member(Member),
    State(State),
    /// A step of an emoji verification.
    Verification(Verification),
    /// The first sync is done.
    Synced,
    /// The person's sync ended with an error that no retry cures.
    Stopped {
        reason: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    pub room: String,
    pub sender: String,
    pub event_id: String,
    #[serde(default, deserialize_with = "text_or_empty")]
    pub body: String,
    #[serde(default, deserialize_with = "text_or_empty")]
    pub msgtype: String,
    /// The whole content, decrypted.
    pub content: Value,
    pub encrypted: bool,
    /// Sent by a device that its owner cross-signed.
    pub verified: bool,
    /// The same in the words of the person's own library.
    pub trust: Option<String>,
    /// Reported as undecryptable before.
    pub late: bool,
    /// The person's own message.
    pub own: bool,
    pub ts: i64,
    /// On an own message of this device.
    pub transaction_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub room: String,
    pub sender: String,
    pub event_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub content: Value,
    pub encrypted: bool,
    pub verified: bool,
    pub late: bool,
    pub own: bool,
    pub ts: i64,
    /// On a redaction, the event that it takes back.
    pub redacts: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Ephemeral {
    pub room: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub content: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Undecryptable {
    pub room: String,
    pub sender: String,
    pub event_id: String,
    pub session_id: Option<String>,
    /// The code that the sender gave for keeping the key back, if it did.
    pub withheld: Option<String>,
    pub reason: String,
    pub own: bool,
    pub ts: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Withheld {
    pub sender: Option<String>,
    pub room: Option<String>,
    pub session_id: Option<String>,
    /// For example `m.unverified`.
    pub code: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Invite {
    pub room: String,
    pub sender: Option<String>,
    pub reason: Option<String>,
    pub encrypted: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    pub room: String,
    pub user: String,
    pub membership: Option<String>,
    pub sender: String,
    pub event_id: String,
    pub reason: Option<String>,
    pub content: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub struct State {
    pub room: String,
    pub sender: String,
    pub event_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub key: String,
    pub content: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Verification {
    pub flow: String,
    pub user: String,
    /// `requested`, `ready`, `emoji`, `done` or `cancelled`.
    pub step: String,
    pub device: Option<String>,
    /// The seven names, at the step `emoji`.
    #[serde(default)]
    pub emoji: Vec<String>,
    /// The same as numbers in the specification's table.
    #[serde(default)]
    pub indices: Vec<u8>,
    pub room: Option<String>,
    pub reason: Option<String>,
}

/// A sender may put anything there, or nothing.
fn text_or_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}
