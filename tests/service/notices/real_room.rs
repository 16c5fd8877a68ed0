//! Digests, people who are called and escalations, as a person sees them whose client shares no code with ours, in a real
//! encrypted room.

use std::{fs, io::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use sealbridge_lab::{
    bridge::Binary,
    demo::{Scene, Stage},
    http::{free_port, request},
    person::{Message, Person},
    servers,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// A person in an encrypted room in which a source of this name speaks, with these lines in its section.
struct There {
    scene: Scene,
    ann: Arc<Person>,
    room: String,
    port: u16,
}

impl There {
    /// With the service's clock so long after the true one.
    async fn set(lines: &str, by: Duration) -> Result<Self> {
        let mut scene = Scene::set(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &Stage::new(true)).await?;
        let ann = Arc::clone(&scene.people[0]);
        let room = ann.create_encrypted_room("Notices", &[&scene.bots[0]]).await?;
        scene.bridge.wait_conversation(&format!("a/{room}"), PATIENCE).await?;
        scene.bridge.stop().await?;
        let port = free_port()?;
        let mut config = fs::OpenOptions::new().append(true).open(scene.bridge.config())?;
        write!(config, "\n[notices]\nlisten = \"127.0.0.1:{port}\"\n")?;
        write!(config, "[sources.job]\nformat = \"raw\"\nto = [\"a/{room}\"]\n{lines}")?;
        let clock = scene.bridge.folder().join("clock").display().to_string();
        scene.bridge.set_env("FAILPOINT_CLOCK_FILE", &clock);
        let there = Self { scene, ann, room, port };
        there.later(by)?;
        Ok(there)
    }

    /// Moves the service's clock to so long after the true one.
    fn later(&self, by: Duration) -> Result<()> {
        Ok(fs::write(self.scene.bridge.folder().join("clock"), by.as_millis().to_string())?)
    }

    async fn post(&self, words: &str, severity: &str) -> u16 {
        post(self.port, words, severity).await
    }

    /// What the source said there.
    fn heard(&self) -> Vec<Message> {
        let mut all = self.ann.messages_in(&self.room);
        all.retain(|message| !message.own && message.encrypted && message.body.contains("notice"));
        all
    }

    async fn hears(&self, words: &str) -> Result<Message> {
        let heard =
            self.ann.wait_for(|message| message.room == self.room && message.body.contains(words), PATIENCE).await;
        heard.with_context(|| format!("{words:?} is not heard\n{}", self.scene.bridge.tail()))
    }
}

/// Posts until it is answered, as a sender does that was told nothing.
async fn post(port: u16, words: &str, severity: &str) -> u16 {
    loop {
        let headers = [("idempotency-key", words), ("x-severity", severity)];
        let url = format!("http://127.0.0.1:{port}/job");
        match request("POST", &url, &headers, words.to_owned()).await {
            Ok(answer) if answer.status != 503 => return answer.status,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_is_a_few_messages_and_one_digest_and_a_quiet_night_ends_with_one() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    // From noon on, whatever the time is now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let noon = Duration::from_secs(86_400 + 11 * 3600 - now.as_secs() % 86_400);
    let lines = "burst = 5\nquiet = \"22:00-07:00\"\nquiet_zone = \"Europe/Zurich\"\n";
    let mut there = There::set(lines, noon).await?;
    there.scene.bridge.start().await?;
    let words: Vec<_> = (0..50).map(|number| format!("notice-{number}-of-a-burst")).collect();
    let statuses = join_all(words.iter().map(|words| there.post(words, "info"))).await;
    let held = statuses.iter().filter(|status| **status == 202).count();
    ensure!(held == 45 && statuses.iter().filter(|status| **status == 200).count() == 5, "{statuses:?}");
    there.later(noon + Duration::from_secs(61))?;
    let digest = there.hears("45 notices").await?;
    ensure!(digest.msgtype == "m.notice" && digest.body.contains("and 20 more"), "{digest:?}");
    ensure!(digest.content["formatted_body"].as_str().is_some_and(|html| html.contains("<li>")), "{digest:?}");
    ensure!(there.heard().len() == 6, "{:?}", there.heard());
    let doctor = there.scene.bridge.cli(&["doctor"]).await?;
    ensure!(doctor.code == 0 && !doctor.stdout.contains("BAD"), "{doctor:?}");

    let night = noon + Duration::from_secs(12 * 3600);
    there.scene.bridge.stop().await?;
    there.later(night)?;
    there.scene.bridge.start().await?;
    ensure!(there.post("notice-of-a-warning", "warning").await == 202, "it is not held");
    ensure!(there.post("notice-of-a-fire", "critical").await == 200, "it is held");
    ensure!(there.hears("notice-of-a-fire").await?.msgtype == "m.text", "nobody is woken");
    there.later(night + Duration::from_secs(9 * 3600))?;
    let morning = there.hears("1 notice gathered").await?;
    ensure!(morning.body.contains("notice-of-a-warning") && there.heard().len() == 8, "{:?}", there.heard());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gathered_is_neither_lost_nor_counted_twice_wherever_the_service_is_killed() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut there = There::set("burst = 2\n", Duration::ZERO).await?;
    // It dies when a notice is gathered and nobody was told so; its sender posts it again.
    there.scene.bridge.set_env("FAILPOINT_KILL_AT", "notices::after-keep=5");
    there.scene.bridge.spawn().await?;
    let words: Vec<_> = (0..16).map(|number| format!("notice-{number}-of-many")).collect();
    let (bridge, port) = (&mut there.scene.bridge, there.port);
    let killed = async {
        let code = bridge.wait_exit(PATIENCE).await?;
        bridge.unset_env("FAILPOINT_KILL_AT");
        bridge.spawn().await?;
        anyhow::Ok(code)
    };
    let post = async {
        let mut statuses = Vec::new();
        for words in &words {
            statuses.push(post(port, words, "info").await);
        }
        statuses
    };
    let (code, statuses) = tokio::join!(killed, post);
    ensure!(code? < 0, "it was killed");
    ensure!(statuses[..2] == [200, 200] && statuses[2..].iter().all(|status| *status == 202), "{statuses:?}");
    // Then while all of it waits, then before the digest is kept, and then after it.
    there.scene.bridge.kill().await?;
    there.later(Duration::from_secs(61))?;
    for place in ["notices::before-digest", "notices::after-digest"] {
        there.scene.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}=1"));
        there.scene.bridge.spawn().await?;
        ensure!(there.scene.bridge.wait_exit(PATIENCE).await? < 0, "{place} is not reached");
    }
    there.scene.bridge.unset_env("FAILPOINT_KILL_AT");
    there.scene.bridge.start().await?;
    there.hears("14 notices").await?;
    // Whatever would come twice would be there before this.
    ensure!(there.post("notice-at-the-end", "info").await == 200, "nothing is gathered any more");
    there.hears("notice-at-the-end").await?;
    let heard = there.heard();
    for words in &words {
        let count: usize = heard.iter().map(|message| message.body.matches(words.as_str()).count()).sum();
        ensure!(count == 1, "{words} is there {count} times: {heard:?}");
    }
    ensure!(heard.len() == 4, "{heard:?}");
    Ok(())
}

fn alerts(severity: &str, firing: &[&str], over: &[&str]) -> String {
    let alert = |name: &&str, status: &str| {
        json!({
            "status": status, "fingerprint": name, "labels": { "alertname": "notice", "instance": name, "severity": severity },
            "annotations": { "summary": format!("{name} says @room") },
        })
    };
    let firing = firing.iter().map(|name| alert(name, "firing"));
    let all: Vec<_> = firing.chain(over.iter().map(|name| alert(name, "resolved"))).collect();
    json!({ "version": "4", "groupKey": "g", "status": "firing", "alerts": all }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_called_as_the_config_says_and_by_nothing_that_matters_less_or_is_told_again() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut there = There::set("", Duration::ZERO).await?;
    let (ann, bot) = (there.ann.user_id().to_owned(), there.scene.bots[0].clone());
    let text = fs::read_to_string(there.scene.bridge.config())?;
    let calls = format!("mention = [\"{ann}\", \"@stranger:example.org\", \"@room\"]\nmention_from = \"critical\"\n");
    let alertmanager = format!("[sources.alerts]\nformat = \"alertmanager\"\nto = [\"a/{}\"]\n{calls}", there.room);
    fs::write(there.scene.bridge.config(), format!("{text}{calls}{alertmanager}"))?;
    there.scene.bridge.start().await?;
    let called = json!({ "user_ids": [ann], "room": true });

    // What a sender writes calls nobody, whatever it is.
    ensure!(there.post(&format!("notice for {ann} and @room {bot}"), "warning").await == 200, "it is not said");
    let warning = there.hears("notice for").await?;
    ensure!(warning.content["m.mentions"] == json!({}), "{warning:?}");
    ensure!(there.post("notice of a fire", "critical").await == 200, "it is not said");
    let fire = there.hears("notice of a fire").await?;
    ensure!(fire.content["m.mentions"] == called && fire.body.contains(&ann), "{fire:?}");
    let pill = format!("<a href=\"https://matrix.to/#/{ann}\">");
    ensure!(fire.content["formatted_body"].as_str().is_some_and(|html| html.contains(&pill)), "{fire:?}");

    let url = format!("http://127.0.0.1:{}/alerts", there.port);
    let requests = [
        alerts("critical", &["one"], &[]),
        alerts("critical", &["one"], &[]),
        alerts("critical", &["one", "two"], &[]),
        alerts("critical", &["one"], &["two"]),
        alerts("critical", &[], &["one"]),
    ];
    for body in requests {
        let answer = request("POST", &url, &[("content-type", "application/json")], body).await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    there.hears("two says room").await?;
    ensure!(there.post("notice at the end", "info").await == 200, "it is not said");
    there.hears("notice at the end").await?;
    let mut of_alerts = there.ann.messages_in(&there.room);
    of_alerts.retain(|message| message.encrypted && message.body.contains("says room"));
    let (edits, said): (Vec<_>, Vec<_>) =
        of_alerts.iter().partition(|message| message.content["m.relates_to"]["rel_type"] == "m.replace");
    ensure!(edits.len() == 4 && said.len() == 4, "{of_alerts:?}");
    for edit in edits {
        let mentions = [&edit.content["m.mentions"], &edit.content["m.new_content"]["m.mentions"]];
        ensure!(mentions.into_iter().all(|mentions| *mentions == json!({})), "{edit:?}");
    }
    // It begins, and another begins; two ends call nobody.
    let mentions: Vec<_> = said.iter().map(|message| &message.content["m.mentions"]).collect();
    ensure!(mentions == [&called, &called, &json!({}), &json!({})], "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_is_told_once_that_nobody_looks_after_it_wherever_the_service_is_killed() -> Result<()> {
    if !servers::available().await {
        return Ok(());
    }
    let mut there = There::set("", Duration::ZERO).await?;
    there.scene.bridge.start().await?;
    let boss = there.ann.user_id().to_owned();
    let other = there.ann.create_encrypted_room("On call", &[&there.scene.bots[0]]).await?;
    there.scene.bridge.wait_conversation(&format!("a/{other}"), PATIENCE).await?;
    there.scene.bridge.stop().await?;
    let text = fs::read_to_string(there.scene.bridge.config())?;
    let section = format!(
        "[sources.alerts]\nformat = \"alertmanager\"\nto = [\"a/{}\"]\nescalate_after = \"15m\"\n\
         escalate_to = [\"a/{other}\"]\nescalate_mention = [{boss:?}]\n",
        there.room
    );
    fs::write(there.scene.bridge.config(), format!("{text}{section}"))?;
    there.scene.bridge.start().await?;
    let url = format!("http://127.0.0.1:{}/alerts", there.port);
    let post = async |body: String| {
        let answer = request("POST", &url, &[("content-type", "application/json")], body).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    post(alerts("critical", &["one"], &[])).await?;
    there.scene.bridge.kill().await?;
    there.later(Duration::from_secs(16 * 60))?;
    for place in ["notices::before-escalation", "notices::after-escalation"] {
        there.scene.bridge.set_env("FAILPOINT_KILL_AT", &format!("{place}=1"));
        there.scene.bridge.spawn().await?;
        ensure!(there.scene.bridge.wait_exit(PATIENCE).await? < 0, "{place} is not reached");
    }
    there.scene.bridge.unset_env("FAILPOINT_KILL_AT");
    there.scene.bridge.start().await?;
    let in_other = |words: &'static str| {
        let other = other.clone();
        move |message: &Message| message.room == other && message.encrypted && message.body.contains(words)
    };
    let told = there.ann.wait_for(in_other("Nobody said within 15 min"), PATIENCE).await?;
    ensure!(told.msgtype == "m.text" && told.content["m.mentions"] == json!({ "user_ids": [boss] }), "{told:?}");

    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": told.event_id, "key": "✅" } });
    there.ann.send_event(&other, "m.reaction", content).await?;
    there.hears("sees to it").await?;
    there.later(Duration::from_secs(32 * 60))?;
    post(alerts("critical", &[], &["one"])).await?;
    let is_end =
        |message: &Message| in_other("Resolved")(message) && message.content["m.relates_to"]["rel_type"] == "m.thread";
    let end = there.ann.wait_for(is_end, PATIENCE).await?;
    ensure!(end.content["m.relates_to"]["event_id"] == told.event_id.as_str(), "{end:?}");
    let said = there.ann.messages_in(&other).into_iter().filter(in_other("Nobody said within"));
    let said: Vec<_> = said.filter(|message| message.content["m.relates_to"].is_null()).collect();
    ensure!(said.len() == 1, "{said:?}");
    Ok(())
}
