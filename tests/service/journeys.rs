//! The main job on real homeservers, with people whose clients share no code with ours, in good and in bad times.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    backlog,
    bridge::Binary,
    chaos,
    checker::Tag,
    demo::{self, Scene, Setting, Stage},
    family, mail, outage,
    proxy::{Fault, Rule},
    servers, synapse, talk,
};

use crate::phones::Family;

const PATIENCE: Duration = Duration::from_secs(60);

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

fn stage() -> Stage {
    Stage::new(true)
}

fn tag(scene: &Scene, sender: usize, number: usize) -> Tag {
    Tag { run: scene.run.clone(), sender, number }
}

async fn say(scene: &Scene, sender: usize, numbers: std::ops::Range<usize>) -> Result<Vec<Tag>> {
    let tags: Vec<_> = numbers.map(|number| tag(scene, sender, number)).collect();
    for tag in &tags {
        scene.people[sender].send(&scene.rooms[sender], &tag.text()).await?;
    }
    Ok(tags)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_six_kills_lose_double_and_reorder_nothing() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let binary = binary();
    let places = chaos::places(&binary).await?.len();
    let options = chaos::Options { kills: 2 * places, pause: Duration::from_millis(200) };
    let outcome = chaos::run(&binary, &stage(), options).await?;
    ensure!(outcome.is_clean(), "{outcome:?}");
    ensure!(outcome.places == places, "{} of {places} places were reached", outcome.places);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_and_a_matrix_room_hear_each_other_and_nothing_leaks() -> Result<()> {
    if !(mail::available().await && servers::available().await) {
        return Ok(());
    }
    let options = demo::Options { keep: false, json: true };
    let outcome = family::demo::run(&binary(), &stage(), options).await?;
    ensure!(outcome.is_clean() && outcome.sent > 30, "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn service_engine_and_mail_server_killed_in_turn_nothing_is_lost_or_reordered() -> Result<()> {
    if !(mail::available().await && servers::available().await) {
        return Ok(());
    }
    let options = chaos::Options { kills: 9, pause: Duration::from_millis(400) };
    let outcome = family::chaos::run(&binary(), &stage(), options).await?;
    ensure!(outcome.is_clean() && outcome.kills_of_engine == 3 && outcome.tally.sent > 30, "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_of_five_hundred_crosses_in_order() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let outcome = backlog::run(&binary(), &stage(), 500).await?;
    ensure!(outcome.is_clean(), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_that_stops_and_is_killed_in_mid_traffic_loses_nothing() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let options = outage::Options { down: Duration::from_secs(5), kills: 3, pause: Duration::from_millis(100) };
    let outcome = outage::run(&binary(), &stage(), options).await?;
    ensure!(outcome.is_clean(), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_kept_back_is_waited_for_and_nobody_else_waits() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let clock = tempfile::NamedTempFile::new()?;
    std::fs::write(clock.path(), "0")?;
    let mut scene = Scene::set(&binary(), &stage()).await?;
    scene.bridge.stop().await?;
    scene.bridge.set_env("FAILPOINT_CLOCK_FILE", &clock.path().to_string_lossy());
    scene.bridge.start().await?;

    let [alice, bob] = scene.people.each_ref().map(Arc::clone);
    alice.withhold(&scene.rooms[0], &[&scene.bots[0]], false).await?;
    let kept_back = say(&scene, 0, 0..1).await?.remove(0);
    // Others of the room do not wait at all.
    alice.invite(&scene.rooms[0], scene.operator.user_id()).await?;
    scene.operator.join(&scene.rooms[0]).await?;
    scene.operator.send(&scene.rooms[0], &tag(&scene, 2, 0).text()).await?;
    scene.hear(1, &tag(&scene, 2, 0)).await.context("Somebody else's message does not wait")?;
    // The sender's own later messages wait for half a minute at most; the test moves the clock, not the code.
    std::fs::write(clock.path(), "600000")?;
    alice.share_later(&scene.rooms[0]).await?;
    let later = say(&scene, 0, 1..2).await?.remove(0);
    scene.hear(1, &later).await.context("The sender's later message crosses")?;
    ensure!(!bob.messages().iter().any(|m| m.body.contains(&kept_back.text())), "It can't be read yet");

    alice.share_key(&scene.rooms[0]).await?;
    let heard = scene.hear(1, &kept_back).await.context("The late one follows")?;
    ensure!(heard.body.contains("[late]"), "It says that it is late: {}", heard.body);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_hangs_in_one_room_does_not_slow_the_others() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting { proxies: true, ..Setting::default() };
    let scene = Scene::set_with(&binary(), &stage(), setting).await?;
    let rooms = [
        demo::invited(&scene.people[0], "second", &scene.bots[0], None).await?,
        demo::invited(&scene.people[1], "second", &scene.bots[1], None).await?,
    ];
    let ends = [format!("a/{}", rooms[0]), format!("b/{}", rooms[1])];
    for end in &ends {
        scene.bridge.wait_conversation(end, PATIENCE).await?;
    }
    scene.bridge.link("second", &[&ends[0], &ends[1]]).await?;
    // Every send into the first room hangs; the second room is another lane.
    let path = format!("/rooms/{}/send/", scene.rooms[1].replace('!', "[!]"));
    let hangs = scene.proxies[1].add(Rule::new("PUT", &path, Fault::Hang)?);
    let first = say(&scene, 0, 0..3).await?;
    hangs.wait_struck(1, PATIENCE).await?;
    for number in 0..5 {
        scene.people[0].send(&rooms[0], &tag(&scene, 7, number).text()).await?;
        scene.hear(1, &tag(&scene, 7, number)).await.context("The other room goes on")?;
    }
    ensure!(!scene.people[1].messages().iter().any(|m| m.body.contains(&first[0].text())), "The first room hangs");
    hangs.remove();
    for tag in &first {
        scene.hear(1, tag).await.context("It crosses once it does not hang any more")?;
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_rate_limits_delay_and_lose_nothing() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let servers = synapse::Options { stock_rate_limits: true, ..synapse::Options::default() };
    let scene = Scene::set_with(&binary(), &stage(), Setting { servers, ..Setting::default() }).await?;
    // People are freed of the limit; the bridge is not.
    scene.lab.a.exempt_from_limits(scene.people[0].user_id()).await?;
    let said = [say(&scene, 0, 0..14).await?, Vec::new()];
    let tally = talk::settle(&scene, &said).await;
    ensure!(tally.lost + tally.duplicated + tally.reordered == 0, "{tally:?}\n{}", scene.bridge.tail());
    let doctor = scene.bridge.cli(&["doctor"]).await?;
    ensure!(doctor.stdout.contains("override_ratelimit"), "doctor says how the limit is lifted: {doctor:?}");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn words_cross_between_a_matrix_room_and_a_delta_chat_group_also_after_a_kill() -> Result<()> {
    let Some(family) = Family::set(&binary()).await? else { return Ok(()) };
    let Family { mut bridge, ann, ben, room, chat, .. } = family;
    for round in ["first", "second"] {
        let (from_matrix, from_mail) = (format!("{round} from matrix"), format!("{round} from mail"));
        ann.send(&room, &from_matrix).await?;
        let seen = ben.wait_for(|seen| seen.text == from_matrix, PATIENCE).await?;
        ensure!(seen.padlock && seen.name.as_deref().is_some_and(|name| name.starts_with("ann")), "{seen:?}");
        ben.send(chat, &from_mail).await?;
        ann.wait_for(|message| message.body.ends_with(&from_mail), PATIENCE).await?;
        bridge.kill().await?;
        bridge.start().await?;
    }
    let once = ben.messages().await?.iter().filter(|seen| seen.text == "first from matrix").count();
    ensure!(once == 1, "it appears {once} times");
    bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_accounts_go_on_as_they_were_with_a_new_root_key() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut scene = Scene::set(&binary(), &stage()).await?;
    let before = say(&scene, 0, 0..1).await?.remove(0);
    scene.hear(1, &before).await?;
    scene.bridge.stop().await?;
    let missed = say(&scene, 0, 1..2).await?.remove(0);
    let changed = scene.bridge.cli(&["key", "rotate"]).await?.ok()?.json()?;
    ensure!(changed["before"].is_string() && changed["before"] != changed["number"], "{changed}");
    scene.bridge.start().await?;
    // Its key came before, and is in the engine's own store.
    scene.hear(1, &missed).await.context("What was said meanwhile is read")?;
    let back = say(&scene, 1, 0..1).await?.remove(0);
    scene.hear(0, &back).await.context("The other way")?;
    scene.close().await
}
