//! One event of a room's timeline → what it is to us.

use ruma::{OwnedUserId, RoomId, UserId};
use sealbridge_contract::{DeliveryId, PersonId, RemoteId, SenderTrust, Timestamp, inbox::Incoming};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};
use tracing::{debug, warn};

use crate::{
    core::Core,
    engine::{DecryptError, Decrypted, Distrust, EngineError, Position, SenderProof},
    event::{Envelope, is_verification, timestamp},
    translate,
};

/// What an event is to us.
pub(crate) enum Read {
    Message(Box<Incoming>),
    /// A delivery of ours that came back.
    Echo {
        id: RemoteId,
        delivery: DeliveryId,
    },
    Unreadable(Waits),
    /// It will never be read or carried.
    Refused {
        id: RemoteId,
        sender: PersonId,
        reason: String,
    },
    /// Words in clear, where only ciphertext belongs.
    Plaintext {
        id: RemoteId,
        sender: OwnedUserId,
    },
    /// A step of comparing identities, in clear.
    Verification(Box<RawValue>),
    /// Nothing that crosses: state, our own words.
    Nothing,
}

/// An event that can't be read yet.
pub(crate) struct Waits {
    pub(crate) id: RemoteId,
    pub(crate) sender: OwnedUserId,
    /// The session it waits for.
    pub(crate) hint: String,
    pub(crate) reason: String,
    pub(crate) holds_sender: bool,
    /// It waits for the sender's trust, not for a key.
    pub(crate) distrusted: Option<Distrust>,
}

/// Reads one event. `name_of` tells what a person calls themselves in the room.
///
/// An error is a failure of ours: the event was not judged and must be read again.
pub(crate) async fn read(
    core: &Core,
    room: &RoomId,
    name_of: impl Fn(&UserId) -> Option<String>,
    raw: &RawValue,
) -> Result<Read, EngineError> {
    let event = match Envelope::read(raw) {
        Ok(event) => event,
        Err(malformed) => {
            warn!("An event is malformed.");
            let Some(id) = malformed.id else { return Ok(Read::Nothing) };
            let (id, sender) = (RemoteId::new(id), PersonId::new(malformed.sender.unwrap_or_default()));
            return Ok(Read::Refused { id, sender, reason: "the event is malformed".into() });
        }
    };
    if event.sender == core.me() {
        return Ok(own(core, room, &event, raw).await);
    }
    if event.state_key.is_some() {
        return Ok(Read::Nothing);
    }
    if event.is_verification() {
        return Ok(Read::Verification(raw.to_owned()));
    }
    let id = RemoteId::new(event.id.as_str());
    if event.kind != "m.room.encrypted" {
        let says_something =
            matches!(event.kind.as_str(), "m.room.message" | "m.sticker") || event.kind.contains("poll.start");
        let redacted = event.content.as_object().is_none_or(serde_json::Map::is_empty);
        return Ok(match says_something && !redacted {
            true => Read::Plaintext { id, sender: event.sender },
            false => Read::Nothing,
        });
    }
    if event.content.as_object().is_some_and(serde_json::Map::is_empty) {
        // It was redacted before we saw it.
        return Ok(Read::Nothing);
    }
    let Some(engine) = core.engine() else { return Err(EngineError::Olm("not open yet")) };
    match engine.decrypt(room, raw, core.sender_trust()).await {
        Ok(decrypted) => Ok(decrypted_event(room, name_of, &event, &decrypted)),
        Err(error) => unread(core, event, error),
    }
}

/// What we sent ourselves: an echo of a delivery, or nothing.
async fn own(core: &Core, room: &RoomId, event: &Envelope, raw: &RawValue) -> Read {
    let id = RemoteId::new(event.id.as_str());
    if let Some(delivery) = event.transaction().and_then(|txn| DeliveryId::parse(txn).ok()) {
        return Read::Echo { id, delivery };
    }
    if event.is_verification() {
        return Read::Nothing;
    }
    match own_delivery(core, room, event, raw).await {
        Some(Some(delivery)) => Read::Echo { id, delivery },
        _ => Read::Nothing,
    }
}

/// Which delivery an event of ours is, by the id inside its ciphertext. `None`: it can't be read.
pub(crate) async fn own_delivery(
    core: &Core,
    room: &RoomId,
    event: &Envelope,
    raw: &RawValue,
) -> Option<Option<DeliveryId>> {
    if event.kind != "m.room.encrypted" || event.state_key.is_some() {
        return Some(None);
    }
    // Our own device is cross-signed, yet its signature may not be known locally in its first seconds.
    let trust = crate::engine::SenderTrust { unsigned_devices: true, backup_keys: true };
    match core.engine()?.decrypt(room, raw, trust).await {
        Ok(decrypted) => Some(translate::delivery(&decrypted.content)),
        Err(_) => None,
    }
}

fn decrypted_event(
    room: &RoomId,
    name_of: impl Fn(&UserId) -> Option<String>,
    event: &Envelope,
    decrypted: &Decrypted,
) -> Read {
    if is_verification(&decrypted.event_type, &decrypted.content) {
        let clear = json!({
            "type": decrypted.event_type, "content": decrypted.content, "sender": event.sender, "event_id": event.id,
            "room_id": room, "origin_server_ts": event.sent_at.0,
        });
        return serde_json::value::to_raw_value(&clear).map_or(Read::Nothing, Read::Verification);
    }
    let trust = match decrypted.proof {
        SenderProof::Verified | SenderProof::CrossSigned => SenderTrust::Proven,
        SenderProof::UnsignedDevice => SenderTrust::Unsigned,
        SenderProof::NotProven => SenderTrust::NotProven,
    };
    let name = name_of(&event.sender);
    let reader = translate::Reader {
        kind: &decrypted.event_type,
        content: &decrypted.content,
        sender: &event.sender,
        name: name.as_deref(),
        sent_at: sent_at(event, decrypted),
        sender_not_proven: trust == SenderTrust::NotProven,
    };
    let Some(message) = reader.message() else { return Read::Nothing };
    let once = Some(once(room, &decrypted.position));
    Read::Message(Box::new(Incoming { id: RemoteId::new(event.id.as_str()), message, trust, once }))
}

fn sent_at(event: &Envelope, decrypted: &Decrypted) -> Timestamp {
    match event.sent_at {
        Timestamp(0) => timestamp(decrypted.origin_server_ts),
        at => at,
    }
}

fn unread(core: &Core, event: Envelope, error: DecryptError) -> Result<Read, EngineError> {
    let id = RemoteId::new(event.id.as_str());
    let wait = |hint: String, reason: String, holds_sender: bool, distrusted| {
        let (id, sender) = (id.clone(), event.sender.clone());
        Read::Unreadable(Waits { id, sender, hint, reason, holds_sender, distrusted })
    };
    let reason = error.to_string();
    Ok(match error {
        DecryptError::MissingKey { position, withheld: None } => wait(position.session_id, reason, true, None),
        // Its sender has said that the key won't come by itself.
        DecryptError::MissingKey { position, withheld: Some(code) } => {
            let reason = format!("its sender withheld the key: {}", sealbridge_contract::names::own(&code));
            wait(position.session_id, reason, false, None)
        }
        DecryptError::UnknownIndex { position } => wait(position.session_id, reason, true, None),
        DecryptError::NotTrusted { why: Distrust::NotProven, .. } => {
            let reason = "nobody can tell who wrote it: its key came from a backup".into();
            Read::Refused { id, sender: PersonId::new(event.sender.as_str()), reason }
        }
        DecryptError::NotTrusted { position, why, stale } => {
            // Devices that were not read yet may turn out in order within the second.
            wait(position.session_id, reason, stale, Some(why))
        }
        DecryptError::Engine(EngineError::Panicked) => {
            let hint = event.content.get("session_id").and_then(Value::as_str).unwrap_or_default();
            wait(hint.to_owned(), reason, false, None)
        }
        DecryptError::Engine(error) => return Err(error),
        error => {
            debug!(%error, account = %core.me(), "An event is refused.");
            Read::Refused { id, sender: PersonId::new(event.sender.as_str()), reason: error.to_string() }
        }
    })
}

/// What no two messages share: two events with this value are a replay.
fn once(room: &RoomId, position: &Position) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [room.as_str().as_bytes(), position.session_id.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(position.message_index.to_be_bytes());
    hash.finalize().into()
}
