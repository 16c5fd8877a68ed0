//! Messages between engines: both ways, after a crash, to new rooms, and from those who are not trusted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ruma::TransactionId;
use sealbridge_matrix::engine::{
    DecryptError, Distrust, PrepareError, Readers, SenderProof, SyncPart, Withholding,
    message_position,
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    peer::{Peer, bodies},
    server::{Outcome, server},
};

fn rewritten(event: &RawValue, key: &str, value: &str) -> Outcome<Box<RawValue>> {
    let mut event: Value = serde_json::from_str(event.get())?;
    event[key] = json!(value);
    Ok(serde_json::value::to_raw_value(&event)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_talk_both_ways() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let (_, audience) = alice.send(&room, "hello").await?;
    assert_eq!(
        audience.readers().count(),
        1,
        "bob's one device, and not our own"
    );
    let seen = bob.sync_until(&room, 1).await?;
    let opened = seen[0].result.as_ref().map_err(Clone::clone)?;
    assert_eq!(opened.content["body"], "hello");
    assert_eq!(opened.sender, alice.user());
    assert_eq!(
        opened.sender_device.as_deref(),
        Some(alice.engine.device_id())
    );
    assert_eq!(opened.proof, SenderProof::CrossSigned);
    assert_eq!(
        message_position(&seen[0].event).as_ref(),
        Some(&opened.position)
    );

    bob.send(&room, "hello yourself").await?;
    let back = alice.sync_until(&room, 2).await?;
    assert_eq!(
        bodies(&back),
        ["hello", "hello yourself"],
        "we read our own echo too"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_fed_before_a_crash_is_read_in_full_after_it() -> Outcome {
    let Some(server) = server() else {
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
    let Some(server) = server() else {
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
    let event = answer.rooms.join[&room]
        .timeline
        .events
        .last()
        .ok_or("no event")?
        .json()
        .to_owned();
    bob.engine.track([&*alice.user()]).await?;
    bob.engine.flush().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while bob.engine.decrypt(&room, &event, bob.trust).await.is_err() {
        assert!(
            Instant::now() < deadline,
            "the key was lost with the caller"
        );
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_device_gets_no_keys_and_is_not_read() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut mallory = Peer::unsigned(&server, "mallory").await?;
    mallory.settings.readers = Readers::AnyDevice;
    mallory.trust.unsigned_devices = true;
    let room = alice.room_with(&[&mallory]).await?;
    let (_, audience) = alice.send(&room, "secret").await?;
    let withheld: Vec<_> = audience
        .withheld()
        .map(|(user, _, why)| (user.to_owned(), why))
        .collect();
    assert_eq!(withheld, [(mallory.user(), Withholding::NoIdentity)]);
    let seen = mallory.sync_until(&room, 1).await?;
    let told = matches!(
        &seen[0].result,
        Err(DecryptError::MissingKey { withheld: Some(code), .. }) if code == "m.unverified"
    );
    assert!(told, "{:?}", seen[0].result);

    mallory.send(&room, "trust me").await?;
    let seen = alice.sync_until(&room, 2).await?;
    let event = &seen[1];
    let refused = matches!(
        &event.result,
        Err(DecryptError::NotTrusted {
            why: Distrust::UnsignedDevice,
            ..
        })
    );
    assert!(refused, "{:?}", event.result);
    alice.trust.unsigned_devices = true;
    let lenient = alice
        .engine
        .decrypt(&room, &event.event, alice.trust)
        .await?;
    assert_eq!(lenient.proof, SenderProof::UnsignedDevice);

    // Once cross-signed, the same event opens under the strict rule, and keys flow.
    alice.trust.unsigned_devices = false;
    mallory.engine.bootstrap(Some(&mallory.password())).await?;
    alice.sync(&room).await?;
    let strict = alice
        .engine
        .decrypt(&room, &event.event, alice.trust)
        .await?;
    assert_eq!(strict.proof, SenderProof::CrossSigned);
    alice.send(&room, "welcome").await?;
    assert_eq!(
        bodies(&mallory.sync_until(&room, 2).await?).last(),
        Some(&"welcome")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spoofed_sender_is_refused_however_lenient_the_trust() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let carol = Peer::new(&server, "carol").await?;
    let room = alice.room_with(&[&bob, &carol]).await?;
    alice.send(&room, "I am alice").await?;
    bob.engine.track([&*carol.user()]).await?;
    let seen = bob.sync_until(&room, 1).await?;
    let forged = rewritten(&seen[0].event, "sender", carol.user().as_str())?;
    for (unsigned_devices, backup_keys) in [(false, false), (true, false), (true, true)] {
        bob.trust.unsigned_devices = unsigned_devices;
        bob.trust.backup_keys = backup_keys;
        let result = bob.engine.decrypt(&room, &forged, bob.trust).await;
        assert!(
            matches!(result, Err(DecryptError::SpoofedSender)),
            "{result:?}"
        );
    }
    let elsewhere = alice.room_with(&[&bob]).await?;
    let result = bob
        .engine
        .decrypt(&elsewhere, &seen[0].event, bob.trust)
        .await;
    assert!(
        result.is_err(),
        "a ciphertext of another room is not read here"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn first_messages_in_new_rooms_never_stall() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let bob = Peer::new(&server, "bob").await?;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(alice.room_with(&[&bob]).await?);
    }
    // A running sync loop with its flush task, as in service: stalls came from their meeting with sends.
    let mut pump = tokio::spawn({
        let (engine, mut since) = (alice.engine.clone(), None);
        let http = alice.session.http()?;
        async move {
            loop {
                let mut request = ruma::api::client::sync::sync_events::v3::Request::new();
                request.since = since.take();
                let wait = Duration::from_secs(5);
                request.timeout = Some(wait);
                let class = sealbridge_matrix::engine::Class::LongPoll(wait);
                let answer = http.send(request, class).await?;
                engine.feed(SyncPart::from(&answer)).await?;
                engine.flush().await;
                since = Some(answer.next_batch);
            }
            #[expect(unreachable_code, reason = "it names the task's result type")]
            Outcome::Ok(())
        }
    });
    // Watches for a second in which sends wait and no request is on the wire. The long poll has a client of its own.
    let done = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn({
        let (http, done) = (alice.engine.http().clone(), Arc::clone(&done));
        async move {
            let (mut active, mut worst) = (Instant::now(), Duration::ZERO);
            let mut sent = http.requests_sent();
            while !done.load(Ordering::Relaxed) {
                if http.in_flight() > 0 || http.requests_sent() != sent {
                    sent = http.requests_sent();
                    active = Instant::now();
                }
                worst = worst.max(active.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            worst
        }
    });
    let alice = Arc::new(alice);
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let (alice, rooms) = (Arc::clone(&alice), rooms.clone());
            tokio::spawn(async move {
                for room in rooms.iter().skip(lane).step_by(4) {
                    alice.send(room, "first").await?;
                }
                Outcome::Ok(())
            })
        })
        .collect();
    for lane in lanes {
        tokio::select! {
            sent = lane => sent??,
            ended = &mut pump => return Err(format!("the sync loop ended: {ended:?}").into()),
        }
    }
    done.store(true, Ordering::Relaxed);
    let idle = watch.await?;
    pump.abort();
    assert!(
        idle < Duration::from_secs(1),
        "nothing was on the wire for {idle:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_at_once_in_one_room_survive_rotation() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    alice.settings.rotation_messages = 2;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    bob.sync(&room).await?;
    let members = alice.members(&room).await?;
    let alice = Arc::new(alice);
    let sends: Vec<_> = (0..12)
        .map(|number| {
            let (alice, room, members) = (Arc::clone(&alice), room.clone(), members.clone());
            tokio::spawn(async move {
                alice
                    .send_to(&room, &members, &number.to_string())
                    .await
                    .map(drop)
            })
        })
        .collect();
    for send in sends {
        send.await??;
    }
    let seen = bob.sync_until(&room, 12).await?;
    let sessions: std::collections::BTreeSet<_> = seen
        .iter()
        .filter_map(|seen| Some(message_position(&seen.event)?.session_id))
        .collect();
    assert_eq!(bodies(&seen).len(), 12, "all of them open");
    assert_eq!(sessions.len(), 6, "each key carried two messages");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_audience_gets_no_key() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let members = alice.members(&room).await?;
    let mut lane = alice.engine.lane(&room).await;
    let refused = lane.prepare(&members, &alice.settings, |audience| {
        assert_eq!(audience.readers().count(), 1);
        false
    });
    let refused = refused.await.map(drop);
    assert!(matches!(refused, Err(PrepareError::Refused)), "{refused:?}");
    drop(lane);
    let answer = bob.ask(Duration::ZERO).await?;
    let (fed, _) = bob.take(&room, &answer).await?;
    assert!(
        fed.room_keys.is_empty() && fed.withheld.is_empty(),
        "nothing left"
    );

    alice.send(&room, "approved").await?;
    assert_eq!(bodies(&bob.sync_until(&room, 1).await?), ["approved"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_twice_under_one_transaction_is_one_event() -> Outcome {
    let Some(server) = server() else {
        return Ok(());
    };
    let alice = Peer::new(&server, "alice").await?;
    let room = alice.room_with(&[]).await?;
    let members = alice.members(&room).await?;
    let content = serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": "x" }))?;
    let txn = TransactionId::new();
    let mut events = Vec::new();
    for _ in 0..2 {
        let mut lane = alice.engine.lane(&room).await;
        let ready = lane.prepare(&members, &alice.settings, |_| true).await?;
        let sealed = ready.encrypt("m.room.message", &content).await?;
        events.push(alice.engine.http().send_encrypted(&sealed, &txn).await?);
    }
    assert_eq!(events[0], events[1]);
    Ok(())
}
