//! Messages between engines: both ways, in new rooms, at once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ruma::{TransactionId, api::client::sync::sync_events};
use sealbridge_matrix::engine::{Class, SenderProof, SyncPart, message_position};
use serde_json::json;

use crate::{
    peer::{Peer, bodies},
    server::{Outcome, server},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_talk_both_ways() -> Outcome {
    let Some(server) = server().await else {
        return Ok(());
    };
    let mut alice = Peer::new(&server, "alice").await?;
    let mut bob = Peer::new(&server, "bob").await?;
    let room = alice.room_with(&[&bob]).await?;
    let (_, audience) = alice.send(&room, "hello").await?;
    assert_eq!(audience.readers().count(), 1, "bob's one device, and not our own");
    let seen = bob.sync_until(&room, 1).await?;
    let opened = seen[0].result.as_ref().map_err(Clone::clone)?;
    assert_eq!(opened.content["body"], "hello");
    assert_eq!(opened.sender, alice.user());
    assert_eq!(opened.sender_device.as_deref(), Some(alice.engine.device_id()));
    assert_eq!(opened.proof, SenderProof::CrossSigned);
    assert_eq!(message_position(&seen[0].event).as_ref(), Some(&opened.position));

    bob.send(&room, "hello yourself").await?;
    let back = alice.sync_until(&room, 2).await?;
    assert_eq!(bodies(&back), ["hello", "hello yourself"], "we read our own echo too");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn first_messages_in_new_rooms_never_stall() -> Outcome {
    let Some(server) = server().await else {
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
                let mut request = sync_events::v3::Request::new();
                request.since = since.take();
                let wait = Duration::from_secs(5);
                request.timeout = Some(wait);
                let class = Class::LongPoll(wait);
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
    assert!(idle < Duration::from_secs(1), "nothing was on the wire for {idle:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_at_once_in_one_room_survive_rotation() -> Outcome {
    let Some(server) = server().await else {
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
            tokio::spawn(async move { alice.send_to(&room, &members, &number.to_string()).await.map(drop) })
        })
        .collect();
    for send in sends {
        send.await??;
    }
    let seen = bob.sync_until(&room, 12).await?;
    let sessions: BTreeSet<_> =
        seen.iter().filter_map(|seen| Some(message_position(&seen.event)?.session_id)).collect();
    assert_eq!(bodies(&seen).len(), 12, "all of them open");
    assert_eq!(sessions.len(), 6, "each key carried two messages");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_twice_under_one_transaction_is_one_event() -> Outcome {
    let Some(server) = server().await else {
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
