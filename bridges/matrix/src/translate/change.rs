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
            let before = before(event, "membership");
            let name = name_of(&user).or_else(|| text("displayname").map(names::own)).or_else(|| name_before(event));
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

/// How somebody was called before this: whoever leaves takes their name with them.
pub(crate) fn name_before(event: &Envelope) -> Option<String> {
    before(event, "displayname").map(names::own).filter(|name| !name.is_empty())
}

fn before<'a>(event: &'a Envelope, key: &str) -> Option<&'a str> {
    event.unsigned.get("prev_content")?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    #[test]
    fn whoever_leaves_or_is_removed_is_told_of_under_the_name_that_they_had() {
        let left = |content: Value, before: Value| {
            let event = json!({
                "event_id": "$e", "sender": "@a:x", "type": "m.room.member", "state_key": "@b:x", "content": content,
                "unsigned": { "prev_content": before },
            });
            let event = Envelope::read(&to_raw_value(&event).expect("it is JSON")).ok().expect("it is an event");
            match state_change(&event, |_| None) {
                Some(Change::Left(who)) => who.name.map(|name| name.as_str().to_owned()),
                other => panic!("{other:?}"),
            }
        };
        let leave = json!({ "membership": "leave" });
        let joined = |name: &str| json!({ "membership": "join", "displayname": name });
        assert_eq!(left(leave.clone(), joined("Ben")).as_deref(), Some("Ben"));
        assert_eq!(left(leave.clone(), joined("Ben (via Ann)\u{202e}")).as_deref(), Some("Ben via Ann)"));
        assert_eq!(left(leave, joined("\u{202e}")), None);
        let ban = json!({ "membership": "ban", "displayname": "Benjamin" });
        assert_eq!(left(ban, joined("Ben")).as_deref(), Some("Benjamin"));
    }
}
