//! The operator compares emoji by the command, with a client of another library.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    bridge::{Answer, Binary},
    demo::{Scene, Setting, Stage},
    node,
    person::{Kind, Options, Received, Verification},
    servers,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// Waits for a step of a comparison that is none of these.
async fn step(person: &Person, wanted: &str, but: &[&str]) -> Result<Verification> {
    let pick = |one: &Received| match one {
        Received::Verification(seen) if seen.step == wanted && !but.contains(&seen.flow.as_str()) => Some(seen.clone()),
        _ => None,
    };
    person.wait_event(pick, SOON).await.with_context(|| format!("No step {wanted}"))
}

/// The person does all that is asked of them, and sees that all of it matches.
async fn agrees(person: &Person, but: &[&str]) -> Result<Verification> {
    let asked = step(person, "requested", but).await?;
    person.verify_accept(&asked.flow).await?;
    let shown = step(person, "emoji", but).await?;
    person.verify_confirm(&shown.flow).await?;
    Ok(shown)
}

fn lines(said: &Answer) -> Vec<Value> {
    said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The emoji that the command showed.
fn shown(said: &Answer) -> Vec<String> {
    let lines = lines(said);
    let emoji = lines.iter().filter(|line| line["step"] == "compare").flat_map(|line| line["emoji"].as_array());
    emoji.flatten().filter_map(|one| one["name"].as_str()).map(str::to_lowercase).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_compares_emoji_by_the_command_with_somebody_in_no_room_of_ours() -> Result<()> {
    if !servers::available().await || !node::available().await {
        return Ok(());
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let scene = Scene::set_with(&binary, &Stage::new(true), Setting::default()).await?;
    let nina = Person::new_with(&scene.lab.a, "nina", Options { kind: Kind::JsOlm, ..Options::default() }).await?;
    let whom = format!("{}/{}", nina.user_id(), nina.device_id());
    let verify = ["verify", "a", &whom];

    let (said, first) = tokio::try_join!(scene.bridge.cli_typed(&verify, "no\n"), agrees(&nina, &[]))?;
    ensure!(said.code != 0 && said.stdout.contains("did not match"), "{said:?}");
    step(&nina, "cancelled", &[]).await?;
    ensure!(!nina.holds_verified(&first.user).await?, "They hold the bridge verified");

    let but = [first.flow.as_str()];
    let (said, second) = tokio::try_join!(scene.bridge.cli_typed(&verify, "yes\n"), agrees(&nina, &but))?;
    let said = said.ok()?;
    let theirs: Vec<_> = second.emoji.iter().map(|name| name.to_lowercase()).collect();
    ensure!(shown(&said).len() == 7 && shown(&said) == theirs, "{said:?} {theirs:?}");
    let last = lines(&said).pop().context("It says something")?;
    ensure!(last["step"] == "done" && last["words"] == format!("{} is verified.", nina.user_id()), "{last}");
    step(&nina, "done", &but).await?;
    scene.close().await
}
