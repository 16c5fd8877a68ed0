//! The disk under the state folder is full while people talk, or can only be read; or there are no file descriptors left.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    bridge::{Binary, Bridge},
    processes,
    small_disk::SmallDisk,
};

use tempfile::TempDir;

use super::recovery::{PATIENCE, Talk, assert_clean, plan, stage};

async fn is_in_trouble(bridge: &Bridge) -> Result<bool> {
    let status = bridge.status().await?;
    Ok(status["trouble"].as_str().is_some_and(|trouble| trouble.contains("disk under the journal is full")))
}

/// How much of a processor the service has used, in hundredths of a second.
fn used(bridge: &Bridge) -> Result<u64> {
    let pid = bridge.pid().context("it runs")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a name in brackets comes first")?;
    let fields: Vec<_> = fields.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// A service whose state folder is a small disk, and two who talk over it. `None`: such a disk can't be had here.
async fn on_a_small_disk() -> Result<Option<(Bridge, SmallDisk, Talk, TempDir)>> {
    let network = tempfile::tempdir()?;
    let link = "\n[links.both]\nends = [\"a/room\", \"b/room\"]\n";
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let mut bridge = Bridge::prepare(&binary, &plan(network.path(), link))?;
    // Once the ballast is gone it holds the journal and its log whole, however much was said before that was seen.
    let Some(disk) = SmallDisk::mount(&bridge.folder().join("state"), 64 << 10) else { return Ok(None) };
    bridge.init().await?.ok()?;
    bridge.start().await?;
    let talk = Talk::new(network.path())?;
    Ok(Some((bridge, disk, talk, network)))
}

#[tokio::test]
async fn full_disk_loses_nothing_is_told_and_is_over_when_there_is_room() -> Result<()> {
    let Some((bridge, disk, mut talk, _network)) = on_a_small_disk().await? else { return Ok(()) };
    for _ in 0..3 {
        talk.say(10)?;
        assert_clean(talk.all_heard().await?, &bridge)?;
        disk.fill()?;
        // The log is written over, so it takes a while until there is no room for anything more.
        let start = tokio::time::Instant::now();
        while !is_in_trouble(&bridge).await? {
            ensure!(start.elapsed() < PATIENCE, "{}", bridge.tail());
            talk.say(50)?;
        }
        let doctor = bridge.cli(&["doctor"]).await?;
        ensure!(doctor.code != 0 && doctor.stdout.contains("disk under the journal is full"), "{doctor:?}");
        let before = used(&bridge)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let busy = used(&bridge)? - before;
        ensure!(busy < 100, "it used {busy} hundredths of a second within two seconds of waiting for room");
        disk.empty()?;
        assert_clean(talk.all_heard().await?, &bridge)?;
        let start = tokio::time::Instant::now();
        while is_in_trouble(&bridge).await? {
            ensure!(start.elapsed() < PATIENCE, "{}", bridge.tail());
        }
    }
    ensure!(bridge.is_running(), "{}", bridge.tail());
    bridge.stop().await
}

#[tokio::test]
async fn disk_that_can_only_be_read_is_said_and_nothing_is_lost_until_it_can_be_written() -> Result<()> {
    let Some((mut bridge, disk, mut talk, _network)) = on_a_small_disk().await? else { return Ok(()) };
    talk.say(10)?;
    assert_clean(talk.all_heard().await?, &bridge)?;
    bridge.kill().await?;
    talk.say(10)?;
    disk.may_only_be_read(true)?;
    bridge.spawn().await?;
    let code = bridge.wait_exit(PATIENCE).await.context("It ends, rather than to take what it can't keep")?;
    let said = bridge.tail();
    ensure!(code > 0, "{code}: {said}");
    ensure!(said.to_lowercase().contains("read-only"), "{said}");
    for command in [&["links", "list"][..], &["doctor"]] {
        let answer = bridge.cli(command).await?;
        ensure!(answer.code != 0 && !answer.stdout.contains("panicked"), "{answer:?}");
    }
    disk.may_only_be_read(false)?;
    bridge.start().await?;
    assert_clean(talk.all_heard().await?, &bridge)?;
    bridge.stop().await
}

#[tokio::test]
async fn service_without_file_descriptors_waits_in_peace_and_loses_nothing() -> Result<()> {
    let (mut bridge, mut talk, _network) = stage().await?;
    bridge.start().await?;
    talk.say(10)?;
    assert_clean(talk.all_heard().await?, &bridge)?;
    let pid = bridge.pid().context("it runs")?;
    for _ in 0..3 {
        processes::starve_of_files(pid, true)?;
        talk.say(50)?;
        // Nobody can ask it anything either.
        let asked = tokio::spawn({
            let (binary, config) = (env!("CARGO_BIN_EXE_sealbridge"), bridge.config());
            async move { tokio::process::Command::new(binary).arg("--config").arg(config).arg("status").output().await }
        });
        let before = used(&bridge)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let busy = used(&bridge)? - before;
        ensure!(busy < 100, "it used {busy} hundredths of a second within two seconds without file descriptors");
        ensure!(bridge.is_running(), "{}", bridge.tail());
        processes::starve_of_files(pid, false)?;
        assert_clean(talk.all_heard().await?, &bridge)?;
        let answer = asked.await??;
        ensure!(answer.status.success() || answer.status.code() == Some(75), "{answer:?}");
        bridge.status().await?;
    }
    ensure!(!bridge.log_text().contains("panicked"), "{}", bridge.tail());
    bridge.stop().await
}
