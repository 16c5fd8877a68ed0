//! A data folder that is lost for good, and what a backup makes of it on real homeservers: another device, signed by the
//! same identity, that goes on where the old one was.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::conformance::Say;
use sealbridge_lab::{
    bridge::{Binary, Bridge},
    demo::{Scene, Stage},
    servers,
};
use serde_json::{Value, json};

use crate::phones::{Family, Who};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the homeserver tells a person of the bridge's devices: id, and whether its identity signed it.
async fn devices(scene: &Scene, side: usize) -> Result<Vec<(String, bool)>> {
    let bot = &scene.bots[side];
    let body = json!({ "device_keys": { bot: [] } });
    let (status, answer) = scene.people[side].http("POST", "/_matrix/client/v3/keys/query", Some(body)).await?;
    ensure!(status == 200, "{answer}");
    let signing = &answer["self_signing_keys"][bot]["keys"];
    let signer = signing.as_object().and_then(|keys| keys.keys().next().cloned()).context("It has an identity")?;
    let all = answer["device_keys"][bot].as_object().cloned().unwrap_or_default();
    let signed = |device: &Value| !device["signatures"][bot][&signer].is_null();
    Ok(all.iter().map(|(id, device)| (id.clone(), signed(device))).collect())
}

fn lose(bridge: &Bridge) -> Result<()> {
    fs::remove_dir_all(bridge.folder().join("state"))?;
    Ok(fs::remove_file(bridge.config())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_data_folder_is_made_anew_from_a_backup_as_another_signed_device_that_knows_what_was_said() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let mut scene = Scene::set(&binary, &Stage::new(true)).await?;
    let [alice, bob] = scene.people.each_ref().map(Arc::clone);
    let first = alice.send(&scene.rooms[0], "said before the backup").await?;
    let there = bob.wait_for(|heard| heard.body.contains("said before the backup"), PATIENCE).await?;

    // Something waits when the backup is made, and is delivered afterwards; the restored one must see that it was.
    scene.bridge.cli(&["links", "pause", "demo"]).await?.ok()?;
    alice.send(&scene.rooms[0], "waits at the backup").await?;
    let start = tokio::time::Instant::now();
    while scene.bridge.status().await?["journal"]["held"] != 1 {
        ensure!(start.elapsed() < PATIENCE, "{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (file, key) = (scene.bridge.folder().join("a.backup"), scene.bridge.folder().join("backup.key"));
    let (file, key) = (file.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    scene.bridge.cli(&["backup", "create", &file, "--key", &key]).await?.ok()?;
    scene.bridge.cli(&["links", "resume", "demo"]).await?.ok()?;
    bob.wait_for(|heard| heard.body.contains("waits at the backup"), PATIENCE).await?;
    let (old, identity) = (devices(&scene, 0).await?, scene.bridge.status().await?);
    ensure!(old.len() == 1 && old[0].1, "{old:?} {identity}");

    scene.bridge.kill().await?;
    lose(&scene.bridge)?;
    scene.bridge.cli(&["backup", "restore", &file, "--key", &key]).await?.ok()?;
    // Nothing goes on with the keys of old: without a new login no account runs.
    scene.bridge.spawn().await?;
    let code = scene.bridge.wait_exit(PATIENCE).await?;
    ensure!(code == 3, "ended with {code}\n{}", scene.bridge.tail());
    scene.bridge.init().await?.ok().context("sealbridge init after the restoring")?;
    scene.bridge.start().await?;

    for side in [0, 1] {
        let new = devices(&scene, side).await?;
        ensure!(new.len() == 1 && new[0].1, "{new:?}");
        ensure!(side == 1 || new[0].0 != old[0].0, "It is the old device");
    }
    scene.bridge.cli(&["links", "resume", "demo"]).await?.ok()?;
    alice.send(&scene.rooms[0], "said after the restoring").await?;
    bob.wait_for(|heard| heard.body.contains("said after the restoring"), PATIENCE)
        .await
        .with_context(|| scene.bridge.tail())?;
    bob.send(&scene.rooms[1], "and back").await?;
    alice.wait_for(|heard| heard.body.contains("and back"), PATIENCE).await.with_context(|| scene.bridge.tail())?;
    // What was said long before is still known by its name.
    let content = json!({
        "msgtype": "m.text", "body": "* said otherwise",
        "m.new_content": { "msgtype": "m.text", "body": "said otherwise" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first },
    });
    alice.send_event(&scene.rooms[0], "m.room.message", content).await?;
    let edit = bob.wait_for(|heard| heard.body.contains("said otherwise"), PATIENCE).await;
    let edit = edit.with_context(|| scene.bridge.tail())?;
    let raw = bob.raw_event(&scene.rooms[1], &edit.event_id).await?;
    ensure!(raw["content"]["m.relates_to"]["event_id"] == there.event_id.as_str(), "{raw}");
    // What waited stood before all of that in its lane: it was looked for, and found.
    let twice = bob.messages().iter().filter(|heard| heard.body.contains("waits at the backup")).count();
    ensure!(twice == 1, "heard {twice} times");
    let letters = scene.bridge.cli(&["dead-letters", "list"]).await?.ok()?;
    ensure!(!letters.stdout.contains("not tell"), "{}", letters.stdout);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn group_on_phones_goes_on_from_a_backup_with_the_same_key_and_hears_nothing_twice() -> Result<()> {
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let Some(mut family) = Family::set(&binary).await? else { return Ok(()) };
    let say = |words: &str| Say { words: words.into(), ..Say::default() };
    for (who, words) in [(Who::Ann, "from ann, early"), (Who::Ben, "from ben, early")] {
        family.says(who, say(words)).await?;
        family.hears(who.other(), words, |heard| heard.words.contains(words)).await?;
    }
    let folder = family.bridge.folder().to_owned();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (file, key) = (path("a.backup"), path("backup.key"));
    family.bridge.cli(&["backup", "create", &file, "--key", &key]).await?.ok()?;
    let exported = folder.join("state/accounts/family/export");
    ensure!(fs::read_dir(&exported)?.next().is_none(), "what the engine exported is still there");
    // Carried after the backup was made, which the restored one can't know.
    family.says(Who::Ben, say("from ben, since")).await?;
    family.hears(Who::Ann, "what Ben said since", |heard| heard.words.contains("from ben, since")).await?;
    family.bridge.stop().await?;

    lose(&family.bridge)?;
    family.bridge.cli(&["backup", "restore", &file, "--key", &key]).await?.ok()?;
    // Asked is the password of the Matrix account alone: the engine has all that it needs.
    let password = fs::read_to_string(folder.join("work.password"))?;
    let init = family.bridge.cli_typed(&["init"], &format!("{password}\n")).await?;
    init.ok().context("sealbridge init after the restoring")?;
    ensure!(!folder.join("state/accounts/family/import.tar").exists(), "what the engine took is still there");
    family.bridge.start().await?;
    for (who, words) in [(Who::Ann, "from ann, later"), (Who::Ben, "from ben, later")] {
        family.says(who, say(words)).await?;
        let heard = family.hears(who.other(), words, |heard| heard.words.contains(words)).await;
        heard.with_context(|| family.bridge.tail())?;
    }
    for (listener, words) in
        [(Who::Ann, "from ben, since"), (Who::Ann, "from ben, early"), (Who::Ben, "from ann, early")]
    {
        let times = family.heard(listener).await?.iter().filter(|heard| heard.words.contains(words)).count();
        ensure!(times == 1, "{words:?} was heard {times} times\n{}", family.bridge.tail());
    }
    family.bridge.stop().await
}
