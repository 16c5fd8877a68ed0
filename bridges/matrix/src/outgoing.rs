//! Delivers: a turn of the account's allowance, the room's lane, the keys, the ciphertext, the wire.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{
    OwnedEventId, OwnedTransactionId, OwnedUserId, RoomId, UserId, api::client::state::get_state_event_for_key,
    events::StateEventType,
};
use sealbridge_contract::{Cleared, DeliveryError, Kind, Receipt, RemoteId, Slip, gate::Encryption};
use serde_json::{Value, value::RawValue};
use tracing::{debug, instrument, warn};

use crate::{
    core::{Core, shown, tell_operator},
    deeds,
    engine::{
        Audience, Class, DeviceFacts, EncryptError, EncryptedContent, HttpError, HttpErrorKind, InRoomStep,
        PrepareError, Retries, RoomSettings, Whom, Withholding, retrying,
    },
    files,
    intake::{MUTED, this_time},
    portraits, readers,
    rooms::Facts,
    translate::{self, Uploads},
};

/// How long a delivery waits for its room's turn before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a delivery waits for a homeserver that does not answer.
const ONLINE: Duration = Duration::from_secs(10);
/// How long a delivery waits for the first to join its room.
const JOINING: Duration = Duration::from_secs(3);
/// An audience that moves while its key is made is tried again this often at once.
const TRIES: usize = 4;
/// A refusal that people or the next sync may lift is tried again this often.
const REFUSALS: u32 = 5;

/// Encrypts and delivers one message.
#[instrument(skip_all, fields(delivery = %slip.delivery))]
pub(crate) async fn deliver(core: &Core, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
    let room = RoomId::parse(slip.to.as_str()).map_err(|_| DeliveryError::give_up("not a Matrix room id"))?;
    ready_for(core, &room, slip).await?;
    if !core.is_online(ONLINE).await {
        return Err(DeliveryError::retry_after(Duration::from_millis(250), "the homeserver does not answer"));
    }
    let brought = files::bring(core, &message, slip).await?;
    let portrait = portraits::bring(core, &message).await;
    let uploads = Uploads { files: brought.as_ref(), portrait: portrait.as_ref() };
    let people = core.rooms.look(&room, |facts| Arc::clone(&facts.people)).unwrap_or_default();
    let is_there = |user: &UserId| people.joined.contains_key(user);
    let Some((kind, content)) = translate::content(message.message(), slip, uploads, &is_there) else {
        return Err(DeliveryError::too_long(u64::try_from(translate::MOST_PAYLOAD).ok()));
    };
    let Some(turn) = core.budget.turn(&room, PATIENCE).await else {
        return Err(DeliveryError::retry_after(
            Duration::from_millis(200),
            "the homeserver limits this account; other rooms have their turn",
        ));
    };
    let author = &message.message().author.id;
    let sent = match &message.message().kind {
        Kind::Redaction(_) => deeds::redact(core, &room, slip).await,
        Kind::Reaction(reaction) => deeds::react(core, &room, author, reaction, slip).await,
        _ => say(core, &room, kind, &content, slip).await,
    };
    match sent {
        Ok(event) => {
            turn.took();
            core.ages.moved();
            debug!("Delivered.");
            if let Some(media) = message.message().media() {
                files::forget(core, media, slip).await;
            }
            Ok(Receipt { id: RemoteId::new(event.as_str()) })
        }
        Err(Unsent::Told(error)) => Err(error),
        Err(Unsent::Wire(error)) => {
            if let HttpErrorKind::Limited { retry_after } = error.kind {
                let pause = turn.limited(retry_after);
                return Err(DeliveryError::retry_after(pause, "the homeserver limits this account"));
            }
            if error.errcode() == Some("M_FORBIDDEN") && is_muted(core, &room).await {
                return Err(DeliveryError::retry("the bridge may not speak in the room"));
            }
            Err(put_error(&error, slip))
        }
    }
}

/// Why nothing was sent, or perhaps nothing.
pub(crate) enum Unsent {
    /// The request that says it failed.
    Wire(HttpError),
    /// Something before it did.
    Told(DeliveryError),
}

impl From<HttpError> for Unsent {
    fn from(error: HttpError) -> Self {
        Self::Wire(error)
    }
}

impl From<DeliveryError> for Unsent {
    fn from(error: DeliveryError) -> Self {
        Self::Told(error)
    }
}

/// Says something that is encrypted.
async fn say(core: &Core, room: &RoomId, kind: &str, content: &RawValue, slip: &Slip) -> Result<OwnedEventId, Unsent> {
    let txn: OwnedTransactionId = slip.delivery.to_string().into();
    let encrypted = encrypt(core, room, kind, content, Whom::Admitted).await?;
    fail::fail_point!("matrix::before-put");
    core.histories.sends(room, slip.delivery);
    let sent = core.http.send_encrypted(&encrypted, &txn).await;
    fail::fail_point!("matrix::after-put");
    Ok(sent?)
}

/// Looks whether we lack the power to speak, and notes it. Rooms joined by an older version were not asked at first.
async fn is_muted(core: &Core, room: &RoomId) -> bool {
    let levels = StateEventType::RoomPowerLevels;
    let asked = get_state_event_for_key::v3::Request::new(room.to_owned(), levels, String::new());
    let Ok(answer) = core.http.send(asked, Class::Short).await else { return false };
    let Ok(content) = serde_json::from_str::<Value>(answer.event_or_content.get()) else { return false };
    let mut change = None;
    let noted = core.rooms.update(&core.store, room, |facts| change = facts.apply_levels(core.me(), &content)).await;
    if change.is_some() {
        core.signals.tell_people(tell_operator(room, this_time(core, "muted"), MUTED));
    }
    noted.is_ok() && core.rooms.encryption(room) == Encryption::Muted
}

/// Whether somebody could read what is sent there now.
async fn ready_for(core: &Core, room: &RoomId, slip: &Slip) -> Result<(), DeliveryError> {
    // The gate asked before; it may have changed since.
    if core.rooms.encryption(room) != Encryption::Pinned {
        return Err(DeliveryError::retry("the room can't be spoken to now"));
    }
    frozen(core, room)?;
    // Keys go to those who are there: what is sent before would stay unreadable for ever.
    let joined = core.rooms.wait_for(room, |facts| core.is_read(room, &facts.people).then_some(()));
    if tokio::time::timeout(JOINING, joined).await.is_err() {
        let pause = Duration::from_secs(1) * 2_u32.pow(slip.attempt.min(2));
        return Err(DeliveryError::retry_after(pause, "nobody else who may read has joined the room yet"));
    }
    Ok(())
}

/// Nothing is said to anybody while somebody is there whose identity is another than the one that was known.
fn frozen(core: &Core, room: &RoomId) -> Result<(), DeliveryError> {
    let changed = core.changed_in(room);
    if changed.is_empty() {
        return Ok(());
    }
    let names = changed.iter().map(|user| user.as_str()).collect::<Vec<_>>().join(", ");
    let cause =
        format!("the identity of {names} is another than the one that was known; `sealbridge audience` says more");
    // By then the gate knows it too, and holds what is on its way until somebody looked.
    Err(DeliveryError::retry_after(Duration::from_secs(2), cause))
}

/// Encrypts one event for those who are in the room and may read it.
pub(crate) async fn encrypt(
    core: &Core,
    room: &RoomId,
    event_type: &str,
    content: &RawValue,
    whom: Whom,
) -> Result<EncryptedContent, DeliveryError> {
    let engine = core.engine_or_later()?;
    readers::begin(core, engine, room).await?;
    let mut lane = engine.lane(room).await;
    let mut failure = DeliveryError::retry("the room's members change too fast");
    for _ in 0..TRIES {
        if whom == Whom::Admitted {
            frozen(core, room)?;
        }
        let Some((members, settings)) = audience(core, room, whom) else {
            return Err(DeliveryError::retry("the room can't be spoken to now"));
        };
        fail::fail_point!("matrix::before-share");
        let mut noted = false;
        let approve = |audience: &Audience| match std::mem::replace(&mut noted, true) {
            false => note(core, room, audience, whom),
            true => still_read(core, room, audience, whom),
        };
        let ready = match lane.prepare(&members, &settings, approve).await {
            Ok(ready) => ready,
            Err(PrepareError::AudienceMoved | PrepareError::Refused) => continue,
            Err(error) => return Err(prepare_error(core, room, &error)),
        };
        match ready.encrypt(event_type, content).await {
            Ok(encrypted) => return Ok(encrypted),
            Err(EncryptError::Expired) => failure = DeliveryError::retry("the room key expired meanwhile"),
            Err(EncryptError::Engine(error)) => return Err(DeliveryError::retry(error.to_string())),
            Err(error) => return Err(DeliveryError::give_up(error.to_string())),
        }
    }
    Err(failure)
}

fn audience(core: &Core, room: &RoomId, whom: Whom) -> Option<(Vec<OwnedUserId>, RoomSettings)> {
    let trust = core.settings.trust;
    let speakable = |facts: &Facts| {
        let settings = || RoomSettings { whom, ..facts.settings(trust) };
        (facts.encryption() == Encryption::Pinned).then(|| (Arc::clone(&facts.people), settings()))
    };
    let (people, settings) = core.rooms.look(room, speakable).flatten()?;
    Some((core.readers(room, &people, whom), settings))
}

/// Every reader passes here before a key leaves, with the identity that it would be encrypted for. False: somebody's is
/// not the one that was pinned, and they are no reader any more.
fn note(core: &Core, room: &RoomId, audience: &Audience, whom: Whom) -> bool {
    debug!(
        readers = audience.readers().count(),
        withheld = audience.withheld().count(),
        without_devices = audience.without_devices().count(),
        "The audience of a room key."
    );
    let distrusts =
        |device: &DeviceFacts| matches!(device.withheld, Some(Withholding::Unsigned | Withholding::NoIdentity));
    for (user, person) in &audience.people {
        let devices = &person.devices;
        if user != core.me() && !devices.is_empty() && devices.iter().all(distrusts) {
            core.tell_distrust(room, user);
        }
    }
    // Each of them is looked at, whatever is found of the others.
    let odd = audience.people.values().filter(|person| !core.observe(person)).count();
    odd == 0 || whom == Whom::Everybody
}

/// Whether everybody may still read for whom a key was made: people leave, and are forgotten, while it is on its way, and
/// so may we.
fn still_read(core: &Core, room: &RoomId, audience: &Audience, whom: Whom) -> bool {
    let speakable = |facts: &Facts| (facts.encryption() == Encryption::Pinned).then(|| Arc::clone(&facts.people));
    let Some(people) = core.rooms.look(room, speakable).flatten() else { return false };
    let readers: BTreeSet<OwnedUserId> = core.readers(room, &people, whom).into_iter().collect();
    audience.people.keys().all(|user| readers.contains(user))
}

fn prepare_error(core: &Core, room: &RoomId, error: &PrepareError) -> DeliveryError {
    match error {
        PrepareError::Http(error) => {
            note_limit(core, error);
            http_error(error)
        }
        PrepareError::VerifiedUserChanged(users) => {
            let cause = others_than_verified(users);
            let users = users.iter().map(|user| user.as_str()).collect::<Vec<_>>().join(", ");
            let words = format!("Nothing is sent to a room: {cause}.");
            core.signals.tell_people(tell_operator(room, format!("identity-changed/{users}"), words));
            DeliveryError::retry_after(Duration::from_secs(60), cause)
        }
        PrepareError::OwnDeviceUnsigned => {
            let cause = "the bridge's own device is not cross-signed any more; stop the service and run `sealbridge init` again";
            let topic = this_time(core, "own-device-unsigned");
            core.signals.tell_people(tell_operator(room, topic, format!("Nothing is sent: {cause}.")));
            DeliveryError::retry_after(Duration::from_secs(60), cause)
        }
        error => DeliveryError::retry(error.to_string()),
    }
}

fn others_than_verified(users: &[OwnedUserId]) -> String {
    let users = users.iter().map(|user| shown(user)).collect::<Vec<_>>().join(", ");
    format!(
        "the identity of {users} is another than the one that was verified; verify them again with `sealbridge verify`"
    )
}

/// A homeserver that limits key traffic limits the account.
pub(crate) fn note_limit(core: &Core, error: &HttpError) {
    if let HttpErrorKind::Limited { retry_after } = error.kind {
        core.budget.limited(retry_after);
    }
}

/// A request before the message itself failed: nothing was delivered.
pub(crate) fn http_error(error: &HttpError) -> DeliveryError {
    match error.retry_after() {
        Some(after) => DeliveryError::retry_after(after, error.to_string()),
        None => DeliveryError::retry(error.to_string()),
    }
}

/// The message itself was sent, and this came back.
fn put_error(error: &HttpError, slip: &Slip) -> DeliveryError {
    let cause = error.to_string();
    match &error.kind {
        HttpErrorKind::Network
        | HttpErrorKind::Timeout
        | HttpErrorKind::TooLarge
        | HttpErrorKind::Malformed
        | HttpErrorKind::Server { .. }
        | HttpErrorKind::Stranger { .. } => DeliveryError::unknown(cause),
        HttpErrorKind::Client { status: 413, .. } => DeliveryError::too_long(None),
        // We may have been removed, or muted: the next sync or a person may change it.
        HttpErrorKind::Client { status: 401 | 403 | 404 | 408, .. } if slip.attempt < REFUSALS => {
            DeliveryError::retry_after(Duration::from_secs(2) * 2_u32.pow(slip.attempt.min(5)), cause)
        }
        HttpErrorKind::Client { .. } | HttpErrorKind::Stopped(_) => DeliveryError::give_up(cause),
        _ => http_error(error),
    }
}

/// Sends a step of a verification into its room.
pub(crate) async fn send_step(core: &Core, step: &InRoomStep, tries: Retries) -> Result<OwnedEventId, DeliveryError> {
    let encrypted = encrypt(core, &step.room, &step.event_type, &step.content, Whom::Everybody).await?;
    // Under the same number, so that a homeserver which took it and could not say so takes it once.
    let sent = retrying(tries, || core.http.send_encrypted(&encrypted, &step.txn)).await;
    sent.map_err(|error| {
        warn!(%error, "A step of a verification was not sent.");
        put_or_later(&error)
    })
}

fn put_or_later(error: &HttpError) -> DeliveryError {
    if error.is_transient() { http_error(error) } else { DeliveryError::give_up(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_whoever_changed_says_nothing_in_our_name() {
        let odd = OwnedUserId::try_from("@a is safe. \"b:x").expect("homeservers have made such ids");
        let words = others_than_verified(&[odd]);
        assert!(!words.contains("is safe") && !words.contains('"'), "{words}");
    }
}
