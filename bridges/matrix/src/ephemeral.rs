//! What people do just now: who writes, and who has read up to where. Told in clear by Matrix itself, so asked for and
//! said only in rooms with a link that wants it. Nothing of it is kept, but in memory for a moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{
    EventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::{
        filter::RoomEventFilter,
        receipt::create_receipt,
        sync::sync_events::v3::Response,
        typing::create_typing_event::{self, v3::Typing, v3::TypingInfo},
    },
    events::receipt::ReceiptThread,
};
use sealbridge_contract::{ConversationId, Inbox, PersonId, RemoteId, Signal, gate::Encryption};
use serde_json::Value;
use tracing::debug;

use crate::{
    core::{Core, conversation},
    engine::Class,
};

/// Who writes says so again before this has passed.
const WRITES: Duration = Duration::from_secs(30);
/// That somebody still writes is said to the homeserver no more often than this.
const AGAIN: Duration = Duration::from_secs(20);
/// As many receipts of one answer are told.
const MOST: usize = 64;

/// Who writes where, as far as it was told last.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    /// In our rooms.
    here: Mutex<HashMap<OwnedRoomId, BTreeSet<OwnedUserId>>>,
    /// Elsewhere, so that our account writes in the room for all of them.
    elsewhere: Mutex<HashMap<OwnedRoomId, Elsewhere>>,
}

#[derive(Debug, Default)]
struct Elsewhere {
    until: HashMap<PersonId, Instant>,
    /// When it was said last that somebody writes; `None`: that nobody does.
    said: Option<Instant>,
}

impl Elsewhere {
    /// Notes what somebody does. Says what is to be said to the homeserver, if it is to hear anything.
    fn note(&mut self, person: &PersonId, typing: bool, now: Instant) -> Option<bool> {
        self.until.retain(|_, until| *until > now);
        if typing {
            self.until.insert(person.clone(), now + WRITES);
        } else {
            self.until.remove(person);
        }
        let somebody = !self.until.is_empty();
        let news = match self.said {
            Some(said) => !somebody || now.duration_since(said) >= AGAIN,
            None => somebody,
        };
        if news {
            self.said = somebody.then_some(now);
        }
        news.then_some(somebody)
    }
}

/// What is asked of the homeserver, for these conversations.
pub(crate) fn filter(listens: &[ConversationId]) -> RoomEventFilter {
    let mut filter = RoomEventFilter::default();
    let rooms: Vec<OwnedRoomId> = listens.iter().filter_map(|room| RoomId::parse(room.as_str()).ok()).collect();
    if rooms.is_empty() {
        filter.not_types = vec!["*".to_owned()];
    } else {
        filter.types = Some(vec!["m.typing".to_owned(), "m.receipt".to_owned()]);
        filter.rooms = Some(rooms);
    }
    filter
}

/// Passes on what a sync answer told.
pub(crate) fn tell(core: &Core, inbox: &Inbox, answer: &Response) {
    for (room, joined) in &answer.rooms.join {
        for raw in &joined.ephemeral.events {
            let Ok(event) = serde_json::from_str::<Value>(raw.json().get()) else { continue };
            let content = event.get("content").unwrap_or(&Value::Null);
            let signals = match event.get("type").and_then(Value::as_str) {
                Some("m.typing") => typing(core, room, content),
                Some("m.receipt") => receipts(core.me(), content),
                _ => continue,
            };
            for signal in signals {
                inbox.signal(&conversation(room), signal);
            }
        }
    }
}

/// The homeserver names all who write; who is new among them began, and who is missing stopped.
fn typing(core: &Core, room: &RoomId, content: &Value) -> Vec<Signal> {
    let named = content.get("user_ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let now: BTreeSet<OwnedUserId> =
        named.take(MOST).filter_map(|user| UserId::parse(user).ok()).filter(|user| user != core.me()).collect();
    let mut here = core.writing.here.lock().unwrap_or_else(PoisonError::into_inner);
    let before = match now.is_empty() {
        true => here.remove(room),
        false => here.insert(room.to_owned(), now.clone()),
    };
    let before = before.unwrap_or_default();
    let signal = |user: &OwnedUserId, typing| Signal::Typing { person: PersonId::new(user.as_str()), typing };
    let began = now.difference(&before).map(|user| signal(user, true));
    began.chain(before.difference(&now).map(|user| signal(user, false))).collect()
}

fn receipts(me: &UserId, content: &Value) -> Vec<Signal> {
    let events = content.as_object().into_iter().flatten();
    let read = events.flat_map(|(event, receipts)| {
        let users = receipts.get("m.read").and_then(Value::as_object).into_iter().flatten();
        users.map(move |(user, _)| (event, user)).filter(|(_, user)| *user != me.as_str())
    });
    let signal = |(event, user): (&String, &String)| Signal::Read {
        person: PersonId::new(&**user),
        up_to: RemoteId::new(&**event),
    };
    read.take(MOST).map(signal).collect()
}

/// Says in a room what somebody elsewhere does just now. What can't be said is forgotten.
pub(crate) async fn show(core: &Core, to: &ConversationId, signal: &Signal) {
    let Ok(room) = RoomId::parse(to.as_str()) else { return };
    if core.rooms.encryption(&room) != Encryption::Pinned {
        return;
    }
    let failed = match signal {
        Signal::Typing { person, typing } => {
            let said = {
                let mut elsewhere = core.writing.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
                elsewhere.entry(room.clone()).or_default().note(person, *typing, Instant::now())
            };
            let Some(somebody) = said else { return };
            let state = if somebody { Typing::Yes(TypingInfo::new(WRITES)) } else { Typing::No };
            let request = create_typing_event::v3::Request::new(core.me().to_owned(), room, state);
            core.http.send(request, Class::Short).await.err()
        }
        Signal::Read { up_to, .. } => {
            let Ok(event) = EventId::parse(up_to.as_str()) else { return };
            let mut request = create_receipt::v3::Request::new(room, create_receipt::v3::ReceiptType::Read, event);
            request.thread = ReceiptThread::Unthreaded;
            core.http.send(request, Class::Short).await.err()
        }
    };
    if let Some(error) = failed {
        debug!(%error, "What somebody does just now was not said.");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn account_writes_as_long_as_anybody_elsewhere_does_and_says_it_seldom() {
        let (ann, ben) = (PersonId::new("ann"), PersonId::new("ben"));
        let (mut elsewhere, start) = (Elsewhere::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (person, typing, at, said) in [
            (&ann, true, 0, Some(true)),
            (&ben, true, 1, None),
            (&ann, true, 10, None),
            (&ann, true, 21, Some(true)),
            (&ben, false, 22, None),
            (&ann, false, 23, Some(false)),
            (&ann, false, 24, None),
            (&ann, true, 25, Some(true)),
            // Ann never said that she stopped.
            (&ben, false, 60, Some(false)),
        ] {
            assert_eq!(elsewhere.note(person, typing, after(at)), said, "{at}");
        }
    }

    #[test]
    fn receipts_are_read_without_trust_and_our_own_are_none() {
        let me = UserId::parse("@bot:x").expect("it is a user id");
        let told = receipts(
            &me,
            &json!({ "$e": { "m.read": { "@ann:x": {}, "@bot:x": {} }, "m.read.private": { "@ben:x": {} } } }),
        );
        assert_eq!(told, [Signal::Read { person: PersonId::new("@ann:x"), up_to: RemoteId::new("$e") }]);
        for odd in [json!([]), json!({ "$e": 7 }), json!({ "$e": { "m.read": [] } }), json!(null)] {
            assert!(receipts(&me, &odd).is_empty());
        }
        let many: serde_json::Map<String, Value> = (0..500).map(|n| (format!("@{n}:x"), json!({}))).collect();
        assert_eq!(receipts(&me, &json!({ "$e": { "m.read": many } })).len(), MOST);
    }

    #[test]
    fn nothing_is_asked_for_where_no_link_wants_it() {
        assert_eq!(filter(&[]).not_types, ["*"]);
        let some = filter(&[ConversationId::new("!r:x")]);
        assert_eq!(some.rooms.map(|rooms| rooms.len()), Some(1));
    }
}
