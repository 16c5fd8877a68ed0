//! Chats that people on phones have already, linked by a service that runs: a group of theirs, to which they add the
//! bridge, and a chat between one of them and the bridge.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    venv::Venv,
};
use serde_json::{Value, json};

use crate::phones::{PATIENCE, said_after};

/// The service with an account on each network and no group of its own, and the invitation to its mail account.
async fn bridge(lab: &Lab, mail: &MailServer) -> Result<(Bridge, String, String)> {
    let engine = tokio::task::spawn_blocking(Venv::ready).await??.delta_chat()?;
    let mailbox = mail.mailbox("bridge")?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), &mailbox.password)?;
    let extra = format!(
        "[accounts.family]\nnetwork = \"deltachat\"\naddress = {:?}\npassword_file = {:?}\nengine = {engine:?}\n\
         certificate_checks = \"accept-invalid\"\nimap = {{ server = \"localhost\", port = {} }}\n\
         smtp = {{ server = \"localhost\", port = {} }}\n",
        mailbox.address,
        secret.path(),
        mail.imaps(),
        mail.smtps()
    );
    let account = AccountPlan::on(&lab.a, "work").await?;
    let bot = account.user.id.clone();
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let mut bridge = Bridge::prepare(&binary, &Plan { accounts: vec![account], admin: None, extra })?;
    let output = bridge.init().await?.ok()?.stdout;
    let in_a_link = |c: char| c.is_ascii_alphanumeric() || ":/.#&=%+-_~".contains(c);
    let link = format!("https:{}", said_after(&output, "https:", in_a_link)?);
    ensure!(!link.contains("&x="), "it is the invitation to a group: {link}");
    bridge.start().await?;
    Ok((bridge, bot, link))
}

/// What a chat of the mail account is called in links, once it is there and encrypted.
async fn listed(bridge: &Bridge, is: impl Fn(&Value) -> bool) -> Result<String> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let all = bridge.cli(&["conversations", "list", "--account", "family"]).await?.ok()?.stdout;
        let mut lines = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(found) = lines.find(|line| line["encryption"] == "pinned" && is(line)) {
            return found["at"].as_str().map(str::to_owned).context("it has a name in links");
        }
        ensure!(Instant::now() < give_up, "it is not listed: {all}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One room and one chat, linked: who is in each.
struct Pair<'a> {
    ann: &'a Person,
    room: &'a str,
    phones: &'a [(&'a DeltaPerson, u32)],
}

impl Pair<'_> {
    /// Everybody says something, and everybody of the other side hears it, under the name of whoever said it.
    async fn talk(&self, round: &str) -> Result<()> {
        let words = format!("from ann, {round}");
        self.ann.send(self.room, &words).await?;
        for (phone, chat) in self.phones {
            let seen = phone.wait_for(|seen| seen.chat == *chat && seen.text == words, PATIENCE).await?;
            ensure!(seen.padlock && seen.name.is_some_and(|name| name.starts_with("ann")), "{words}");
        }
        for (phone, chat) in self.phones {
            let words = format!("from {}, {round}", phone.name());
            phone.send(*chat, &words).await?;
            let heard =
                self.ann.wait_for(|heard| heard.room == self.room && heard.body.ends_with(&words), PATIENCE).await?;
            ensure!(heard.encrypted && heard.body.starts_with(phone.name()), "{}", heard.body);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn group_and_chat_that_people_have_already_are_linked_while_the_service_runs() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (mut bridge, bot, own_link) = bridge(lab, mail).await?;
    let ann = Person::new_on(&lab.a, "ann").await?;
    let (ben, eve) = tokio::try_join!(DeltaPerson::new_on(mail, "ben"), DeltaPerson::new_on(mail, "eve"))?;
    let (bens_walks, link) = ben.group("Walks").await?;
    let eves_walks = eve.join(&link).await?;
    ben.send(bens_walks, "among ourselves").await?;
    eve.wait_for(|seen| seen.text == "among ourselves", PATIENCE).await?;

    // Ben meets the bridge, says something to it, and takes it along.
    let alone = ben.join(&own_link).await?;
    ben.send(alone, "before there was a link").await?;
    let members = ben.rpc("get_full_chat_by_id", json!([alone])).await?["contactIds"].take();
    let contact = members.as_array().and_then(|all| all.first()).context("the bridge is a contact")?;
    ben.rpc("add_contact_to_chat", json!([bens_walks, contact])).await?;

    let walks = listed(&bridge, |line| line["name"] == "Walks").await?;
    let direct = listed(&bridge, |line| line["at"] != walks.as_str()).await?;
    let mut rooms = Vec::new();
    for (name, chat) in [("walks", &walks), ("direct", &direct)] {
        let room = ann.create_encrypted_room(name, &[&bot]).await?;
        ann.wait_member(&room, &bot, "join", PATIENCE).await?;
        let end = format!("work/{room}");
        bridge.wait_conversation(&end, PATIENCE).await?;
        bridge.link(name, &[&end, chat]).await?;
        rooms.push(room);
    }
    let pairs = [
        Pair { ann: &ann, room: &rooms[0], phones: &[(&ben, bens_walks), (&eve, eves_walks)] },
        Pair { ann: &ann, room: &rooms[1], phones: &[(&ben, alone)] },
    ];
    for round in ["before a kill", "after it"] {
        for pair in &pairs {
            pair.talk(round).await?;
        }
        if round == "before a kill" {
            bridge.kill().await?;
            bridge.start().await?;
        }
    }
    let heard = ann.received().into_iter().filter_map(|one| match one {
        sealbridge_lab::person::Received::Message(message) if !message.own => Some(message.body),
        _ => None,
    });
    let early: Vec<_> =
        heard.filter(|body| body.contains("among ourselves") || body.contains("before there was")).collect();
    ensure!(early.is_empty(), "what was said before the link crossed: {early:?}");
    // A group of theirs has an invitation as well, and a chat between two has none.
    let invited = bridge.cli(&["conversations", "invite", &walks]).await?.ok()?.json()?;
    ensure!(invited["link"].as_str().is_some_and(|link| link.contains("&x=")), "{invited}");
    let refused = bridge.cli(&["conversations", "invite", &direct]).await?;
    ensure!(refused.code == 6, "{refused:?}");
    bridge.stop().await
}
