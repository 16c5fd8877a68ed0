//! What may stand in an address: the guard's rules for paths and queries, and for the ids in them.
//!
//! An id is opaque, so a mistake could put words into one. Its form leaves them little room; what has the form passes.

use http::Uri;
use serde_json::Value;

use super::{
    home::{self, Home},
    rules::Judged,
    stop::Stop,
};

/// The longest id, in bytes (Matrix specification, "Appendices").
const LONGEST: usize = 255;
/// The longest value of a query: a homeserver's tokens have a length that it chooses.
const LONGEST_VALUE: usize = 4096;
/// What is asked for by a query, and by none of it in words.
const KEYS: [&str; 24] = [
    "since",
    "timeout",
    "set_presence",
    "full_state",
    "use_state_after",
    "org.matrix.msc4222.use_state_after",
    "from",
    "to",
    "dir",
    "limit",
    "at",
    "membership",
    "not_membership",
    "version",
    "server_name",
    "via",
    "allow_redirect",
    "allow_remote",
    "timeout_ms",
    "width",
    "height",
    "method",
    "format",
    "animated",
];

/// Judges an address that is read.
pub(super) fn read(home: &Home, uri: &Uri) -> Judged {
    let asked = home.asked(uri)?;
    if asked == "/.well-known/matrix/client" && uri.query().is_none() {
        return Ok(());
    }
    let parts = home::parts(asked)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let known = match parts.as_slice() {
        ["client", "versions"]
        | ["client", _, "sync" | "capabilities" | "login" | "joined_rooms" | "devices"]
        | ["client", _, "account", "whoami"]
        | ["client", _, "room_keys", "version"]
        | ["client", _, "media", "config"]
        | ["client", _, "org.matrix.msc3916", "media", "config"] => true,
        ["client", _, "devices", device] => is_name(device),
        ["client", _, "user", user, "account_data", kind] => home.is_ours(user) && is_name(kind),
        ["client", _, "directory", "room", alias] => is_name(alias),
        ["client", _, "rooms", room, "members" | "joined_members" | "messages" | "state"] => is_name(room),
        ["client", _, "rooms", room, "event" | "context", event] => is_name(room) && is_event(event),
        ["client", _, "rooms", room, "state", kind] => is_name(room) && is_name(kind),
        ["client", _, "rooms", room, "state", kind, key] => {
            is_name(room) && is_name(kind) && (key.is_empty() || is_name(key))
        }
        ["client", _, "room_keys", "keys", ids @ ..] => ids.iter().all(|id| is_name(id)),
        ["client", _, "media", "download" | "thumbnail", ids @ ..]
        | ["media", _, "download" | "thumbnail", ids @ ..] => ids.iter().all(|id| is_name(id)),
        _ => false,
    };
    if known && is_query(uri.query()) { Ok(()) } else { Err(Stop::UnknownRequest) }
}

fn is_query(query: Option<&str>) -> bool {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.into_iter().all(|(key, value)| match &*key {
        "filter" => serde_json::from_str(&value).is_ok_and(|filter| is_filter(&filter)),
        key => KEYS.contains(&key) && value.len() <= LONGEST_VALUE && value.bytes().all(|byte| byte.is_ascii_graphic()),
    })
}

/// A filter names types of events, rooms and people, and nothing in words.
fn is_filter(filter: &Value) -> bool {
    match filter {
        Value::String(text) => text == "*" || is_name(text),
        Value::Array(all) => all.iter().all(is_filter),
        Value::Object(all) => all.iter().all(|(key, value)| is_name(key) && is_filter(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// The id of an event.
pub(crate) fn is_event(id: &str) -> bool {
    id.len() > 1 && id.starts_with('$') && is_name(id)
}

/// A name that a machine gave: an id, a type, a token.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(is_of_ids)
}

fn is_of_ids(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$@:._=-/+~|*[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(address: &str) -> Judged {
        let home = Home::new(&"https://example.org".parse().expect("an address"));
        home.is_of(ruma::user_id!("@a:x"));
        read(&home, &format!("https://example.org{address}").parse().expect("an address"))
    }

    #[test]
    fn nothing_is_read_by_an_address_that_says_something() {
        let event = format!("%24{}", "a".repeat(43));
        let well = [
            "/.well-known/matrix/client".to_owned(),
            "/_matrix/client/versions".to_owned(),
            "/_matrix/client/v3/sync?since=s1_2_3&timeout=30000&set_presence=offline&filter=%7B%22room%22%3A%7B%22state%22%3A%7B%22types%22%3A%5B%22m.room.member%22%5D%7D%7D%7D".to_owned(),
            "/_matrix/client/v3/rooms/%21r%3Ax/state/m.room.encryption/".to_owned(),
            "/_matrix/client/r0/user/%40a%3Ax/account_data/m.direct".to_owned(),
            "/_matrix/client/v3/rooms/%21r/state/m.room.create/?format=event".to_owned(),
            "/_matrix/client/v3/rooms/%21r%3Ax/messages?dir=b&from=t1-2_3&limit=50".to_owned(),
            format!("/_matrix/client/v3/rooms/%21r%3Ax/event/{event}"),
            // A homeserver may be named by its address.
            "/_matrix/client/v3/rooms/%21r%3A%5B2001%3Adb8%3A%3A1%5D%3A8448/members".to_owned(),
            "/_matrix/client/v1/media/download/example.org/AbC?timeout_ms=20000&allow_redirect=false".to_owned(),
            "/_matrix/client/v3/room_keys/keys/%21r%3Ax/c2Vzc2lvbg?version=7".to_owned(),
        ];
        for address in &well {
            assert_eq!(judged(address), Ok(()), "{address}");
        }
        for address in [
            "/collect",
            "/_matrix/client/v3/canary",
            "/_matrix/media/v3/preview_url?url=https%3A%2F%2Fcanary.test",
            "/_matrix/client/v3/rooms/%21r%3Ax/event/canary%20words",
            "/_matrix/client/v3/rooms/%21r%3Ax/event/%24canary%20words",
            "/_matrix/client/v3/rooms/%21r%3Ax/event/canary",
            "/_matrix/client/v3/rooms/%21r%3Ax/event/%24",
            "/_matrix/client/v3/rooms/the%20words/members",
            "/_matrix/client/v3/sync?since=the%20words",
            "/_matrix/client/v3/sync?canary=1",
            "/_matrix/client/v3/sync?filter=the%20words",
            "/_matrix/client/v3/sync?filter=%7B%22the%20words%22%3A1%7D",
            "/_matrix/client/v3/user/%40a%3Ax/account_data/the%20words",
            "/_matrix/client/v3/user/%40b%3Ax/account_data/m.direct",
            "/the%20words/.well-known/matrix/client",
            "/the%20words/_matrix/client/versions",
            "/_matrix/client/the%20words/joined_rooms",
            "/_matrix/client/unstable/joined_rooms",
            "/_matrix/client/v1/media/download/example.org/the%20words",
        ] {
            assert_eq!(judged(address), Err(Stop::UnknownRequest), "{address}");
        }
    }
}
