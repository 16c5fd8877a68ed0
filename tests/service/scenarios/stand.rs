//! Ann at home, Bob far away, and the service between their two rooms.

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    person::Message,
    proxy::{Proxy, Seen},
};
use serde_json::Value;
use tokio::time::Instant;

use super::SOON;

/// Further lines of Bob's account, and how long his room's key is to live.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) extra: &'static str,
    pub(super) rotate_after: Option<u32>,
}

/// What Ann says at home is said to whoever is in Bob's room, and what is said there she hears. The service has an
/// account for each of the two, on the same homeserver.
pub(super) struct Stand {
    pub(super) bridge: Bridge,
    /// Between the homeserver and the account that is in Bob's room, and the one that is in Ann's.
    pub(super) proxies: [Proxy; 2],
    /// The service's user in Bob's room.
    pub(super) bot: String,
    pub(super) bob: Person,
    pub(super) far: String,
    ann: Person,
    home: String,
}

impl Stand {
    pub(super) async fn usual() -> Result<Option<(&'static Lab, Self)>> {
        Self::with(Wish::default()).await
    }

    /// `None` if the lab is not to be had here.
    pub(super) async fn with(wish: Wish) -> Result<Option<(&'static Lab, Self)>> {
        let Some(lab) = Lab::shared().await? else { return Ok(None) };
        let bob = Person::new_on(&lab.a, "bob").await?;
        Ok(Some((lab, Self::set(lab, bob, wish).await?)))
    }

    pub(super) async fn set(lab: &Lab, bob: Person, wish: Wish) -> Result<Self> {
        let mut stand = Self::set_before_bobs(lab, bob, wish).await?;
        stand.bob.invite(&stand.far, &stand.bot).await?;
        stand.is_linked().await?;
        Ok(stand)
    }

    /// The same, and nobody has invited the service to Bob's room so far.
    pub(super) async fn set_before_bobs(lab: &Lab, bob: Person, wish: Wish) -> Result<Self> {
        let ann = Person::new_on(&lab.a, "ann").await?;
        let proxies = [Proxy::before(lab.a.url()).await?, Proxy::before(lab.a.url()).await?];
        let mut accounts = Vec::new();
        for (name, proxy) in ["far", "home"].into_iter().zip(&proxies) {
            proxy.record();
            let mut account = AccountPlan::on(&lab.a, name).await?;
            account.homeserver = proxy.url().to_owned();
            account.invites.push(lab.b.server_name().to_owned());
            account.extra = if name == "far" { wish.extra.to_owned() } else { String::new() };
            accounts.push(account);
        }
        let [bot, bot_at_home] = [&accounts[0].user.id, &accounts[1].user.id].map(Clone::clone);
        let plan = Plan { accounts, ..Plan::default() };
        let mut bridge = Bridge::set_up(&Binary::at(env!("CARGO_BIN_EXE_sealbridge")), &plan).await?;
        bridge.start().await?;
        let far = match wish.rotate_after {
            Some(messages) => bob.create_rotating_room("far", &[], messages).await?,
            None => bob.create_encrypted_room("far", &[]).await?,
        };
        let home = ann.create_encrypted_room("home", &[&bot_at_home]).await?;
        ann.wait_member(&home, &bot_at_home, "join", SOON).await?;
        Ok(Self { bridge, proxies, bot, bob, far, ann, home })
    }

    /// Waits until the service is in Bob's room, links it with Ann's, and waits until both were told.
    pub(super) async fn is_linked(&mut self) -> Result<()> {
        self.bob.wait_member(&self.far, &self.bot, "join", SOON).await?;
        let ends = [format!("far/{}", self.far), format!("home/{}", self.home)];
        for end in &ends {
            self.bridge.wait_conversation(end, SOON).await?;
        }
        self.bridge.link("both", &[&ends[0], &ends[1]]).await?;
        for (person, room) in [(&self.bob, &self.far), (&self.ann, &self.home)] {
            person.wait_for(|it| it.room == *room && it.body.contains("readable on the host"), SOON).await?;
        }
        Ok(())
    }

    /// Ann says something that this person hears in Bob's room. Gives what it is called there.
    pub(super) async fn tells(&self, words: &str, to: &Person) -> Result<String> {
        self.ann.send(&self.home, words).await?;
        Ok(self.is_heard(words, to).await?.event_id)
    }

    /// Somebody hears in Bob's room what Ann said.
    pub(super) async fn is_heard(&self, words: &str, by: &Person) -> Result<Message> {
        let heard = by.wait_for(|it| it.room == self.far && it.sender == self.bot && said_in(it) == words, SOON).await;
        let heard = heard.with_context(|| {
            format!("{} should hear {words:?}. The end of the log:\n{}", by.user_id(), self.bridge.tail())
        })?;
        ensure!(heard.encrypted && heard.verified, "{heard:?}");
        Ok(heard)
    }

    /// Ann hears what was said in Bob's room.
    pub(super) async fn hears(&self, words: &str) -> Result<()> {
        let heard = self.ann.wait_for(|it| it.room == self.home && is_carried(it) && said_in(it) == words, SOON).await;
        heard.with_context(|| format!("Ann should hear {words:?}. The end of the log:\n{}", self.bridge.tail()))?;
        Ok(())
    }

    /// All that Ann has heard of what people said in Bob's room, in order.
    pub(super) fn heard(&self) -> Vec<String> {
        let all = self.ann.messages_in(&self.home);
        all.iter().filter(|it| is_carried(it)).map(|it| said_in(it).to_owned()).collect()
    }

    /// Under which room key something in Bob's room is.
    pub(super) async fn key_of(&self, event: &str) -> Result<String> {
        let event = self.bob.raw_event(&self.far, event).await?;
        event["content"]["session_id"].as_str().map(str::to_owned).context("It is encrypted")
    }

    /// Bob invites somebody, who comes.
    pub(super) async fn comes(&self, who: &Person) -> Result<()> {
        self.bob.invite(&self.far, who.user_id()).await?;
        who.wait_invite(&self.far, SOON).await?;
        who.join(&self.far).await
    }

    /// What `sealbridge audience` says of somebody, once it is so.
    pub(super) async fn sees<T>(&self, who: &str, what: &str, is: impl Fn(Option<&Value>) -> Option<T>) -> Result<T> {
        let give_up = Instant::now() + SOON;
        loop {
            let answer = self.bridge.cli(&["audience", "both"]).await?;
            let lines: Vec<Value> = answer.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if !lines.is_empty()
                && let Some(found) = is(lines.iter().find(|line| line["person"] == who))
            {
                return Ok(found);
            }
            ensure!(Instant::now() < give_up, "it does not see {what}: {answer:?}\n{}", self.bridge.tail());
        }
    }

    /// Somebody stands so: `reads`, `new`, `invited`.
    pub(super) async fn stands(&self, who: &Person, standing: &str) -> Result<()> {
        let is = |member: Option<&Value>| (member?["standing"] == standing).then_some(());
        self.sees(who.user_id(), standing, is).await
    }

    /// Nobody has them there any more.
    pub(super) async fn sees_gone(&self, who: &Person) -> Result<()> {
        self.sees(who.user_id(), "that they went", |member| member.is_none().then_some(())).await
    }

    /// Waits until so many events can't be read for now.
    pub(super) async fn waits_for_keys_of(&self, count: u64) -> Result<()> {
        let give_up = Instant::now() + SOON;
        loop {
            let status = self.bridge.status().await?;
            if status["journal"]["unreadable"] == count {
                return Ok(());
            }
            ensure!(Instant::now() < give_up, "not {count} wait: {status}\n{}", self.bridge.tail());
        }
    }

    /// Kills the service, as a power cut does, and starts it again.
    pub(super) async fn dies_and_comes_back(&mut self) -> Result<()> {
        self.bridge.kill().await?;
        self.bridge.start().await
    }

    /// Bodies of what the account in Bob's room has asked its homeserver for since the last look.
    pub(super) fn asked(&self, path: &str) -> Vec<Value> {
        bodies(&self.proxies[0].take_seen(), path)
    }

    pub(super) async fn close(self) -> Result<()> {
        self.bridge.stop().await
    }
}

fn bodies(seen: &[Seen], path: &str) -> Vec<Value> {
    let asked = seen.iter().filter(|seen| seen.path.contains(path));
    asked.filter_map(|seen| serde_json::from_slice(&seen.body).ok()).collect()
}

/// It is somebody's whom the service carries, and no word of its own.
fn is_carried(message: &Message) -> bool {
    message.content["com.beeper.per_message_profile"].is_object()
}

/// Without the name that stands before it for clients that know no better.
fn said_in(message: &Message) -> &str {
    message.body.split_once(": ").map_or(&*message.body, |(_, words)| words)
}

/// Whether a person's client can read an event, were it only asked to.
pub(super) async fn can_read(person: &Person, room: &str, event: &str) -> Result<bool> {
    Ok(person.try_read(room, event).await?.is_ok())
}

/// Asks again and again until there is an answer.
pub(super) async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let give_up = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        ensure!(Instant::now() < give_up, "not within {SOON:?}: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
