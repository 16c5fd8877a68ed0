//! A real Alertmanager and an encrypted room, shown: two alerts fire, change and end in one message, which a person
//! acknowledges by a reaction and silences by a command.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::Alertmanager;
use crate::{
    bridge::Binary,
    demo::{Scene, Stage, look_for, tenths},
    http::free_port,
    person::Message,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &str = "the-secret-of-the-demonstration";

/// What came of it. The names of these fields are kept: scripts rely on them.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Messages in the room that stand for the incident. One is what is wanted.
    pub root_messages: usize,
    /// How often it was changed in its place.
    pub edits: usize,
    /// News in its thread.
    pub news: usize,
    /// The room shows who looks after it.
    pub acknowledged: bool,
    /// Alertmanager has the silence that was asked for in the room.
    pub silenced: bool,
    /// Events that the person could not read.
    pub undecryptable: usize,
    /// Places where words of the alerts were found in clear.
    pub canary_hits: usize,
    /// Places where a sentence that was said in clear was found: the search works.
    pub control_hits: usize,
    /// How long it took, with the service already built.
    pub seconds: f64,
}

impl Outcome {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.root_messages == 1
            && self.edits >= 3
            && self.news >= 2
            && self.acknowledged
            && self.silenced
            && self.undecryptable + self.canary_hits == 0
            && self.control_hits > 0
    }

    /// The same in words.
    pub fn sentence(&self) -> &'static str {
        if self.is_clean() { "One incident, one message, and nothing leaked" } else { "NOT as promised" }
    }
}

/// Shows it with this binary.
pub async fn run(binary: &Binary, stage: &Stage) -> Result<Outcome> {
    let start = Instant::now();
    let mut scene = Scene::set(binary, stage).await?;
    let (ann, room) = (std::sync::Arc::clone(&scene.people[0]), scene.rooms[0].clone());

    stage.heading("A source for Alertmanager in the config, and Alertmanager");
    let port = free_port()?;
    let alertmanager = Alertmanager::start(&format!("http://127.0.0.1:{port}/prometheus"), SECRET).await?;
    write_config(&mut scene, port, &alertmanager, ann.user_id()).await?;
    stage.line(&format!("Alertmanager at {}, its webhook at http://127.0.0.1:{port}/prometheus", alertmanager.url()));

    stage.heading("Two alerts fire, change and end");
    let word = format!("incident-{}", scene.run);
    let [first, second] = ["one", "two"].map(|one| format!("{word}-{one}"));
    alertmanager.fire(&word, &first, "the first disk is full").await?;
    let root = hear(&ann, &scene, "the alert", |m| is_said(m, &room) && m.body.contains(&word)).await?;
    stage.line(&format!("{}: {}", root.sender, root.body.lines().next().unwrap_or_default()));
    alertmanager.fire(&word, &second, "the second disk is full").await?;
    hear(&ann, &scene, "the second alert in its place", |m| is_edit_of(m, &root) && new_words(m).contains(&second))
        .await?;
    stage.line("the second alert appears in the same message, and as a reply in its thread");

    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": root.event_id, "key": "✅" } });
    ann.send_event(&room, "m.reaction", content).await?;
    let seen = |m: &Message| is_edit_of(m, &root) && new_words(m).contains("sees to it");
    let acknowledged = hear(&ann, &scene, "who looks after it", seen).await.is_ok();
    stage.line("a reaction ✅ says who looks after it");

    let content = json!({
        "msgtype": "m.text", "body": "!seal silence 4h",
        "m.relates_to": { "m.in_reply_to": { "event_id": root.event_id } },
    });
    ann.send_event(&room, "m.room.message", content).await?;
    let answer =
        hear(&ann, &scene, "the answer to the command", |m| m.room == room && m.body.contains("ilenced for")).await;
    let answer = answer.with_context(|| alertmanager.log())?;
    stage.line(&format!("!seal silence 4h: {}", answer.body.lines().last().unwrap_or_default()));
    ensure!(answer.body.contains(&word), "it does not say what was silenced: {}", answer.body);
    let silences = alertmanager.silences().await?;
    let silenced = silences.len() == 1
        && silences[0]["status"]["state"] == "active"
        && silences[0]["matchers"].as_array().is_some_and(|all| all.iter().any(|one| one["value"] == word.as_str()));
    ensure!(silenced, "Alertmanager's silences: {silences:?}");
    stage.line("Alertmanager has the silence");

    // What is silenced is not told of, so the end is seen with another incident's.
    let other = format!("second-{word}");
    alertmanager.fire(&other, &first, "something else").await?;
    let other_root = hear(&ann, &scene, "the other alert", |m| is_said(m, &room) && m.body.contains(&other)).await?;
    alertmanager.resolve(&other, &first).await?;
    let green = |m: &Message| {
        is_edit_of(m, &other_root)
            && m.content["m.new_content"]["formatted_body"].as_str().is_some_and(|html| html.contains("data-mx-color"))
            && new_words(m).contains("Resolved")
    };
    hear(&ann, &scene, "the end in green", green).await?;
    stage.line("an alert that ends turns green in its place");

    stage.heading("Looking for their words in clear");
    let control = format!("said in clear by {}", scene.run);
    let open = ann.create_plain_room("Open", &[]).await?;
    ann.send_raw_plain(&open, "m.room.message", json!({ "msgtype": "m.text", "body": control })).await?;
    scene.bridge.stop().await?;
    let places = scene.places();
    let canaries = [word.clone(), "the first disk is full".to_owned()];
    let found =
        look_for(stage, &canaries, &control, &places, "both homeservers and the service's folder, logs included")?;

    let here = ann.messages_in(&room);
    let outcome = Outcome {
        root_messages: here
            .iter()
            .filter(|m| is_said(m, &room) && m.body.contains(&word) && !m.body.contains(&other))
            .count(),
        edits: here.iter().filter(|m| is_edit_of(m, &root)).count(),
        news: here.iter().filter(|m| m.content["m.relates_to"]["rel_type"] == "m.thread").count(),
        acknowledged,
        silenced,
        undecryptable: ann.undecryptable().len(),
        canary_hits: found.canaries,
        control_hits: found.controls,
        seconds: tenths(start.elapsed()),
    };
    stage.report(outcome.sentence(), &outcome)?;
    Ok(outcome)
}

/// Stops the service, adds the source and an admin to its config, and starts it again.
async fn write_config(scene: &mut Scene, port: u16, alertmanager: &Alertmanager, admin: &str) -> Result<()> {
    scene.bridge.stop().await?;
    let secret = scene.bridge.folder().join("prometheus.secret");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret)?;
    file.write_all(SECRET.as_bytes())?;
    let sections = format!(
        "\n[notices]\nlisten = \"127.0.0.1:{port}\"\n[sources.prometheus]\nformat = \"alertmanager\"\nname = \"Prometheus\"\n\
         to = [\"a/{}\"]\nsecret_files = [{secret:?}]\napi = {:?}\n[operator.admins.ann]\naccount = \"a\"\nperson = {admin:?}\n",
        scene.rooms[0],
        alertmanager.url(),
    );
    let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
    config.write_all(sections.as_bytes())?;
    scene.bridge.start().await
}

async fn hear(person: &crate::Person, scene: &Scene, what: &str, is: impl Fn(&Message) -> bool) -> Result<Message> {
    let heard = person.wait_for(is, PATIENCE).await;
    heard.with_context(|| format!("Nobody hears {what}. The end of the log:\n{}", scene.bridge.tail()))
}

/// Said for itself, by the bridge: neither an edit nor news in a thread.
fn is_said(message: &Message, room: &str) -> bool {
    message.room == room && !message.own && message.encrypted && message.content["m.relates_to"].is_null()
}

fn is_edit_of(message: &Message, root: &Message) -> bool {
    let relation = &message.content["m.relates_to"];
    relation["rel_type"] == "m.replace" && relation["event_id"] == root.event_id.as_str()
}

fn new_words(message: &Message) -> String {
    message.content["m.new_content"]["body"].as_str().map(str::to_owned).unwrap_or_default()
}
