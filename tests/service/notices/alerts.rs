//! A real Alertmanager, and a person in an encrypted room whose client shares no code with ours.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_lab::{alerts, bridge::Binary, chaos, demo::Stage, servers};

#[tokio::test(flavor = "multi_thread")]
async fn real_alertmanager_fires_changes_and_ends_in_one_message_and_is_silenced_from_the_room() -> Result<()> {
    if !(servers::available().await && alerts::available().await) {
        return Ok(());
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let outcome = alerts::demo::run(&binary, &Stage::new(true)).await?;
    ensure!(outcome.is_clean(), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_were_told_is_there_once_however_often_the_service_is_killed() -> Result<()> {
    if !(servers::available().await && alerts::available().await) {
        return Ok(());
    }
    if super::senders::ready().await?.is_none() {
        return Ok(());
    }
    let options = chaos::Options { kills: 8, pause: Duration::from_millis(200) };
    let outcome = alerts::chaos::run(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true), options).await?;
    ensure!(outcome.is_clean() && outcome.taken > 40, "{outcome:?}");
    Ok(())
}
