//! What is done to an earlier message in clear, since Matrix has no encrypted form of it: deletions and reactions.
//!
//! A deletion names one event and gives no reason. A reaction is an emoji of Unicode's own list; our one account shows
//! it for everybody elsewhere who reacts so.

use std::collections::BTreeMap;

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedTransactionId, RoomId, TransactionId, api::client::redact::redact_event,
};
use sealbridge_contract::{
    DeliveryError, PersonId, SecretBytes, Slip,
    inbox::StoreWrite,
    message::{Reaction, Tally},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    core::Core,
    engine::{Class, HttpError, StandardEmoji},
    outgoing::Unsent,
    prune::SHOWN,
};

/// What our account shows on one message, and for whom.
#[derive(Default, Serialize, Deserialize)]
struct Shown {
    tally: Tally,
    /// Our own reactions there, by emoji.
    events: BTreeMap<String, OwnedEventId>,
}

/// Holds what is shown still while it is changed: two lanes may meet at one message.
#[derive(Debug, Default)]
pub(crate) struct Showing(Mutex<()>);

/// Takes back an earlier message, and nothing else.
pub(crate) async fn redact(core: &Core, room: &RoomId, slip: &Slip) -> Result<OwnedEventId, Unsent> {
    let target = target(slip)?;
    Ok(redact_event_as(core, room, target, slip.delivery.to_string().into()).await?)
}

async fn redact_event_as(
    core: &Core,
    room: &RoomId,
    target: OwnedEventId,
    txn: OwnedTransactionId,
) -> Result<OwnedEventId, HttpError> {
    let request = redact_event::v3::Request::new(OwnedRoomId::from(room), target, txn);
    Ok(core.http.send(request, Class::Short).await?.event_id)
}

/// What `person` reacts with is this and nothing else.
pub(crate) async fn react(
    core: &Core,
    room: &RoomId,
    person: &PersonId,
    reaction: &Reaction,
    slip: &Slip,
) -> Result<OwnedEventId, Unsent> {
    let target = target(slip)?;
    let _still = core.showing.0.lock().await;
    let key = format!("{SHOWN}{target}");
    let kept = core.store.read(&key).await.map_err(|error| DeliveryError::retry(error.to_string()))?;
    let mut shown: Shown = kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()).unwrap_or_default();
    shown.tally.set(person, reaction);
    let mut last = None;
    let wanted: Vec<String> = shown.tally.union().into_iter().map(str::to_owned).collect();
    for (number, emoji) in wanted.iter().enumerate() {
        if shown.events.contains_key(emoji) {
            continue;
        }
        let known =
            StandardEmoji::new(emoji).ok_or_else(|| DeliveryError::give_up("it is no emoji of Unicode's own"))?;
        // The same at every attempt, and the last one is found under the delivery's own name.
        let mine = reaction.all.iter().position(|one| one.as_str() == emoji);
        let txn = match mine {
            Some(at) if at + 1 == reaction.all.len() => slip.delivery.to_string(),
            Some(at) => format!("{}.{at}", slip.delivery),
            None => format!("{}.other{number}", slip.delivery),
        };
        let event = match core.http.react(room, &target, known, <&TransactionId>::from(txn.as_str())).await {
            Ok(event) => event,
            Err(error) if is_there_already(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        shown.events.insert(emoji.clone(), event.clone());
        last = Some(event);
        keep(core, &key, &shown).await?;
    }
    let gone: Vec<String> = shown.events.keys().filter(|emoji| !wanted.contains(emoji)).cloned().collect();
    for (number, emoji) in gone.iter().enumerate() {
        let Some(event) = shown.events.get(emoji).cloned() else { continue };
        let txn = format!("{}.back{number}", slip.delivery).into();
        match redact_event_as(core, room, event, txn).await {
            Ok(event) => last = Some(event),
            // Somebody else took it away.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        shown.events.remove(emoji);
        keep(core, &key, &shown).await?;
    }
    keep(core, &key, &shown).await?;
    let last = last.or_else(|| shown.events.values().next().cloned());
    Ok(last.unwrap_or(target))
}

async fn keep(core: &Core, key: &str, shown: &Shown) -> Result<(), DeliveryError> {
    let write = if shown.tally.is_empty() && shown.events.is_empty() {
        StoreWrite::delete(key)
    } else {
        let bytes = serde_json::to_vec(shown).map_err(|error| DeliveryError::give_up(error.to_string()))?;
        StoreWrite::put(key, SecretBytes::new(bytes))
    };
    core.store.write(vec![write]).await.map_err(|error| DeliveryError::retry(error.to_string()))
}

/// The same reaction of ours was there before.
fn is_there_already(error: &HttpError) -> bool {
    error.errcode() == Some("M_DUPLICATE_ANNOTATION")
}

fn target(slip: &Slip) -> Result<OwnedEventId, DeliveryError> {
    let about = slip.about.as_ref().ok_or_else(|| DeliveryError::give_up("it does not say what it is about"))?;
    EventId::parse(about.as_str()).map_err(|_| DeliveryError::give_up("it is about something that is no event"))
}
