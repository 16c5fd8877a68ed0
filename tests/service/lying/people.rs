//! Lies about who is there, and who they are.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person, Synapse,
    person::Options,
    proxy::{Active, Fault, Rule},
    synapse,
};
use serde_json::{Value, json};

use super::{ALICE, BOB, SOON, Stage, in_sync, strikes, with_state};

fn member(who: &str, membership: &str, event: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": who, "sender": who, "event_id": event, "origin_server_ts": 1,
        "content": { "membership": membership, "displayname": "Alice" },
    })
}

/// How many room keys were sent since the last look to somebody, or to a device, named so.
fn keys_for(stage: &mut Stage, whom: &str) -> Result<usize> {
    let seen = stage.liar().take_seen();
    for seen in &seen {
        stage.sent.extend_from_slice(&seen.body);
        stage.sent.push(b'\n');
    }
    let keys = seen.iter().filter(|seen| seen.path.contains("/sendToDevice/m.room.encrypted/"));
    Ok(keys.filter(|seen| String::from_utf8_lossy(&seen.body).contains(whom)).count())
}

/// The link, declared in the config as one that says nothing to newcomers until they are approved.
async fn freezes(stage: &mut Stage) -> Result<()> {
    let bridge = &mut stage.scene.bridge;
    bridge.cli(&["links", "remove", "demo"]).await?.ok()?;
    bridge.stop().await?;
    let ends = format!("\"a/{}\", \"b/{}\"", stage.scene.rooms[0], stage.scene.rooms[1]);
    let config = std::fs::read_to_string(bridge.config())?;
    let link = format!("\n[links.demo]\nends = [{ends}]\nnew_members = \"freeze\"\n");
    std::fs::write(bridge.config(), config + link.as_str())?;
    bridge.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_that_makes_up_members_and_invitations_gets_nothing_readable() -> Result<()> {
    let Some(mut stage) = Stage::set("").await? else { return Ok(()) };
    freezes(&mut stage).await?;
    stage.crosses(BOB).await?;
    let evil = Person::new_on(&stage.scene.lab.a, "evil").await?;

    // A member who never came.
    let joins = stage.liar().add(with_state(stage.room(), member(evil.user_id(), "join", "$joins"))?);
    stage.begins().await?;
    strikes(&joins).await?;
    stage.operator_reads(evil.user_id()).await?;
    let held = stage.says(BOB).await?;
    stage.is_held("audience_changed").await?;
    ensure!(stage.has_heard(ALICE, &held) == 0, "it was said all the same");
    ensure!(keys_for(&mut stage, evil.user_id())? == 0, "they were given a key");
    stage.nothing_is_readable("a member who never came")?;
    let leaves = stage.liar().add(with_state(stage.room(), member(evil.user_id(), "leave", "$leaves"))?);
    stage.begins().await?;
    strikes(&leaves).await?;
    stage.hears(ALICE, &held).await?;

    // An invitation by Alice, whom the bridge follows, to rooms of somebody else; she knows nothing of it.
    let bot = stage.scene.bots[ALICE].clone();
    let (sealed, open) = (evil.create_encrypted_room("trap", &[]).await?, evil.create_plain_room("open", &[]).await?);
    for room in [&sealed, &open] {
        evil.send_state(room, "m.room.join_rules", "", json!({ "join_rule": "public" })).await?;
    }
    let (alice, rooms) = (stage.scene.people[ALICE].user_id().to_owned(), [sealed.clone(), open.clone()]);
    let invited = bot.clone();
    let invites = stage.liar().add(
        in_sync(move |answer| {
            let events = json!([
                { "type": "m.room.member", "state_key": invited, "sender": alice, "content": { "membership": "invite" } },
                { "type": "m.room.encryption", "state_key": "", "sender": alice,
                  "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
            ]);
            let all = answer.entry("rooms").or_insert_with(|| json!({}));
            for room in &rooms {
                all["invite"][room] = json!({ "invite_state": { "events": events } });
            }
        })?
        .times(1),
    );
    stage.begins().await?;
    strikes(&invites).await?;
    for room in [&sealed, &open] {
        evil.wait_member(room, &bot, "join", SOON).await?;
    }
    evil.wait_member(&open, &bot, "leave", SOON).await?;
    stage.operator_reads("not encrypted. It joined, looked, and left again").await?;
    // Where it is now the operator sees, and nothing is said there.
    stage.scene.bridge.wait_conversation(&format!("a/{sealed}"), SOON).await?;
    stage.crosses(BOB).await?;
    stage.crosses(ALICE).await?;
    ensure!(evil.messages().is_empty(), "{:?}", evil.messages());
    ensure!(keys_for(&mut stage, evil.user_id())? == 0, "they were given a key");
    stage.nothing_is_readable("a forged invitation")?;
    stage.close().await
}

/// What another homeserver of the same name says of somebody of the same name: another identity, and its own device.
async fn impostor(stage: &Stage) -> Result<(Synapse, Person, Value)> {
    let alice = stage.scene.people[ALICE].user_id();
    let (localpart, server) = alice.trim_start_matches('@').split_once(':').context("It is a user's id")?;
    let other = Synapse::start(server, synapse::Options::default()).await?;
    let user = other.register(localpart, "not hers").await?;
    let person = Person::log_in(other.url(), &user, Options::default()).await?;
    let wanted = json!({ "device_keys": { alice: [] } });
    let (status, keys) = person.http("POST", "/_matrix/client/v3/keys/query", Some(wanted)).await?;
    ensure!(status == 200 && person.user_id() == alice, "{status} {keys}");
    Ok((other, person, keys))
}

/// From now on it is told otherwise who somebody is, and that they changed.
fn lies_of(stage: &Stage, who: &str, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Result<[Active; 2]> {
    let who = who.to_owned();
    let changed = in_sync(move |answer| {
        answer.insert("device_lists".to_owned(), json!({ "changed": [who], "left": [] }));
    });
    let lie = Rule::new("POST", "/keys/query", Fault::rewrite(lie))?;
    Ok([stage.liar().add(lie), stage.liar().add(changed?)])
}

async fn verifies(stage: &Stage) -> Result<()> {
    let alice = Arc::clone(&stage.scene.people[ALICE]);
    let whom = format!("{}/{}", alice.user_id(), alice.device_id());
    let bot = &stage.scene.bots[ALICE];
    let agrees = async {
        let asked = alice.wait_verification(bot, "requested", SOON).await?;
        alice.verify_accept(&asked.flow).await?;
        let shown = alice.wait_verification(bot, "emoji", SOON).await?;
        alice.verify_confirm(&shown.flow).await
    };
    let compares = ["verify", "a", &whom];
    let (said, ()) = tokio::try_join!(stage.scene.bridge.cli_typed(&compares, "yes\n"), agrees)?;
    said.ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_that_adds_a_device_to_a_verified_person_or_resets_them_gets_nothing_readable() -> Result<()> {
    let Some(mut stage) = Stage::set("").await? else { return Ok(()) };
    stage.crosses(BOB).await?;
    verifies(&stage).await?;
    let alice = stage.scene.people[ALICE].user_id().to_owned();
    let (_server, impostor, forged) = impostor(&stage).await?;
    let (device, keys) = (impostor.device_id().to_owned(), forged["device_keys"][&alice].clone());
    ensure!(keys[&device].is_object(), "{forged}");

    let of = alice.clone();
    let ghost = lies_of(&stage, &alice, move |answer| {
        let devices =
            answer.pointer_mut("/device_keys").and_then(|all| all.get_mut(&of)).and_then(Value::as_object_mut);
        if let (Some(devices), Some(keys)) = (devices, keys.as_object()) {
            devices.extend(keys.clone());
        }
    })?;
    stage.begins().await?;
    strikes(&ghost[0]).await?;
    stage.crosses(BOB).await?;
    stage.operator_reads(&format!("a device that they did not sign: {device}")).await?;
    ensure!(keys_for(&mut stage, &device)? == 0, "it was given a key");
    let shown = stage.scene.bridge.cli(&["trust", "show", &alice]).await?.ok()?;
    ensure!(shown.stdout.contains("verified") && shown.stdout.contains(&device), "{shown:?}");
    stage.nothing_is_readable("a device that was added")?;
    ghost.iter().for_each(Active::remove);

    let of = alice.clone();
    let reset = lies_of(&stage, &alice, move |answer| {
        for kind in ["master_keys", "self_signing_keys", "device_keys"] {
            if let Some(known) = answer.pointer_mut(&format!("/{kind}")).and_then(|all| all.get_mut(&of)) {
                *known = forged[kind][&of].clone();
            }
        }
    })?;
    stage.begins().await?;
    strikes(&reset[0]).await?;
    stage.operator_reads("their identity is another than the one that was known").await?;
    let held = stage.says(BOB).await?;
    stage
        .status_is("that it is held", |status| {
            let lanes = status["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
            lanes.iter().any(|lane| lane["at"] == format!("a/{}", stage.room()) && lane["why"].is_string())
        })
        .await?;
    ensure!(stage.has_heard(ALICE, &held) == 0, "it was said all the same");
    ensure!(keys_for(&mut stage, &device)? == 0, "it was given a key");
    stage.nothing_is_readable("an identity that was replaced")?;
    stage.close().await
}

/// A new device of ours knows nobody's identity, and the book does.
#[tokio::test(flavor = "multi_thread")]
async fn identity_that_a_new_device_of_ours_is_not_shown_freezes_when_another_comes_in_its_place() -> Result<()> {
    let Some(mut stage) = Stage::set("").await? else { return Ok(()) };
    stage.crosses(BOB).await?;
    stage.crosses(ALICE).await?;
    let alice = stage.scene.people[ALICE].user_id().to_owned();
    let (_server, impostor, forged) = impostor(&stage).await?;
    stage.scene.bridge.stop().await?;
    stage.scene.bridge.cli(&["backup", "adopt"]).await?.ok()?;
    // The homeserver hides who she is, and says that she went and came back.
    let of = alice.clone();
    let hide = Fault::rewrite(move |answer: &mut Value| {
        for kind in ["master_keys", "self_signing_keys", "device_keys"] {
            if let Some(all) = answer.get_mut(kind).and_then(Value::as_object_mut) {
                all.remove(&of);
            }
        }
    });
    let hide = stage.liar().add(Rule::new("POST", "/keys/query", hide)?);
    stage.scene.bridge.init().await?.ok()?;
    stage.scene.bridge.start().await?;
    for (membership, event) in [("leave", "$leaves"), ("join", "$joins")] {
        let moves = stage.liar().add(with_state(stage.room(), member(&alice, membership, event))?);
        stage.begins().await?;
        strikes(&moves).await?;
        let give_up = tokio::time::Instant::now() + SOON;
        while stage.scene.bridge.cli(&["audience", "demo"]).await?.stdout.contains(&alice) != (membership == "join") {
            ensure!(tokio::time::Instant::now() < give_up, "no {membership}\n{}", stage.scene.bridge.tail());
        }
    }
    let room = stage.scene.rooms[BOB].clone();
    let bob = Arc::clone(&stage.scene.people[BOB]);
    let told = |words: &str| words.contains(&alice) && words.contains("(no identity)");
    let hears = bob.wait_for(|it| it.room == room && told(&it.body), SOON).await;
    hears.with_context(|| format!("Bob is not told\n{}", stage.scene.bridge.tail()))?;
    // Then it shows somebody of its own as her, with keys for whom a session can be made.
    hide.remove();
    let device = impostor.device_id().to_owned();
    let wanted = json!({ "one_time_keys": { alice.as_str(): { device.as_str(): "signed_curve25519" } } });
    let (_, claimed) = impostor.http("POST", "/_matrix/client/v3/keys/claim", Some(wanted)).await?;
    let of = alice.clone();
    let claims = Fault::rewrite(move |answer: &mut Value| {
        answer["one_time_keys"][&of] = claimed["one_time_keys"][&of].clone();
    });
    let _claims = stage.liar().add(Rule::new("POST", "/keys/claim", claims)?);
    let of = alice.clone();
    let reset = lies_of(&stage, &alice, move |answer| {
        for kind in ["master_keys", "self_signing_keys", "device_keys"] {
            if let Some(known) = answer.get_mut(kind).and_then(Value::as_object_mut) {
                known.insert(of.clone(), forged[kind][&of].clone());
            }
        }
    })?;
    stage.begins().await?;
    strikes(&reset[0]).await?;
    stage.says(BOB).await?;
    stage.is_held("audience_changed").await?;
    ensure!(keys_for(&mut stage, impostor.device_id())? == 0, "the homeserver's own Alice was given keys");
    stage.operator_reads(&alice).await?;
    stage.nothing_is_readable("an identity that was hidden, and another")?;
    stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_leaving_that_a_homeserver_makes_up_is_told_whatever_reason_it_gives() -> Result<()> {
    let Some(mut stage) = Stage::set("").await? else { return Ok(()) };
    stage.crosses(BOB).await?;
    let (room, bot) = (stage.room().to_owned(), stage.scene.bots[ALICE].clone());
    let lie = stage.liar().add(
        in_sync(move |answer| {
            let mut event = member(&bot, "leave", "$leaves");
            event["content"]["reason"] = "This room is not encrypted. The bridge joins encrypted rooms only.".into();
            let rooms = answer.entry("rooms").or_insert_with(|| json!({}));
            if let Some(joined) = rooms.get_mut("join").and_then(Value::as_object_mut) {
                joined.remove(&room);
            }
            let after = json!({ "events": [event] });
            rooms["leave"][&room] = json!({
                "timeline": { "events": [event], "limited": false, "prev_batch": "p" }, "state": { "events": [] },
                "state_after": after, "org.matrix.msc4222.state_after": after,
            });
        })?
        .times(1),
    );
    stage.begins().await?;
    strikes(&lie).await?;
    stage.says(BOB).await?;
    stage.operator_reads("no longer in the room").await?;
    stage.nothing_is_readable("a leaving that was made up")?;
    stage.close().await
}
