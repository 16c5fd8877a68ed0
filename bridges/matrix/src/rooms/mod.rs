//! The rooms we know: read from memory, kept in the account's store, changed only together with what was committed.

mod facts;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex as StdMutex, PoisonError, RwLock},
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sealbridge_contract::{
    ConversationId, NotAccepted, PersonId,
    audience::Roll,
    gate::Encryption,
    inbox::{AccountStore, StoreWrite},
    transport::ConversationInfo,
};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tracing::warn;

pub(crate) use self::facts::{Appearance, Change, Facts, Membership, People};

const ROOM: &str = "room/";
const PEOPLE: &str = "people/";

/// The rooms we know.
#[derive(Debug)]
pub(crate) struct Rooms {
    known: RwLock<HashMap<OwnedRoomId, Facts>>,
    /// Held from reading facts until their change is committed, so that no two changes pass each other.
    changing: Mutex<()>,
    changed: Notify,
    /// Who is in a room under which name, as of the people that stand beside it.
    rolls: StdMutex<HashMap<OwnedRoomId, RollOf>>,
}

/// The people of a room, and the roll that was made of them.
type RollOf = (Arc<People>, Arc<Roll>);

/// Changed facts that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<OwnedRoomId, Facts>);

impl Rooms {
    /// Reads what was kept.
    pub(crate) async fn load(store: &AccountStore) -> Result<Self, NotAccepted> {
        let mut known = HashMap::new();
        for (key, value) in store.read_all(ROOM).await? {
            let Some(id) = room_id(&key, ROOM) else { continue };
            match serde_json::from_slice::<Facts>(value.expose()) {
                Ok(facts) => {
                    known.insert(id, facts);
                }
                Err(error) => warn!(%error, "What was kept of a room can't be read."),
            }
        }
        for (key, value) in store.read_all(PEOPLE).await? {
            let people = serde_json::from_slice::<People>(value.expose()).ok();
            if let (Some(id), Some(people)) = (room_id(&key, PEOPLE), people)
                && let Some(facts) = known.get_mut(&id)
            {
                facts.people = Arc::new(people);
            }
        }
        Ok(Self {
            known: RwLock::new(known),
            changing: Mutex::default(),
            changed: Notify::new(),
            rolls: StdMutex::default(),
        })
    }

    /// The right to change facts. Hold it until the change is committed and published.
    pub(crate) async fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    pub(crate) fn get(&self, room: &RoomId) -> Option<Facts> {
        self.read().get(room).cloned()
    }

    /// Looks at a room's facts without copying them.
    pub(crate) fn look<T>(&self, room: &RoomId, at: impl FnOnce(&Facts) -> T) -> Option<T> {
        self.read().get(room).map(at)
    }

    pub(crate) fn encryption(&self, room: &RoomId) -> Encryption {
        self.look(room, Facts::encryption).unwrap_or(Encryption::Unknown)
    }

    /// The power level of somebody who is in a room.
    pub(crate) fn standing(&self, conversation: &ConversationId, person: &PersonId) -> Option<i64> {
        let (room, user) = (RoomId::parse(conversation.as_str()).ok()?, UserId::parse(person.as_str()).ok()?);
        self.look(&room, |facts| facts.people.standing(&user))?
    }

    /// Who is in a room, and under which name. The same while its people are.
    pub(crate) fn roll(&self, of: &ConversationId) -> Option<Arc<Roll>> {
        let room = RoomId::parse(of.as_str()).ok()?;
        let people = self.look(&room, |facts| Arc::clone(&facts.people))?;
        let mut rolls = self.rolls.lock().unwrap_or_else(PoisonError::into_inner);
        match rolls.get(&room) {
            Some((of, roll)) if Arc::ptr_eq(of, &people) => Some(Arc::clone(roll)),
            _ => {
                let roll = Arc::new(people.roll());
                rolls.insert(room, (people, Arc::clone(&roll)));
                Some(roll)
            }
        }
    }

    /// Every room for which `wanted` gives something.
    pub(crate) fn select<T>(&self, mut wanted: impl FnMut(&RoomId, &Facts) -> Option<T>) -> Vec<T> {
        self.read().iter().filter_map(|(id, facts)| wanted(id, facts)).collect()
    }

    pub(crate) fn infos(&self) -> Vec<ConversationInfo> {
        let mut infos = self.select(|id, facts| {
            let known = matches!(facts.membership, Membership::Joined | Membership::Left);
            known.then(|| ConversationInfo {
                id: ConversationId::new(id.as_str()),
                name: facts.name.clone(),
                encryption: facts.encryption(),
                members: facts.people.joined.len(),
            })
        });
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        infos
    }

    /// Members of every encrypted room that we are in.
    pub(crate) fn correspondents(&self) -> BTreeSet<OwnedUserId> {
        let in_use = |_: &RoomId, facts: &Facts| {
            (facts.is_joined() && facts.pin.is_some()).then(|| facts.people.joined.keys().cloned().collect::<Vec<_>>())
        };
        self.select(in_use).into_iter().flatten().collect()
    }

    /// Makes committed changes visible.
    pub(crate) fn publish(&self, changes: Changes) {
        if changes.0.is_empty() {
            return;
        }
        self.known.write().unwrap_or_else(|lock| lock.into_inner()).extend(changes.0);
        self.changed.notify_waiters();
    }

    /// Changes one room's facts, durably.
    pub(crate) async fn update(
        &self,
        store: &AccountStore,
        room: &RoomId,
        change: impl FnOnce(&mut Facts),
    ) -> Result<(), NotAccepted> {
        let _turn = self.change().await;
        let mut changes = Changes::default();
        change(changes.entry(self, room));
        let writes = changes.writes(self);
        if !writes.is_empty() {
            store.write(writes).await?;
        }
        self.publish(changes);
        Ok(())
    }

    /// Forgets all that is known of a room; of one that was seen encrypted, all but that. It stays so for us for ever,
    /// whoever invites us to it again.
    pub(crate) async fn forget(&self, store: &AccountStore, room: &RoomId) -> Result<(), NotAccepted> {
        let pinned = self.get(room).filter(|facts| facts.pin.is_some());
        if let Some(Facts { pin, violated, replaced_by, .. }) = pinned {
            let left = Facts { membership: Membership::Left, pin, violated, replaced_by, ..Facts::default() };
            return self.update(store, room, |facts| *facts = left).await;
        }
        let _turn = self.change().await;
        let kept = [ROOM, PEOPLE].map(|kind| StoreWrite::delete(format!("{kind}{room}")));
        store.write(kept.into()).await?;
        self.known.write().unwrap_or_else(|lock| lock.into_inner()).remove(room);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Waits until `ready` gives something for a room's facts.
    pub(crate) async fn wait_for<T>(&self, room: &RoomId, ready: impl Fn(&Facts) -> Option<T>) -> T {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(found) = self.look(room, &ready).flatten() {
                return found;
            }
            notified.await;
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<OwnedRoomId, Facts>> {
        self.known.read().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Changes {
    /// A room's facts as they will be.
    pub(crate) fn entry(&mut self, rooms: &Rooms, room: &RoomId) -> &mut Facts {
        self.0.entry(room.to_owned()).or_insert_with(|| rooms.get(room).unwrap_or_default())
    }

    /// What has to be written for them.
    pub(crate) fn writes(&self, rooms: &Rooms) -> Vec<StoreWrite> {
        let mut writes = Vec::new();
        for (id, facts) in &self.0 {
            let before = rooms.get(id);
            let same_people =
                |before: &Facts| Arc::ptr_eq(&before.people, &facts.people) || before.people == facts.people;
            if !before.as_ref().is_some_and(same_people) {
                let people = serde_json::to_vec(facts.people.as_ref()).expect("names and ids serialise");
                writes.push(StoreWrite::put(format!("{PEOPLE}{id}"), people));
            }
            let same_otherwise =
                |before: &Facts| Facts { people: Arc::clone(&facts.people), ..before.clone() } == *facts;
            if !before.as_ref().is_some_and(same_otherwise) {
                let facts = serde_json::to_vec(facts).expect("facts serialise");
                writes.push(StoreWrite::put(format!("{ROOM}{id}"), facts));
            }
        }
        writes
    }

    /// Rooms where other people are than before.
    pub(crate) fn moved(&self, rooms: &Rooms) -> Vec<OwnedRoomId> {
        let same = |id: &RoomId, facts: &Facts| {
            rooms.look(id, |before| Arc::ptr_eq(&before.people, &facts.people) || before.people == facts.people)
        };
        self.0.iter().filter(|(id, facts)| same(id, facts) != Some(true)).map(|(id, _)| id.clone()).collect()
    }

    /// People who may have become members of encrypted rooms by these changes.
    pub(crate) fn correspondents(&self, rooms: &Rooms) -> BTreeSet<OwnedUserId> {
        let moved = |(id, facts): &(&OwnedRoomId, &Facts)| {
            let same = |before: &Facts| Arc::ptr_eq(&before.people, &facts.people) && before.pin.is_some();
            facts.is_joined() && facts.pin.is_some() && rooms.look(id, same) != Some(true)
        };
        self.0.iter().filter(moved).flat_map(|(_, facts)| facts.people.joined.keys().cloned()).collect()
    }
}

fn room_id(key: &str, prefix: &str) -> Option<OwnedRoomId> {
    RoomId::parse(key.strip_prefix(prefix)?).ok()
}
