//! People hear everything, once and in order.

use anyhow::Result;
use sealbridge_lab::person::{Options, Person, Received};
use sealbridge_lab::proxy::{Fault, Rule};
use sealbridge_lab::{Lab, Proxy, servers};
use serde_json::{Value, json};

use super::{Pair, SOON};

#[tokio::test]
async fn two_people_talk_in_an_encrypted_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, room } = Pair::meet(lab, Options::default()).await?;
    let question = alice.send(&room, "hello bob").await?;
    let heard = bob.wait_for(|it| it.body == "hello bob", SOON).await?;
    assert!(heard.encrypted && heard.verified && !heard.late, "{heard:?}");
    assert_eq!(heard.event_id, question);
    let stored = alice.raw_event(&room, &question).await?;
    assert_eq!(stored["type"], "m.room.encrypted");

    bob.send(&room, "hello alice").await?;
    alice.wait_for(|it| it.body == "hello alice", SOON).await?;

    let file = vec![7; 100_000];
    alice.send_file(&room, "f.bin", "application/x-f", &file).await?;
    let sent = bob.wait_for(|it| it.msgtype == "m.file", SOON).await?;
    assert_eq!(bob.download(&sent.content).await?, file);
    assert_eq!(bob.devices(alice.user_id()).await?, [(alice.device_id().to_owned(), "cross-signed-tofu".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn messages_keep_their_order_over_rotations_and_limited_syncs() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, .. } = Pair::meet(lab, Options::default()).await?;
    let room = alice.create_rotating_room("fast", &[bob.user_id()], 50).await?;
    bob.wait_invite(&room, SOON).await?;
    bob.join(&room).await?;
    alice.send(&room, "number 0").await?;
    bob.wait_for(|it| it.body == "number 0", SOON).await?;
    // More than Synapse puts into one answer.
    bob.pause()?;
    let bodies: Vec<String> = (0..230).map(|n| format!("number {n}")).collect();
    let sends: Vec<_> = bodies[1..].iter().map(|body| alice.send(&room, body)).collect();
    for send in sends {
        send.await?;
    }
    bob.resume()?;
    bob.wait_for(|it| it.body == "number 229", SOON).await?;
    let heard: Vec<_> = bob.messages_in(&room).into_iter().map(|it| it.body).collect();
    assert_eq!(heard, bodies);
    assert!(bob.undecryptable().is_empty());
    Ok(())
}

#[tokio::test]
async fn people_outlast_a_restart_and_a_kill_of_their_server() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let lab = Lab::pair().await?;
    let Pair { alice, bob, room } = Pair::meet(&lab, Options::default()).await?;
    alice.send(&room, "first").await?;
    lab.a.stop().await?;
    let sends: Vec<_> = (0..5).map(|n| alice.send(&room, &format!("while it was down {n}"))).collect();
    lab.a.restart().await?;
    for send in sends {
        send.await?;
    }
    let more: Vec<_> = (5..40).map(|n| alice.send(&room, &format!("while it was down {n}"))).collect();
    bob.wait_for(|it| it.body.ends_with(" 12"), SOON).await?;
    lab.a.kill().await?;
    lab.a.restart().await?;
    for send in more {
        send.await?;
    }
    bob.wait_for(|it| it.body.ends_with(" 39"), SOON).await?;
    let heard: Vec<_> = bob.messages_in(&room).into_iter().map(|it| it.body).collect();
    let mut expected = vec!["first".to_owned()];
    expected.extend((0..40).map(|n| format!("while it was down {n}")));
    assert_eq!(heard, expected);
    Ok(())
}

#[tokio::test]
async fn faults_between_a_person_and_their_server_lose_and_double_nothing() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let proxy = Proxy::before(lab.a.url()).await?;
    let user = lab.a.register_unique("alice").await?;
    let alice = Person::log_in(proxy.url(), &user, Options::default()).await?;
    let bob = Person::new_on(&lab.a, "bob").await?;
    let room = alice.create_encrypted_room("bad line", &[bob.user_id()]).await?;
    bob.wait_invite(&room, SOON).await?;
    bob.join(&room).await?;

    proxy.record();
    let lost_answers = proxy.add(Rule::new("PUT", "/send/", Fault::DropAfter)?.times(2));
    let throttle = Fault::Throttle { retry_after_ms: 50 };
    proxy.add(Rule::new("PUT", "/send/", throttle)?.times(3));
    proxy.add(Rule::new("PUT", "/send/", Fault::Fail(503))?.times(1));
    proxy.add(Rule::new("PUT", "/send/", Fault::DropBefore)?.times(1));
    proxy.add(Rule::new("GET", "/sync", Fault::CutAnswer)?.times(2));
    let bodies: Vec<String> = (0..5).map(|n| format!("over a bad line {n}")).collect();
    for body in &bodies {
        alice.send(&room, body).await?;
    }
    bob.wait_for(|it| it.body == bodies[4], SOON).await?;
    let heard: Vec<_> = bob.messages_in(&room).into_iter().map(|it| it.body).collect();
    assert_eq!(heard, bodies);
    assert_eq!(lost_answers.struck(), 2);
    let puts = proxy.take_seen();
    let puts = puts.iter().filter(|seen| seen.path.contains("/send/"));
    assert_eq!(puts.count(), 12);

    // An answer that was tampered with reaches the person as a real one.
    proxy.add(Rule::new(
        "GET",
        "/sync",
        Fault::rewrite(move |sync| {
            let events = sync.pointer_mut(&format!("/rooms/join/{room}/timeline/events"));
            for event in events.and_then(Value::as_array_mut).into_iter().flatten() {
                if event["type"] == "m.room.encrypted" {
                    event["content"]["ciphertext"] = json!("AwgAEgA");
                }
            }
        }),
    )?);
    let room = bob.messages()[0].room.clone();
    let tampered = bob.send(&room, "tampered with").await?;
    alice
        .wait_event(
            |one| match one {
                Received::Undecryptable(event) => (event.event_id == tampered).then_some(()),
                _ => None,
            },
            SOON,
        )
        .await
}
