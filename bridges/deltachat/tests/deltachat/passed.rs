//! Mail that the engine passed over, since its mail server went away in the middle of an answer, comes all the same.
//! What such an engine wrote down is written into its database here: where reading goes on, too far ahead.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sealbridge_lab::{DeltaPerson, MailServer, mail::Relay};

use crate::{
    bridge::{Bridge, Met, Running, SOON, met, until},
    trouble::{change_database, store},
};

/// It passes over the next three.
const TOO_FAR: &str = "UPDATE imap_sync SET uid_next = uid_next + 3;";

/// Ann and the bridge, which reads its mail through a relay.
struct Behind {
    relay: Relay,
    bridge: Bridge,
    running: Running,
    ann: DeltaPerson,
    chat: u32,
}

async fn behind_a_relay() -> Result<Option<Behind>> {
    let Some(server) = MailServer::shared().await? else { return Ok(None) };
    let relay = Relay::before(server.imaps()).await?;
    let bridge = Bridge::on(&server.mailbox("bridge")?, relay.port(), server.smtps(), Arc::default()).await?;
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    Ok(Some(Behind { relay, bridge, running, ann, chat }))
}

/// Has Ann say something, and waits until the bridge is sure of what it read so far.
async fn sure(bridge: &Bridge, running: &Running, ann: &DeltaPerson, chat: u32) -> Result<String> {
    let first = ann.send(chat, "first").await?.id;
    running.accepted(&first).await?;
    let give_up = Instant::now() + SOON;
    while store(bridge).read("read").await?.is_none() {
        ensure!(Instant::now() < give_up, "it is never sure of what it read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(first)
}

async fn three(ann: &DeltaPerson, chat: u32) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for number in 0..3 {
        said.push(ann.send(chat, &format!("passed over {number}")).await?.id);
    }
    Ok(said)
}

/// All of them were accepted, in order.
async fn all_come(bridge: &Bridge, running: &Running, first: &str, said: &[String]) -> Result<()> {
    for id in said {
        running.accepted(id).await?;
    }
    let accepted: Vec<_> = bridge.said().into_iter().map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(accepted, [&[first.to_owned()], said].concat());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_an_engine_passed_over_before_it_ended_comes_at_the_next_start() -> Result<()> {
    let Some(Met { bridge, running, ann, chat }) = met().await? else { return Ok(()) };
    let first = sure(&bridge, &running, &ann, chat).await?;
    running.stop().await?;
    change_database(&bridge, TOO_FAR)?;
    let said = three(&ann, chat).await?;
    let running = bridge.start().await?;
    all_come(&bridge, &running, &first, &said).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_passed_over_when_a_connection_ends_comes_once_there_is_another() -> Result<()> {
    let Some(Behind { relay, bridge, running, ann, chat }) = behind_a_relay().await? else { return Ok(()) };
    let first = sure(&bridge, &running, &ann, chat).await?;
    change_database(&bridge, TOO_FAR)?;
    relay.cut();
    let said = three(&ann, chat).await?;
    relay.mend();
    all_come(&bridge, &running, &first, &said).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_passed_over_in_the_first_moments_of_an_account_comes_too() -> Result<()> {
    let Some(Behind { relay, bridge, running, ann, chat }) = behind_a_relay().await? else { return Ok(()) };
    let first = ann.send(chat, "first").await?.id;
    running.accepted(&first).await?;
    // Nothing that was read has been outlived by its connection yet.
    change_database(&bridge, TOO_FAR)?;
    relay.cut();
    let said = three(&ann, chat).await?;
    relay.mend();
    all_come(&bridge, &running, &first, &said).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_the_invitation_before_the_bridge_runs_for_the_first_time_is_let_in() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mailbox = server.mailbox("bridge")?;
    let bridge = Bridge::on(&mailbox, server.imaps(), server.smtps(), Arc::default()).await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let asked = || server.laid_into(&mailbox.address).is_ok_and(|laid| !laid.is_empty());
    let starting = async {
        until("she has asked", asked).await?;
        bridge.start().await
    };
    let (chat, running) = tokio::join!(ann.join(&bridge.link), starting);
    let (chat, running) = (chat?, running?);
    let said = ann.send(chat, "first").await?.id;
    running.accepted(&said).await?;
    running.stop().await
}
