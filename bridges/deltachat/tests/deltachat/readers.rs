//! Who is new in a chat gets nothing of what is carried, though the engine would encrypt for them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    ConversationId, DeliveryId, Fate, PersonId, Slip, Trail,
    audience::{Admission, Member, Proof, Standing},
    trail::MarkKey,
};
use sealbridge_lab::{DeltaPerson, MailServer};
use tokio::time::Instant;

use crate::bridge::{Met, Running, SOON, met};

/// Waits until somebody stands so.
async fn stands(group: &ConversationId, running: &Running, who: &PersonId, standing: Standing) -> Result<Member> {
    let give_up = Instant::now() + SOON;
    loop {
        let audience = running.transport.audience(group).await;
        let members = audience.ok().flatten().map(|audience| audience.members).unwrap_or_default();
        match members.into_iter().find(|member| member.person == *who) {
            Some(member) if member.standing == standing => return Ok(member),
            other => ensure!(Instant::now() < give_up, "not {standing:?}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn newcomer_in_a_chat_holds_what_is_carried_until_they_are_admitted() -> Result<()> {
    let Some(met) = met().await? else { return Ok(()) };
    let server = MailServer::shared().await?.context("There is a mail server")?;
    let mark = MarkKey::new([7; 32].into()).mark(DeliveryId::random());
    let group = met.bridge.group.clone();
    let carried = |running: &Running| Slip { trail: Trail::default().with(mark), ..running.slip(&group) };
    met.running.insist("before anybody came", &carried(&met.running)).await?;
    let ann = stands(&group, &met.running, &PersonId::new(met.ann.fingerprint()), Standing::Reads).await?;
    ensure!(ann.proof == Proof::SecureJoin, "she followed an invitation: {ann:?}");

    let eve = DeltaPerson::new_on(server, "eve").await?;
    let chat = eve.join(&met.bridge.link).await?;
    let who = PersonId::new(eve.fingerprint());
    stands(&group, &met.running, &who, Standing::New).await?;
    let refused = met.running.deliver("not for her yet", &carried(&met.running)).await.expect_err("it waits");
    ensure!(matches!(refused.fate, Fate::Retry(_)) && refused.cause.contains("somebody new"), "{refused}");
    met.running.insist("the bridge's own words", &met.running.slip(&group)).await?;
    eve.hears("the bridge's own words", SOON).await?;

    // A kill makes nobody a reader.
    let Met { bridge, running, ann, .. } = met;
    running.kill().await;
    let running = bridge.start().await?;
    let new = stands(&group, &running, &who, Standing::New).await?;
    let refused = running.deliver("not for her yet", &carried(&running)).await.expect_err("it waits");
    ensure!(refused.cause.contains("somebody new"), "{refused}");
    running.transport.admit(&bridge.group, &[Admission::from(&new)]).await?;
    running.insist("for all of them", &carried(&running)).await?;
    ann.hears("for all of them", SOON).await?;
    eve.hears("for all of them", SOON).await?;
    ensure!(!eve.messages().await?.iter().any(|seen| seen.chat == chat && seen.text.contains("not for her yet")));
    running.stop().await
}
