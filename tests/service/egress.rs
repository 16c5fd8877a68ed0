//! The egress guard, with an engine that is led to do what it must never do.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sealbridge_lab::{
    bridge::Binary,
    demo::{Scene, Setting, Stage},
    search::Search,
    servers,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// As often as a room may ask for new keys.
const ROTATE: u32 = 20;
const IN_CLEAR: [&str; 3] = ["zq7canaryone1z", "zq7canarytwo2z", "zq7canarycontrol3z"];

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

/// Starts the service anew, with an engine that is led astray so.
async fn misled(scene: &mut Scene, how: &str) -> Result<()> {
    scene.bridge.stop().await?;
    match how {
        "" => scene.bridge.unset_env("FAILPOINT_MISLEAD"),
        how => scene.bridge.set_env("FAILPOINT_MISLEAD", how),
    }
    scene.bridge.start().await
}

/// Waits until the guard says in the log that it stopped something for this reason.
async fn stopped(scene: &Scene, why: &str) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    let is_it = |line: &str| line.contains("egress guard stopped") && line.contains(why);
    while !scene.bridge.log_text().lines().any(is_it) {
        ensure!(Instant::now() < give_up, "nothing is stopped\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn heard(scene: &Scene, words: &str) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !scene.people[1].messages().iter().any(|message| message.body.contains(words)) {
        ensure!(Instant::now() < give_up, "{words} is not heard\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// How many requests the far homeserver's log has of the bridge that look so.
fn requests(scene: &Scene, path: &str) -> Result<usize> {
    let log = std::fs::read(scene.lab.b.data_dir().join("homeserver.log"))?;
    let log = String::from_utf8_lossy(&log);
    let of_the_bridge = |line: &&str| line.contains(&scene.bots[1]) && line.contains("Processed request");
    Ok(log.lines().filter(of_the_bridge).filter(|line| line.contains(path)).count())
}

/// Which of the canaries are anywhere in the far homeserver's folder.
fn found(scene: &Scene) -> Result<Vec<&'static str>> {
    let mut hits: Vec<_> = Search::new(&IN_CLEAR)?.paths(&[scene.lab.b.data_dir()])?;
    hits.sort_by_key(|hit| hit.canary);
    hits.dedup_by_key(|hit| hit.canary);
    Ok(hits.into_iter().map(|hit| IN_CLEAR[hit.canary]).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_and_a_key_for_an_unknown_device_are_stopped_before_the_homeserver_and_nothing_is_lost() -> Result<()>
{
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting { rotate_after: Some(ROTATE), ..Setting::default() };
    let mut scene = Scene::set_with(&binary(), &Stage::new(true), setting).await?;
    let [one, two, control] = IN_CLEAR;

    misled(&mut scene, "matrix::cleartext").await?;
    scene.people[0].send(&scene.rooms[0], one).await?;
    stopped(&scene, "not encrypted").await?;
    let letters = async |scene: &Scene| scene.bridge.cli(&["dead-letters", "list", "--json"]).await;
    let give_up = Instant::now() + PATIENCE;
    while !letters(&scene).await?.stdout.contains("egress guard") {
        ensure!(Instant::now() < give_up, "it is no dead letter\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let doctor = scene.bridge.cli(&["doctor", "--json"]).await?;
    ensure!(doctor.code != 0 && doctor.stdout.contains("egress-guard"), "{doctor:?}");

    misled(&mut scene, "matrix::stray-key").await?;
    let keys = requests(&scene, "sendToDevice/m.room.encrypted")?;
    ensure!(keys > 0, "the log names no key that was sent, so it would not name this one");
    // The last key was sent before anything was led astray, and is good for so many messages.
    for number in 0..ROTATE {
        scene.people[0].send(&scene.rooms[0], &format!("with a good key {number}")).await?;
    }
    scene.people[0].send(&scene.rooms[0], two).await?;
    stopped(&scene, "a device that may not have them").await?;
    ensure!(requests(&scene, "sendToDevice/m.room.encrypted")? == keys, "a key was sent all the same");

    misled(&mut scene, "").await?;
    heard(&scene, two).await?;
    scene.bridge.cli(&["dead-letters", "retry", "--all"]).await?.ok()?;
    heard(&scene, one).await?;
    ensure!(requests(&scene, "send/m.room.message")? == 0, "something was sent in clear");
    ensure!(found(&scene)?.is_empty(), "the far homeserver has {:?}", found(&scene)?);

    // Else none of this would say anything.
    misled(&mut scene, "matrix::cleartext,matrix::no-guard").await?;
    scene.people[0].send(&scene.rooms[0], control).await?;
    let give_up = Instant::now() + PATIENCE;
    while found(&scene)? != [control] || requests(&scene, "send/m.room.message")? == 0 {
        ensure!(Instant::now() < give_up, "without the guard it is not found\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.close().await
}
