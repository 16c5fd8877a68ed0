//! Reads what a homeserver sends without believing any of it: one strange event is one strange event.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};
use sealbridge_contract::Timestamp;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The clear part of an event.
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) sender: OwnedUserId,
    pub(crate) kind: String,
    pub(crate) sent_at: Timestamp,
    pub(crate) content: Value,
    pub(crate) state_key: Option<String>,
    pub(crate) unsigned: Value,
    /// What a redaction takes back: in newer rooms its content says so.
    pub(crate) redacts: Option<String>,
}

/// Why an event can't be taken for one.
pub(crate) struct Malformed {
    /// Its id, if it has one.
    pub(crate) id: Option<String>,
    /// Its sender, if it has one.
    pub(crate) sender: Option<String>,
}

#[derive(Deserialize)]
struct Loose {
    event_id: Option<Value>,
    sender: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<Value>,
    origin_server_ts: Option<Value>,
    #[serde(default)]
    content: Value,
    state_key: Option<Value>,
    #[serde(default)]
    unsigned: Value,
    redacts: Option<Value>,
}

impl Envelope {
    /// Reads a timeline event.
    pub(crate) fn read(raw: &RawValue) -> Result<Self, Malformed> {
        let loose: Loose = serde_json::from_str(raw.get()).map_err(|_| Malformed { id: None, sender: None })?;
        let id = text(loose.event_id).filter(|id| id.len() <= 255 && !id.is_empty());
        let sender = text(loose.sender);
        let parsed = sender.as_deref().and_then(|sender| UserId::parse(sender).ok());
        let (Some(known), Some(user), Some(kind)) = (id.clone(), parsed, text(loose.kind.clone())) else {
            return Err(Malformed { id, sender });
        };
        let state_key = match loose.state_key {
            None => None,
            Some(Value::String(key)) => Some(key),
            Some(_) => return Err(Malformed { id, sender }),
        };
        let sent_at = Timestamp(loose.origin_server_ts.as_ref().and_then(Value::as_i64).unwrap_or(0).max(0));
        let Loose { content, unsigned, redacts, .. } = loose;
        let redacts = text(redacts).or_else(|| content.get("redacts")?.as_str().map(str::to_owned));
        let redacts = redacts.filter(|id| id.len() <= 255);
        Ok(Self { id: known, sender: user, kind, sent_at, content, state_key, unsigned, redacts })
    }

    /// A text in the content.
    pub(crate) fn content_text(&self, key: &str) -> Option<&str> {
        self.content.get(key).and_then(Value::as_str)
    }

    /// Whether it says that `user` joined, having not been in the room before. A new profile looks the same but for
    /// what was before; when the server does not say that, it is taken for a join only if `else_join`.
    pub(crate) fn is_join_of(&self, user: &UserId, else_join: bool) -> bool {
        let before = self.unsigned.get("prev_content").and_then(|content| content.get("membership"));
        self.kind == "m.room.member"
            && self.state_key.as_deref() == Some(user.as_str())
            && self.content_text("membership") == Some("join")
            && before.and_then(Value::as_str).map_or(else_join, |before| before != "join")
    }

    /// Whether it is a step of comparing identities, which travels in clear as well as encrypted.
    pub(crate) fn is_verification(&self) -> bool {
        is_verification(&self.kind, &self.content)
    }

    /// The transaction id, which the server tells only to the device that sent the event.
    pub(crate) fn transaction(&self) -> Option<&str> {
        self.unsigned.get("transaction_id").and_then(Value::as_str)
    }
}

/// Whether an event of this kind is a step of comparing identities.
pub(crate) fn is_verification(kind: &str, content: &Value) -> bool {
    kind.starts_with("m.key.verification.")
        || (kind == "m.room.message"
            && content.get("msgtype").and_then(Value::as_str) == Some("m.key.verification.request"))
}

/// A server's time as ours.
pub(crate) fn timestamp(at: MilliSecondsSinceUnixEpoch) -> Timestamp {
    Timestamp(i64::from(at.get()))
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Envelope, Malformed> {
        Envelope::read(&RawValue::from_string(json.to_owned()).expect("it is JSON"))
    }

    #[test]
    fn strange_event_is_named_and_never_a_crash() {
        for (json, id) in [
            ("[]", None),
            ("null", None),
            (r#"{"event_id": 5}"#, None),
            (r#"{"event_id": "$a", "sender": "nobody", "type": "m.room.message"}"#, Some("$a")),
            (r#"{"event_id": "$a", "sender": "@a:x", "type": {}}"#, Some("$a")),
            (r#"{"event_id": "$a", "sender": "@a:x", "type": "t", "state_key": 7}"#, Some("$a")),
        ] {
            let malformed = read(json).err().expect("it is not an event");
            assert_eq!(malformed.id.as_deref(), id, "{json}");
        }
        let odd = r#"{"event_id": "$a", "sender": "@a:x", "type": "t", "origin_server_ts": -1e300, "content": 5}"#;
        assert_eq!(read(odd).ok().map(|event| event.sent_at), Some(Timestamp(0)));
    }

    #[test]
    fn new_profile_is_not_a_join() {
        let me = UserId::parse("@me:x").expect("it is a user id");
        let join = r#"{"event_id":"$a","sender":"@me:x","type":"m.room.member","state_key":"@me:x","content":{"membership":"join"}"#;
        let first = read(&format!("{join}}}")).ok().expect("it is an event");
        assert!(first.is_join_of(&me, true));
        assert!(!first.is_join_of(&me, false));
        let again = format!(r#"{join},"unsigned":{{"prev_content":{{"membership":"join"}}}}}}"#);
        assert!(!read(&again).ok().expect("it is an event").is_join_of(&me, true));
    }
}
