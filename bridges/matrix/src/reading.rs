//! One event of a room's timeline → what it is to us.

use std::time::Duration;

use ruma::{OwnedUserId, RoomId, UserId};
use sealbridge_contract::{
    Cleartext, DeliveryId, Kind, PersonId, RemoteId, SenderTrust, Timestamp,
    inbox::{Incoming, Once},
};
use serde_json::{Value, json, value::RawValue};
use tracing::{debug, warn};

use crate::{
    core::Core,
    engine::{Claim, DecryptError, Decrypted, Distrust, EngineError, Position, SenderProof},
    event::{Envelope, is_verification, timestamp},
    rooms::{Appearance, People},
    translate::{self, Needs},
};

/// So long a message waits whose key is known as somebody else's, or only from the backup, for the same key from whoever
/// sent it.
const DOUBTED: Duration = Duration::from_secs(20);

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
    /// It can be read, and something that it needs is fetched first.
    Later {
        id: RemoteId,
        sender: PersonId,
        reason: &'static str,
    },
    /// Nothing that crosses: our own words, what says nothing to a reader.
    Nothing,
}

/// An event that can't be read yet.
pub(crate) struct Waits {
    pub(crate) id: RemoteId,
    pub(crate) sender: OwnedUserId,
    /// The session it waits for, by its sender's word.
    pub(crate) session: String,
    pub(crate) reason: String,
    pub(crate) holds_sender: bool,
    /// Its key is missing altogether: nothing else of the session can be read either.
    pub(crate) key_missing: bool,
    /// It waits for the sender's trust, not for a key.
    pub(crate) distrusted: Option<Distrust>,
    /// It is refused once an answer of the homeserver was taken in that was asked for after so long.
    pub(crate) at_most: Option<Duration>,
}

impl Waits {
    /// What the journal finds it by.
    pub(crate) fn hint(&self) -> String {
        session_hint(&self.session)
    }
}

/// What the journal finds by that waits for a session. Its name is its sender's choice, and must not be taken for
/// another thing that events wait for.
pub(crate) fn session_hint(session: &str) -> String {
    format!("session/{session}")
}

/// Reads one event of a room with these people.
///
/// An error is a failure of ours: the event was not judged and must be read again.
pub(crate) async fn read(core: &Core, room: &RoomId, people: &People, raw: &RawValue) -> Result<Read, EngineError> {
    let opened = match open(core, room, raw).await? {
        Ok(opened) => opened,
        Err(read) => return Ok(read),
    };
    let mut looks = people.appearance(opened.sender());
    if opened.event.state_key.as_deref() == Some(opened.sender().as_str()) {
        looks.name = looks.name.or_else(|| translate::name_before(&opened.event));
    }
    let reader = opened.reader(core.me(), &looks);
    if opened.event.state_key.is_some() {
        let change = translate::state_change(&opened.event, |user| people.appearance(user).name);
        return Ok(change.map_or(Read::Nothing, |change| opened.message(room, reader.telling(Kind::Change(change)))));
    }
    let later = |reason| Read::Later { id: opened.id.clone(), sender: PersonId::new(opened.sender().as_str()), reason };
    if opened.kind() == "m.room.redaction" {
        return Ok(later("it is not known yet what it deletes"));
    }
    if reader.live().is_some_and(|place| !core.begins_to_share(room, opened.sender(), place, &opened.id)) {
        return Ok(Read::Nothing);
    }
    let file = match reader.needs() {
        Needs::Files(_) => return Ok(later("its file is not here yet")),
        Needs::Original(_) => return Ok(later("it is not known yet who wrote what it changes")),
        Needs::Reactions => return Ok(later("it is not known yet what else its sender reacted with")),
        Needs::NoFile(why) => Some(Err(why)),
        Needs::Nothing => None,
    };
    Ok(reader.message(file).map_or(Read::Nothing, |message| opened.message(room, message)))
}

/// An event that can be read.
pub(crate) struct Opened {
    event: Envelope,
    id: RemoteId,
    /// `None`: it came in clear, and is of a kind that always does.
    decrypted: Option<Decrypted>,
}

/// Opens one event. The inner error is what it is instead of one that can be read.
pub(crate) async fn open(core: &Core, room: &RoomId, raw: &RawValue) -> Result<Result<Opened, Read>, EngineError> {
    let event = match Envelope::read(raw) {
        Ok(event) => event,
        Err(malformed) => {
            warn!("An event is malformed.");
            let Some(id) = malformed.id else { return Ok(Err(Read::Nothing)) };
            let (id, sender) = (RemoteId::new(id), PersonId::new(malformed.sender.unwrap_or_default()));
            return Ok(Err(Read::Refused { id, sender, reason: "the event is malformed".into() }));
        }
    };
    if event.sender == core.me() {
        return Ok(Err(own(core, room, &event, raw).await));
    }
    let id = RemoteId::new(event.id.as_str());
    if event.state_key.is_some() {
        let ours = event.kind == "m.room.member" && event.state_key.as_deref() == Some(core.me().as_str());
        return Ok(if ours { Err(Read::Nothing) } else { Ok(Opened { event, id, decrypted: None }) });
    }
    if event.is_verification() {
        return Ok(Err(Read::Verification(raw.to_owned())));
    }
    let redacted = event.content.as_object().is_none_or(serde_json::Map::is_empty);
    if event.kind == "m.room.redaction" || event.kind == "m.reaction" && !redacted {
        return Ok(Ok(Opened { event, id, decrypted: None }));
    }
    if event.kind != "m.room.encrypted" {
        let says_something =
            matches!(event.kind.as_str(), "m.room.message" | "m.sticker") || event.kind.contains("poll.start");
        return Ok(Err(match says_something && !redacted {
            true => Read::Plaintext { id, sender: event.sender },
            false => Read::Nothing,
        }));
    }
    if event.content.as_object().is_some_and(serde_json::Map::is_empty) {
        // It was redacted before we saw it.
        return Ok(Err(Read::Nothing));
    }
    let Some(engine) = core.engine() else { return Err(EngineError::Olm("not open yet")) };
    match engine.decrypt(room, raw, core.sender_trust()).await {
        Ok(decrypted) if is_verification(&decrypted.event_type, &decrypted.content) => {
            let clear = json!({
                "type": decrypted.event_type, "content": decrypted.content, "sender": event.sender,
                "event_id": event.id, "room_id": room, "origin_server_ts": event.sent_at.0,
            });
            Ok(Err(serde_json::value::to_raw_value(&clear).map_or(Read::Nothing, Read::Verification)))
        }
        Ok(decrypted)
            if core.contradicts(engine, &event.sender).await? || core.is_another_there(room, &event.sender) =>
        {
            let (position, why) = (decrypted.position, Distrust::IdentityChanged);
            unread(core, event, DecryptError::NotTrusted { position, why, stale: false }).map(Err)
        }
        Ok(mut decrypted) => {
            let behind = core
                .identity_behind(engine, &event.sender, room, &decrypted.position.session_id, decrypted.claim.as_ref())
                .await?;
            // A homeserver may have shown another identity for as long as it took for the key to be taken from it.
            if core.is_of_another(&event.sender, behind.as_deref()) {
                let (position, why) = (decrypted.position, Distrust::IdentityChanged);
                return unread(core, event, DecryptError::NotTrusted { position, why, stale: false }).map(Err);
            }
            decrypted.identity = behind.filter(|_| core.attends(&event.sender));
            Ok(Ok(Opened { event, id, decrypted: Some(decrypted) }))
        }
        Err(error) => unread(core, event, error).map(Err),
    }
}

impl Opened {
    pub(crate) fn id(&self) -> &RemoteId {
        &self.id
    }

    pub(crate) fn sender(&self) -> &UserId {
        &self.event.sender
    }

    pub(crate) fn kind(&self) -> &str {
        self.decrypted.as_ref().map_or(&self.event.kind, |decrypted| &decrypted.event_type)
    }

    pub(crate) fn content(&self) -> &Value {
        self.decrypted.as_ref().map_or(&self.event.content, |decrypted| &decrypted.content)
    }

    /// What it takes back, if it is a redaction.
    pub(crate) fn redacts(&self) -> Option<RemoteId> {
        self.event.redacts.as_deref().map(RemoteId::new)
    }

    pub(crate) fn reader<'a>(&'a self, me: &'a UserId, looks: &'a Appearance) -> translate::Reader<'a> {
        translate::Reader {
            kind: self.kind(),
            content: self.content(),
            sender: self.sender(),
            me,
            looks,
            sent_at: self.sent_at(),
            sender_not_proven: self.trust() == SenderTrust::NotProven,
        }
    }

    /// What is handed in for it.
    pub(crate) fn incoming(&self, room: &RoomId, message: Cleartext) -> Incoming {
        let once = self.decrypted.as_ref().map(|decrypted| once(room, &decrypted.position, decrypted.claim.as_ref()));
        let identity = self.decrypted.as_ref().and_then(|decrypted| decrypted.identity.clone());
        Incoming { id: self.id.clone(), message, trust: self.trust(), identity, once }
    }

    fn message(&self, room: &RoomId, message: Cleartext) -> Read {
        Read::Message(Box::new(self.incoming(room, message)))
    }

    fn trust(&self) -> SenderTrust {
        match self.decrypted.as_ref().map(|decrypted| decrypted.proof) {
            Some(SenderProof::Verified | SenderProof::CrossSigned) => SenderTrust::Proven,
            Some(SenderProof::UnsignedDevice) => SenderTrust::Unsigned,
            Some(SenderProof::NotProven) => SenderTrust::NotProven,
            None => SenderTrust::ServerSays,
        }
    }

    fn sent_at(&self) -> Timestamp {
        match (self.event.sent_at, &self.decrypted) {
            (Timestamp(0), Some(decrypted)) => timestamp(decrypted.origin_server_ts),
            (at, _) => at,
        }
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
    which_delivery(core, room, event, raw).await.ok()
}

/// The same for what a device of ours may have written that is no more: what it had given to the key backup is all that
/// is left of its keys.
pub(crate) async fn own_delivery_of_any_device(
    core: &Core,
    room: &RoomId,
    event: &Envelope,
    raw: &RawValue,
) -> Option<Option<DeliveryId>> {
    match which_delivery(core, room, event, raw).await {
        Ok(delivery) => Some(delivery),
        Err(Some(session)) if core.engine()?.download_from_backup(room, &session).await.ok()? => {
            which_delivery(core, room, event, raw).await.ok()
        }
        Err(_) => None,
    }
}

/// `Err`: it can't be read; with the key's session if that alone is missing.
async fn which_delivery(
    core: &Core,
    room: &RoomId,
    event: &Envelope,
    raw: &RawValue,
) -> Result<Option<DeliveryId>, Option<String>> {
    if event.kind != "m.room.encrypted" || event.state_key.is_some() {
        return Ok(None);
    }
    // Our own device is cross-signed, yet its signature may not be known locally in its first seconds.
    let trust = crate::engine::SenderTrust { unsigned_devices: true, backup_keys: true };
    match core.engine().ok_or(None)?.decrypt(room, raw, trust).await {
        Ok(decrypted) => Ok(translate::delivery(&decrypted.content)),
        // Of what somebody else handed in, too, the backup may have our own.
        Err(
            DecryptError::MissingKey { position, .. }
            | DecryptError::UnknownIndex { position }
            | DecryptError::SpoofedSender { position },
        ) => Err(Some(position.session_id)),
        Err(_) => Err(None),
    }
}

fn unread(core: &Core, event: Envelope, error: DecryptError) -> Result<Read, EngineError> {
    let id = RemoteId::new(event.id.as_str());
    let key_missing = matches!(error, DecryptError::MissingKey { withheld: None, .. });
    let wait = |session: String, reason: String, holds_sender: bool, distrusted| {
        let (id, sender) = (id.clone(), event.sender.clone());
        Waits { id, sender, session, reason, holds_sender, key_missing, distrusted, at_most: None }
    };
    let reason = error.to_string();
    Ok(match error {
        DecryptError::MissingKey { position, withheld: None } => {
            Read::Unreadable(wait(position.session_id, reason, true, None))
        }
        // Its sender has said that the key won't come by itself.
        DecryptError::MissingKey { position, withheld: Some(code) } => {
            let reason = format!("its sender withheld the key: {}", sealbridge_contract::names::own(&code));
            Read::Unreadable(wait(position.session_id, reason, false, None))
        }
        DecryptError::UnknownIndex { position } => Read::Unreadable(wait(position.session_id, reason, true, None)),
        // Somebody else handed in the key first, and its maker's own may be on its way.
        DecryptError::SpoofedSender { position } => {
            let waits = wait(position.session_id, reason, false, None);
            Read::Unreadable(Waits { at_most: Some(DOUBTED), ..waits })
        }
        // The backup may be asked before the key itself is here.
        DecryptError::NotTrusted { why: Distrust::NotProven, position, .. } => {
            let reason = "nobody can tell who wrote it: its key came from a backup".into();
            let waits = wait(position.session_id, reason, false, None);
            Read::Unreadable(Waits { at_most: Some(DOUBTED), ..waits })
        }
        DecryptError::NotTrusted { position, why, stale } => {
            // Devices that were not read yet may turn out in order within the second.
            Read::Unreadable(wait(position.session_id, reason, stale, Some(why)))
        }
        DecryptError::Engine(EngineError::Panicked) => {
            let session = event.content.get("session_id").and_then(Value::as_str).unwrap_or_default();
            Read::Unreadable(wait(session.to_owned(), reason, false, None))
        }
        DecryptError::Engine(error) => return Err(error),
        error => {
            debug!(%error, account = %core.me(), "An event is refused.");
            Read::Refused { id, sender: PersonId::new(event.sender.as_str()), reason: error.to_string() }
        }
    })
}

/// What no two messages share: two events with this value are a replay.
///
/// A member who hands in another's key as their own can send that one's words under their own name, too. These are other
/// messages then, so that they don't make the true ones a replay.
fn once(room: &RoomId, position: &Position, claim: Option<&Claim>) -> Once {
    let mut series = [room.as_str(), "\0", &position.session_id, "\0"].concat();
    if let Some(claim) = claim {
        series.extend([claim.device_key.as_str(), "\0"]);
    }
    let series = series.into_bytes();
    Once { series, index: position.message_index.into() }
}
