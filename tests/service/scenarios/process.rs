//! What needs the process, its journal or its clock.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    bridge::Binary,
    demo::{Scene, Setting, Stage},
    faketime,
    proxy::{Fault, Rule},
    servers,
};
use serde_json::Value;

use super::{SOON, stand::Stand};

async fn scene(setting: Setting) -> Result<Option<Scene>> {
    if !servers::available().await {
        return Ok(None);
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    Ok(Some(Scene::set_with(&binary, &Stage::new(true), setting).await?))
}

/// Alice says something, and Bob hears it. Gives the room key that the bridge used.
async fn crosses(scene: &Scene, words: &str) -> Result<String> {
    let [alice, bob] = &scene.people;
    alice.send(&scene.rooms[0], words).await?;
    let heard = bob.wait_for(|message| message.body.ends_with(words), SOON).await;
    let heard = heard.with_context(|| format!("The end of the bridge's log:\n{}", scene.bridge.tail()))?;
    let event = bob.raw_event(&scene.rooms[1], &heard.event_id).await?;
    event["content"]["session_id"].as_str().map(str::to_owned).context("It is encrypted")
}

#[tokio::test(flavor = "multi_thread")]
async fn key_traffic_that_the_homeserver_refuses_is_asked_for_again_until_it_is_done() -> Result<()> {
    let Some(scene) = scene(Setting { proxies: true, ..Setting::default() }).await? else { return Ok(()) };
    crosses(&scene, "before anybody came").await?;
    let [_, bob] = &scene.people;
    for path in ["/keys/query", "/keys/claim", "/sendToDevice/m.room.encrypted/"] {
        let refused = scene.proxies[1].add(Rule::new("*", path, Fault::Fail(503))?.times(2));
        // Somebody new each time, so that all three are needed.
        let newcomer = Person::new_on(&scene.lab.b, "newcomer").await?;
        bob.invite(&scene.rooms[1], newcomer.user_id()).await?;
        newcomer.wait_invite(&scene.rooms[1], SOON).await?;
        newcomer.join(&scene.rooms[1]).await?;
        let told = scene.people[0].wait_for(|message| message.body.contains(newcomer.user_id()), SOON).await;
        told.with_context(|| format!("{path}: nobody is told\n{}", scene.bridge.tail()))?;
        // The bridge may be admitting them still; what they miss is not sent to them again.
        let words = format!("in spite of {path}");
        let give_up = tokio::time::Instant::now() + SOON;
        loop {
            crosses(&scene, &words).await?;
            let heard = newcomer.wait_for(|message| message.body.ends_with(&words), Duration::from_secs(2)).await;
            if heard.is_ok() {
                break;
            }
            ensure!(tokio::time::Instant::now() < give_up, "{path}\n{}", scene.bridge.tail());
        }
        refused.wait_struck(2, SOON).await?;
        refused.remove();
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_its_keys_are_taken_the_service_offers_the_same_ones_again() -> Result<()> {
    let Some(mut scene) = scene(Setting { proxies: true, ..Setting::default() }).await? else { return Ok(()) };
    crosses(&scene, "before it dies").await?;
    let [alice, _] = &scene.people;
    let dora = Person::new_on(&scene.lab.a, "dora").await?;
    alice.invite(&scene.rooms[0], dora.user_id()).await?;
    dora.wait_invite(&scene.rooms[0], SOON).await?;
    dora.join(&scene.rooms[0]).await?;
    scene.proxies[0].record();
    let held = scene.proxies[0].add(Rule::new("POST", "/keys/upload", Fault::HoldAnswer)?);
    // Who speaks to the bridge for the first time takes one of its keys, and it makes another.
    dora.send(&scene.rooms[0], "for the first time").await?;
    held.wait_struck(1, SOON).await?;
    scene.bridge.kill().await?;
    held.remove();
    let uploaded = |scene: &Scene| -> Vec<Value> {
        let seen = scene.proxies[0].take_seen().into_iter().filter(|seen| seen.path.contains("/keys/upload"));
        let bodies = seen.filter_map(|seen| serde_json::from_slice::<Value>(&seen.body).ok());
        let keys = bodies.map(|body| body["one_time_keys"].clone());
        keys.filter(|keys| keys.as_object().is_some_and(|keys| !keys.is_empty())).collect()
    };
    let first = uploaded(&scene).pop().context("It offered some")?;
    scene.bridge.start().await?;
    let give_up = tokio::time::Instant::now() + SOON;
    let again = loop {
        if let Some(again) = uploaded(&scene).into_iter().next() {
            break again;
        }
        ensure!(tokio::time::Instant::now() < give_up, "it offers none\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(again == first, "they are others: {again} instead of {first}");
    let [_, bob] = &scene.people;
    bob.wait_for(|message| message.body.ends_with("for the first time"), SOON).await?;
    let doctor = scene.bridge.cli(&["doctor"]).await?;
    ensure!(!doctor.stdout.contains("one-time"), "{doctor:?}");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_keys_that_came_while_it_was_away_open_everything_in_order() -> Result<()> {
    const KEYS: usize = 150;
    let Some(mut scene) = scene(Setting::default()).await? else { return Ok(()) };
    crosses(&scene, "before it dies").await?;
    scene.bridge.kill().await?;
    let [alice, _] = &scene.people;
    for number in 0..KEYS {
        alice.new_session(&scene.rooms[0]).await?;
        alice.send(&scene.rooms[0], &format!("under key {number}.")).await?;
    }
    scene.bridge.start().await?;
    let [_, bob] = &scene.people;
    let give_up = tokio::time::Instant::now() + 2 * SOON;
    let heard = || bob.messages_in(&scene.rooms[1]).into_iter().filter(|message| message.body.contains("under key"));
    while heard().count() < KEYS {
        ensure!(tokio::time::Instant::now() < give_up, "{} came\n{}", heard().count(), scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (number, message) in heard().enumerate() {
        ensure!(message.body.ends_with(&format!("under key {number}.")), "{number}: {:?}", message.body);
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn room_key_is_replaced_once_it_is_a_week_old_and_not_by_a_restart() -> Result<()> {
    let Some(library) = faketime::library().await else { return Ok(()) };
    let Some(mut scene) = scene(Setting::default()).await? else { return Ok(()) };
    let first = crosses(&scene, "right now").await?;
    scene.bridge.stop().await?;
    scene.bridge.start().await?;
    ensure!(crosses(&scene, "and again").await? == first, "a restart replaces it");
    for (later, replaced) in [("+6d", false), ("+8d", true)] {
        scene.bridge.kill().await?;
        scene.bridge.live_later(&library, later);
        scene.bridge.start().await?;
        let key = crosses(&scene, &format!("it is {later}")).await?;
        ensure!((key != first) == replaced, "{later}: {key}, and before that {first}");
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_crypto_and_journal_the_message_still_comes_once() -> Result<()> {
    let Some((_, mut stand)) = Stand::usual().await? else { return Ok(()) };
    stand.bob.send(&stand.far, "before").await?;
    stand.hears("before").await?;
    let mut expected = vec!["before".to_owned()];
    for place in ["sync-answered", "crypto-fed", "before-accept", "after-accept"] {
        stand.bridge.stop().await?;
        // The key comes in the same answer as the message.
        stand.bob.new_session(&stand.far).await?;
        let words = format!("killed at {place}");
        stand.bob.send(&stand.far, &words).await?;
        stand.bridge.set_env("FAILPOINT_KILL_AT", &format!("matrix::{place}=1"));
        stand.bridge.spawn().await?;
        let code = stand.bridge.wait_exit(SOON).await.with_context(|| format!("{place} was never reached"))?;
        ensure!(code == -9, "{place}: ended with {code} instead of being killed\n{}", stand.bridge.tail());
        ensure!(!stand.heard().contains(&words), "{place}: it came before the kill");
        stand.bridge.unset_env("FAILPOINT_KILL_AT");
        stand.bridge.start().await?;
        stand.hears(&words).await?;
        expected.push(words);
    }
    stand.bob.send(&stand.far, "after all that").await?;
    stand.hears("after all that").await?;
    expected.push("after all that".to_owned());
    ensure!(stand.heard() == expected, "{:?}", stand.heard());
    stand.waits_for_keys_of(0).await?;
    stand.close().await
}
