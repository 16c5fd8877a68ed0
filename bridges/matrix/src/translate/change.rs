//! State events → what changed.

use std::time::Duration;

use ruma::UserId;
use sealbridge_contract::{Author, PersonId, Text, message::Change, names};
use serde_json::Value;

use crate::event::Envelope;

/// What a state event changes about the room, in the eyes of the people in it.
pub(crate) fn state_change(event: &Envelope, name_of: impl Fn(&UserId) -> Option<String>) -> Option<Change> {
    let text = |key: &str| event.content.get(key).and_then(Value::as_str);
    match (event.kind.as_str(), event.state_key.as_deref()?) {
        ("m.room.member", user) => {
            let user = UserId::parse(user).ok()?;
            let before = event.unsigned.get("prev_content");
            let before = before.and_then(|content| content.get("membership")).and_then(Value::as_str);
            let name = name_of(&user).or_else(|| text("displayname").map(names::own));
            let who = Author { id: PersonId::new(user.as_str()), name: name.map(Text::new) };
            match (before, text("membership")?) {
                (before, "join") if before != Some("join") => Some(Change::Joined(who)),
                (Some("join"), "leave" | "ban") => Some(Change::Left(who)),
                _ => None,
            }
        }
        ("m.room.name", "") => text("name").map(|name| Change::Renamed(Text::new(name))),
        ("m.room.avatar", "") => Some(Change::Picture),
        ("m.room.retention", "") => {
            let after = event.content.get("max_lifetime").and_then(Value::as_u64);
            Some(Change::Timer(after.map(Duration::from_millis)))
        }
        _ => None,
    }
}
