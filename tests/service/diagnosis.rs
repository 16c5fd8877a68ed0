//! What the doctor says of conversations and of what waits, with each fault made on a real homeserver.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    bridge::Binary,
    demo::{Scene, Stage},
    servers,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the doctor says so.
async fn says(scene: &Scene, words: &[&str]) -> Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let doctor = scene.bridge.cli(&["doctor"]).await?;
        if doctor.stdout.lines().any(|line| words.iter().all(|words| line.contains(words))) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "{words:?} are not said: {doctor:?}\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_why_messages_can_not_be_read_and_that_a_room_is_said_to_be_open() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let scene = Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await?;
    let [alice, bob] = scene.people.each_ref().map(Arc::clone);
    alice.send(&scene.rooms[0], "in order").await?;
    bob.wait_for(|heard| heard.body.contains("in order"), PATIENCE).await?;
    let healthy = scene.bridge.cli(&["doctor"]).await?;
    ensure!(healthy.code == 0 && !healthy.stdout.contains("unreadable"), "{healthy:?}");

    alice.withhold(&scene.rooms[0], &[&scene.bots[0]], true).await?;
    alice.send(&scene.rooms[0], "withheld").await?;
    says(&scene, &["account a: unreadable", "1 can't be read yet", "withheld the key", "must be signed"]).await?;
    bob.withhold(&scene.rooms[1], &[&scene.bots[1]], false).await?;
    bob.send(&scene.rooms[1], "kept back").await?;
    says(&scene, &["account b: unreadable", "the room key is missing", "may still come"]).await?;

    alice.send_state(&scene.rooms[0], "m.room.encryption", "", json!({})).await.context("Synapse takes it")?;
    says(&scene, &["link demo", "was encrypted, and its server now says otherwise"]).await?;
    let doctor = scene.bridge.cli(&["doctor"]).await?;
    ensure!(doctor.code != 0, "{doctor:?}");
    scene.close().await
}
