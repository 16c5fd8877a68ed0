//! Direct chats: which there are (`m.direct`), and opening one.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::{
        config::{get_global_account_data, set_global_account_data},
        room::create_room,
    },
    events::GlobalAccountDataEventType,
    serde::Raw,
};
use sealbridge_contract::{
    ConversationId, DeliveryError, NotAccepted, PersonId,
    gate::Encryption,
    inbox::{AccountStore, StoreWrite},
};
use serde_json::{Value, json, value::to_raw_value};
use tracing::warn;

use crate::{
    core::{Core, conversation},
    engine::{Class, HttpError, Retries, retrying},
    outgoing::http_error,
    rooms::{Facts, Membership},
};

const DIRECT: &str = "direct";

/// Which rooms are direct chats, and with whom.
#[derive(Debug, Default)]
pub(crate) struct Direct(RwLock<BTreeMap<String, Vec<String>>>);

impl Direct {
    pub(crate) async fn load(store: &AccountStore) -> Result<Self, NotAccepted> {
        let direct = Self::default();
        if let Some(kept) = store.read(DIRECT).await?
            && let Ok(content) = serde_json::from_slice(kept.expose())
        {
            direct.replace(&content);
        }
        Ok(direct)
    }

    /// Takes over what the homeserver says.
    pub(crate) fn replace(&self, content: &Value) {
        let rooms = content.as_object().into_iter().flatten().map(|(user, rooms)| {
            let rooms = rooms.as_array().into_iter().flatten();
            (user.clone(), rooms.filter_map(Value::as_str).map(str::to_owned).collect())
        });
        *self.0.write().unwrap_or_else(|lock| lock.into_inner()) = rooms.collect();
    }

    fn with(&self, user: &UserId) -> Vec<OwnedRoomId> {
        let known = self.0.read().unwrap_or_else(|lock| lock.into_inner());
        let rooms = known.get(user.as_str()).into_iter().flatten();
        rooms.filter_map(|room| RoomId::parse(room).ok()).collect()
    }

    /// Marks a room as a direct chat with a person, in the account's own data.
    pub(crate) async fn mark(&self, core: &Core, with: &UserId, room: &RoomId) -> Result<(), HttpError> {
        let kind = GlobalAccountDataEventType::Direct;
        let me = core.me().to_owned();
        let asked = get_global_account_data::v3::Request::new(me.clone(), kind.clone());
        let mut content = match core.http.send(asked, Class::Short).await {
            Ok(answer) => serde_json::from_str(answer.account_data.json().get()).unwrap_or_else(|_| json!({})),
            Err(error) if error.errcode() == Some("M_NOT_FOUND") => json!({}),
            Err(error) => return Err(error),
        };
        if !content.is_object() {
            content = json!({});
        }
        let rooms = &mut content[with.as_str()];
        match rooms.as_array_mut() {
            Some(rooms) if rooms.iter().any(|known| known == room.as_str()) => return Ok(()),
            Some(rooms) => rooms.push(room.as_str().into()),
            None => *rooms = json!([room]),
        }
        self.replace(&content);
        let content = Raw::from_json(to_raw_value(&content).expect("a JSON value serialises"));
        core.http.send(set_global_account_data::v3::Request::new_raw(me, kind, content), Class::Short).await?;
        Ok(())
    }
}

/// The write that keeps what the homeserver says of direct chats.
pub(crate) fn write(content: &Value) -> StoreWrite {
    StoreWrite::put(DIRECT, content.to_string().into_bytes())
}

/// Gives the direct, encrypted room with a person, or makes one.
pub(crate) async fn open(core: &Core, with: &PersonId) -> Result<ConversationId, DeliveryError> {
    let Ok(person) = UserId::parse(with.as_str()) else {
        return Err(DeliveryError::give_up("not a Matrix user id"));
    };
    if person == core.me() {
        return Err(DeliveryError::give_up("that is the bridge's own account"));
    }
    if let Some(room) = existing(core, &person) {
        return Ok(conversation(&room));
    }
    let room = create(core, &person).await?;
    if let Err(error) = core.direct.mark(core, &person, &room).await {
        warn!(%error, "A direct chat is not marked as one.");
    }
    Ok(conversation(&room))
}

/// A room that is marked as a direct chat, or one with nobody else in it (a crash may have come before the mark).
fn existing(core: &Core, person: &OwnedUserId) -> Option<OwnedRoomId> {
    let usable = |facts: &Facts| {
        let people = &facts.people;
        let there = people.joined.contains_key(person) || people.invited.contains(person);
        // What is meant for one person must not be read by a third, whoever marked the room.
        let alone = people.joined.len() + people.invited.len() == 2;
        facts.encryption() == Encryption::Pinned && there && alone
    };
    let marked = core.direct.with(person);
    if let Some(room) = marked.into_iter().find(|room| core.rooms.look(room, usable) == Some(true)) {
        return Some(room);
    }
    let unnamed = |room: &RoomId, facts: &Facts| (usable(facts) && facts.name.is_none()).then(|| room.to_owned());
    core.rooms.select(unnamed).into_iter().min()
}

async fn create(core: &Core, person: &OwnedUserId) -> Result<OwnedRoomId, DeliveryError> {
    let encryption = json!({
        "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" }
    });
    let encryption = Raw::from_json(to_raw_value(&encryption).expect("a JSON value serialises"));
    let mut request = create_room::v3::Request::new();
    request.preset = Some(create_room::v3::RoomPreset::TrustedPrivateChat);
    request.is_direct = true;
    request.invite = vec![person.clone()];
    request.initial_state = vec![encryption];
    // Asked once: an answer that was lost may have made a room, and `existing` finds it after the next sync.
    let once = Retries { attempts: 1, ..Retries::default() };
    let made =
        retrying(once, || core.http.send(request.clone(), Class::Page)).await.map_err(|error| http_error(&error))?;
    let room = made.room_id;
    let me = core.me().to_owned();
    let kept = core.rooms.update(&core.store, &room, |facts| {
        facts.membership = Membership::Joined;
        facts.looked = true;
        facts.apply_encryption(&json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
        let people = Arc::make_mut(&mut facts.people);
        people.joined.entry(me).or_insert(None);
        if !people.joined.contains_key(person) {
            people.invited.insert(person.clone());
        }
    });
    kept.await.map_err(|_| DeliveryError::retry("the journal did not take the new room"))?;
    Ok(room)
}
