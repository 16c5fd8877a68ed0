//! The catalogue of `docs/encryption-scenarios.md`, as far as no other test has it: between the bridge and people with
//! mautrix-python.

mod devices;
mod faults;
mod federated;
mod forwarded;
mod membership;
mod rotation;
mod running_out;

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    ConversationId, Receipt, Transport as _,
    audience::{Admission, Member, Standing},
};
use sealbridge_lab::Person;
use tokio::time::Instant;

use crate::bot::{Running, SOON};

/// Under which room key an event is.
async fn key_of(reader: &Person, room: &str, event: &str) -> Result<String> {
    let event = reader.raw_event(room, event).await?;
    event["content"]["session_id"].as_str().map(str::to_owned).context("It is encrypted")
}

/// Says something that this person hears, and gives what it is called.
async fn tells(running: &Running, room: &str, words: &str, to: &Person) -> Result<String> {
    let Receipt { id, .. } = running.says(room, words).await?;
    hears(to, words).await?;
    Ok(id.as_str().to_owned())
}

async fn hears(person: &Person, words: &str) -> Result<()> {
    let heard = person.wait_for(|message| message.body == format!("Ann: {words}"), SOON).await;
    heard.with_context(|| format!("{} should hear {words:?}", person.user_id()))?;
    Ok(())
}

/// Whether a person's client can read an event, were it only asked to.
async fn can_read(person: &Person, room: &str, event: &str) -> Result<bool> {
    Ok(person.try_read(room, event).await?.is_ok())
}

/// Who is in a room and who reads there, once it is so.
async fn sees<T>(running: &Running, room: &str, what: &str, is: impl Fn(&[Member]) -> Option<T>) -> Result<T> {
    let give_up = Instant::now() + SOON;
    loop {
        let audience = running.matrix.audience(&ConversationId::new(room)).await;
        if let Ok(Some(audience)) = &audience
            && let Some(found) = is(&audience.members)
        {
            return Ok(found);
        }
        ensure!(Instant::now() < give_up, "it does not see {what}: {audience:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until it is known that somebody has come, with an identity.
async fn sees_come(running: &Running, room: &str, who: &Person) -> Result<Admission> {
    let new = |members: &[Member]| {
        let member = members.iter().find(|member| member.person.as_str() == who.user_id())?;
        (member.standing == Standing::New && member.identity.is_some()).then(|| Admission::from(member))
    };
    sees(running, room, "the newcomer", new).await
}

/// Lets somebody read who has come, as the journey does once everybody was told of them.
async fn admits(running: &Running, room: &str, who: &Person) -> Result<()> {
    let admission = sees_come(running, room, who).await?;
    running.matrix.admit(&ConversationId::new(room), &[admission]).await.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Waits until it is known that somebody is not there any more.
async fn sees_gone(running: &Running, room: &str, who: &Person) -> Result<()> {
    let gone = |members: &[Member]| members.iter().all(|member| member.person.as_str() != who.user_id()).then_some(());
    sees(running, room, "that somebody went", gone).await
}

/// Somebody is invited by somebody else and comes.
async fn comes(inviter: &Person, room: &str, who: &Person) -> Result<()> {
    inviter.invite(room, who.user_id()).await?;
    who.wait_invite(room, SOON).await?;
    who.join(room).await
}
