//! Who of a room gets what the bridge says: those who were admitted, each as long as their identity is the one that was
//! pinned then. The homeserver says who is in the room; the account's book says who of them may read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use sealbridge_contract::{
    ConversationId, DeliveryError, PersonId,
    audience::{Admission, Audience, Device, Identity, Member, Proof, Standing},
    inbox::Incident,
    names,
};
use tracing::{debug, warn};

use crate::{
    config::Trust,
    core::{Core, News, conversation, shown, tell_operator},
    engine::{Claim, DeviceFacts, Engine, EngineError, Person, Whom, Withholding},
    notices::Telling,
    rooms::{Facts, People},
};

/// What is known of people's identities beside the book.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// People who can't stand as they were admitted: their identity is another one, or they have one now and had none.
    odd: Mutex<BTreeMap<OwnedUserId, Oddity>>,
    /// Whether somebody's identity was odd when so much had moved.
    judged: Mutex<HashMap<OwnedUserId, (u64, u64)>>,
    /// Counts changes of the book.
    turns: AtomicU64,
    /// Devices of people who were verified, which these did not sign, and of which the operator was told.
    strays: Mutex<BTreeSet<(OwnedUserId, OwnedDeviceId)>>,
    /// Which identity a session rests on, once that is known: it changes only when its device is signed by another.
    behind: Mutex<HashMap<(OwnedRoomId, String), String>>,
}

/// So many sessions are remembered; then it is begun anew.
const SESSIONS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// Another identity than the one that was pinned.
    Changed,
    /// An identity, where there was none.
    Appeared,
}

impl Core {
    /// Whether a person has to look before anything more is said in a room.
    pub(crate) fn is_frozen(&self, room: &RoomId) -> bool {
        !self.changed_in(room).is_empty()
    }

    /// Those in a room whose identity is another than the one that was pinned.
    pub(crate) fn changed_in(&self, room: &RoomId) -> Vec<OwnedUserId> {
        let others = self.book.others(&conversation(room));
        let odd = lock(&self.seen.odd);
        if odd.is_empty() && others.is_empty() {
            return Vec::new();
        }
        let changed = odd.iter().filter(|(_, oddity)| **oddity == Oddity::Changed).map(|(user, _)| user.clone());
        // Whom somebody let in elsewhere as they are now is not let in here.
        let elsewhere = others.iter().filter_map(|who| UserId::parse(who.as_str()).ok());
        let changed: BTreeSet<OwnedUserId> = changed.chain(elsewhere).collect();
        let here = |facts: &Facts| {
            changed.into_iter().filter(|user| facts.people.joined.contains_key(user)).collect::<Vec<_>>()
        };
        self.rooms.look(room, here).unwrap_or_default()
    }

    /// Those of a room who get its key.
    pub(crate) fn readers(&self, room: &RoomId, people: &People, whom: Whom) -> Vec<OwnedUserId> {
        let joined = people.joined.keys();
        // In a test build alone: as they would be who gave keys to everybody.
        fail::fail_point!("matrix::stray-reader", |_| joined.clone().cloned().collect());
        if whom == Whom::Everybody {
            return joined.cloned().collect();
        }
        let (at, odd) = (conversation(room), lock(&self.seen.odd));
        let reads = |user: &&OwnedUserId| {
            *user == self.me() || !odd.contains_key(*user) && self.book.is_admitted(&at, user.as_str())
        };
        joined.filter(reads).cloned().collect()
    }

    /// Whether somebody other than us is in a room who may read there.
    pub(crate) fn is_read(&self, room: &RoomId, people: &People) -> bool {
        let at = conversation(room);
        let begun = self.book.is_begun(&at);
        let mut others = people.joined.keys().filter(|user| *user != self.me());
        others.any(|user| !begun || self.book.is_admitted(&at, user.as_str()))
    }

    /// Whether a room has other people in it than those who were admitted, or some of them as they were not then.
    pub(crate) fn may_have_moved(&self, of: &ConversationId) -> bool {
        let Ok(room) = RoomId::parse(of.as_str()) else { return true };
        let (admitted, odd) = (self.book.count(of), lock(&self.seen.odd));
        let settled = |facts: &Facts| {
            let mut others = facts.people.joined.keys().filter(|user| *user != self.me());
            let known = |user: &OwnedUserId| self.book.is_admitted(of, user.as_str()) && !odd.contains_key(user);
            facts.people.joined.len() == admitted + 1 && others.all(known)
        };
        self.rooms.look(&room, settled) != Some(true)
    }

    /// Notes somebody's identity as it is now. False: they must not read as they were admitted, which is told.
    pub(crate) fn observe(&self, known: &Person) -> bool {
        if known.user == self.me() {
            return true;
        }
        fail::fail_point!("matrix::stray-reader", |_| true);
        self.tell_strays(known);
        let oddity = self.oddity(known);
        let before = {
            let mut odd = lock(&self.seen.odd);
            match oddity {
                Some(oddity) => odd.insert(known.user.clone(), oddity),
                None => odd.remove(&known.user),
            }
        };
        if before != oddity {
            for room in self.rooms_of(&known.user) {
                if oddity == Some(Oddity::Changed) {
                    self.tell_changed(&room, known);
                }
                self.signals.moved(room);
            }
        }
        oddity.is_none()
    }

    fn oddity(&self, known: &Person) -> Option<Oddity> {
        if known.violation {
            return Some(Oddity::Changed);
        }
        // People compared it: that says more than any pin, which follows.
        if self.is_compared(known) {
            return None;
        }
        let (pinned, _) = self.book.pinned(&person(&known.user))?;
        match (pinned, identity(known)) {
            (Some(pinned), Some(now)) if pinned != now => Some(Oddity::Changed),
            // Where unsigned devices read, nothing but the pin says whose they are.
            (Some(_), None) if self.settings.trust == Trust::AnyDevice && !known.stale => Some(Oddity::Changed),
            (None, Some(_)) => Some(Oddity::Appeared),
            _ => None,
        }
    }

    /// Whether people compared who somebody is now. Our signature stays on an identity that was replaced since, and a
    /// homeserver can show both again.
    fn is_compared(&self, known: &Person) -> bool {
        let is_left = |now: &Identity| self.book.is_left_behind(&person(&known.user), now);
        known.verified && !identity(known).as_ref().is_some_and(is_left)
    }

    /// Whether somebody's identity is another than the one that was pinned, by all that is known now.
    pub(crate) async fn contradicts(&self, engine: &Engine, user: &UserId) -> Result<bool, EngineError> {
        let at = (engine.moves(), self.seen.turns.load(Ordering::SeqCst));
        if lock(&self.seen.judged).get(user) != Some(&at) {
            self.observe(&engine.person(user).await?);
            lock(&self.seen.judged).insert(user.to_owned(), at);
        }
        Ok(lock(&self.seen.odd).get(user) == Some(&Oddity::Changed))
    }

    /// The identity that a session rests on, as it was when its device was looked up, or as it is since its owner has
    /// another, which signs the same device.
    pub(crate) async fn identity_behind(
        &self,
        engine: &Engine,
        sender: &UserId,
        room: &RoomId,
        session: &str,
        claim: Option<&Claim>,
    ) -> Result<Option<String>, EngineError> {
        let device = claim.map_or("", |claim| &claim.device_key);
        let key = (room.to_owned(), [session, " ", device].concat());
        let known = lock(&self.seen.behind).get(&key).cloned();
        if known.is_some() && !self.is_of_another(sender, known.as_deref()) {
            return Ok(known);
        }
        let was_left = |then: &str| self.book.is_left_behind(&person(sender), &Identity::new(then));
        let found = engine.identity_behind(room, session, claim, was_left).await?;
        if let Some(found) = &found {
            let mut behind = lock(&self.seen.behind);
            if behind.len() >= SESSIONS {
                behind.clear();
            }
            behind.insert(key, found.clone());
        }
        Ok(found)
    }

    /// Whether somebody was let into a room as somebody else than who is pinned by now.
    pub(crate) fn is_another_there(&self, room: &RoomId, user: &UserId) -> bool {
        self.book.is_another(&conversation(room), &person(user))
    }

    /// Whether a message rests on another identity than the one that was pinned for its sender.
    pub(crate) fn is_of_another(&self, sender: &UserId, behind: Option<&str>) -> bool {
        let behind = behind.map(Identity::new);
        self.book.contradicts(&person(sender), behind.as_ref())
    }

    /// Looks at everybody whose identity is pinned. What is found changes what is shown sooner: before a key leaves,
    /// and before a message is taken in, each is looked at all the same.
    pub(crate) async fn observe_all(&self, engine: &Engine) {
        let known = self.book.people();
        let users: Vec<_> = known.iter().filter_map(|person| UserId::parse(person.as_str()).ok()).collect();
        self.observe_these(engine, &users).await;
    }

    /// Looks at people whose devices were read anew.
    pub(crate) async fn observe_these(&self, engine: &Engine, users: &[OwnedUserId]) {
        for user in users {
            match engine.person(user).await {
                Ok(known) => {
                    self.pin_if_compared(&known).await;
                    self.observe(&known);
                }
                Err(error) => warn!(%error, "Somebody's identity could not be looked at."),
            }
        }
    }

    /// Pins anew whom people have compared identities with.
    async fn pin_if_compared(&self, known: &Person) {
        let now = identity(known);
        if self.is_compared(known) && !known.violation && self.book.contradicts(&person(&known.user), now.as_ref()) {
            self.pin_compared(known).await;
        }
    }

    /// Somebody's identity was compared just now, be it one that was left behind before. False: another is shown meanwhile,
    /// which was not compared.
    pub(crate) async fn compared(&self, engine: &Engine, user: &UserId, identity_then: &str) -> bool {
        match engine.person(user).await {
            Ok(known) if known.verified && !known.violation && known.master_key.as_deref() == Some(identity_then) => {
                if self.book.contradicts(&person(user), identity(&known).as_ref()) {
                    self.pin_compared(&known).await;
                }
                true
            }
            Ok(_) => false,
            // It is compared all the same, and pinned at the next look.
            Err(error) => {
                warn!(%error, "A compared identity is not pinned yet.");
                true
            }
        }
    }

    async fn pin_compared(&self, known: &Person) {
        match self.book.pin_anew(&admission(known), self.clock.now()).await {
            Ok(()) => {
                self.seen.turns.fetch_add(1, Ordering::SeqCst);
                self.signals.tell([News::Devices { user: known.user.clone() }]);
            }
            // It is compared all the same, and pinned at the next look.
            Err(error) => warn!(%error, "A compared identity is not pinned yet."),
        }
    }

    fn rooms_of(&self, user: &UserId) -> Vec<OwnedRoomId> {
        self.rooms.select(|room, facts| {
            (facts.is_joined() && facts.people.joined.contains_key(user)).then(|| room.to_owned())
        })
    }

    /// Tells of devices that somebody who was verified did not sign: whoever compares emoji wants to know of them.
    fn tell_strays(&self, known: &Person) {
        if !known.verified {
            return;
        }
        for device in known.devices.iter().filter(|device| !device.cross_signed) {
            if !lock(&self.seen.strays).insert((known.user.clone(), device.device.clone())) {
                continue;
            }
            let (user, id) = (shown(&known.user), names::id(device.device.as_str()));
            let reads = if self.settings.trust == Trust::AnyDevice { "" } else { " It gets no keys and is not read." };
            let (topic, words) = match self.notices.next(&format!("stray/{user}"), self.clock.now()) {
                Telling::Each => (
                    format!("unsigned-device/{user}/{id}"),
                    format!(
                        "{user}, who was verified, has a device that they did not sign: {id}.{reads} If they don't know \
                         it, their homeserver has made it up."
                    ),
                ),
                Telling::Summary => (
                    format!("unsigned-devices-more/{}", self.clock.now().0),
                    format!("{user}, who was verified, has more devices that they did not sign.{reads}"),
                ),
                Telling::Nothing => continue,
            };
            let audience = sealbridge_contract::inbox::Audience::Operator;
            self.signals.tell_people(Incident { conversation: None, topic, words, audience });
        }
    }

    fn tell_changed(&self, room: &RoomId, known: &Person) {
        let today = self.clock.now().0 / (24 * 3600 * 1000);
        let incident = match self.notices.next(&format!("identity-changed/{room}"), self.clock.now()) {
            Telling::Each => {
                let now = known.master_key.as_deref().unwrap_or("none");
                let words = format!(
                    "Nothing is sent to {room}, and nothing of {user} is carried: their identity is another than the one \
                     that was known. Compare it with them: `sealbridge verify`; or let them read as they are: `sealbridge \
                     approve`.",
                    room = names::id(room.as_str()),
                    user = shown(&known.user),
                );
                tell_operator(room, format!("identity-changed/{}/{now}", known.user), words)
            }
            Telling::Summary => {
                let words = format!(
                    "More identities than these change in {}, or the same ones again and again. They are not told one \
                     by one: `sealbridge trust list` shows them.",
                    names::id(room.as_str())
                );
                tell_operator(room, format!("identity-changed-more/{room}/{today}"), words)
            }
            Telling::Nothing => return,
        };
        self.signals.tell_people(incident);
    }
}

/// Makes sure that it is written down who was in a room when the bridge began to speak there.
pub(crate) async fn begin(core: &Core, engine: &Engine, room: &RoomId) -> Result<(), DeliveryError> {
    let at = conversation(room);
    if core.book.is_begun(&at) {
        return Ok(());
    }
    let people = core.rooms.look(room, |facts| std::sync::Arc::clone(&facts.people)).unwrap_or_default();
    let others: Vec<OwnedUserId> = people.joined.keys().filter(|user| *user != core.me()).cloned().collect();
    if others.is_empty() {
        return Ok(());
    }
    engine.acquaint(&others).await.map_err(later)?;
    let mut admissions = Vec::new();
    for user in &others {
        admissions.push(admission(&engine.person(user).await.map_err(later)?));
    }
    core.book.begin(&at, &admissions, core.clock.now()).await.map_err(not_written)?;
    book_changed(core, engine, &others).await;
    Ok(())
}

/// Everybody who is in a room, or invited.
pub(crate) async fn audience(core: &Core, of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
    let Ok(room) = RoomId::parse(of.as_str()) else { return Ok(None) };
    let looked = core
        .rooms
        .look(&room, |facts| facts.is_joined().then(|| (std::sync::Arc::clone(&facts.people), facts.is_open())));
    let Some((people, open)) = looked.flatten() else { return Ok(None) };
    let engine = core.engine_or_later()?;
    begin(core, engine, &room).await?;
    let is_there = |who: &PersonId| people.joined.keys().any(|user| user.as_str() == who.as_str());
    core.book.keep_only(of, is_there).await.map_err(not_written)?;
    // Of somebody who has just come nothing is known yet. Whose server does not answer has no identity for now.
    let joined: Vec<OwnedUserId> = people.joined.keys().cloned().collect();
    if let Err(error) = engine.acquaint(&joined).await {
        debug!(%error, "Not everybody's devices could be read.");
    }
    let joined = people.joined.iter().map(|(user, name)| (user, name.clone(), true));
    let invited = people.invited.iter().map(|user| (user, None, false));
    let mut members = Vec::new();
    for (user, name, is_in) in joined.chain(invited).filter(|(user, ..)| *user != core.me()) {
        let known = engine.person(user).await.map_err(later)?;
        core.observe(&known);
        members.push(member(core, of, &known, name, is_in));
    }
    Ok(Some(Audience { members, turn: core.book.turn(of), chooses: true, open }))
}

fn member(core: &Core, of: &ConversationId, known: &Person, name: Option<String>, is_in: bool) -> Member {
    let (who, now) = (person(&known.user), identity(known));
    let pinned = core.book.pinned(&who);
    let since = pinned.as_ref().map(|(_, since)| *since);
    let as_pinned = pinned.as_ref().is_none_or(|(pinned, _)| *pinned == now);
    let pinned = pinned.and_then(|(pinned, _)| pinned).filter(|pinned| Some(pinned) != now.as_ref());
    let standing = match is_in {
        true if core.oddity(known) == Some(Oddity::Changed) => Standing::Changed,
        true if core.is_compared(known) && core.book.is_admitted(of, who.as_str()) => Standing::Reads,
        true => core.book.standing(of, &who, now.as_ref()),
        false => Standing::Invited,
    };
    let proof = match &now {
        Some(_) if core.is_compared(known) => Proof::Verified,
        Some(_) => Proof::CrossSigned,
        None => Proof::Unknown,
    };
    let devices = known.devices.iter().map(device).collect();
    Member { person: who, name, identity: now, pinned, as_pinned, proof, since, standing, devices }
}

fn device(facts: &DeviceFacts) -> Device {
    let why = facts.withheld.map(|why| match why {
        Withholding::Unsigned => "not signed by its owner",
        Withholding::NoIdentity => "its owner has no identity",
        Withholding::Blocked => "blocked here",
        Withholding::NoOlmSession => "no encrypted channel to it could be made",
        Withholding::Everything => "its name stands for every device, so nothing can be sent to it alone",
        Withholding::Ours => "another device of the bridge's own account",
    });
    Device { id: facts.device.to_string(), key: facts.ed25519.clone(), withheld: why.map(str::to_owned) }
}

/// Lets people read, each with the identity that whoever decided it saw.
pub(crate) async fn admit(core: &Core, to: &ConversationId, who: &[Admission]) -> Result<(), DeliveryError> {
    let engine = core.engine_or_later()?;
    let room = RoomId::parse(to.as_str()).map_err(|_| DeliveryError::give_up("not a Matrix room id"))?;
    for admitted in who {
        let user =
            UserId::parse(admitted.person.as_str()).map_err(|_| DeliveryError::give_up("not a Matrix user id"))?;
        let known = engine.person(&user).await.map_err(later)?;
        if identity(&known) != admitted.identity {
            return Err(DeliveryError::retry("their identity has changed since"));
        }
        // Whoever approves another identity than the one that was verified gives that verification up.
        if known.violation {
            engine.give_up_verification(&user).await.map_err(later)?;
        }
    }
    core.book.admit(to, who, core.clock.now()).await.map_err(not_written)?;
    let users = who.iter().filter_map(|admitted| UserId::parse(admitted.person.as_str()).ok());
    let users: Vec<_> = users.collect();
    book_changed(core, engine, &users).await;
    core.signals.moved(room.clone());
    core.signals.tell(users.into_iter().map(|sender| News::Distrusted { room: room.clone(), sender }));
    Ok(())
}

pub(crate) async fn forget(core: &Core, who: &PersonId) -> Result<bool, DeliveryError> {
    let engine = core.engine_or_later()?;
    let known = core.book.forget(who).await.map_err(not_written)?;
    if let Ok(user) = UserId::parse(who.as_str()) {
        book_changed(core, engine, std::slice::from_ref(&user)).await;
        core.rooms_of(&user).into_iter().for_each(|room| core.signals.moved(room));
    }
    Ok(known)
}

/// Looks again at those of whom the book says something else now.
async fn book_changed(core: &Core, engine: &Engine, users: &[OwnedUserId]) {
    core.seen.turns.fetch_add(1, Ordering::SeqCst);
    core.observe_these(engine, users).await;
}

fn admission(known: &Person) -> Admission {
    Admission { person: person(&known.user), identity: identity(known) }
}

fn identity(known: &Person) -> Option<Identity> {
    known.master_key.as_ref().map(Identity::new)
}

fn person(user: &UserId) -> PersonId {
    PersonId::new(user.as_str())
}

fn later(error: EngineError) -> DeliveryError {
    match &error {
        EngineError::Http(error) => crate::outgoing::http_error(error),
        error => DeliveryError::retry(error.to_string()),
    }
}

fn not_written(error: sealbridge_contract::NotAccepted) -> DeliveryError {
    DeliveryError::retry(error.to_string())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
