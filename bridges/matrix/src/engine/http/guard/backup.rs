//! What lies in the key backup at the homeserver: keys encrypted for the backup's own key, and numbers.

use ruma::RoomId;
use serde_json::{Map, Value};

use super::{
    keys,
    rules::{Judged, is_base64, only},
    stop::Stop,
};

/// A new backup: its public key, and who vouches for it.
pub(super) fn new(body: &Map<String, Value>) -> Judged {
    only(body, &["algorithm", "auth_data"], Stop::ClearSecret)?;
    if !body.values().all(keys::terse) {
        return Err(Stop::ClearSecret);
    }
    match body.get("auth_data").and_then(Value::as_object) {
        Some(data) => only(data, &["public_key", "signatures"], Stop::ClearSecret),
        None => Err(Stop::Body),
    }
}

/// Room keys, each encrypted for the backup's key (`m.megolm_backup.v1.curve25519-aes-sha2`).
pub(super) fn keys(body: &Map<String, Value>) -> Judged {
    only(body, &["rooms"], Stop::ClearSecret)?;
    let rooms = body.get("rooms").and_then(Value::as_object).ok_or(Stop::Body)?;
    for (id, room) in rooms {
        // Whoever gave us a key chose what room it is of, and must not keep the others from being backed up.
        RoomId::parse(id).map_err(|_| Stop::ClearSecret)?;
        let room = room.as_object().ok_or(Stop::Body)?;
        only(room, &["sessions"], Stop::ClearSecret)?;
        let sessions = room.get("sessions").and_then(Value::as_object).ok_or(Stop::Body)?;
        if !sessions.iter().all(|(id, session)| is_base64(Some(&Value::from(id.as_str()))) && is_sealed(session)) {
            return Err(Stop::ClearSecret);
        }
    }
    Ok(())
}

/// What the protocol has of a key, and nothing beside it.
fn is_sealed(session: &Value) -> bool {
    let Some(fields) = session.as_object() else { return false };
    let is_fine = |(key, value): (&String, &Value)| match key.as_str() {
        "first_message_index" | "forwarded_count" => value.is_u64(),
        "is_verified" => value.is_boolean(),
        "session_data" => true,
        _ => false,
    };
    let sealed = fields.get("session_data").and_then(Value::as_object);
    let parts = ["ephemeral", "ciphertext", "mac"];
    let is_ciphertext = |sealed: &Map<String, Value>| {
        sealed.len() == parts.len() && parts.iter().all(|part| is_base64(sealed.get(*part)))
    };
    fields.iter().all(is_fine) && sealed.is_some_and(is_ciphertext)
}
