//! Verification by emoji between two engines, to-device and in a room.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use ruma::{OwnedRoomId, TransactionId, serde::Raw};
use sealbridge_matrix::engine::{InRoomStep, Stage, Verification, VerifyError, Ways};
use serde_json::{json, value::RawValue};

use crate::{
    peer::Peer,
    server::{Outcome, Server, server},
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn until(peer: &mut Peer, room: &OwnedRoomId, wanted: fn(&Stage) -> bool) -> Outcome<Verification> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        exchange(peer, room).await?;
        if let Some(found) = peer.engine.verifications().into_iter().find(|v| wanted(&v.stage())) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            let stages: Vec<_> = peer.engine.verifications().iter().map(Verification::stage).collect();
            return Err(format!("the stage did not come; there are {stages:?}").into());
        }
    }
}

/// Syncs once, shows the room's verification events to the engine, and sends what it wants sent there.
async fn exchange(peer: &mut Peer, room: &OwnedRoomId) -> Outcome {
    let answer = peer.ask(Duration::from_millis(200)).await?;
    let (_, seen) = peer.take(room, &answer).await?;
    peer.since = Some(answer.next_batch);
    for seen in seen {
        let Ok(opened) = seen.result else { continue };
        let event = json!({
            "type": opened.event_type, "sender": opened.sender, "event_id": opened.event_id,
            "origin_server_ts": opened.origin_server_ts, "content": opened.content,
        });
        peer.engine.observe_in_room(room, &serde_json::value::to_raw_value(&event)?).await?;
    }
    let flushed = peer.engine.flush().await;
    send_all(peer, &flushed.in_room).await
}

async fn send_all(peer: &Peer, steps: &[InRoomStep]) -> Outcome {
    for step in steps {
        let event = send_step(peer, step).await?;
        peer.engine.in_room_sent(step, &event).await?;
    }
    Ok(())
}

async fn send_step(peer: &Peer, step: &InRoomStep) -> Outcome<ruma::OwnedEventId> {
    let members = peer.members(&step.room).await?;
    let content: &RawValue = &step.content;
    let mut lane = peer.engine.lane(&step.room).await;
    let ready = lane.prepare(&members, &peer.settings, |_| true).await?;
    let sealed = ready.encrypt(&step.event_type, content).await?;
    Ok(peer.engine.http().send_encrypted(&sealed, &TransactionId::new()).await?)
}

async fn compare(alice: &mut Peer, bob: &mut Peer, room: &OwnedRoomId) -> Outcome {
    let asked = until(bob, room, |stage| *stage == Stage::Requested).await?;
    send_all(bob, &asked.accept(Ways::Emoji).await?).await?;
    let ready = until(alice, room, |stage| *stage == Stage::Ready).await?;
    send_all(alice, &ready.start_emoji().await?).await?;
    let started = until(bob, room, |stage| *stage == Stage::Started).await?;
    send_all(bob, &started.start_emoji().await?).await?;
    let shown = |stage: &Stage| matches!(stage, Stage::Compare { .. });
    // The keys go back and forth before both sides can show the emoji.
    exchange(alice, room).await?;
    exchange(bob, room).await?;
    let ours = until(alice, room, shown).await?;
    let theirs = until(bob, room, shown).await?;
    assert_eq!(ours.stage(), theirs.stage(), "both see the same emoji");
    let Stage::Compare { emoji, .. } = ours.stage() else {
        return Err("not shown".into());
    };
    assert_eq!(emoji.len(), 7);
    assert!(!alice.engine.person(&bob.user()).await?.verified, "nothing confirms itself");

    let emoji = vec![("🐶", "Dog"); 7];
    let of_another = ours.confirm(&Stage::Compare { emoji, decimals: (1, 2, 3) }).await;
    assert!(matches!(of_another, Err(VerifyError::NotShown)), "nothing is confirmed that nobody saw: {of_another:?}");
    send_all(alice, &ours.confirm(&ours.stage()).await?).await?;
    exchange(bob, room).await?;
    assert!(!bob.engine.person(&alice.user()).await?.verified, "nothing confirms itself");
    send_all(bob, &theirs.confirm(&theirs.stage()).await?).await?;
    let deadline = Instant::now() + PATIENCE;
    // The signatures come back with the next key query.
    while !(alice.engine.person(&bob.user()).await?.verified && bob.engine.person(&alice.user()).await?.verified) {
        assert!(Instant::now() < deadline, "{:?} {:?}", ours.stage(), theirs.stage());
        exchange(alice, room).await?;
        exchange(bob, room).await?;
    }
    assert_eq!((ours.stage(), theirs.stage()), (Stage::Done, Stage::Done));
    Ok(())
}

/// Two people who know each other's devices, in a room.
async fn acquainted(server: &Server) -> Outcome<(Peer, Peer, OwnedRoomId)> {
    let mut alice = Peer::new(server, "alice").await?;
    let mut bob = Peer::new(server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    alice.send(&room, "who are you?").await?;
    bob.sync(&room).await?;
    bob.send(&room, "verify me").await?;
    alice.sync(&room).await?;
    Ok((alice, bob, room))
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_verify_by_emoji() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let (mut alice, mut bob, room) = acquainted(&server).await?;
    let (user, device) = (bob.user(), bob.engine.device_id().to_owned());
    alice.engine.verify_device(&user, &device, Ways::Emoji).await?;
    compare(&mut alice, &mut bob, &room).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_verify_by_emoji_in_their_room() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    alice.send(&room, "who are you?").await?;
    bob.sync(&room).await?;
    let start = alice.engine.verify_in_room(&bob.user(), &room, Ways::Emoji).await?;
    let event = send_step(&alice, &start.step).await?;
    alice.engine.started_in_room(&start, &event).await?;
    compare(&mut alice, &mut bob, &room).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mismatch_ends_the_verification_on_both_sides() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let (mut alice, mut bob, room) = acquainted(&server).await?;
    let (user, device) = (bob.user(), bob.engine.device_id().to_owned());
    let ours = alice.engine.verify_device(&user, &device, Ways::Emoji).await?;
    let theirs = until(&mut bob, &room, |stage| *stage == Stage::Requested).await?;
    theirs.accept(Ways::Emoji).await?;
    until(&mut alice, &room, |stage| *stage == Stage::Ready).await?;
    ours.start_emoji().await?;
    until(&mut bob, &room, |stage| *stage == Stage::Started).await?;
    theirs.start_emoji().await?;
    exchange(&mut alice, &room).await?;
    exchange(&mut bob, &room).await?;
    until(&mut alice, &room, |stage| matches!(stage, Stage::Compare { .. })).await?;
    ours.mismatch().await?;
    let deadline = Instant::now() + PATIENCE;
    while !theirs.stage().is_final() {
        assert!(Instant::now() < deadline, "{:?}", theirs.stage());
        exchange(&mut bob, &room).await?;
    }
    assert!(matches!(ours.stage(), Stage::Cancelled { by_us: true, .. }));
    assert!(matches!(theirs.stage(), Stage::Cancelled { by_us: false, .. }));
    assert!(!alice.engine.person(&bob.user()).await?.verified);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn comparison_that_began_and_was_called_done_in_one_breath_is_not_done() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let (mut alice, bob, room) = acquainted(&server).await?;
    let (user, device) = (alice.user(), alice.engine.device_id().to_owned());
    let theirs = bob.engine.verify_device(&user, &device, Ways::Emoji).await?;
    let ours = until(&mut alice, &room, |stage| *stage == Stage::Requested).await?;
    ours.accept(Ways::Emoji).await?;
    let mut stages = Box::pin(ours.stages());
    assert_eq!(stages.next().await, Some(Stage::Ready));

    let started = json!({
        "from_device": bob.engine.device_id(), "transaction_id": theirs.flow(), "method": "m.sas.v1",
        "key_agreement_protocols": ["curve25519-hkdf-sha256"], "hashes": ["sha256"],
        "message_authentication_codes": ["hkdf-hmac-sha256.v2"], "short_authentication_string": ["decimal", "emoji"],
    });
    let done = json!({ "transaction_id": theirs.flow() });
    let mut answer = alice.ask(Duration::ZERO).await?;
    for (kind, content) in [("start", started), ("done", done)] {
        let kind = format!("m.key.verification.{kind}");
        let event = json!({ "type": kind, "sender": bob.user(), "content": content });
        answer.to_device.events.push(Raw::from_json(serde_json::value::to_raw_value(&event)?));
    }
    alice.take(&room, &answer).await?;
    assert_eq!(stages.next().await, Some(Stage::Started), "nobody has compared anything");
    assert_ne!(ours.stage(), Stage::Done);
    Ok(())
}
