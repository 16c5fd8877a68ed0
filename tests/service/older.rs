//! Older copies of what the service keeps, and second ones: each is noticed on a real homeserver before it can do harm,
//! and no crash is taken for one.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo::{Scene, Setting, Stage},
    proxy::{Fault, Rule},
    servers,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_ends_in_order_and_the_homeserver_is_told_how_old_the_stores_are() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let operator = Person::new_on(&lab.a, "operator").await?;
    for _ in 0..3 {
        let account = AccountPlan::on(&lab.a, "a").await?;
        let admin = Some(("a".to_owned(), operator.user_id().to_owned()));
        let plan = Plan { accounts: vec![account], admin, ..Plan::default() };
        let bridge = Bridge::prepare(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan)?;
        let said = bridge.init().await?.ok()?;
        ensure!(!said.stderr.contains("WARN"), "{}", said.stderr);
    }
    Ok(())
}

async fn scene() -> Result<Option<Scene>> {
    if !servers::available().await {
        return Ok(None);
    }
    Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await.map(Some)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&entry.path(), &to)?,
            kind if kind.is_file() => drop(fs::copy(entry.path(), to)?),
            // The control socket is nobody's data.
            _ => {}
        }
    }
    Ok(())
}

/// Puts another folder in the place of one, and keeps that under a name.
fn swap(place: &Path, other: &Path, kept: &Path) -> Result<()> {
    fs::rename(place, kept)?;
    copy(other, place)
}

async fn crosses(scene: &Scene, words: &str) -> Result<()> {
    scene.people[0].send(&scene.rooms[0], words).await?;
    let heard = scene.people[1].wait_for(|heard| heard.body.contains(words), PATIENCE).await;
    heard.map(drop).with_context(|| scene.bridge.tail())
}

/// Starts the service, and expects that it ends because of an older copy.
async fn is_refused(bridge: &mut Bridge, words: &str) -> Result<()> {
    bridge.spawn().await?;
    let code = bridge.wait_exit(PATIENCE).await.with_context(|| bridge.tail())?;
    ensure!(code == 6 && bridge.tail().contains(words), "ended with {code}\n{}", bridge.tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn older_copy_of_the_state_folder_is_refused_and_adopted_it_carries_nothing_twice() -> Result<()> {
    let Some(mut scene) = scene().await? else { return Ok(()) };
    let state = scene.bridge.folder().join("state");
    let (older, newer) = (scene.bridge.folder().join("older"), scene.bridge.folder().join("newer"));
    crosses(&scene, "before the copy").await?;
    scene.bridge.stop().await?;
    copy(&state, &older)?;
    scene.bridge.start().await?;
    crosses(&scene, "since the copy").await?;
    scene.bridge.stop().await?;

    swap(&state, &older, &newer)?;
    is_refused(&mut scene.bridge, "is an older copy").await?;
    // Twice: what it tried the first time does not make it look newer.
    is_refused(&mut scene.bridge, "sealbridge backup adopt").await?;
    let doctor = scene.bridge.cli(&["doctor"]).await?;
    let found = doctor.stdout.lines().find(|line| line.contains("last run")).context("It says why it ended")?;
    ensure!(found.contains("is an older copy") && found.contains("sealbridge backup adopt"), "{found}");
    fs::remove_dir_all(&state)?;
    fs::rename(&newer, &state)?;
    scene.bridge.start().await?;
    crosses(&scene, "with the newer copy").await?;
    ensure!(!scene.bridge.cli(&["doctor"]).await?.stdout.contains("last run"), "it runs again");
    scene.bridge.stop().await?;

    swap(&state, &older, &newer)?;
    is_refused(&mut scene.bridge, "is an older copy").await?;
    scene.bridge.cli(&["backup", "adopt"]).await?.ok()?;
    scene.bridge.init().await?.ok()?;
    scene.bridge.start().await?;
    crosses(&scene, "after it was adopted").await?;
    for words in ["before the copy", "since the copy", "with the newer copy"] {
        let times = scene.people[1].messages().iter().filter(|heard| heard.body.contains(words)).count();
        ensure!(times == 1, "{words:?} was heard {times} times");
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn older_copy_of_an_accounts_keys_stops_it_and_a_new_device_cures_it() -> Result<()> {
    let Some(mut scene) = scene().await? else { return Ok(()) };
    let keys = scene.bridge.folder().join("state/accounts/a/crypto");
    let (older, newer) = (scene.bridge.folder().join("older"), scene.bridge.folder().join("newer"));
    scene.bridge.stop().await?;
    copy(&keys, &older)?;
    scene.bridge.start().await?;
    crosses(&scene, "since the copy").await?;
    scene.bridge.stop().await?;
    swap(&keys, &older, &newer)?;
    scene.bridge.spawn().await?;
    let start = tokio::time::Instant::now();
    loop {
        let status = scene.bridge.cli(&["status"]).await?;
        let accounts = status.json().map(|status| status["accounts"].clone()).unwrap_or_default();
        let a = accounts.as_array().into_iter().flatten().find(|account| account["name"] == "a");
        // Before it is opened it is said to be not running.
        if a.is_some_and(|a| a["stopped"].to_string().contains("keys are an older copy")) {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "{status:?}\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let doctor = scene.bridge.cli(&["doctor"]).await?;
    ensure!(doctor.code != 0 && doctor.stdout.contains("keys are an older copy"), "{doctor:?}");
    scene.bridge.stop().await?;
    scene.bridge.init().await?.ok()?;
    scene.bridge.start().await?;
    crosses(&scene, "as a new device").await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn second_copy_at_work_is_noticed_by_the_first_which_stops() -> Result<()> {
    let Some(mut scene) = scene().await? else { return Ok(()) };
    scene.bridge.stop().await?;
    scene.bridge.set_env("FAILPOINT_MISLEAD", "age::soon");
    scene.bridge.start().await?;
    crosses(&scene, "with one").await?;
    let second = scene.bridge.folder().join("second");
    copy(&scene.bridge.folder().join("state"), &second)?;
    let log = fs::File::create(scene.bridge.folder().join("second.log"))?;
    let mut clone = tokio::process::Command::new(env!("CARGO_BIN_EXE_sealbridge"))
        .args(["--config".as_ref(), scene.bridge.config().as_os_str(), "--state".as_ref(), second.as_os_str()])
        .arg("run")
        .current_dir(scene.bridge.folder())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    // Somebody speaks, so that each says how old it is.
    let alice = Arc::clone(&scene.people[0]);
    let start = tokio::time::Instant::now();
    let mut count = 0;
    while scene.bridge.is_running() && clone.try_wait()?.is_none() {
        alice.send(&scene.rooms[0], &format!("with two {count}")).await?;
        count += 1;
        ensure!(start.elapsed() < PATIENCE, "both go on\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if scene.bridge.is_running() {
        // The copy was made just before the first one said how old it is, so it was the one that was told.
        let said = fs::read_to_string(scene.bridge.folder().join("second.log"))?;
        ensure!(clone.wait().await?.code() == Some(6) && said.contains("another copy of it was at work"), "{said}");
    } else {
        let code = scene.bridge.wait_exit(PATIENCE).await?;
        ensure!(code == 6 && scene.bridge.tail().contains("another copy of it was at work"), "{}", scene.bridge.tail());
        clone.kill().await?;
    }
    scene.close().await
}

/// What the homeservers are told of it goes there.
const AGE: &str = "/account_data/io.github.sealbridge.age";

#[tokio::test(flavor = "multi_thread")]
async fn orderly_end_tells_each_homeserver_what_moved_since() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting { proxies: true, ..Setting::default() };
    let mut scene = Scene::set_with(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true), setting).await?;
    for round in 0..3 {
        crosses(&scene, &format!("round {round}")).await?;
        let told = scene.proxies.iter().map(|proxy| Ok(proxy.add(Rule::new("PUT", AGE, Fault::rewrite(|_| {}))?)));
        let told = told.collect::<Result<Vec<_>>>()?;
        scene.bridge.stop().await?;
        ensure!(told.iter().all(|told| told.struck() == 1), "round {round}: {}", scene.bridge.tail());
        ensure!(!scene.bridge.log_text().contains("another copy"), "{}", scene.bridge.tail());
        scene.bridge.start().await?;
    }
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn number_that_a_homeserver_did_not_take_is_raised_again_for_what_moved_meanwhile() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting { proxies: true, ..Setting::default() };
    let mut scene = Scene::set_with(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true), setting).await?;
    scene.bridge.stop().await?;
    scene.bridge.set_env("FAILPOINT_MISLEAD", "age::soon");
    scene.bridge.start().await?;
    crosses(&scene, "before").await?;
    let refused = scene.proxies[0].add(Rule::new("PUT", AGE, Fault::Fail(500))?);
    let taken = scene.proxies[0].add(Rule::new("PUT", AGE, Fault::rewrite(|_| {}))?);
    crosses(&scene, "so that it is raised").await?;
    refused.wait_struck(1, PATIENCE).await?;
    crosses(&scene, "and so that it has to be raised again").await?;
    let before = taken.struck();
    refused.remove();
    // What was not taken, and then what moved since.
    taken.wait_struck(before + 2, PATIENCE).await.with_context(|| scene.bridge.tail())?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn death_between_the_places_that_say_how_old_it_is_locks_nobody_out() -> Result<()> {
    let Some(mut scene) = scene().await? else { return Ok(()) };
    scene.bridge.stop().await?;
    let places = sealbridge_matrix::AGE_FAILPOINTS.iter().filter(|place| **place != "age::soon");
    for place in places {
        // Of the first account and of the second.
        for nth in [1, 2] {
            scene.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}={nth}"));
            scene.bridge.spawn().await?;
            let code = scene.bridge.wait_exit(PATIENCE).await.with_context(|| format!("{place} was never reached"))?;
            ensure!(code == -9, "{place}: ended with {code}\n{}", scene.bridge.tail());
        }
    }
    scene.bridge.unset_env("FAILPOINT_KILL_AT");
    scene.bridge.start().await.with_context(|| scene.bridge.tail())?;
    crosses(&scene, "after all of them").await?;
    scene.close().await
}
