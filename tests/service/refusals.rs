//! Bad input at the doors of the service, each with a clear outcome.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sealbridge_lab::{
    Lab, Person, Synapse,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    checker::Tag,
    demo::{self, Scene, Stage},
    person::Text,
    servers,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

async fn one_account(server: &Synapse) -> Result<Plan> {
    Ok(Plan { accounts: vec![AccountPlan::on(server, "a").await?], ..Plan::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn demonstration_is_clean_and_its_search_works() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let options = demo::Options { keep: false, json: true };
    let outcome = demo::run_with(&binary(), &Stage::new(true), options).await?;
    ensure!(outcome.is_clean(), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_named_and_ends_with_its_own_code() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut plan = one_account(&lab.a).await?;
    plan.accounts[0].user.password = "not this one".into();
    let answer = Bridge::prepare(&binary(), &plan)?.init().await?;
    ensure!(answer.code == 4, "{answer:?}");
    ensure!(answer.stderr.to_lowercase().contains("password"), "{answer:?}");
    ensure!(!answer.stderr.contains("not this one") && !answer.stdout.contains("not this one"), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_homeserver_is_named_and_ends_with_its_own_code() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut plan = one_account(&lab.a).await?;
    // A port that was free a moment ago: nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    plan.accounts[0].homeserver = format!("http://{free}");
    let answer = Bridge::prepare(&binary(), &plan)?.init().await?;
    ensure!(answer.code == 5, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_over_plain_http_is_refused() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut plan = one_account(&lab.a).await?;
    plan.accounts[0].homeserver = "http://matrix.example.org".into();
    let answer = Bridge::prepare(&binary(), &plan)?.init().await?;
    ensure!(answer.code == 3 && answer.stderr.contains("https"), "{answer:?}");
    ensure!(answer.json()?["error"]["kind"] == "config", "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_with_an_identity_takes_its_recovery_key_from_the_answers_and_says_so() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let mut plan = one_account(&lab.a).await?;
    let first = Bridge::prepare(&binary(), &plan)?;
    let said = first.init().await?.ok()?;
    let steps = said.stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let kept = steps.into_iter().find(|step| step["step"] == "kept").context("It keeps the recovery key")?;
    let file = kept["file"].as_str().context("It says in which file")?;
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file)?);
    let key = std::fs::read_to_string(file)?;
    let key = key.trim();
    ensure!(mode & 0o777 == 0o600 && key.len() > 40, "{mode:o}");
    ensure!(!said.stdout.contains(key) && !said.stderr.contains(key), "A program gets the recovery key");
    let refused = Bridge::prepare(&binary(), &plan)?.init().await?;
    let says = ["`recovery_key_file", "[accounts.a]", "has an identity already"];
    ensure!(refused.code == 2 && says.iter().all(|words| refused.stderr.contains(words)), "{refused:?}");
    plan.accounts[0].extra = format!("recovery_key = {key:?}\n");
    Bridge::prepare(&binary(), &plan)?.init().await?.ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_not_encrypted_is_left_and_can_not_be_linked() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let plan = one_account(&lab.a).await?;
    let bot = plan.accounts[0].user.id.clone();
    let mut bridge = Bridge::set_up(&binary(), &plan).await?;
    bridge.start().await?;
    let alice = Person::new_on(&lab.a, "alice").await?;
    let plain = alice.create_plain_room("plain", &[&bot]).await?;
    let left = alice.wait_member(&plain, &bot, "leave", PATIENCE).await.context("It looks, and leaves again")?;
    ensure!(left.reason.is_some_and(|reason| reason.contains("encrypted")), "It says why");
    let fine = demo::invited(&alice, "fine", &bot, None).await?;
    let (plain, fine) = (format!("a/{plain}"), format!("a/{fine}"));
    bridge.wait_conversation(&fine, PATIENCE).await?;
    let answer = bridge.cli(&["links", "add", "bad", &plain, &fine]).await?;
    ensure!(answer.code == 6, "{answer:?}");
    bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_loop_mark_silences_nobody_and_our_own_mark_stops_a_loop() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let scene = Scene::set(&binary(), &Stage::new(true)).await?;
    let tag = |number| Tag { run: scene.run.clone(), sender: 0, number };
    let [alice, bob] = [&scene.people[0], &scene.people[1]];
    let say = async |number: usize, marks: serde_json::Value| -> Result<()> {
        let extra = Some(json!({ "org.sealbridge.trail": marks }));
        alice.send_text(&scene.rooms[0], Text { body: &tag(number).text(), extra, ..Text::default() }).await?;
        Ok(())
    };
    // A mark of nobody, and something that is no mark at all: both cross.
    say(0, json!([URL_SAFE_NO_PAD.encode([7_u8; 32])])).await?;
    say(1, json!({ "not": ["a", "trail"] })).await?;
    let first = scene.hear(1, &tag(0)).await?;
    scene.hear(1, &tag(1)).await?;
    // What we carried to bob has our mark inside its ciphertext. Said again with that, it is a loop and stays here.
    let ours = first.content["org.sealbridge.trail"].clone();
    ensure!(ours.as_array().is_some_and(|marks| marks.len() == 2), "the forged mark is kept and ours is added: {ours}");
    say(2, ours).await?;
    say(3, json!([])).await?;
    scene.hear(1, &tag(3)).await?;
    ensure!(!bob.messages().iter().any(|m| m.body.contains(&tag(2).text())), "our own mark stops it");
    scene.close().await
}
