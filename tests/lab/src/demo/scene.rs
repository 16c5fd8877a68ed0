//! Two homeservers, two people, their rooms, and the bridge between them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};

use super::Stage;
use crate::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    checker::Tag,
    person::Message,
    proxy::Proxy,
};

/// What they say to each other.
pub(super) const LINES: &[&str] = &[
    "Hello over there, can you read me?",
    "Loud and clear. Which server are you on?",
    "One that has never heard of yours.",
    "Then who carries this?",
    "A bridge that only its operator can read.",
    "And the servers see nothing but noise. 🔒",
];

/// Long enough for a slow machine, short enough to notice that something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that is on stage. It ends with this value.
#[derive(Debug)]
pub struct Scene {
    /// Names this run in every message.
    pub run: String,
    /// The homeservers.
    pub lab: Lab,
    /// The service.
    pub bridge: Bridge,
    /// One person on each homeserver.
    pub people: [Arc<Person>; 2],
    /// Their encrypted rooms.
    pub rooms: [String; 2],
    /// Who is told what needs a person.
    pub operator: Person,
    /// The bridge's own user on each homeserver.
    pub bots: [String; 2],
    /// The proxies between the bridge and each homeserver, if the setting has them.
    pub proxies: Vec<Proxy>,
}

/// How a scene differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The rooms rotate their keys after so many messages, so that keys are shared often.
    pub rotate_after: Option<u32>,
    /// How the homeservers differ from the usual.
    pub servers: crate::synapse::Options,
    /// A fault proxy stands before each homeserver, for the bridge alone.
    pub proxies: bool,
    /// Further lines of both accounts' sections.
    pub account_extra: String,
}

impl Scene {
    /// Sets the usual one.
    pub async fn set(binary: &Binary, stage: &Stage) -> Result<Self> {
        Self::set_with(binary, stage, Setting::default()).await
    }

    /// Sets it: servers, the bridge by `sealbridge init`, people, rooms, link.
    pub async fn set_with(binary: &Binary, stage: &Stage, setting: Setting) -> Result<Self> {
        stage.heading("Starting two homeservers that do not federate");
        let lab = Lab::pair_with(setting.servers.clone(), setting.servers.clone()).await?;
        stage.line(&format!("{} at {}", lab.a.server_name(), lab.a.url()));
        stage.line(&format!("{} at {}", lab.b.server_name(), lab.b.url()));
        let (alice, bob, operator) = tokio::try_join!(
            Person::new_on(&lab.a, "alice"),
            Person::new_on(&lab.b, "bob"),
            Person::new_on(&lab.a, "operator"),
        )?;

        stage.heading("sealbridge init --answers");
        let (mut a, mut b) = tokio::try_join!(AccountPlan::on(&lab.a, "a"), AccountPlan::on(&lab.b, "b"))?;
        let mut proxies = Vec::new();
        for (account, server) in [(&mut a, &lab.a), (&mut b, &lab.b)] {
            account.extra = setting.account_extra.clone();
            if setting.proxies {
                let proxy = Proxy::before(server.url()).await?;
                account.homeserver = proxy.url().to_owned();
                proxies.push(proxy);
            }
        }
        let (bot_a, bot_b) = (a.user.id.clone(), b.user.id.clone());
        let admin = Some(("a".to_owned(), operator.user_id().to_owned()));
        let plan = Plan { accounts: vec![a, b], admin, extra: String::new() };
        let mut bridge = Bridge::set_up(binary, &plan).await?;
        stage.line("two accounts logged in, cross-signed, with recovery key and key backup");
        bridge.start().await?;
        stage.line("sealbridge run: connected to both");

        let run = run_name()?;
        let rooms = [
            invited(&alice, &room_name(&run, 0), &bot_a, setting.rotate_after).await?,
            invited(&bob, &room_name(&run, 1), &bot_b, setting.rotate_after).await?,
        ];
        let ends = [format!("a/{}", rooms[0]), format!("b/{}", rooms[1])];
        for end in &ends {
            bridge.wait_conversation(end, PATIENCE).await?;
        }
        bridge.link("demo", &[&ends[0], &ends[1]]).await?;
        stage.line(&format!("sealbridge links add demo {} {}", ends[0], ends[1]));
        for (person, room) in [(&alice, &rooms[0]), (&bob, &rooms[1])] {
            let notice = person
                .wait_for(|m| m.room == *room && m.body.contains("readable on the host"), PATIENCE)
                .await
                .context("The bridge says in the room that it can read")?;
            stage.line(&format!("told in {room}: {}", notice.body));
        }
        let bots = [bot_a, bot_b];
        Ok(Self { run, lab, bridge, people: [Arc::new(alice), Arc::new(bob)], rooms, operator, bots, proxies })
    }

    /// Waits until a person hears a message.
    pub async fn hear(&self, listener: usize, tag: &Tag) -> Result<Message> {
        let text = tag.text();
        self.people[listener]
            .wait_for(|message| message.body.contains(&text), PATIENCE)
            .await
            .with_context(|| format!("The end of the bridge's log:\n{}", self.bridge.tail()))
    }

    /// Shows who said what, and what each homeserver has of it.
    pub async fn transcript(
        &self,
        stage: &Stage,
        speaker: usize,
        event: &str,
        words: &str,
        listener: usize,
        heard: &Message,
    ) -> Result<()> {
        let here = self.people[speaker].raw_event(&self.rooms[speaker], event).await?;
        let there = self.people[listener].raw_event(&self.rooms[listener], &heard.event_id).await?;
        stage.exchange(
            self.people[speaker].user_id(),
            words,
            &here,
            &there,
            self.people[listener].user_id(),
            &heard.body,
        );
        Ok(())
    }

    /// Says a sentence in an unencrypted room, for the positive control of the search.
    pub async fn say_in_clear(&self) -> Result<String> {
        let control = format!("control{}", run_name()?);
        let room = self.people[0].create_plain_room("plain", &[]).await?;
        self.people[0].send(&room, &control).await?;
        Ok(control)
    }

    /// Where the search looks.
    pub fn places(&self) -> Vec<PathBuf> {
        vec![self.lab.a.data_dir().to_owned(), self.lab.b.data_dir().to_owned(), self.bridge.folder().to_owned()]
    }

    /// Stops the bridge and the homeservers, so that everything they had is on disk.
    pub async fn close(&self) -> Result<()> {
        self.bridge.stop().await?;
        self.lab.stop().await
    }

    /// Says how to look at it, and waits for Ctrl-C.
    pub async fn keep(&self, stage: &Stage) -> Result<()> {
        stage.heading("Still running");
        let password = super::show::random_word()?;
        for (server, room) in [(&self.lab.a, &self.rooms[0]), (&self.lab.b, &self.rooms[1])] {
            let visitor = server.register(&format!("visitor-{}", super::show::random_word()?), &password).await?;
            let host = usize::from(server.server_name() != self.lab.a.server_name());
            self.people[host].invite(room, &visitor.id).await?;
            stage.line(&format!(
                "homeserver {}  user {}  password {password}  (invited to {room})",
                server.url(),
                visitor.id
            ));
        }
        stage.line(&format!("sealbridge --config {} status", self.bridge.config().display()));
        stage.line("Ctrl-C ends it.");
        tokio::signal::ctrl_c().await?;
        self.close().await
    }
}

/// Makes an encrypted room, invites the bridge, and waits until it is there.
pub async fn invited(person: &Person, name: &str, bot: &str, rotate_after: Option<u32>) -> Result<String> {
    let room = match rotate_after {
        Some(messages) => person.create_rotating_room(name, &[bot], messages).await?,
        None => person.create_encrypted_room(name, &[bot]).await?,
    };
    person.wait_member(&room, bot, "join", PATIENCE).await.context("The bridge joins where it is invited")?;
    Ok(room)
}

fn room_name(run: &str, side: usize) -> String {
    format!("demo {run} {side}")
}

fn run_name() -> Result<String> {
    super::show::random_word()
}
