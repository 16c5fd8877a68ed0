//! Looks whether a delivery in doubt has arrived, by its id inside the ciphertext.
//!
//! What was read of a room's history is remembered for a while, so that a lane with many deliveries in doubt reads it
//! once. A delivery that was sent since then is looked for in what is newer.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ruma::{
    OwnedRoomId, RoomId, UInt,
    api::{Direction, client::message::get_message_events},
};
use sealbridge_contract::{DeliveryError, DeliveryId, Found, RemoteId, Slip, Timestamp};
use serde_json::value::RawValue;
use tokio::sync::Mutex as AsyncMutex;

use crate::{core::Core, engine::Class, event::Envelope, outgoing::http_error, reading};

/// How far clocks may differ between the homeserver and us.
const SLACK: Duration = Duration::from_secs(600);
/// Beyond so many pages it is for a person to look.
const MOST_PAGES: usize = 200;
/// How long a history that nobody asks about is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What was read of the rooms' histories.
#[derive(Debug, Default)]
pub(crate) struct Histories(Mutex<HashMap<OwnedRoomId, Remembered>>);

#[derive(Debug)]
struct Remembered {
    history: Arc<AsyncMutex<History>>,
    /// Deliveries that may have arrived after the history was read.
    sent_since: HashSet<DeliveryId>,
    asked: Instant,
}

/// What one room's history holds of our deliveries.
#[derive(Debug, Default)]
struct History {
    deliveries: HashMap<DeliveryId, RemoteId>,
    /// The newest event that was read: all before it is known, back to `reaches`.
    newest: Option<String>,
    /// Back to when it was read; `None`: it was not read yet.
    reaches: Option<Timestamp>,
    /// It is too long to be read further back.
    too_long: bool,
    /// When the newest of our own events was sent that can't be read.
    unreadable: Option<Timestamp>,
}

impl Histories {
    /// A delivery is sent now: what was read of the room before does not tell of it any more.
    pub(crate) fn sends(&self, room: &RoomId, delivery: DeliveryId) {
        if let Some(remembered) = self.lock().get_mut(room) {
            remembered.sent_since.insert(delivery);
        }
    }

    /// The room's history, and whether it must be read on for this delivery.
    fn of(&self, room: &RoomId, delivery: DeliveryId) -> (Arc<AsyncMutex<History>>, bool) {
        let mut known = self.lock();
        known.retain(|_, remembered| remembered.asked.elapsed() < REMEMBERED);
        let remembered = known.entry(room.to_owned()).or_insert_with(|| Remembered {
            history: Arc::default(),
            sent_since: HashSet::new(),
            asked: Instant::now(),
        });
        remembered.asked = Instant::now();
        (Arc::clone(&remembered.history), remembered.sent_since.remove(&delivery))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OwnedRoomId, Remembered>> {
        self.0.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

/// Reads the room backwards to before the delivery was enqueued, or to what is known of it.
pub(crate) async fn find(core: &Core, slip: &Slip) -> Result<Found, DeliveryError> {
    let room = RoomId::parse(slip.to.as_str()).map_err(|_| DeliveryError::give_up("not a Matrix room id"))?;
    core.engine_or_later()?;
    let oldest = slip.enqueued_at.minus(SLACK);
    let (history, sent_since) = core.histories.of(&room, slip.delivery);
    let mut history = history.lock().await;
    let reaches = |history: &History| history.reaches.is_some_and(|reaches| reaches <= oldest);
    let read_back = reaches(&history) || history.too_long;
    if !read_back || sent_since {
        match read(core, &room, oldest, history.newest.clone().filter(|_| read_back)).await {
            Ok(read) => history.take(read),
            Err(error) => {
                // What was sent must be looked for again.
                core.histories.sends(&room, slip.delivery);
                return Err(error);
            }
        }
    }
    match history.deliveries.get(&slip.delivery) {
        Some(id) => Ok(Found::There(id.clone())),
        None if history.unreadable.is_some_and(|at| at >= oldest) || !reaches(&history) => Err(in_doubt()),
        None => Ok(Found::NotThere),
    }
}

impl History {
    /// Takes what was read: what is newer, or all of it.
    fn take(&mut self, read: Self) {
        if read.reaches.is_some() {
            *self = read;
            return;
        }
        self.deliveries.extend(read.deliveries);
        self.newest = read.newest.or(self.newest.take());
        self.unreadable = self.unreadable.max(read.unreadable);
    }
}

fn in_doubt() -> DeliveryError {
    DeliveryError::give_up(
        "it may have been delivered, and the room's history does not tell; look for it in the room before you retry",
    )
}

/// Reads backwards until `known`, or else until `oldest`. When `known` was met, the rest is not read again.
async fn read(
    core: &Core,
    room: &OwnedRoomId,
    oldest: Timestamp,
    known: Option<String>,
) -> Result<History, DeliveryError> {
    let mut history = History::default();
    let mut from = None;
    let mut newest = Timestamp(0);
    for _ in 0..MOST_PAGES {
        let (chunk, next) = page(core, room, from.clone()).await?;
        newest = Timestamp(0);
        for raw in &chunk {
            let Ok(event) = Envelope::read(raw) else { continue };
            if known.as_ref() == Some(&event.id) {
                return Ok(history);
            }
            history.newest.get_or_insert_with(|| event.id.clone());
            newest = newest.max(event.sent_at);
            match delivery(core, room, &event, raw).await {
                Some(Some(delivery)) => {
                    history.deliveries.insert(delivery, RemoteId::new(event.id));
                }
                Some(None) => {}
                None => history.unreadable = history.unreadable.max(Some(event.sent_at)),
            }
        }
        // One event's time may be wrong; a page of them is taken for what it says.
        // So is an end, but not an empty page: what we may not see is left out of a page, and may be all of it.
        let at_end = next.is_none() || next == from;
        if at_end || !chunk.is_empty() && newest < oldest {
            history.reaches = Some(oldest);
            return Ok(history);
        }
        from = next;
    }
    (history.reaches, history.too_long) = (Some(newest), true);
    Ok(history)
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

/// Which delivery of ours an event is; `None` if that can't be read.
async fn delivery(core: &Core, room: &RoomId, event: &Envelope, raw: &RawValue) -> Option<Option<DeliveryId>> {
    if event.sender != core.me() {
        return Some(None);
    }
    if let Some(delivery) = event.transaction().and_then(|txn| DeliveryId::parse(txn).ok()) {
        return Some(Some(delivery));
    }
    reading::own_delivery_of_any_device(core, room, event, raw).await
}
