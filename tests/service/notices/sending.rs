//! `sealbridge send` on real homeservers, heard by people whose clients share no code with ours.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    bridge::{Answer, Binary},
    demo::{Scene, Stage},
    person::{Message, Person},
    servers,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// One person in an encrypted room with the bridge, which is linked with nothing that concerns this.
struct Setting {
    scene: Scene,
    ben: Arc<Person>,
    room: String,
    to: String,
}

impl Setting {
    async fn set() -> Result<Self> {
        let scene = Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await?;
        let ben = Arc::clone(&scene.people[1]);
        let room = ben.create_encrypted_room("Alerts", &[&scene.bots[1]]).await?;
        let accounts = scene.bridge.cli(&["account", "list"]).await?.ok()?;
        let bot = accounts.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut bot = bot.filter(|line| line["identity"] == scene.bots[1]);
        let name = bot.next().and_then(|line| line["name"].as_str().map(str::to_owned));
        let name = name.with_context(|| format!("No account is {}: {}", scene.bots[1], accounts.stdout))?;
        let to = format!("{name}/{room}");
        scene.bridge.wait_conversation(&to, PATIENCE).await?;
        Ok(Self { scene, ben, room, to })
    }

    async fn send(&self, args: &[&str], typed: &str) -> Result<Answer> {
        self.scene.bridge.cli_typed(&[&["send", "-r", &self.to], args].concat(), typed).await
    }

    /// Sends, and gives what Ben heard of it and under which name it was sent.
    async fn sent(&self, args: &[&str], typed: &str) -> Result<(Value, Message)> {
        let line = self.send(args, typed).await?.ok().with_context(|| format!("send {args:?}"))?.json()?;
        let event = line["event_id"].as_str().context("It names the event")?.to_owned();
        let heard = self.ben.wait_for(|heard| heard.event_id == event, PATIENCE).await?;
        ensure!(heard.encrypted && heard.verified, "{heard:?}");
        Ok((line, heard))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_files_are_there_encrypted_before_send_says_so() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting::set().await?;
    let (line, heard) = setting.sent(&["disk", "is full"], "").await?;
    ensure!(heard.body == "disk is full" && heard.msgtype == "m.text", "{heard:?}");
    ensure!(
        line["encrypted"] == true && line["to"] == setting.to && line["unreached"] == serde_json::json!([]),
        "{line}"
    );
    ensure!(heard.content["m.mentions"] == serde_json::json!({}), "{heard:?}");

    let (_, piped) = setting.sent(&["--code", "--notice"], "a < b\n  c\n").await?;
    ensure!(piped.body == "a < b\n  c" && piped.msgtype == "m.notice", "{piped:?}");
    ensure!(piped.content["formatted_body"] == "<pre><code>a &lt; b\n  c</code></pre>", "{piped:?}");
    let (_, formatted) = setting.sent(&["--markdown", "**down** since @room"], "").await?;
    ensure!(formatted.content["formatted_body"] == "<p><strong>down</strong> since @room</p>", "{formatted:?}");
    ensure!(formatted.content["m.mentions"] == serde_json::json!({}), "a program calls nobody: {formatted:?}");

    // In relation to what was said by the bridge, and by somebody else.
    let (_, reply) = setting.sent(&["--reply-to", &heard.event_id, "still"], "").await?;
    ensure!(reply.content["m.relates_to"]["m.in_reply_to"]["event_id"] == heard.event_id.as_str(), "{reply:?}");
    let asked = setting.ben.send(&setting.room, "which disk?").await?;
    let (_, thread) = setting.sent(&["--thread", &asked, "the first"], "").await?;
    ensure!(thread.content["m.relates_to"]["rel_type"] == "m.thread", "{thread:?}");
    ensure!(thread.content["m.relates_to"]["event_id"] == asked.as_str(), "{thread:?}");
    let (_, edit) = setting.sent(&["--edit", &heard.event_id, "disk is fine"], "").await?;
    ensure!(edit.content["m.relates_to"]["rel_type"] == "m.replace", "{edit:?}");
    ensure!(edit.content["m.relates_to"]["event_id"] == heard.event_id.as_str(), "{edit:?}");
    ensure!(edit.content["m.new_content"]["body"] == "disk is fine", "{edit:?}");
    let foreign = setting.send(&["--edit", &asked, "not mine"], "").await?;
    ensure!(foreign.code == 2, "{foreign:?}");

    let file = setting.scene.bridge.folder().join("graph.png");
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).take(2_500_000).collect();
    fs::write(&file, &content)?;
    let (_, sent) = setting.sent(&["-f", &file.to_string_lossy()], "").await?;
    ensure!(sent.msgtype == "m.image" && sent.body == "graph.png" && sent.content["url"].is_null(), "{sent:?}");
    ensure!(setting.ben.download(&sent.content).await? == content, "the file is another");

    // The same again under one key is said once; something else under it is refused.
    let (first, _) = setting.sent(&["--idempotency-key", "job-7", "once"], "").await?;
    let (again, _) = setting.sent(&["--idempotency-key", "job-7", "once"], "").await?;
    ensure!(first["event_id"] == again["event_id"] && again["again"] == true, "{first} {again}");
    let other = setting.send(&["--idempotency-key", "job-7", "twice"], "").await?;
    ensure!(other.code == 6, "{other:?}");
    let heard = setting.ben.messages_in(&setting.room);
    ensure!(heard.iter().filter(|heard| heard.body == "once").count() == 1, "{heard:?}");

    // What was said is nowhere but where it belongs.
    let state = setting.scene.bridge.folder().join("state");
    for file in ["audit.jsonl", "journal.db", "journal.db-wal"] {
        let bytes = fs::read(state.join(file)).unwrap_or_default();
        let found = [&b"disk is"[..], b"graph.png", b"job-7"]
            .into_iter()
            .find(|word| bytes.windows(word.len()).any(|part| part == *word));
        ensure!(found.is_none(), "{file} has {found:?}");
    }
    ensure!(!setting.scene.bridge.log_text().contains("disk is"), "{}", setting.scene.bridge.log_text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn send_without_a_service_runs_one_as_long_as_it_takes_and_is_refused_where_nothing_is_encrypted() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting::set().await?;
    setting.sent(&["with a service"], "").await?;
    setting.scene.bridge.stop().await?;
    let (_, heard) = setting.sent(&["-m", "without a service"], "").await?;
    ensure!(heard.body == "without a service", "{heard:?}");

    let plain = setting.ben.create_plain_room("Open", &[]).await?;
    let account = setting.to.split('/').next().unwrap_or_default();
    let refused =
        setting.scene.bridge.cli(&["send", "-r", &format!("{account}/{plain}"), "--within", "2s", "secret"]).await?;
    ensure!(refused.code == 6 && refused.stderr.contains("invite @"), "{refused:?}");
    let nowhere = setting.scene.bridge.cli(&["send", "-r", "nobody/!x:y", "secret"]).await?;
    ensure!(nowhere.code == 2, "{nowhere:?}");
    let silent = setting.send(&[], "").await?;
    ensure!(silent.code == 2, "{silent:?}");
    ensure!(setting.ben.messages_in(&plain).is_empty(), "something was said in clear");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_words_to_one_message_is_not_taken_for_the_same_words_to_another() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let setting = Setting::set().await?;
    let (one, _) = setting.sent(&["first job runs"], "").await?;
    let (two, _) = setting.sent(&["second job runs"], "").await?;
    let id = |line: &Value| line["event_id"].as_str().unwrap_or_default().to_owned();
    for relation in ["--edit", "--reply-to", "--thread"] {
        let send = async |to: &Value| {
            setting.send(&["--json", relation, &id(to), "--idempotency-key", &relation[2..], "done"], "").await
        };
        let first = send(&one).await?.ok()?.json()?;
        let again = send(&one).await?.ok()?.json()?;
        ensure!(again["again"] == true && again["event_id"] == first["event_id"], "{relation}: {first} {again}");
        let other = send(&two).await?;
        ensure!(other.code == 6 && other.stderr.contains("used for something else"), "{relation}: {other:?}");
        let without = setting.send(&["--json", "--idempotency-key", &relation[2..], "done"], "").await?;
        ensure!(without.code == 6, "{relation}: {without:?}");
    }
    Ok(())
}
