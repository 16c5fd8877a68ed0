//! One sync answer → one batch: messages, unreadables, gaps, room facts and the cursor, to be committed together.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, RoomId, UserId,
    api::client::sync::sync_events::v3::{InvitedRoom, Response, State, Timeline},
    events::AnySyncStateEvent,
    serde::Raw,
};
use sealbridge_contract::{
    PersonId, SecretBytes,
    inbox::{Arrival, Arrived, Batch, Echo, Incident, StoreWrite, Unreadable},
};
use serde_json::{Value, value::RawValue};

use crate::{
    core::{Core, News, conversation, tell_operator, tell_room},
    engine::{EngineError, LEAVING},
    event::Envelope,
    fetch,
    reading::{self, Read},
    rooms::{Change, Changes, Facts, Membership},
};

/// Where we are in the server's stream of events.
pub(crate) const CURSOR: &str = "sync/next-batch";

/// Why nothing is sent to a room whose levels do not let us speak.
pub(crate) const MUTED: &str = "The bridge may not speak in the room any more: its power level is too low. What is to be \
     sent there waits until those who run the room let it send messages.";

/// A batch, and what follows once it is committed.
pub(crate) struct Built {
    pub(crate) batch: Batch,
    pub(crate) changes: Changes,
    pub(crate) news: Vec<News>,
    pub(crate) gaps: bool,
    pub(crate) invites: bool,
    pub(crate) direct: Option<Value>,
    pub(crate) verifications: Vec<(OwnedRoomId, Box<RawValue>)>,
}

/// Reads a sync answer that was asked for with `since`. Changes nothing, and gives the same batch each time.
pub(crate) async fn build(core: &Core, answer: &Response, since: Option<&str>) -> Result<Built, EngineError> {
    let mut built = Built {
        batch: Batch::default(),
        changes: Changes::default(),
        news: Vec::new(),
        gaps: false,
        invites: false,
        direct: None,
        verifications: Vec::new(),
    };
    for (room, invited) in &answer.rooms.invite {
        invite(core, &mut built, room, invited);
    }
    for (room, joined) in &answer.rooms.join {
        let before = take_state(core, &mut built, room, &joined.state, &joined.timeline);
        let facts = built.changes.entry(&core.rooms, room);
        facts.membership = Membership::Joined;
        facts.looked |= !before.joined;
        if since.is_some() {
            timeline(core, &mut built, room, &joined.timeline, since, before).await?;
        }
    }
    for (room, left) in &answer.rooms.leave {
        if core.rooms.look(room, |_| ()).is_none() {
            // An invitation that was declined and forgotten.
            continue;
        }
        let before = take_state(core, &mut built, room, &left.state, &left.timeline);
        if since.is_some() && before.joined {
            timeline(core, &mut built, room, &left.timeline, since, before).await?;
        }
        let facts = built.changes.entry(&core.rooms, room);
        facts.membership = Membership::Left;
        // An answer that was under way while we left says that we are in it, and the next one that we are not.
        let said = left.timeline.events.iter().map(Raw::json);
        // One that was ever encrypted is not left by us, whoever says so with our own words.
        let own = facts.pin.is_none()
            && events(&left.state).map(Raw::json).chain(said).any(|event| is_our_leaving(core.me(), event));
        if before.joined && !facts.on_trial && !own {
            let words = "The bridge is no longer in the room: it was removed or left. Invite it again to go on.";
            built.batch.incidents.push(tell_operator(room, this_time(core, "left"), words));
        }
    }
    for event in &answer.account_data.events {
        direct_chats(&mut built, event.json());
    }
    built.batch.store.extend(built.changes.writes(&core.rooms));
    if since != Some(answer.next_batch.as_str()) {
        built.batch.store.push(StoreWrite::put(CURSOR, answer.next_batch.as_bytes()));
    }
    Ok(built)
}

/// What was known of a room before this answer.
#[derive(Clone, Copy)]
struct Before {
    joined: bool,
    pinned: bool,
}

fn take_state(core: &Core, built: &mut Built, room: &RoomId, state: &State, timeline: &Timeline) -> Before {
    let facts = built.changes.entry(&core.rooms, room);
    let before = Before { joined: facts.is_joined(), pinned: facts.pin.is_some() };
    if !before.joined {
        // The server tells the state of a room we are new in as a whole.
        facts.people = Arc::default();
    }
    let mut incidents = Vec::new();
    let mut apply = |raw: &RawValue| {
        if let Ok(event) = Envelope::read(raw)
            && let Some(change) = facts.apply(core.me(), &event)
        {
            incidents.push(tell(core, room, change));
        }
    };
    events(state).for_each(|event| apply(event.json()));
    if matches!(state, State::Before(_)) {
        timeline.events.iter().for_each(|event| apply(event.json()));
    }
    built.batch.incidents.extend(incidents);
    before
}

fn events(state: &State) -> impl Iterator<Item = &Raw<AnySyncStateEvent>> {
    match state {
        State::After(state) => state.events.iter(),
        State::Before(state) => state.events.iter(),
        _ => [].iter(),
    }
}

/// Whether this is our leaving of a room that is not encrypted, which was told when it was done.
fn is_our_leaving(me: &UserId, event: &RawValue) -> bool {
    Envelope::read(event).is_ok_and(|event| {
        event.kind == "m.room.member"
            && event.sender == me
            && event.state_key.as_deref() == Some(me.as_str())
            && event.content.get("reason").and_then(Value::as_str) == Some(LEAVING)
    })
}

/// What may happen to a room again is told again, yet no more than once an hour: a homeserver can make it happen at will.
pub(crate) fn this_time(core: &Core, topic: &str) -> String {
    format!("{topic}/{}", core.clock.now().0 / 3_600_000)
}

fn tell(core: &Core, room: &RoomId, change: Change) -> Incident {
    match change {
        Change::Violated => tell_operator(
            room,
            this_time(core, "encryption-violated"),
            "The room was encrypted, and its homeserver now says that it is not. Nothing is sent there until it is again.",
        ),
        Change::Replaced => tell_operator(
            room,
            "replaced",
            "The room was given up for another. The bridge does not follow by itself; say `sealbridge links replace`.",
        ),
        Change::Muted => tell_operator(room, this_time(core, "muted"), MUTED),
    }
}

async fn timeline(
    core: &Core,
    built: &mut Built,
    room: &RoomId,
    timeline: &Timeline,
    since: Option<&str>,
    before: Before,
) -> Result<(), EngineError> {
    let facts = built.changes.entry(&core.rooms, room);
    if facts.pin.is_none() {
        return Ok(());
    }
    let people = Arc::clone(&facts.people);
    let events: Vec<&RawValue> = timeline.events.iter().map(Raw::json).collect();
    let is_join = |raw: &&RawValue| {
        // Most events are not worth reading twice.
        raw.get().contains("m.room.member")
            && Envelope::read(raw).is_ok_and(|event| event.is_join_of(core.me(), !before.joined))
    };
    let own_join = events.iter().rposition(is_join);
    if own_join.is_none() && timeline.limited {
        gap(core, built, room, timeline, since.filter(|_| before.joined));
    }
    for raw in events.into_iter().skip(own_join.map_or(0, |at| at + 1)) {
        let read = reading::read(core, room, &people, raw).await?;
        if matches!(read, Read::Plaintext { .. }) && before.joined && !before.pinned {
            // It was said before the room was encrypted.
            continue;
        }
        if matches!(read, Read::Later { .. }) && !core.is_linked(room) {
            // Nothing is fetched for what nobody hears.
            continue;
        }
        let mut sorted = sort(room, read, raw);
        built.batch.arrivals.extend(sorted.arrived.map(|what| Arrival { conversation: conversation(room), what }));
        built.batch.echoes.extend(sorted.echo);
        built.batch.incidents.extend(sorted.incident);
        built.news.append(&mut sorted.news);
        built.verifications.extend(sorted.verification.map(|step| (room.to_owned(), step)));
    }
    Ok(())
}

fn gap(core: &Core, built: &mut Built, room: &RoomId, timeline: &Timeline, until: Option<&str>) {
    let what = match &timeline.prev_batch {
        Some(from) => Arrived::Gap { from: from.clone(), until: until.map(str::to_owned) },
        None => {
            let words =
                "The homeserver left out messages and does not say where to read them. They are lost to the bridge.";
            built.batch.incidents.push(tell_operator(room, this_time(core, "gap-without-start"), words));
            return;
        }
    };
    built.batch.arrivals.push(Arrival { conversation: conversation(room), what });
    built.gaps = true;
}

/// What one event adds to a batch.
#[derive(Default)]
pub(crate) struct Sorted {
    pub(crate) arrived: Option<Arrived>,
    pub(crate) echo: Option<Echo>,
    pub(crate) incident: Option<Incident>,
    pub(crate) news: Vec<News>,
    pub(crate) verification: Option<Box<RawValue>>,
}

/// Puts what was read where it belongs.
pub(crate) fn sort(room: &RoomId, read: Read, raw: &RawValue) -> Sorted {
    let mut sorted = Sorted::default();
    match read {
        Read::Message(incoming) => sorted.arrived = Some(Arrived::Message(*incoming)),
        Read::Echo { id, delivery } => sorted.echo = Some(Echo { conversation: conversation(room), delivery, id }),
        Read::Refused { id, sender, reason } => sorted.arrived = Some(Arrived::Refused { id, sender, reason }),
        Read::Plaintext { id, sender } => {
            let reason = "it was sent in clear into an encrypted room".into();
            let words = "A message was sent here without encryption. It is not carried.";
            sorted.incident = Some(tell_room(room, "plaintext-in-encrypted-room", words));
            sorted.arrived = Some(Arrived::Refused { id, sender: PersonId::new(sender.as_str()), reason });
        }
        Read::Unreadable(waits) => {
            let room = room.to_owned();
            sorted.news.push(match waits.distrusted {
                Some(_) => News::Distrusted { room, sender: waits.sender.clone() },
                None => News::Session { room, session_id: waits.session.clone() },
            });
            sorted.arrived = Some(Arrived::Unreadable(Unreadable {
                hint: waits.hint(),
                id: waits.id,
                sender: PersonId::new(waits.sender.as_str()),
                raw: SecretBytes::new(raw.get().as_bytes().to_vec()),
                reason: waits.reason,
                holds_sender: waits.holds_sender,
            }));
        }
        Read::Later { id, sender, reason } => {
            sorted.news.push(News::Fetch);
            sorted.arrived = Some(Arrived::Unreadable(Unreadable {
                id,
                sender,
                raw: SecretBytes::new(raw.get().as_bytes().to_vec()),
                hint: fetch::HINT.to_owned(),
                reason: reason.to_owned(),
                holds_sender: true,
            }));
        }
        Read::Verification(step) => sorted.verification = Some(step),
        Read::Nothing => {}
    }
    sorted
}

fn invite(core: &Core, built: &mut Built, room: &RoomId, invited: &InvitedRoom) {
    let mut by = None;
    let (mut direct, mut doubtful) = (false, false);
    let mut name = None;
    for raw in &invited.invite_state.events {
        let Ok(event) = serde_json::from_str::<Value>(raw.json().get()) else { continue };
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        let content = |key: &str| event.get("content").and_then(|content| content.get(key));
        match text("type") {
            Some("m.room.member") if text("state_key") == Some(core.me().as_str()) => {
                let sender = text("sender").and_then(|sender| UserId::parse(sender).ok());
                // The inviting server may send along what it likes, another invitation of us among it.
                doubtful |= by.is_some() && by != sender || content("membership") != Some(&"invite".into());
                by = sender;
                direct = content("is_direct").and_then(Value::as_bool).unwrap_or(false);
            }
            Some("m.room.name") => name = content("name").and_then(Value::as_str).map(sealbridge_contract::names::own),
            _ => {}
        }
    }
    let by = by.filter(|_| !doubtful);
    let facts: &mut Facts = built.changes.entry(&core.rooms, room);
    if facts.is_joined() {
        let words = "The bridge was removed from the room while it was away, and invited again. What was said between \
                     its last answer and its removal is not shown to it and does not cross.";
        built.batch.incidents.push(tell_operator(room, this_time(core, "removed-while-away"), words));
    }
    facts.membership = Membership::Invited { by, direct };
    facts.name = name.or(facts.name.take());
    built.invites = true;
}

fn direct_chats(built: &mut Built, raw: &RawValue) {
    let Ok(event) = serde_json::from_str::<Value>(raw.get()) else { return };
    if event.get("type").and_then(Value::as_str) == Some("m.direct")
        && let Some(content) = event.get("content")
    {
        built.batch.store.push(crate::direct::write(content));
        built.direct = Some(content.clone());
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_we_left_ourselves_since_it_is_not_encrypted_is_no_news() {
        let leaving = |sender: &str, of: &str, reason: Option<&str>| {
            let content = json!({ "membership": "leave", "reason": reason });
            let event = json!({
                "type": "m.room.member", "sender": sender, "state_key": of, "content": content,
                "event_id": "$e", "origin_server_ts": 1,
            });
            let raw = serde_json::value::to_raw_value(&event).expect("it is JSON");
            is_our_leaving(user_id!("@bot:x"), &raw)
        };
        assert!(leaving("@bot:x", "@bot:x", Some(LEAVING)));
        assert!(!leaving("@mod:x", "@bot:x", Some(LEAVING)), "somebody removed us");
        assert!(!leaving("@bot:x", "@bot:x", None), "somebody else uses our account");
        assert!(!leaving("@mod:x", "@mod:x", Some(LEAVING)), "somebody else left");
    }
}
