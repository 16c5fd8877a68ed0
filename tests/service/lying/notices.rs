//! Notices of programs while the homeserver fails or lies: no word of them leaves in clear, and whoever brought them is
//! told that they are not there.

use std::{fs, io::Write as _};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    bridge::{AccountPlan, Binary, Bridge, Plan},
    http::{free_port, request},
    person::{Options, Person},
    proxy::{Fault, Proxy, Rule},
    synapse::User,
};
use serde_json::json;

use super::{ALICE, SOON, Stage, encryption::without_encryption, in_sync, strikes, with_state};

/// A stage whose service has sources, one for each of Alice's rooms.
struct Sources {
    stage: Stage,
    port: u16,
    count: usize,
}

impl Sources {
    async fn set(rooms: impl AsyncFn(&Stage) -> Result<Vec<(&'static str, String)>>) -> Result<Option<Self>> {
        let Some(mut stage) = Stage::set("").await? else { return Ok(None) };
        let rooms = rooms(&stage).await?;
        let port = free_port()?;
        stage.scene.bridge.stop().await?;
        let mut config = fs::OpenOptions::new().append(true).open(stage.scene.bridge.config())?;
        write!(config, "\n[notices]\nlisten = \"127.0.0.1:{port}\"\nanswer_within = \"5s\"\n")?;
        for (name, room) in rooms {
            write!(config, "[sources.{name}]\nformat = \"raw\"\nto = [\"a/{room}\"]\n")?;
        }
        stage.scene.bridge.start().await?;
        Ok(Some(Self { stage, port, count: 0 }))
    }

    /// A program brings a notice: the status that it is answered with, and the notice's words.
    async fn brings(&mut self, source: &str) -> Result<(u16, String)> {
        let words = format!("zq7notice{}z{}q", self.stage.scene.run, self.count);
        self.count += 1;
        self.stage.said.push(words.clone());
        let url = format!("http://127.0.0.1:{}/{source}", self.port);
        let answer = request("POST", &url, &[], words.clone()).await?;
        ensure!(!answer.body.contains(&words), "{answer:?}");
        Ok((answer.status, words))
    }

    /// It is brought until it is answered so: what the service knows of a room comes to it in its own time.
    async fn comes_to(&mut self, source: &str, wanted: &[u16]) -> Result<String> {
        let give_up = tokio::time::Instant::now() + SOON;
        loop {
            let (status, words) = self.brings(source).await?;
            if wanted.contains(&status) {
                return Ok(words);
            }
            ensure!(
                tokio::time::Instant::now() < give_up,
                "{source} is answered {status}\n{}",
                self.stage.scene.bridge.tail()
            );
        }
    }

    /// The room of a source, by the config.
    fn room_of(&self, source: &str) -> Result<String> {
        let config = fs::read_to_string(self.stage.scene.bridge.config())?;
        let section = config.split(&format!("[sources.{source}]")).nth(1).context("There is such a source")?;
        let room = section.split("a/").nth(1).and_then(|rest| rest.split('"').next());
        Ok(room.context("It has a room")?.to_owned())
    }

    async fn arrives(&mut self, source: &str) -> Result<()> {
        let words = self.comes_to(source, &[200]).await?;
        let heard = self.stage.scene.people[ALICE].wait_for(|message| message.body.contains(&words), SOON).await?;
        ensure!(heard.encrypted, "{heard:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn program_is_told_that_nothing_was_said_where_nobody_knows_of_encryption_or_it_is_gone() -> Result<()> {
    let rooms = async |stage: &Stage| {
        let alice = &stage.scene.people[ALICE];
        let (fresh, open) =
            (alice.create_encrypted_room("fresh", &[]).await?, alice.create_plain_room("open", &[]).await?);
        Ok(vec![("known", stage.room().to_owned()), ("fresh", fresh), ("open", open)])
    };
    let Some(mut sources) = Sources::set(rooms).await? else { return Ok(()) };
    sources.arrives("known").await?;

    // Never encrypted, and not ours to speak in.
    for source in ["open", "fresh"] {
        let (status, _) = sources.brings(source).await?;
        ensure!([409, 503].contains(&status), "{source}: {status}");
    }
    sources.stage.nothing_is_readable("rooms that it is not in")?;

    // Whether it is encrypted can't be asked, and no sync says it.
    let fails = Rule::new("GET", "/state/m.room.encryption", Fault::Fail(500))?;
    let fails = sources.stage.liar().add(fails);
    let omitted = sources.stage.liar().add(in_sync(without_encryption)?);
    sources.stage.begins().await?;
    let fresh = sources.room_of("fresh")?;
    sources.stage.scene.people[ALICE].invite(&fresh, &sources.stage.scene.bots[ALICE]).await?;
    strikes(&fails).await?;
    for _ in 0..3 {
        let (status, _) = sources.brings("fresh").await?;
        ensure!([409, 503].contains(&status), "{status}");
    }
    let answer =
        sources.stage.scene.bridge.cli(&["send", "-r", &format!("a/{fresh}"), "--within", "1s", "zq7sent"]).await?;
    ensure!([6, 75].contains(&answer.code), "{answer:?}");
    sources.stage.nothing_is_readable("an encryption that can't be asked for")?;
    omitted.remove();
    fails.remove();
    // The homeserver is well again, and what was refused was not kept: it is not said late.
    sources.stage.scene.bridge.kill().await?;
    sources.stage.scene.bridge.start().await?;
    sources.arrives("fresh").await?;
    let heard = sources.stage.scene.people[ALICE].messages_in(&fresh);
    ensure!(heard.iter().filter(|message| message.body.contains("zq7notice")).count() == 1, "{heard:?}");

    // The encryption that was there is gone, by the homeserver's word.
    let emptied = json!({
        "type": "m.room.encryption", "state_key": "", "sender": sources.stage.scene.people[ALICE].user_id(),
        "event_id": "$emptied", "origin_server_ts": 1, "content": {},
    });
    let emptied = sources.stage.liar().add(with_state(sources.stage.room(), emptied)?);
    sources.stage.begins().await?;
    strikes(&emptied).await?;
    sources.comes_to("known", &[409]).await?;
    sources.stage.nothing_is_readable("an emptied encryption")?;
    sources.stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_that_fails_once_to_be_told_delays_a_notice_and_shows_it_to_nobody() -> Result<()> {
    let rooms =
        async |stage: &Stage| Ok(vec![("fresh", stage.scene.people[ALICE].create_encrypted_room("fresh", &[]).await?)]);
    let Some(mut sources) = Sources::set(rooms).await? else { return Ok(()) };
    let once = Rule::new("GET", "/state/m.room.encryption", Fault::Fail(500))?.times(1);
    let once = sources.stage.liar().add(once);
    let omitted = sources.stage.liar().add(in_sync(without_encryption)?);
    sources.stage.begins().await?;
    let fresh = sources.room_of("fresh")?;
    sources.stage.scene.people[ALICE].invite(&fresh, &sources.stage.scene.bots[ALICE]).await?;
    strikes(&once).await?;
    sources.arrives("fresh").await?;
    sources.stage.nothing_is_readable("an encryption that was not told at first")?;
    omitted.remove();
    sources.stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn program_is_told_that_nothing_was_said_while_keys_are_refused_or_the_device_is_not_signed() -> Result<()> {
    let rooms = async |stage: &Stage| Ok(vec![("known", stage.room().to_owned())]);
    let Some(mut sources) = Sources::set(rooms).await? else { return Ok(()) };
    sources.arrives("known").await?;

    // No keys are taken any more: what is said is said encrypted, or not at all.
    let refused = sources.stage.liar().add(Rule::new("POST", "/keys/upload", Fault::Fail(400))?);
    let carl = sources.stage.scene.lab.a.register_unique("carl").await?;
    let carl = Person::log_in(sources.stage.scene.lab.a.url(), &carl, Options::default()).await?;
    let (alice, bot) = (&sources.stage.scene.people[ALICE], &sources.stage.scene.bots[ALICE]);
    let other = alice.create_encrypted_room("other", &[bot, carl.user_id()]).await?;
    alice.wait_member(&other, bot, "join", SOON).await?;
    // Whoever speaks to us for the first time takes one of our keys, and others are uploaded in its place.
    carl.join(&other).await?;
    carl.send(&other, "for the first time").await?;
    strikes(&refused).await?;
    let (status, words) = sources.brings("known").await?;
    ensure!([200, 409, 503].contains(&status), "{status}");
    let alice = &sources.stage.scene.people[ALICE];
    if status == 200 {
        // What is told to be there is there, encrypted with keys that were given out before.
        let heard = alice.wait_for(|message| message.body.contains(&words), SOON).await?;
        ensure!(heard.encrypted, "{heard:?}");
    } else {
        let heard = alice.messages();
        ensure!(!heard.iter().any(|message| message.body.contains(&words)), "{heard:?}");
    }
    sources.stage.nothing_is_readable("refused keys")?;
    refused.remove();

    // Somebody resets the account's identity, which does not vouch for our device any more.
    let id = sources.stage.scene.bots[ALICE].clone();
    let localpart = id.trim_start_matches('@').split(':').next().unwrap_or_default().to_owned();
    let password = fs::read_to_string(sources.stage.scene.bridge.folder().join("a.password"))?.trim().to_owned();
    let user = User { localpart, id, password };
    let options = Options { without_cross_signing: true, ..Options::default() };
    let elsewhere = Person::log_in(sources.stage.scene.lab.a.url(), &user, options).await?;
    elsewhere.cross_sign().await?;
    sources.comes_to("known", &[409, 503]).await?;
    let to = format!("a/{}", sources.stage.room());
    let answer = sources.stage.scene.bridge.cli(&["send", "-r", &to, "--within", "1s", "zq7sent"]).await?;
    ensure!(answer.code != 0, "{answer:?}");
    sources.stage.nothing_is_readable("a device that nobody signed")?;
    sources.stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn account_whose_keys_are_refused_from_the_first_is_none_and_nothing_is_sent_by_it() -> Result<()> {
    let Some(stage) = Stage::set("").await? else { return Ok(()) };
    let proxy = Proxy::before(stage.scene.lab.a.url()).await?;
    proxy.record();
    let mut account = AccountPlan::on(&stage.scene.lab.a, "a").await?;
    account.homeserver = proxy.url().to_owned();
    let room = stage.scene.people[ALICE].create_encrypted_room("alerts", &[&account.user.id]).await?;
    let plan = Plan { accounts: vec![account], admin: None, extra: String::new() };
    let bridge = Bridge::prepare(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan)?;
    proxy.add(Rule::new("POST", "/keys/upload", Fault::Fail(400))?);
    let init = bridge.init().await?;
    ensure!(init.code != 0, "{init:?}");
    let answer = bridge.cli(&["send", "-r", &format!("a/{room}"), "--within", "2s", "zq7never"]).await?;
    ensure!(answer.code != 0, "{answer:?}");
    let sent = proxy.take_seen();
    ensure!(!sent.is_empty() && !sent.iter().any(|seen| String::from_utf8_lossy(&seen.body).contains("zq7never")));
    stage.close().await
}
