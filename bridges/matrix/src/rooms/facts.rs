//! What we know of one room. Only what the server said and what we pinned; deciding is for others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedMxcUri, OwnedUserId, UserId, events::room::history_visibility::HistoryVisibility};
use sealbridge_contract::{Author, PersonId, Text, audience::Roll, gate::Encryption};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::Trust,
    engine::{RoomSettings, Whom},
    event::Envelope,
};

const MEGOLM: &str = "m.megolm.v1.aes-sha2";
const WEEK: u64 = 7 * 24 * 3600 * 1000;
const HOUR: u64 = 3600 * 1000;
/// A longer address of a picture is none.
const LONGEST: usize = 255;

/// What we know of one room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    /// Whether we are in it.
    pub(crate) membership: Membership,
    /// Seen encrypted once: pinned for ever.
    pub(crate) pin: Option<Pin>,
    /// Pinned, and its state now says something else.
    pub(crate) violated: bool,
    /// Its state was read whole, so that what it does not say is not there.
    pub(crate) looked: bool,
    /// We have not the power to send messages, by the room's own levels.
    pub(crate) muted: bool,
    /// We made it, and its version lets whoever made it do everything.
    pub(crate) creator: bool,
    /// Given up for this room.
    pub(crate) replaced_by: Option<String>,
    pub(crate) name: Option<String>,
    /// `world_readable`, `shared`, `invited` or `joined`.
    pub(crate) history: Option<String>,
    /// We joined by an invitation and have not yet seen whether it is encrypted.
    pub(crate) on_trial: bool,
    /// Who is in it, or invited.
    #[serde(skip)]
    pub(crate) people: Arc<People>,
}

/// Who is in a room. Kept beside the other facts, since it is long and changes by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct People {
    /// Who is in it, and what they call themselves there.
    pub(crate) joined: BTreeMap<OwnedUserId, Option<String>>,
    pub(crate) invited: BTreeSet<OwnedUserId>,
    /// Where the pictures of those lie who have one. Their server can see them, and so can anybody in the room.
    pub(crate) pictures: BTreeMap<OwnedUserId, OwnedMxcUri>,
    /// Who may do how much. `None`: the homeserver has not said.
    pub(crate) levels: Option<Levels>,
    /// Those who stand above all levels.
    pub(crate) creators: BTreeSet<OwnedUserId>,
}

/// The power levels of a room's people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Levels {
    users: BTreeMap<OwnedUserId, i64>,
    default: i64,
}

/// How somebody appears in a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Appearance {
    pub(crate) name: Option<String>,
    pub(crate) picture: Option<OwnedMxcUri>,
}

impl People {
    /// How somebody appears who is in the room.
    pub(crate) fn appearance(&self, user: &UserId) -> Appearance {
        Appearance { name: self.joined.get(user).cloned().flatten(), picture: self.pictures.get(user).cloned() }
    }

    /// Who is in the room, ourselves included, under the name that they have there.
    pub(crate) fn roll(&self) -> Roll {
        let called = |(user, name): (&OwnedUserId, &Option<String>)| Author {
            id: PersonId::new(user.as_str()),
            name: name.as_deref().map(Text::new),
        };
        Roll(self.joined.iter().map(called).collect())
    }

    /// The power level of somebody who is in the room.
    pub(crate) fn standing(&self, user: &UserId) -> Option<i64> {
        if !self.joined.contains_key(user) {
            return None;
        }
        if self.creators.contains(user) {
            return Some(i64::MAX);
        }
        let levels = self.levels.as_ref()?;
        Some(levels.users.get(user).copied().unwrap_or(levels.default))
    }
}

/// Whether we are in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Membership {
    #[default]
    Unknown,
    Invited {
        by: Option<OwnedUserId>,
        direct: bool,
    },
    Joined,
    Left,
}

/// The encryption settings seen when the room was pinned, or since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(crate) rotation_ms: u64,
    pub(crate) rotation_messages: u64,
}

/// Something that a person is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was encrypted, and its state now says otherwise.
    Violated,
    /// It was given up for another room.
    Replaced,
    /// We may not speak there any more.
    Muted,
}

impl Facts {
    pub(crate) fn is_joined(&self) -> bool {
        self.membership == Membership::Joined
    }

    /// What the gate may know of it.
    pub(crate) fn encryption(&self) -> Encryption {
        match self.membership {
            Membership::Joined => {}
            Membership::Left => return Encryption::Left,
            Membership::Unknown | Membership::Invited { .. } => return Encryption::Unknown,
        }
        match (self.pin, self.violated, &self.replaced_by) {
            (Some(_), _, Some(_)) => Encryption::Replaced,
            (Some(_), true, None) => Encryption::Violated,
            (Some(_), false, None) if self.muted => Encryption::Muted,
            (Some(_), false, None) => Encryption::Pinned,
            (None, ..) if self.looked && !self.on_trial => Encryption::Absent,
            (None, ..) => Encryption::Unknown,
        }
    }

    /// How keys are made for it.
    pub(crate) fn settings(&self, trust: Trust) -> RoomSettings {
        let pin = self.pin.unwrap_or(Pin { rotation_ms: WEEK, rotation_messages: 100 });
        RoomSettings {
            whom: Whom::Admitted,
            readers: trust.readers(),
            rotation_messages: pin.rotation_messages,
            rotation_period: Duration::from_millis(pin.rotation_ms),
            // A key marked as shareable would be handed to whoever is invited later.
            history: HistoryVisibility::Joined,
        }
    }

    /// Takes in one state event. Says what a person must be told.
    pub(crate) fn apply(&mut self, me: &UserId, event: &Envelope) -> Option<Change> {
        let key = event.state_key.as_deref()?;
        match (event.kind.as_str(), key) {
            ("m.room.encryption", "") => return self.apply_encryption(&event.content),
            ("m.room.power_levels", "") => return self.apply_levels(me, &event.content),
            ("m.room.create", "") => {
                let creators = creators(event);
                self.creator = creators.contains(me);
                Arc::make_mut(&mut self.people).creators = creators;
            }
            ("m.room.tombstone", "") => {
                let to = event.content_text("replacement_room").unwrap_or_default().to_owned();
                let new = self.replaced_by.is_none();
                self.replaced_by = Some(to);
                return new.then_some(Change::Replaced);
            }
            ("m.room.name", "") => {
                let name = event.content_text("name").map(sealbridge_contract::names::own);
                self.name = name.filter(|name| !name.is_empty());
            }
            ("m.room.history_visibility", "") => {
                self.history = event.content_text("history_visibility").map(str::to_owned);
            }
            ("m.room.member", user) => {
                if let Ok(user) = UserId::parse(user) {
                    self.apply_member(me, user, &event.content);
                }
            }
            _ => {}
        }
        None
    }

    /// Whoever finds it sees what is in clear there: who writes, and when.
    pub(crate) fn is_open(&self) -> bool {
        self.history.as_deref() == Some("world_readable")
    }

    /// Takes in what `m.room.encryption` says, or that it says nothing.
    pub(crate) fn apply_encryption(&mut self, content: &Value) -> Option<Change> {
        let megolm = content.get("algorithm").and_then(Value::as_str) == Some(MEGOLM);
        if megolm {
            let number = |key: &str, default: u64| content.get(key).and_then(Value::as_u64).unwrap_or(default);
            // The server's word may shorten a key's life within reason, and never lengthen it.
            self.pin = Some(Pin {
                rotation_ms: number("rotation_period_ms", WEEK).clamp(HOUR, WEEK),
                rotation_messages: number("rotation_period_msgs", 100).clamp(20, 100),
            });
            self.violated = false;
            return None;
        }
        let newly = self.pin.is_some() && !self.violated;
        self.violated |= newly;
        newly.then_some(Change::Violated)
    }

    /// Takes in who may do what.
    pub(crate) fn apply_levels(&mut self, me: &UserId, content: &Value) -> Option<Change> {
        let level = |path: &[&str]| level(path.iter().try_fold(content, |value, key| value.get(key))?);
        let ours = level(&["users", me.as_str()]).or_else(|| level(&["users_default"])).unwrap_or(0);
        let wanted = level(&["events", "m.room.encrypted"]).or_else(|| level(&["events_default"])).unwrap_or(0);
        let users = content.get("users").and_then(Value::as_object).into_iter().flatten();
        let users = users.filter_map(|(user, at)| Some((UserId::parse(user.as_str()).ok()?, self::level(at)?)));
        let default = level(&["users_default"]).unwrap_or(0);
        Arc::make_mut(&mut self.people).levels = Some(Levels { users: users.collect(), default });
        let muted = ours < wanted && !self.creator;
        let before = std::mem::replace(&mut self.muted, muted);
        (muted && !before).then_some(Change::Muted)
    }

    fn apply_member(&mut self, me: &UserId, user: OwnedUserId, content: &Value) {
        let membership = content.get("membership").and_then(Value::as_str);
        let people = Arc::make_mut(&mut self.people);
        people.joined.remove(&user);
        people.invited.remove(&user);
        people.pictures.remove(&user);
        if user == me && membership == Some("join") {
            self.membership = Membership::Joined;
        }
        match membership {
            Some("join") => {
                let name = content.get("displayname").and_then(Value::as_str);
                let name = name.map(sealbridge_contract::names::own).filter(|name| !name.is_empty());
                let picture = content.get("avatar_url").and_then(Value::as_str).map(OwnedMxcUri::from);
                if let Some(picture) = picture.filter(|picture| picture.as_str().len() <= LONGEST && picture.is_valid())
                {
                    people.pictures.insert(user.clone(), picture);
                }
                people.joined.insert(user, name);
            }
            Some("invite") => {
                people.invited.insert(user);
            }
            _ => {}
        }
    }
}

/// A level is a number; older rooms may say it in words.
fn level(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// From room version 12 on, whoever made a room stands above its levels.
fn creators(event: &Envelope) -> BTreeSet<OwnedUserId> {
    let version = event.content_text("room_version").and_then(|version| version.parse::<u32>().ok());
    if version.is_none_or(|version| version < 12) {
        return BTreeSet::new();
    }
    let others = event.content.get("additional_creators").and_then(Value::as_array);
    let others = others.into_iter().flatten().filter_map(|other| UserId::parse(other.as_str()?).ok());
    others.chain([event.sender.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn apply(facts: &mut Facts, kind: &str, key: &str, content: Value) -> Option<Change> {
        let event = json!({"event_id": "$e", "sender": "@a:x", "type": kind, "state_key": key, "content": content});
        let event = Envelope::read(&to_raw_value(&event).expect("it is JSON")).ok().expect("it is an event");
        facts.apply(&UserId::parse("@me:x").expect("it is a user id"), &event)
    }

    fn pinned() -> Facts {
        let mut facts = Facts { looked: true, ..Facts::default() };
        apply(&mut facts, "m.room.member", "@me:x", json!({"membership": "join"}));
        apply(&mut facts, "m.room.encryption", "", json!({"algorithm": MEGOLM}));
        assert_eq!(facts.encryption(), Encryption::Pinned);
        facts
    }

    #[test]
    fn emptied_or_changed_encryption_holds_and_never_unpins() {
        for content in [json!({}), json!(null), json!({"algorithm": "none"}), json!({"algorithm": 5}), json!([])] {
            let mut facts = pinned();
            assert_eq!(apply(&mut facts, "m.room.encryption", "", content.clone()), Some(Change::Violated));
            assert_eq!(facts.encryption(), Encryption::Violated, "{content}");
            assert!(facts.pin.is_some());
            assert_eq!(apply(&mut facts, "m.room.encryption", "", content), None, "it is told once");
        }
    }

    #[test]
    fn key_lives_no_longer_than_is_sensible_whatever_the_server_says() {
        for (messages, expected) in [(1, 20), (100, 100), (1_u64 << 53, 100)] {
            let mut facts = pinned();
            let content = json!({"algorithm": MEGOLM, "rotation_period_msgs": messages, "rotation_period_ms": 0});
            apply(&mut facts, "m.room.encryption", "", content);
            let settings = facts.settings(Trust::CrossSigned);
            assert_eq!(settings.rotation_messages, expected);
            assert_eq!(settings.rotation_period, Duration::from_secs(3600));
        }
    }

    #[test]
    fn no_key_is_marked_as_one_to_share_however_open_the_room_is_said_to_be() {
        for visibility in ["world_readable", "shared", "invited", "joined", "anything"] {
            let mut facts = pinned();
            apply(&mut facts, "m.room.history_visibility", "", json!({ "history_visibility": visibility }));
            assert_eq!(facts.settings(Trust::CrossSigned).history, HistoryVisibility::Joined, "{visibility}");
            assert_eq!(facts.encryption(), Encryption::Pinned);
        }
    }

    #[test]
    fn room_is_spoken_to_only_while_we_are_in_it_and_it_stands() {
        let mut facts = pinned();
        assert_eq!(apply(&mut facts, "m.room.tombstone", "", json!({})), Some(Change::Replaced));
        assert_eq!(facts.encryption(), Encryption::Replaced);
        facts.membership = Membership::Left;
        assert_eq!(facts.encryption(), Encryption::Left);
        let mut unread = Facts { membership: Membership::Joined, ..Facts::default() };
        assert_eq!(unread.encryption(), Encryption::Unknown);
        unread.looked = true;
        assert_eq!(unread.encryption(), Encryption::Absent);
    }

    #[test]
    fn room_is_spoken_to_only_with_the_power_to() {
        let encrypted = |level: Value| json!({"events": {"m.room.encrypted": level}});
        let cases = [
            (json!({}), false),
            (json!({"events_default": 50}), true),
            (json!({"events_default": "50", "users_default": 50}), false),
            (json!({"events_default": 50, "users": {"@me:x": 50}}), false),
            (json!({"users_default": -1}), true),
            (encrypted(json!(1)), true),
            (encrypted(json!([])), false),
            (json!([]), false),
        ];
        for (content, muted) in cases {
            let mut facts = pinned();
            let told = apply(&mut facts, "m.room.power_levels", "", content.clone());
            assert_eq!(facts.encryption() == Encryption::Muted, muted, "{content}");
            assert_eq!(told, muted.then_some(Change::Muted), "{content}");
            assert_eq!(apply(&mut facts, "m.room.power_levels", "", content), None, "it is told once");
            apply(&mut facts, "m.room.power_levels", "", json!({}));
            assert_eq!(facts.encryption(), Encryption::Pinned);
        }
        for (content, creator) in [
            (json!({"room_version": "12", "additional_creators": ["@me:x"]}), true),
            (json!({"room_version": "11", "additional_creators": ["@me:x"]}), false),
            (json!({"room_version": "12"}), false),
        ] {
            let mut facts = pinned();
            apply(&mut facts, "m.room.create", "", content);
            apply(&mut facts, "m.room.power_levels", "", json!({"events_default": 50}));
            assert_eq!(facts.encryption() == Encryption::Pinned, creator);
        }
    }

    #[test]
    fn standing_is_the_level_of_those_who_are_in_the_room_and_nobody_elses() {
        let mut facts = pinned();
        for name in ["@mod:x", "@ann:x", "@maker:x"] {
            apply(&mut facts, "m.room.member", name, json!({"membership": "join"}));
        }
        let standing = |facts: &Facts, user: &str| facts.people.standing(&UserId::parse(user).expect("a user id"));
        assert_eq!(standing(&facts, "@mod:x"), None, "its homeserver has said nothing");
        let levels = json!({"users": {"@mod:x": 50, "@gone:x": 100, "@ann:x": "7", "nobody": 100}, "users_default": 1});
        apply(&mut facts, "m.room.power_levels", "", levels);
        assert_eq!((standing(&facts, "@mod:x"), standing(&facts, "@ann:x")), (Some(50), Some(7)));
        assert_eq!((standing(&facts, "@maker:x"), standing(&facts, "@gone:x")), (Some(1), None));
        apply(&mut facts, "m.room.create", "", json!({"room_version": "12", "additional_creators": ["@maker:x"]}));
        assert_eq!(standing(&facts, "@maker:x"), Some(i64::MAX));
        apply(&mut facts, "m.room.member", "@mod:x", json!({"membership": "leave"}));
        assert_eq!(standing(&facts, "@mod:x"), None);
    }

    #[test]
    fn people_are_those_who_are_in_it_now() {
        let mut facts = pinned();
        let ann = UserId::parse("@ann:x").expect("it is a user id");
        for (membership, joined, invited) in
            [("invite", false, true), ("join", true, false), ("join", true, false), ("ban", false, false)]
        {
            let content = json!({"membership": membership, "displayname": "Ann\n"});
            apply(&mut facts, "m.room.member", "@ann:x", content);
            assert_eq!(facts.people.joined.contains_key(&ann), joined, "{membership}");
            assert_eq!(facts.people.invited.contains(&ann), invited, "{membership}");
        }
        for (address, picture) in [
            (json!("mxc://x/face"), Some("mxc://x/face")),
            (json!("https://evil.test/face.png"), None),
            (json!("mxc://x/../../secret"), None),
            (json!(format!("mxc://x/{}", "a".repeat(300))), None),
            (json!({}), None),
        ] {
            let content = json!({"membership": "join", "avatar_url": address});
            apply(&mut facts, "m.room.member", "@ann:x", content);
            let shown = facts.people.appearance(&ann).picture;
            assert_eq!(shown.as_ref().map(|picture| picture.as_str()), picture, "{address}");
        }
        apply(&mut facts, "m.room.member", "@ann:x", json!({"membership": "leave"}));
        apply(&mut facts, "m.room.member", "not a user", json!({"membership": "join"}));
        assert_eq!(facts.people.joined.len(), 1);
    }
}
