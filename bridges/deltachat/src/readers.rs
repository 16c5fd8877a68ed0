//! Who of a chat was there when the bridge began to speak in it, or was let in since. The engine encrypts for everybody
//! in a chat, so while somebody is new nothing is handed in but the bridge's own words, which tell of them.

use sealbridge_child::CallError;
use sealbridge_contract::{
    ConversationId, DeliveryError, PersonId, Slip,
    audience::{Admission, Audience, Device, Identity, Member, Proof},
};

use crate::{
    core::Core,
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
    Ok(Some(Audience { members, turn: core.book.turn(of), chooses: false }))
}

fn member(core: &Core, of: &ConversationId, person: &PersonId, contact: Contact) -> Member {
    let key = Identity::new(person.as_str());
    let proof = if core.book.is_vouched(person, &key) { Proof::SecureJoin } else { Proof::FirstSeen };
    let identity = Some(key);
    let standing = core.book.standing(of, person, identity.as_ref());
    let since = core.book.pinned(person).map(|(_, since)| since);
    // Each device of theirs has the same key.
    let devices = vec![Device { id: "OpenPGP".into(), key: Some(person.as_str().to_owned()), withheld: None }];
    let name = translate::name_of(None, contact).map(|name| name.as_str().to_owned());
    Member { person: person.clone(), name, identity, pinned: None, proof, since, standing, devices }
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
