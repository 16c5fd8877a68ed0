//! What is said about keys and logins: made by machines, for machines. Words have no place in it.

use ruma::UserId;
use serde_json::{Map, Value};

use super::{
    rules::{Judged, only},
    stop::Stop,
};
use crate::engine::session::DEVICE_NAME;

/// The longest text of a machine's: a token that another login gave.
const LONGEST: usize = 4_096;
/// The longest name of a device or key.
const LONGEST_NAME: usize = 1_024;

/// Keys that are offered, asked for, taken and vouched for (client-server API, "End-to-End Encryption").
pub(super) fn keys(what: &[&str], body: &Map<String, Value>) -> Judged {
    let fields: &[&str] = match what {
        ["upload"] => &["device_keys", "one_time_keys", "fallback_keys", "org.matrix.msc2732.fallback_keys"],
        ["query"] => &["device_keys", "timeout", "token"],
        ["claim"] => {
            only(body, &["one_time_keys", "timeout"], Stop::Body)?;
            return claimed(body);
        }
        ["device_signing", "upload"] => &["master_key", "self_signing_key", "user_signing_key", "auth"],
        // By whose keys are vouched for.
        ["signatures", "upload"] if body.keys().all(|user| user.starts_with('@')) => return vouched(body),
        _ => return Err(Stop::UnknownRequest),
    };
    only(body, fields, Stop::Body)?;
    let (auth, rest): (Vec<_>, Vec<_>) = body.iter().partition(|(key, _)| *key == "auth");
    passes(rest.iter().all(|(key, value)| is_terse(key) && terse(value)))?;
    auth.into_iter().try_for_each(|(_, auth)| proof(auth))
}

/// Whose device what key is wanted of. What they are called was said by their homeservers, whatever and however long it is,
/// and must not keep others' keys from being taken.
fn claimed(body: &Map<String, Value>) -> Judged {
    let empty = Map::new();
    let users = body.get("one_time_keys").and_then(Value::as_object).unwrap_or(&empty);
    let devices = users.values().map(Value::as_object).collect::<Option<Vec<_>>>().ok_or(Stop::Body)?;
    let is_fine = |(_, key): (&String, &Value)| terse(key);
    let users_are_fine = users.keys().all(|user| is_terse(user));
    let timeout_is_fine = body.get("timeout").is_none_or(Value::is_number);
    passes(users_are_fine && timeout_is_fine && devices.into_iter().flatten().all(is_fine))
}

/// Keys with our signature, as the homeserver gave them: what it added to them goes back to it as it came.
fn vouched(body: &Map<String, Value>) -> Judged {
    let is_fine = |key: &Value| match key.as_object() {
        Some(key) => key.iter().all(|(field, value)| {
            is_terse(field) && (terse(value) || matches!(field.as_str(), "unsigned" | "device_id"))
        }),
        None => false,
    };
    let keys = body.values().map(Value::as_object).collect::<Option<Vec<_>>>().ok_or(Stop::Body)?;
    let all = keys.iter().all(|of| of.iter().all(|(id, key)| id.len() <= LONGEST_NAME && is_fine(key)));
    passes(body.keys().all(|user| is_terse(user)) && all)
}

/// Logging in and out (client-server API, "Login").
pub(super) fn login(what: &str, body: &Map<String, Value>) -> Judged {
    match what {
        "login" => {
            let fields = [
                "type",
                "identifier",
                "password",
                "token",
                "device_id",
                "initial_device_display_name",
                "refresh_token",
            ];
            only(body, &fields, Stop::Body)?;
            let is_fine = |(key, value): (&String, &Value)| match key.as_str() {
                // Whatever the operator made it of.
                "password" => value.is_string(),
                "initial_device_display_name" => value == DEVICE_NAME,
                _ => terse(value),
            };
            passes(body.iter().all(is_fine))
        }
        "delete_devices" => {
            only(body, &["devices", "auth"], Stop::Body)?;
            passes(body.get("devices").is_none_or(terse))?;
            body.get("auth").map_or(Ok(()), proof)
        }
        "refresh" => only(body, &["refresh_token"], Stop::Body).and_then(|()| terse_all(body)),
        _ => only(body, &[], Stop::Body),
    }
}

/// With what the operator proves who they are (client-server API, "User-Interactive Authentication API").
fn proof(auth: &Value) -> Judged {
    let auth = auth.as_object().ok_or(Stop::Body)?;
    only(auth, &["type", "session", "identifier", "user", "password"], Stop::Body)?;
    let is_fine = |(key, value): (&String, &Value)| if key == "password" { value.is_string() } else { terse(value) };
    passes(auth.iter().all(is_fine))
}

/// Why there is no key: a code, and what the library says of that code.
pub(super) fn withheld(content: &Value) -> bool {
    const SAID: [&str; 7] =
        ["algorithm", "code", "room_id", "session_id", "sender_key", "from_device", "org.matrix.msgid"];
    const REASONS: [&str; 6] = [
        "The sender has blocked you.",
        "The sender has disabled encrypting to unverified devices.",
        "You are not authorised to read the message.",
        "The requested key was not found.",
        "Unable to establish a secure channel.",
        "The sender disabled sharing encrypted history.",
    ];
    let Some(content) = content.as_object() else { return false };
    let is_fine = |(key, value): (&String, &Value)| match key.as_str() {
        "reason" => value.as_str().is_some_and(|reason| REASONS.contains(&reason)),
        key => SAID.contains(&key) && value.is_string() && terse(value),
    };
    let is_code = |code: &Value| code.as_str().is_some_and(|code| code.starts_with("m."));
    content.get("code").is_some_and(is_code) && content.iter().all(is_fine)
}

fn passes(is_fine: bool) -> Judged {
    if is_fine { Ok(()) } else { Err(Stop::Body) }
}

fn terse_all(body: &Map<String, Value>) -> Judged {
    passes(body.iter().all(|(key, value)| is_terse(key) && terse(value)))
}

/// No text in it has a gap.
pub(super) fn terse(value: &Value) -> bool {
    match value {
        Value::String(text) => is_terse(text),
        Value::Array(values) => values.iter().all(terse),
        Value::Object(values) => values.iter().all(|(key, value)| is_terse(key) && terse(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

pub(super) fn is_terse(text: &str) -> bool {
    // Users of former days may be called anything, and one of them must not keep everybody else's keys from being asked
    // for.
    let is_user = || text.starts_with('@') && UserId::parse(text).is_ok();
    text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic()) || is_user()
}
