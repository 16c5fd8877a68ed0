//! The operator compares emoji by the command, with a client of another library.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    bridge::{Answer, Binary},
    demo::{Scene, Setting, Stage},
    node,
    person::{Kind, Message, Options, Received, Verification},
    servers,
};
use serde_json::Value;

use super::chat_rooms::master_key;

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

/// The usual scene, and Nina with matrix-js-sdk, who is in no room of ours. `None`: one of the two can't be had here.
async fn with_nina() -> Result<Option<(Scene, Person)>> {
    if !servers::available().await || !node::available().await {
        return Ok(None);
    }
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let scene = Scene::set_with(&binary, &Stage::new(true), Setting::default()).await?;
    let nina = Person::new_with(&scene.lab.a, "nina", Options { kind: Kind::JsOlm, ..Options::default() }).await?;
    Ok(Some((scene, nina)))
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_compares_emoji_by_the_command_with_somebody_in_no_room_of_ours() -> Result<()> {
    let Some((scene, nina)) = with_nina().await? else { return Ok(()) };
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

/// The admin says it in the admin room, and gives what is answered to it.
async fn answered(scene: &Scene, room: &str, words: &str) -> Result<String> {
    let asked = scene.operator.send(room, words).await?;
    let is_it = |message: &Message| message.content["m.relates_to"]["m.in_reply_to"]["event_id"] == *asked;
    Ok(scene.operator.wait_for(is_it, SOON).await.with_context(|| format!("{words} is not answered"))?.body)
}

/// The number and the names of the emoji that the bridge shows in the chat, of a comparison after so many others.
async fn shown_in_chat(scene: &Scene, before: usize) -> Result<(String, Vec<String>)> {
    let give_up = tokio::time::Instant::now() + SOON;
    let words = loop {
        let all = scene.operator.messages().into_iter().filter(|it| it.body.starts_with("The bridge sees: "));
        if let Some(found) = all.map(|it| it.body).nth(before) {
            break found;
        }
        ensure!(tokio::time::Instant::now() < give_up, "no emoji are shown\n{}", scene.bridge.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let number = words.split("!seal yes ").nth(1).and_then(|rest| rest.split('`').next()).context("A number")?;
    let emoji = words.lines().next().and_then(|line| line.strip_prefix("The bridge sees: ")).context("Emoji")?;
    let names = emoji.split(", ").filter_map(|one| Some(one.split_once(' ')?.1.to_lowercase()));
    Ok((number.to_owned(), names.collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_compares_emoji_of_somebody_else_in_an_encrypted_chat_and_of_themself_nowhere_but_at_the_terminal()
-> Result<()> {
    let Some((mut scene, nina)) = with_nina().await? else { return Ok(()) };
    let room = scene.bridge.status().await?["admin_room"].as_str().context("There is an admin room")?.to_owned();
    let room = room.strip_prefix("a/").context("It is the account's")?.to_owned();
    scene.operator.wait_invite(&room, SOON).await?;
    scene.operator.join(&room).await?;
    let config = std::fs::read_to_string(scene.bridge.config())?;
    let with_key = |key: &str| {
        let person = scene.operator.user_id();
        format!("{config}\n[operator.admins.op]\naccount = \"a\"\nperson = {person:?}\n{key}\n")
    };
    let key = master_key(&scene.operator).await?;
    let configs = [with_key(""), with_key(&format!("key = {key:?}"))];
    let verify = format!("!seal verify {}/{}", nina.user_id(), nina.device_id());
    scene.bridge.stop().await?;
    std::fs::write(scene.bridge.config(), &configs[0])?;
    scene.bridge.start().await?;
    let refused = answered(&scene, &room, &verify).await?;
    ensure!(refused.contains("by your id alone"), "{refused}");

    scene.bridge.stop().await?;
    std::fs::write(scene.bridge.config(), &configs[1])?;
    scene.bridge.start().await?;
    let own = answered(&scene, &room, &format!("!seal verify {}", scene.operator.user_id())).await?;
    ensure!(own.contains("would prove nothing"), "{own}");
    ensure!(answered(&scene, &room, "!seal yes 123456").await?.contains("No emoji of yours"));

    // What does not match ends it.
    let (begun, first) = tokio::try_join!(answered(&scene, &room, &verify), agrees(&nina, &[]))?;
    ensure!(begun.contains("is said here"), "{begun}");
    let (_, names) = shown_in_chat(&scene, 0).await?;
    ensure!(names == first.emoji.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>(), "{names:?} {first:?}");
    let second_at_once = answered(&scene, &room, &verify).await?;
    ensure!(second_at_once.contains("goes on here"), "{second_at_once}");
    scene.operator.send(&room, "!seal no").await?;
    scene.operator.wait_for(|it| it.room == room && it.body.contains("did not match"), SOON).await?;
    step(&nina, "cancelled", &[]).await?;
    ensure!(!nina.holds_verified(&first.user).await?, "They hold the bridge verified");

    // An answer to other emoji is none to these.
    let but = [first.flow.as_str()];
    let (_, second) = tokio::try_join!(answered(&scene, &room, &verify), agrees(&nina, &but))?;
    let (number, names) = shown_in_chat(&scene, 1).await?;
    ensure!(names == second.emoji.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>(), "{names:?} {second:?}");
    let wrong = if number == "123456" { "654321" } else { "123456" };
    let late = answered(&scene, &room, &format!("!seal yes {wrong}")).await?;
    ensure!(late.contains("not the number"), "{late}");
    scene.operator.send(&room, &format!("!seal yes {number}")).await?;
    let done = format!("{} is verified.", nina.user_id());
    scene.operator.wait_for(|it| it.room == room && it.body.contains(&done), SOON).await?;
    step(&nina, "done", &but).await?;
    let audit = std::fs::read_to_string(scene.bridge.folder().join("state/audit.jsonl"))?;
    let verified = |outcome: &str| {
        audit
            .lines()
            .filter(|line| line.contains("\"verify\"") && line.contains(&format!("\"outcome\":{outcome}")))
            .count()
    };
    ensure!(verified("null") == 1, "{audit}");

    // Nor are their own emoji shown to somebody who waits for whoever asks, and asks themself.
    let waits = answered(&scene, &room, "!seal verify --wait").await?;
    ensure!(waits.contains("is said here"), "{waits}");
    scene.operator.verify_request(&scene.bots[0], None, None).await?;
    scene.operator.wait_for(|it| it.room == room && it.body.contains("it is you who asks"), SOON).await?;
    let trust = scene.bridge.cli(&["trust", "show", scene.operator.user_id()]).await?;
    ensure!(!trust.stdout.contains("comparison"), "{trust:?}");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn comparison_whose_command_goes_away_is_cancelled_and_in_the_audit() -> Result<()> {
    let Some((scene, nina)) = with_nina().await? else { return Ok(()) };
    let whom = format!("{}/{}", nina.user_id(), nina.device_id());
    let verify = ["verify", "a", &whom];
    tokio::select! {
        said = scene.bridge.cli_typed(&verify, "") => anyhow::bail!("it ended: {said:?}"),
        asked = step(&nina, "requested", &[]) => drop(asked?),
    }
    // The command is gone, and did not come to its end.
    step(&nina, "cancelled", &[]).await?;
    let audit = scene.bridge.folder().join("state/audit.jsonl");
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        let text = std::fs::read_to_string(&audit)?;
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if lines.any(|line| line["action"] == "verify" && line["outcome"] == "other") {
            break;
        }
        ensure!(tokio::time::Instant::now() < give_up, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.close().await
}
