//! A homeserver that lies, in every way that we can think of, to the running service.
//!
//! The lies are told by a proxy between the service and a real homeserver, so that everything else stays as it is. After
//! each, nothing that people said may be found in what the proxy was sent and in what the homeserver stores, and whoever
//! can do something about it must have been told. At the end of each test the same search has to find what somebody says
//! in clear.

mod answers;
mod encryption;
mod messages;
mod notices;
mod people;

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Person,
    bridge::Binary,
    demo::{Scene, Setting},
    person::{Message, Options},
    proxy::{Active, Fault, Proxy, Rule},
    search::Search,
    servers,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);
/// So that an answer without an end is given up soon, and what one is waited for is known.
const SHORT_POLLS: &str = "sync_timeout = \"1s\"\n";

/// Alice is on the homeserver that lies, Bob on an honest one, and they are linked. The operator listens.
struct Stage {
    scene: Scene,
    said: Vec<String>,
    /// What the proxy was sent since the last look.
    sent: Vec<u8>,
}

const ALICE: usize = 0;
const BOB: usize = 1;

impl Stage {
    /// `None` if the lab is not to be had here. With further lines of the accounts' sections.
    async fn set(account_extra: &str) -> Result<Option<Self>> {
        if !servers::available().await {
            return Ok(None);
        }
        let mut setting = Setting { proxies: true, account_extra: account_extra.to_owned(), ..Setting::default() };
        // One that keeps answers gives the same again to who asks with the same token, which is no lie.
        setting.servers.extra.insert("caches".into(), json!({ "sync_response_cache_duration": "0s" }));
        let stage = sealbridge_lab::demo::Stage::new(true);
        let scene = Scene::set_with(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &stage, setting).await?;
        scene.proxies[0].record();
        let status = scene.bridge.status().await?;
        let room = status["admin_room"].as_str().and_then(|room| room.strip_prefix("a/"));
        let room = room.context("There is an admin room")?;
        scene.operator.wait_invite(room, SOON).await?;
        scene.operator.join(room).await?;
        Ok(Some(Self { scene, said: Vec::new(), sent: Vec::new() }))
    }

    /// The proxy through which the lies are told.
    fn liar(&self) -> &Proxy {
        &self.scene.proxies[0]
    }

    /// The room on the homeserver that lies.
    fn room(&self) -> &str {
        &self.scene.rooms[ALICE]
    }

    /// Somebody says something that is found wherever it is readable.
    async fn says(&mut self, who: usize) -> Result<String> {
        let words = format!("zq7canary{}z{}q", self.scene.run, self.said.len());
        self.scene.people[who].send(&self.scene.rooms[who], &words).await?;
        self.said.push(words.clone());
        Ok(words)
    }

    /// The other one hears it, encrypted.
    async fn hears(&self, who: usize, words: &str) -> Result<Message> {
        let heard = self.scene.people[who].wait_for(|message| message.body.ends_with(words), SOON).await;
        let heard = heard.with_context(|| format!("The end of the bridge's log:\n{}", self.scene.bridge.tail()))?;
        ensure!(heard.encrypted, "{heard:?}");
        Ok(heard)
    }

    /// Somebody says something and the other one hears it.
    async fn crosses(&mut self, from: usize) -> Result<()> {
        let words = self.says(from).await?;
        self.hears(1 - from, &words).await?;
        Ok(())
    }

    fn has_heard(&self, who: usize, words: &str) -> usize {
        self.scene.people[who].messages().iter().filter(|message| message.body.ends_with(words)).count()
    }

    /// The operator reads it in the admin room.
    async fn operator_reads(&self, words: &str) -> Result<()> {
        let told = self.scene.operator.wait_for(|message| message.body.contains(words), SOON).await;
        told.with_context(|| format!("The end of the bridge's log:\n{}", self.scene.bridge.tail()))?;
        Ok(())
    }

    /// `sealbridge status` comes to be so.
    async fn status_is(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        let give_up = Instant::now() + SOON;
        loop {
            let status = self.scene.bridge.status().await?;
            if is(&status) {
                return Ok(());
            }
            ensure!(Instant::now() < give_up, "the status never says {what}: {status}");
        }
    }

    /// What is wrong with the account whose homeserver lies is said in the status.
    async fn status_says(&self, trouble: &str) -> Result<()> {
        let is_it = |account: &Value| account["trouble"].as_str().is_some_and(|words| words.contains(trouble));
        self.status_is(trouble, |status| is_it(&status["accounts"][0])).await
    }

    async fn is_held(&self, why: &str) -> Result<()> {
        let lanes = |status: &Value| status["lanes"].as_array().cloned().unwrap_or_default();
        self.status_is(why, |status| lanes(status).iter().any(|lane| lane["why"] == why)).await
    }

    /// Cuts the connections, so that the very next request is lied to.
    async fn begins(&self) -> Result<()> {
        self.liar().go_offline();
        self.status_is("that it is not connected", |status| status["accounts"][0]["connected"] == false).await?;
        self.liar().go_online();
        Ok(())
    }

    /// Nothing that was said so far is readable in what the homeserver was sent and in what it stores.
    fn nothing_is_readable(&mut self, after: &str) -> Result<()> {
        let found = self.found(&self.said.clone())?;
        ensure!(found.is_empty(), "after {after}: {found}");
        Ok(())
    }

    fn found(&mut self, canaries: &[String]) -> Result<String> {
        for seen in self.liar().take_seen() {
            self.sent.extend_from_slice(seen.path.as_bytes());
            self.sent.push(b'\n');
            self.sent.extend_from_slice(&seen.body);
            self.sent.push(b'\n');
        }
        ensure!(!self.sent.is_empty(), "nothing was sent, so nothing was looked at");
        let search = Search::new(canaries)?;
        let mut found = String::new();
        for (canary, form) in search.bytes(&std::mem::take(&mut self.sent)) {
            write!(found, "the homeserver was sent {canary} ({form}) ")?;
        }
        let stored = ["homeserver.db", "homeserver.db-wal", "homeserver.log", "media"];
        for hit in search.paths(&stored.map(|name| self.scene.lab.a.data_dir().join(name)))? {
            write!(found, "{} has {} ({}) ", hit.file.display(), hit.canary, hit.encoding)?;
        }
        Ok(found)
    }

    /// Somebody says in clear, through the same proxy, what the search must then find; and everything ends.
    async fn close(mut self) -> Result<()> {
        self.liar().clear();
        let user = self.scene.lab.a.register_unique("open").await?;
        let open = Person::log_in(self.liar().url(), &user, Options::default()).await?;
        let room = open.create_plain_room("open", &[]).await?;
        let words = format!("zq7control{}z", self.scene.run);
        open.send(&room, &words).await?;
        let found = self.found(&[words])?;
        ensure!(found.contains("was sent") && found.contains("homeserver.db"), "the search finds nothing: {found:?}");
        self.scene.close().await
    }
}

/// What a homeserver says in place of the truth in its answers to a sync.
fn in_sync(change: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Result<Rule> {
    let rewrite = Fault::rewrite(move |answer| {
        if let Some(answer) = answer.as_object_mut() {
            change(answer);
        }
    });
    Rule::new("GET", "/sync", rewrite)
}

/// Changes the events in the timelines of joined rooms.
fn in_timelines(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Result<Rule> {
    in_sync(move |answer| {
        let rooms = answer.get_mut("rooms").and_then(|rooms| rooms.get_mut("join")).and_then(Value::as_object_mut);
        for room in rooms.into_iter().flat_map(Map::values_mut) {
            if let Some(events) = room.pointer_mut("/timeline/events").and_then(Value::as_array_mut) {
                change(events);
            }
        }
    })
}

/// Adds a state event to a joined room, once.
fn with_state(room: &str, event: Value) -> Result<Rule> {
    let room = room.to_owned();
    let rule = in_sync(move |answer| {
        let rooms = answer.entry("rooms").or_insert_with(|| json!({}));
        let joined = &mut rooms["join"][&room];
        joined["timeline"] = json!({ "events": [event], "limited": false, "prev_batch": "p" });
        for after in ["state_after", "org.matrix.msc4222.state_after"] {
            joined[after] = json!({ "events": [event] });
        }
    });
    Ok(rule?.times(1))
}

async fn strikes(rule: &Active) -> Result<()> {
    rule.wait_struck(1, SOON).await.context("The lie is not told")
}
