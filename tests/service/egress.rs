//! The egress guard, with an engine that is led to do what it must never do.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    bridge::Binary,
    demo::{Scene, Setting, Stage},
    http::{free_port, request},
    search::Search,
    servers,
};

/// What met a changed identity on its way is tried again after a minute.
const PATIENCE: Duration = Duration::from_secs(120);
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

/// How often the log says that the guard stopped something for this reason.
fn stops(scene: &Scene, why: &str) -> usize {
    let is_it = |line: &&str| line.contains("egress guard stopped") && line.contains(why);
    scene.bridge.log_text().lines().filter(is_it).count()
}

/// Waits until it says so once more.
async fn stopped(scene: &Scene, why: &str, before: usize) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while stops(scene, why) <= before {
        ensure!(Instant::now() < give_up, "nothing is stopped\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn hears(scene: &Scene, person: &Person, words: &str) -> Result<()> {
    let heard = person.wait_for(|message| message.body.contains(words), PATIENCE).await;
    heard.with_context(|| format!("{} does not hear {words}\n{}", person.user_id(), scene.bridge.tail()))?;
    Ok(())
}

/// How many requests a homeserver's log has of the bridge that look so.
fn requests(scene: &Scene, side: usize, path: &str) -> Result<usize> {
    let server = [&scene.lab.a, &scene.lab.b][side];
    let log = std::fs::read(server.data_dir().join("homeserver.log"))?;
    let log = String::from_utf8_lossy(&log);
    let of_the_bridge = |line: &&str| line.contains(&scene.bots[side]) && line.contains("Processed request");
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
    stopped(&scene, "not encrypted", 0).await?;
    let letters = async |scene: &Scene| scene.bridge.cli(&["dead-letters", "list", "--json"]).await;
    let give_up = Instant::now() + PATIENCE;
    while !letters(&scene).await?.stdout.contains("egress guard") {
        ensure!(Instant::now() < give_up, "it is no dead letter\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let doctor = scene.bridge.cli(&["doctor", "--json"]).await?;
    ensure!(doctor.code != 0 && doctor.stdout.contains("egress-guard"), "{doctor:?}");

    misled(&mut scene, "matrix::stray-key").await?;
    let keys = requests(&scene, 1, "sendToDevice/m.room.encrypted")?;
    ensure!(keys > 0, "the log names no key that was sent, so it would not name this one");
    // The last key was sent before anything was led astray, and is good for so many messages.
    for number in 0..ROTATE {
        scene.people[0].send(&scene.rooms[0], &format!("with a good key {number}")).await?;
    }
    scene.people[0].send(&scene.rooms[0], two).await?;
    stopped(&scene, "a device that may not have them", 0).await?;
    ensure!(requests(&scene, 1, "sendToDevice/m.room.encrypted")? == keys, "a key was sent all the same");

    misled(&mut scene, "").await?;
    hears(&scene, &scene.people[1], two).await?;
    scene.bridge.cli(&["dead-letters", "retry", "--all"]).await?.ok()?;
    hears(&scene, &scene.people[1], one).await?;
    ensure!(requests(&scene, 1, "send/m.room.message")? == 0, "something was sent in clear");
    ensure!(found(&scene)?.is_empty(), "the far homeserver has {:?}", found(&scene)?);

    // Else none of this would say anything.
    misled(&mut scene, "matrix::cleartext,matrix::no-guard").await?;
    scene.people[0].send(&scene.rooms[0], control).await?;
    let give_up = Instant::now() + PATIENCE;
    while found(&scene)? != [control] || requests(&scene, 1, "send/m.room.message")? == 0 {
        ensure!(Instant::now() < give_up, "without the guard it is not found\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.close().await
}

/// Somebody of the first homeserver comes into the first room, of whom the far side can't be told for now.
async fn comes_untold(scene: &Scene, name: &str) -> Result<Person> {
    scene.proxies[1].go_offline();
    let newcomer = Person::new_on(&scene.lab.a, name).await?;
    scene.people[0].invite(&scene.rooms[0], newcomer.user_id()).await?;
    newcomer.wait_invite(&scene.rooms[0], PATIENCE).await?;
    newcomer.join(&scene.rooms[0]).await?;
    Ok(newcomer)
}

/// Waits until somebody of the first room stands so.
async fn stands(scene: &Scene, person: &Person, standing: &str) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let audience = scene.bridge.cli(&["audience", "demo", "--json"]).await?;
        let is_it = |line: &str| line.contains(person.user_id()) && line.contains(&format!("\"{standing}\""));
        if audience.stdout.lines().any(is_it) {
            return Ok(());
        }
        ensure!(Instant::now() < give_up, "{} is not {standing}: {audience:?}", person.user_id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_for_who_was_not_admitted_or_is_somebody_else_by_now_is_stopped_whoever_chose_the_readers() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    const OUTSIDER: &str = "somebody who may not read there";
    const KEYS: &str = "sendToDevice/m.room.encrypted";
    let setting = Setting { rotate_after: Some(ROTATE), proxies: true, ..Setting::default() };
    let mut scene = Scene::set_with(&binary(), &Stage::new(true), setting).await?;
    let metrics = free_port()?;
    scene.bridge.stop().await?;
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    config.write_all(format!("\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n").as_bytes())?;
    scene.bridge.start().await?;
    let people = scene.people.clone();
    let [alice, bob] = &people;
    bob.send(&scene.rooms[1], "among ourselves").await?;
    hears(&scene, alice, "among ourselves").await?;
    let keys = requests(&scene, 0, KEYS)?;
    ensure!(keys > 0, "the log names no key that was sent, so it would not name this one");

    // Somebody new, whom the engine takes for a reader.
    misled(&mut scene, "matrix::stray-reader").await?;
    let carol = comes_untold(&scene, "carol").await?;
    stopped(&scene, OUTSIDER, 0).await?;
    ensure!(requests(&scene, 0, KEYS)? == keys, "a key was sent all the same");
    let counted = request("GET", &format!("http://127.0.0.1:{metrics}/metrics"), &[], "").await?.body;
    let count = |account, why| {
        let label = format!("sealbridge_guard_stopped_total{{account=\"{account}\",why=\"{why}\"}} ");
        counted.lines().find_map(|line| line.strip_prefix(&label)).and_then(|count| count.parse::<u64>().ok())
    };
    ensure!(count("a", "outsider") > Some(0) && count("b", "outsider") == Some(0), "{counted}");
    ensure!(count("a", "cleartext") == Some(0), "{counted}");
    scene.proxies[1].go_online();
    misled(&mut scene, "").await?;
    stands(&scene, &carol, "reads").await?;
    bob.send(&scene.rooms[1], "now that we know").await?;
    hears(&scene, &carol, "now that we know").await?;

    // Somebody whose identity is another by now, whom it takes for who they were.
    misled(&mut scene, "matrix::stray-reader").await?;
    alice.cross_sign().await?;
    stands(&scene, alice, "changed").await?;
    let (keys, before) = (requests(&scene, 0, KEYS)?, stops(&scene, OUTSIDER));
    // The last key was sent before, and is good for so many messages.
    for number in 0..=ROTATE {
        bob.send(&scene.rooms[1], &format!("not for a stranger {number}.")).await?;
    }
    stopped(&scene, OUTSIDER, before).await?;
    ensure!(requests(&scene, 0, KEYS)? == keys, "a key was sent all the same");
    misled(&mut scene, "").await?;
    scene.bridge.cli(&["approve", "demo", alice.user_id()]).await?.ok()?;
    let last = format!("not for a stranger {ROTATE}.");
    hears(&scene, alice, &last).await?;
    hears(&scene, &carol, &last).await?;

    // Else none of this would say anything.
    misled(&mut scene, "matrix::stray-reader,matrix::no-guard").await?;
    let dora = comes_untold(&scene, "dora").await?;
    hears(&scene, &dora, "Now here").await?;
    scene.close().await
}
