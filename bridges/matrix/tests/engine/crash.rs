//! A process that dies between feeding an answer and keeping its own token.

use std::time::{Duration, Instant};

use sealbridge_matrix::engine::SyncPart;

use crate::{
    peer::{Peer, bodies},
    server::{Outcome, server},
};

#[tokio::test(flavor = "multi_thread")]
async fn answer_fed_before_a_crash_is_read_in_full_after_it() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    bob.sync(&room).await?;
    for number in 0..5 {
        alice.send(&room, &number.to_string()).await?;
    }

    let lost = bob.ask(Duration::ZERO).await?;
    let (fed, seen) = bob.take(&room, &lost).await?;
    assert_eq!(fed.room_keys.len(), 1);
    assert_eq!(seen.len(), 5);
    // Nothing of it was kept by us: the token is the old one.
    for _ in 0..3 {
        bob = bob.restart().await?;
        let again = bob.ask(Duration::ZERO).await?;
        let (_, seen) = bob.take(&room, &again).await?;
        assert_eq!(bodies(&seen), ["0", "1", "2", "3", "4"]);
    }

    // Nothing is wedged: new messages, a new key, and the way back still work.
    bob.sync(&room).await?;
    alice.engine.discard_room_key(&room).await?;
    alice.send(&room, "after").await?;
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["after"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn feeding_runs_to_its_end_when_the_caller_is_dropped() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    bob.sync(&room).await?;
    alice.send(&room, "kept").await?;
    let answer = bob.ask(Duration::ZERO).await?;
    let fed = tokio::time::timeout(Duration::ZERO, bob.engine.feed(SyncPart::from(&answer))).await;
    assert!(fed.is_err(), "the caller gave up before the end");
    let event = answer.rooms.join[&room].timeline.events.last().ok_or("no event")?.json().to_owned();
    bob.engine.track([&*alice.user()]).await?;
    bob.engine.flush().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while bob.engine.decrypt(&room, &event, bob.trust).await.is_err() {
        assert!(Instant::now() < deadline, "the key was lost with the caller");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_answers_do_not_hide_one_time_keys_that_run_out() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let room = alice.room_with(&[]).await?;
    alice.sync(&room).await?;
    let full = alice.ask(Duration::ZERO).await?.device_one_time_keys_count;
    // Each newcomer's first message takes one; the answers in between are quiet.
    for _ in 0..3 {
        let mut bob = Peer::new(&server, "bob").await?;
        let room = bob.room_with(&[&alice]).await?;
        bob.send(&room, "hello").await?;
        assert_eq!(bodies(&alice.sync_until(&room, 1).await?), ["hello"]);
        alice.sync(&room).await?;
        bob.sync(&room).await?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while alice.ask(Duration::ZERO).await?.device_one_time_keys_count != full {
            assert!(Instant::now() < deadline, "the keys taken were not replaced");
            alice.sync(&room).await?;
        }
    }
    Ok(())
}
