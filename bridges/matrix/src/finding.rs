//! Looks whether a delivery in doubt has arrived, by its id inside the ciphertext.

use std::time::Duration;

use ruma::{
    OwnedRoomId, RoomId, UInt,
    api::{Direction, client::message::get_message_events},
};
use sealbridge_contract::{DeliveryError, DeliveryId, Found, RemoteId, Slip, Timestamp};
use serde_json::value::RawValue;

use crate::{core::Core, engine::Class, event::Envelope, outgoing::http_error, reading};

/// How far clocks may differ between the homeserver and us.
const SLACK: Duration = Duration::from_secs(600);
/// Beyond so many pages it is for a person to look.
const MOST_PAGES: usize = 200;

/// Reads the room backwards to before the delivery was enqueued.
pub(crate) async fn find(core: &Core, slip: &Slip) -> Result<Found, DeliveryError> {
    let room = RoomId::parse(slip.to.as_str()).map_err(|_| DeliveryError::give_up("not a Matrix room id"))?;
    core.engine_or_later()?;
    let oldest = slip.enqueued_at.minus(SLACK);
    let mut from = None;
    let mut unreadable = false;
    for _ in 0..MOST_PAGES {
        let (chunk, next) = page(core, &room, from).await?;
        let mut newest = Timestamp(0);
        for raw in &chunk {
            let Ok(event) = Envelope::read(raw) else { continue };
            newest = newest.max(event.sent_at);
            match is_it(core, &room, &event, raw, slip.delivery).await {
                Some(true) => return Ok(Found::There(RemoteId::new(event.id))),
                Some(false) => {}
                None => unreadable |= event.sent_at >= oldest,
            }
        }
        // One event's time may be wrong; a page of them is taken for what it says.
        let done = next.is_none() || chunk.is_empty() || newest < oldest;
        if done {
            return if unreadable { Err(in_doubt()) } else { Ok(Found::NotThere) };
        }
        from = next;
    }
    Err(in_doubt())
}

fn in_doubt() -> DeliveryError {
    DeliveryError::give_up(
        "it may have been delivered, and the room's history does not tell; look for it in the room before you retry",
    )
}

async fn page(
    core: &Core,
    room: &OwnedRoomId,
    from: Option<String>,
) -> Result<(Vec<Box<RawValue>>, Option<String>), DeliveryError> {
    let mut request = get_message_events::v3::Request::new(room.clone(), Direction::Backward);
    request.from = from;
    request.limit = UInt::from(100_u32);
    let answer = core.http.send(request, Class::Page).await.map_err(|error| http_error(&error))?;
    let chunk = answer.chunk.into_iter().map(|event| event.into_json()).collect();
    Ok((chunk, answer.end))
}

/// Whether an event is the delivery; `None` if that can't be read.
async fn is_it(core: &Core, room: &RoomId, event: &Envelope, raw: &RawValue, wanted: DeliveryId) -> Option<bool> {
    if event.sender != core.me() {
        return Some(false);
    }
    if let Some(delivery) = event.transaction().and_then(|txn| DeliveryId::parse(txn).ok()) {
        return Some(delivery == wanted);
    }
    Some(reading::own_delivery(core, room, event, raw).await? == Some(wanted))
}
