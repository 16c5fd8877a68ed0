//! The lab keeps its own promises.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, test_kill_process};
use sealbridge_lab::person::{Kind, Options, Person, Received};
use sealbridge_lab::proxy::{Fault, Rule};
use sealbridge_lab::search::Search;
use sealbridge_lab::{Lab, Proxy, servers};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// Two people in one encrypted room on server A.
struct Pair {
    alice: Person,
    bob: Person,
    room: String,
}

impl Pair {
    async fn meet(lab: &Lab, options: Options) -> Result<Self> {
        let (alice, bob) = tokio::try_join!(
            Person::new_on(&lab.a, "alice"),
            Person::new_with(&lab.a, "bob", options)
        )?;
        let room = alice
            .create_encrypted_room("talk", &[bob.user_id()])
            .await?;
        bob.wait_invite(&room, SOON).await?;
        bob.join(&room).await?;
        alice
            .wait_member(&room, bob.user_id(), "join", SOON)
            .await?;
        Ok(Self { alice, bob, room })
    }
}

async fn wait_gone(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("A process id")?;
    let give_up = Instant::now() + SOON;
    while test_kill_process(pid).is_ok() {
        anyhow::ensure!(Instant::now() < give_up, "process {pid:?} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn two_servers_start_and_leave_no_process_and_no_file() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let lab = Lab::pair().await?;
    let mut pids = Vec::new();
    let mut dirs = Vec::new();
    for server in [&lab.a, &lab.b] {
        let (status, answer) = server
            .request("GET", "/_matrix/client/versions", None, None)
            .await?;
        assert_eq!(status, 200);
        assert!(answer["versions"].is_array());
        pids.push(server.pid().context("It runs")?);
        pids.push(server.keeper_pid());
        dirs.push(server.data_dir().to_owned());
    }
    lab.a.stop().await?;
    assert_eq!(lab.a.pid(), None);
    // The other one is dropped while it runs.
    drop(lab);
    for pid in pids {
        wait_gone(pid).await?;
    }
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
    Ok(())
}

#[tokio::test]
async fn two_people_talk_in_an_encrypted_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, room } = Pair::meet(lab, Options::default()).await?;
    let question = alice.send(&room, "hello bob").await?;
    let heard = bob.wait_for(|it| it.body == "hello bob", SOON).await?;
    assert!(
        heard.encrypted && heard.verified && !heard.late,
        "{heard:?}"
    );
    assert_eq!(heard.event_id, question);
    let stored = alice.raw_event(&room, &question).await?;
    assert_eq!(stored["type"], "m.room.encrypted");

    bob.send(&room, "hello alice").await?;
    alice.wait_for(|it| it.body == "hello alice", SOON).await?;

    let file = vec![7; 100_000];
    alice
        .send_file(&room, "f.bin", "application/x-f", &file)
        .await?;
    let sent = bob.wait_for(|it| it.msgtype == "m.file", SOON).await?;
    assert_eq!(bob.download(&sent.content).await?, file);
    assert_eq!(
        bob.devices(alice.user_id()).await?,
        [(alice.device_id().to_owned(), "cross-signed-tofu".to_owned())]
    );
    Ok(())
}

#[tokio::test]
async fn messages_keep_their_order_over_rotations_and_limited_syncs() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, .. } = Pair::meet(lab, Options::default()).await?;
    let room = alice
        .create_rotating_room("fast", &[bob.user_id()], 50)
        .await?;
    bob.wait_invite(&room, SOON).await?;
    bob.join(&room).await?;
    alice.send(&room, "number 0").await?;
    bob.wait_for(|it| it.body == "number 0", SOON).await?;
    // More than Synapse puts into one answer.
    bob.pause()?;
    let bodies: Vec<String> = (0..230).map(|n| format!("number {n}")).collect();
    let sends: Vec<_> = bodies[1..]
        .iter()
        .map(|body| alice.send(&room, body))
        .collect();
    for send in sends {
        send.await?;
    }
    bob.resume()?;
    bob.wait_for(|it| it.body == "number 229", SOON).await?;
    let heard: Vec<_> = bob
        .messages_in(&room)
        .into_iter()
        .map(|it| it.body)
        .collect();
    assert_eq!(heard, bodies);
    assert!(bob.undecryptable().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_search_finds_what_is_plain_and_nothing_of_what_is_encrypted() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let lab = Lab::pair().await?;
    let Pair { alice, bob, room } = Pair::meet(&lab, Options::default()).await?;
    let secret = "canary-hidden-5f0e9b";
    let control = "canary-control-77ad12";
    alice.send(&room, secret).await?;
    let sealed = format!("a file with {secret} inside");
    alice
        .send_file(&room, "notes", "text/plain", sealed.as_bytes())
        .await?;
    let opened = bob.wait_for(|it| it.msgtype == "m.file", SOON).await?;
    assert_eq!(bob.download(&opened.content).await?, sealed.as_bytes());
    let plain_room = alice.create_plain_room("plain", &[]).await?;
    alice.send(&plain_room, control).await?;
    // What it still holds in memory gets to the disk.
    lab.a.stop().await?;
    let search = Search::new(&[secret, control])?;
    let hits = search.paths(&[lab.a.data_dir(), lab.b.data_dir()])?;
    assert!(hits.iter().any(|hit| hit.canary == 1), "{hits:?}");
    assert!(hits.iter().all(|hit| hit.canary == 1), "{hits:?}");
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
    let room = alice
        .create_encrypted_room("bad line", &[bob.user_id()])
        .await?;
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
    let heard: Vec<_> = bob
        .messages_in(&room)
        .into_iter()
        .map(|it| it.body)
        .collect();
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

#[tokio::test]
async fn a_withheld_key_makes_messages_late() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let Pair { alice, bob, room } = Pair::meet(lab, Options::default()).await?;
    alice.send(&room, "before").await?;
    alice.withhold(&room, &[bob.user_id()], true).await?;
    alice.send(&room, "kept back").await?;
    let unread = bob
        .wait_event(
            |one| match one {
                Received::Undecryptable(event) => Some(event.clone()),
                _ => None,
            },
            SOON,
        )
        .await?;
    assert_eq!(unread.withheld.as_deref(), Some("m.unavailable"));
    assert_eq!(bob.undecryptable().len(), 1);

    assert_eq!(alice.share_key(&room).await?, 1);
    let late = bob.wait_for(|it| it.body == "kept back", SOON).await?;
    assert!(late.late && late.encrypted);
    assert!(bob.undecryptable().is_empty());
    alice.send(&room, "after").await?;
    let after = bob.wait_for(|it| it.body == "after", SOON).await?;
    assert!(!after.late);
    Ok(())
}

#[tokio::test]
async fn who_came_by_nio_is_not_cross_signed() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let options = Options {
        kind: Kind::Nio,
        ..Options::default()
    };
    let Pair { alice, bob, room } = Pair::meet(lab, options).await?;
    alice.send(&room, "to nio").await?;
    let heard = bob.wait_for(|it| it.body == "to nio", SOON).await?;
    assert!(heard.encrypted && !heard.verified);
    bob.send(&room, "from nio").await?;
    let heard = alice.wait_for(|it| it.body == "from nio", SOON).await?;
    assert!(heard.encrypted && !heard.verified, "{heard:?}");
    let query = json!({ "device_keys": { bob.user_id(): [] } });
    let (status, keys) = alice
        .http("POST", "/_matrix/client/v3/keys/query", Some(query))
        .await?;
    assert_eq!(status, 200);
    assert!(keys["device_keys"][bob.user_id()][bob.device_id()].is_object());
    assert!(keys["master_keys"][bob.user_id()].is_null());
    assert!(
        keys["master_keys"][alice.user_id()].is_null(),
        "not asked for"
    );
    Ok(())
}

#[tokio::test]
async fn strict_people_share_with_cross_signed_devices_only() -> Result<()> {
    let Some(lab) = Lab::shared().await? else {
        return Ok(());
    };
    let strict = Options {
        only_cross_signed: true,
        ..Options::default()
    };
    let unsigned = Options {
        without_cross_signing: true,
        ..Options::default()
    };
    let (carol, dave) = tokio::try_join!(
        Person::new_with(&lab.b, "carol", strict),
        Person::new_with(&lab.b, "dave", unsigned)
    )?;
    let room = carol
        .create_encrypted_room("strict", &[dave.user_id()])
        .await?;
    dave.wait_invite(&room, SOON).await?;
    dave.join(&room).await?;
    carol.send(&room, "not for dave").await?;
    let code = dave
        .wait_event(
            |one| match one {
                Received::Withheld(withheld) => withheld.code.clone(),
                _ => None,
            },
            SOON,
        )
        .await?;
    assert_eq!(code, "m.unverified");
    dave.cross_sign().await?;
    let give_up = Instant::now() + SOON;
    while carol.devices(dave.user_id()).await?[0].1 != "cross-signed-tofu" {
        anyhow::ensure!(Instant::now() < give_up, "carol does not see it");
    }
    carol.new_session(&room).await?;
    carol.send(&room, "for dave").await?;
    dave.wait_for(|it| it.body == "for dave", SOON).await?;
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
    let sends: Vec<_> = (0..5)
        .map(|n| alice.send(&room, &format!("while it was down {n}")))
        .collect();
    lab.a.restart().await?;
    for send in sends {
        send.await?;
    }
    let more: Vec<_> = (5..40)
        .map(|n| alice.send(&room, &format!("while it was down {n}")))
        .collect();
    bob.wait_for(|it| it.body.ends_with(" 12"), SOON).await?;
    lab.a.kill().await?;
    lab.a.restart().await?;
    for send in more {
        send.await?;
    }
    bob.wait_for(|it| it.body.ends_with(" 39"), SOON).await?;
    let heard: Vec<_> = bob
        .messages_in(&room)
        .into_iter()
        .map(|it| it.body)
        .collect();
    let mut expected = vec!["first".to_owned()];
    expected.extend((0..40).map(|n| format!("while it was down {n}")));
    assert_eq!(heard, expected);
    Ok(())
}
