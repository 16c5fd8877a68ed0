//! Who of a chat was there when the bridge began to speak in it, or was let in since. The engine encrypts for everybody
//! in a chat, so while somebody is new nothing is handed in but the bridge's own words, which tell of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use sealbridge_child::CallError;
use sealbridge_contract::{
    Author, ConversationId, DeliveryError, PersonId, Slip,
    audience::{Admission, Audience, Device, Identity, Member, Proof, Roll},
};

use crate::{
    core::{Core, lock},
    engine::{
        Engine,
        types::{Chat, Contact, SELF},
    },
    ids,
    outgoing::{asked, not_written},
    translate,
};

/// Somebody else in a chat, by their key.
struct Somebody {
    person: PersonId,
    contact: u32,
}

/// The rolls of chats, until the engine says that something about somebody is another now.
#[derive(Debug, Default)]
pub(crate) struct Rolls(Mutex<(u64, HashMap<ConversationId, Arc<Roll>>)>);

impl Rolls {
    /// What is known of a chat, and a number that says how often something was another until now.
    fn look(&self, of: &ConversationId) -> (u64, Option<Arc<Roll>>) {
        let rolls = lock(&self.0);
        (rolls.0, rolls.1.get(of).cloned())
    }

    /// Keeps what was read from `turn` on, unless something is another since.
    fn keep(&self, of: &ConversationId, turn: u64, roll: Roll) -> Arc<Roll> {
        let (roll, mut rolls) = (Arc::new(roll), lock(&self.0));
        if rolls.0 == turn {
            rolls.1.insert(of.clone(), Arc::clone(&roll));
        }
        roll
    }

    /// Something about somebody is another now.
    pub(crate) fn moved(&self) {
        let mut rolls = lock(&self.0);
        rolls.0 += 1;
        rolls.1.clear();
    }
}

/// Nothing but the bridge's own words goes to a chat while somebody is in it who was not let in.
pub(crate) async fn all_admitted(core: &Core, engine: &Engine, slip: &Slip, chat: &Chat) -> Result<(), DeliveryError> {
    // Whatever is carried has a mark of ours; words of the bridge itself have none.
    if slip.trail.hops() == 0 {
        return Ok(());
    }
    let people = people(core, engine, chat).await?;
    begin(core, &slip.to, &people).await?;
    if people.iter().all(|somebody| core.book.is_admitted(&slip.to, somebody.person.as_str())) {
        return Ok(());
    }
    core.moved(slip.to.clone());
    Err(DeliveryError::retry("somebody new is in the chat, of whom not everybody was told yet"))
}

async fn people(core: &Core, engine: &Engine, chat: &Chat) -> Result<Vec<Somebody>, DeliveryError> {
    let mut people = Vec::new();
    for contact in chat.contact_ids.iter().copied().filter(|contact| *contact != SELF) {
        // Who has no key can't be encrypted for.
        if let Some(person) = core.person(engine, contact).await.map_err(asked)? {
            people.push(Somebody { person, contact });
        }
    }
    Ok(people)
}

async fn begin(core: &Core, at: &ConversationId, people: &[Somebody]) -> Result<(), DeliveryError> {
    if core.book.is_begun(at) || people.is_empty() {
        return Ok(());
    }
    let admissions: Vec<_> = people.iter().map(|somebody| admission(&somebody.person)).collect();
    core.book.begin(at, &admissions, core.clock.now()).await.map_err(not_written)
}

/// A person is their key: another key is another person, who is new.
fn admission(person: &PersonId) -> Admission {
    Admission { person: person.clone(), identity: Some(Identity::new(person.as_str())) }
}

/// Everybody who is in a chat.
pub(crate) async fn audience(core: &Core, of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
    let Some(number) = ids::chat(of, &core.me) else { return Ok(None) };
    let engine = core.engine()?;
    let chat = match engine.chat(number).await {
        Ok(chat) if chat.is_nobodys() || !chat.is_encrypted => return Ok(None),
        Ok(chat) => chat,
        Err(CallError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(asked(error)),
    };
    let people = people(core, &engine, &chat).await?;
    begin(core, of, &people).await?;
    let is_there = |who: &PersonId| people.iter().any(|somebody| somebody.person == *who);
    core.book.keep_only(of, is_there).await.map_err(not_written)?;
    let mut members = Vec::new();
    for somebody in &people {
        let contact = engine.contact(somebody.contact).await.map_err(asked)?;
        members.push(member(core, of, &somebody.person, contact));
    }
    Ok(Some(Audience { members, turn: core.book.turn(of), chooses: false, open: false }))
}

/// Who is in a chat, ourselves included, as its people see each other. Kept until the engine says that something about
/// somebody is another now.
pub(crate) async fn roll(core: &Core, of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
    let (turn, known) = core.rolls.look(of);
    if known.is_some() {
        return Ok(known);
    }
    let Some(number) = ids::chat(of, &core.me) else { return Ok(None) };
    let engine = core.engine()?;
    let chat = engine.chat(number).await.map_err(asked)?;
    let mut people = vec![Author { id: core.me.clone(), name: Some(core.settings.name.as_str().into()) }];
    for number in chat.contact_ids.iter().copied().filter(|contact| *contact != SELF) {
        let person = core.person(&engine, number).await.map_err(asked)?;
        let contact = engine.contact(number).await.map_err(asked)?;
        // Who has no key is shown all the same.
        let id = person.unwrap_or_else(|| PersonId::new(format!("contact {number}")));
        people.push(Author { id, name: translate::name_of(None, &contact) });
    }
    Ok(Some(core.rolls.keep(of, turn, Roll(people))))
}

fn member(core: &Core, of: &ConversationId, person: &PersonId, contact: Contact) -> Member {
    let key = Identity::new(person.as_str());
    let proof = if core.book.is_vouched(person, &key) { Proof::SecureJoin } else { Proof::FirstSeen };
    let identity = Some(key);
    let standing = core.book.standing(of, person, identity.as_ref());
    let since = core.book.pinned(person).map(|(_, since)| since);
    // Each device of theirs has the same key.
    let devices = vec![Device { id: "OpenPGP".into(), key: Some(person.as_str().to_owned()), withheld: None }];
    let name = translate::name_of(None, &contact).map(|name| name.as_str().to_owned());
    Member { person: person.clone(), name, identity, pinned: None, as_pinned: true, proof, since, standing, devices }
}

/// Somebody followed an invitation of ours to its end, which proves that the key is theirs. The engine says so once, and
/// has no way to be asked.
pub(crate) async fn joined(core: &Core, engine: &Engine, contact: u32) -> Result<(), DeliveryError> {
    match core.person(engine, contact).await.map_err(asked)? {
        Some(person) => core.book.vouch(&person, &Identity::new(person.as_str())).await.map_err(not_written),
        None => Ok(()),
    }
}

/// Lets people read.
pub(crate) async fn admit(core: &Core, to: &ConversationId, who: &[Admission]) -> Result<(), DeliveryError> {
    core.book.admit(to, who, core.clock.now()).await.map_err(not_written)
}

/// Forgets somebody.
pub(crate) async fn forget(core: &Core, person: &PersonId) -> Result<bool, DeliveryError> {
    core.book.forget(person).await.map_err(not_written)
}
