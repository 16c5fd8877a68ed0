//! Key traffic that fails, hangs or loses its answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ruma::{OneTimeKeyAlgorithm, UInt, events::AnyToDeviceEvent, serde::Raw};
use sealbridge_matrix::engine::{EngineError, SyncPart, Traffic};
use serde_json::Value;

use crate::{
    peer::{Peer, bodies},
    proxy::{Fault, Proxy},
    server::{Outcome, server},
};

#[tokio::test(flavor = "multi_thread")]
async fn failed_key_traffic_delays_the_message_and_loses_nothing() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let proxy = Proxy::before(&server).await?;
    let alice = Peer::new(&server.through(&proxy.url), "alice").await?;
    let mut number = 0;
    for path in ["/keys/query", "/keys/claim", "/sendToDevice/"] {
        for fault in [Fault::Unavailable, Fault::LoseAnswer] {
            // Somebody new each time, so that all three requests are needed.
            let mut bob = Peer::new(&server, "bob").await?;
            let room = alice.room_with(&[&bob]).await?;
            bob.sync(&room).await?;
            let members = alice.members(&room).await?;
            proxy.fail(path, fault);
            number += 1;
            let refused = alice.send_to(&room, &members, "too early").await;
            assert!(refused.is_err(), "{path} failed and the message left all the same");
            proxy.heal();
            let body = format!("message {number}");
            alice.send_to(&room, &members, &body).await?;
            assert_eq!(bodies(&bob.sync_until(&room, 1).await?), [body], "after {path} failed");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_key_query_slows_no_other_room_and_no_receiving() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let proxy = Proxy::before(&server).await?;
    let mut alice = Peer::new(&server.through(&proxy.url), "alice").await?;
    let bob = Peer::new(&server, "bob").await?;
    let carol = Peer::new(&server, "carol").await?;
    let (known, new) = (alice.room_with(&[&bob]).await?, alice.room_with(&[&carol]).await?);
    let (members, others) = (alice.members(&known).await?, alice.members(&new).await?);
    alice.send_to(&known, &members, "settled").await?;
    alice.sync(&known).await?;

    proxy.fail("/keys/query", Fault::Hang);
    let stuck = tokio::spawn({
        let (engine, settings) = (alice.engine.clone(), alice.settings.clone());
        async move {
            let mut lane = engine.lane(&new).await;
            lane.prepare(&others, &settings, |_| true).await.map(drop)
        }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while alice.engine.http().in_flight() == 0 {
        assert!(Instant::now() < deadline, "the query never went out");
        tokio::task::yield_now().await;
    }
    for number in 0..5 {
        let started = Instant::now();
        alice.send_to(&known, &members, &number.to_string()).await?;
        let answer = alice.ask(Duration::ZERO).await?;
        alice.take(&known, &answer).await?;
        alice.since = Some(answer.next_batch);
        assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
    }
    assert!(!stuck.is_finished(), "the query still hangs");
    let result = stuck.await?;
    assert!(result.is_err_and(|error| error.is_transient()), "it ends by itself, to be retried");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answer_to_a_key_upload_is_made_good_by_the_next_flush() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let proxy = Proxy::before(&server).await?;
    let account = server.account("alice").await?;
    proxy.fail("/keys/upload", Fault::LoseAnswer);
    let alice = Peer::log_in_unflushed(&server.through(&proxy.url), account).await?;
    let failed = alice.engine.flush().await.failed;
    let upload = failed.iter().find(|(traffic, _)| *traffic == Traffic::KeysUpload);
    assert!(matches!(upload, Some((_, EngineError::Http(error))) if error.is_transient()));

    // The process dies as well before it asks again.
    proxy.heal();
    let alice = alice.restart().await?;
    let flushed = alice.engine.flush().await;
    assert!(flushed.failed.is_empty() && !flushed.one_time_key_conflict, "{flushed:?}");
    alice.engine.bootstrap(Some(&alice.password())).await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = bob.room_with(&[&alice]).await?;
    alice.send(&room, "alive").await?;
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["alive"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_olm_session_is_replaced_at_once_and_once_an_hour() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    bob.send(&room, "hello").await?;
    let answer = alice.ask(Duration::from_secs(1)).await?;
    let (fed, _) = alice.take(&room, &answer).await?;
    assert_eq!(fed.undecryptable, 0);
    bob.sync(&room).await?;
    let keys = bob.ask(Duration::ZERO).await?.device_one_time_keys_count;

    // What comes through the session between them can't be opened any more.
    let mut broken = SyncPart::from(&answer);
    for message in &mut broken.to_device {
        *message = spoilt(message)?;
    }
    for _ in 0..3 {
        let fed = alice.engine.feed(broken.clone()).await?;
        assert_eq!(fed.undecryptable, 1);
        assert!(alice.engine.flush().await.failed.is_empty());
    }
    let answer = bob.ask(Duration::from_secs(5)).await?;
    assert_eq!(answer.to_device.events.len(), 1, "one greeting through a new session");
    let left = |count: &BTreeMap<OneTimeKeyAlgorithm, UInt>| count.values().copied().map(u64::from).sum::<u64>();
    assert_eq!(left(&answer.device_one_time_keys_count) + 1, left(&keys), "one key was taken");
    let (fed, _) = bob.take(&room, &answer).await?;
    assert_eq!(fed.undecryptable, 0);
    bob.since = Some(answer.next_batch);

    bob.engine.discard_room_key(&room).await?;
    bob.send(&room, "through the new session").await?;
    let seen = alice.sync_until(&room, 2).await?;
    assert_eq!(bodies(&seen).last(), Some(&"through the new session"));
    Ok(())
}

fn spoilt(message: &Raw<AnyToDeviceEvent>) -> Outcome<Raw<AnyToDeviceEvent>> {
    let mut message: Value = serde_json::from_str(message.json().get())?;
    for sealed in message["content"]["ciphertext"].as_object_mut().ok_or("not sealed")?.values_mut() {
        let body = sealed["body"].as_str().ok_or("no body")?;
        let (start, rest) = body.split_at(body.len() - 12);
        let (middle, end) = rest.split_at(8);
        let middle: String = middle.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
        sealed["body"] = format!("{start}{middle}{end}").into();
    }
    Ok(Raw::from_json(serde_json::value::to_raw_value(&message)?))
}
