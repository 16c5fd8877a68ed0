//! The service between a Matrix room and a Delta Chat group, set up as an operator does it, with a person in each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    PersonId, RemoteId,
    conformance::{How, Overheard, Say},
};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person, Synapse,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    family::ENGINE,
    person::Received,
    processes,
    venv::Venv,
};
use serde_json::json;
use tempfile::NamedTempFile;

/// What the two transports' own tests say and hear by.
#[path = "../../bridges/deltachat/tests/deltachat/speech.rs"]
pub(crate) mod delta;
#[path = "../../bridges/matrix/tests/matrix/speech.rs"]
pub(crate) mod matrix;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// On Matrix.
    Ann,
    /// On Delta Chat.
    Ben,
}

impl Who {
    pub(crate) fn other(self) -> Self {
        if self == Self::Ann { Self::Ben } else { Self::Ann }
    }
}

/// How people and places are called, and how the service runs.
pub(crate) struct Setting<'a> {
    /// What each calls themselves; otherwise as their address begins.
    pub(crate) names: Option<[&'a str; 2]>,
    pub(crate) group: &'a str,
    /// Further lines of the link, which is then a fixed one.
    pub(crate) link: Option<&'a str>,
    /// How much the service logs.
    pub(crate) log: Option<&'a str>,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self { names: None, group: "Family", link: None, log: None }
    }
}

/// Everything that is on stage.
pub(crate) struct Family {
    pub(crate) bridge: Bridge,
    /// In the room, with mautrix-python.
    pub(crate) ann: Person,
    /// In the group, with Delta Chat.
    pub(crate) ben: DeltaPerson,
    pub(crate) room: String,
    pub(crate) chat: u32,
    /// The bridge's own user on Matrix.
    pub(crate) bot: String,
}

impl Family {
    /// On the servers that tests share. `None` when they can't be had here; the test is then counted as skipped.
    pub(crate) async fn set(binary: &Binary) -> Result<Option<Self>> {
        let Some(mail) = MailServer::shared().await? else { return Ok(None) };
        let Some(lab) = Lab::shared().await? else { return Ok(None) };
        Self::on(binary, mail, &lab.a, &Setting::default()).await.map(Some)
    }

    pub(crate) async fn on(
        binary: &Binary,
        mail: &MailServer,
        server: &Synapse,
        setting: &Setting<'_>,
    ) -> Result<Self> {
        let (extra, _secret) = mail_account(mail, setting.group).await?;
        let account = AccountPlan::on(server, "work").await?;
        let bot = account.user.id.clone();
        let mut bridge = Bridge::prepare(binary, &Plan { accounts: vec![account], admin: None, extra })?;
        if let Some(log) = setting.log {
            bridge.set_env("SEALBRIDGE_LOG", log);
        }
        let output = bridge.init().await?.ok()?.stdout;
        let (group, link) = founded(&output)?;
        bridge.start().await?;

        let (ann, ben) = tokio::try_join!(Person::new_on(server, "ann"), DeltaPerson::new_on(mail, "ben"))?;
        if let Some([anns, bens]) = setting.names {
            let path = format!("/_matrix/client/v3/profile/{}/displayname", ann.user_id());
            let (status, _) = ann.http("PUT", &path, Some(json!({ "displayname": anns }))).await?;
            ensure!(status == 200, "a name is refused: {status}");
            ben.rpc("set_config", json!(["displayname", bens])).await?;
        }
        let room = ann.create_encrypted_room("talk", &[&bot]).await?;
        ann.wait_member(&room, &bot, "join", PATIENCE).await?;
        let chat = ben.join(&link).await?;
        ensure!(!bridge.log_text().contains(setting.group), "the group's name is in the log");
        let [here, there] = [format!("work/{room}"), format!("family/{group}")];
        match setting.link {
            None => drop(bridge.cli(&["links", "add", "lounge", &here, &there]).await?.ok()?),
            Some(lines) => {
                bridge.stop().await?;
                let config = std::fs::read_to_string(bridge.config())?;
                let link = format!("\n[links.lounge]\nends = [{here:?}, {there:?}]\n{lines}\n");
                std::fs::write(bridge.config(), config + link.as_str())?;
                bridge.start().await?;
            }
        }
        Ok(Self { bridge, ann, ben, room, chat, bot })
    }

    /// The engine that the service runs, if it runs one at this moment.
    pub(crate) fn engine(&self) -> Result<Option<u32>> {
        self.bridge.pid().map_or(Ok(None), |service| processes::child_of(service, ENGINE))
    }

    pub(crate) async fn says(&self, who: Who, say: Say) -> Result<RemoteId> {
        match who {
            Who::Ann => matrix::say(&self.ann, &self.room, say).await,
            Who::Ben => delta::say(&self.ben, self.chat, say).await.map_err(|stop| anyhow::anyhow!("{stop:?}")),
        }
    }

    pub(crate) async fn heard(&self, who: Who) -> Result<Vec<Overheard>> {
        match who {
            Who::Ann => {
                let received = self.ann.received();
                let mut heard = matrix::heard(received.clone());
                for one in &mut heard {
                    let (Some(file), Some(content)) = (&mut one.details.file, matrix::content(&received, &one.id))
                    else {
                        continue;
                    };
                    file.content = self.ann.download(content).await?;
                }
                Ok(heard)
            }
            Who::Ben => delta::heard(&self.ben, self.chat, &PersonId::new("bridge")).await,
        }
    }

    /// What somebody hears first that is so.
    pub(crate) async fn hears(&self, who: Who, what: &str, is: impl Fn(&Overheard) -> bool) -> Result<Overheard> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.heard(who).await?.into_iter().find(|heard| is(heard)) {
                return Ok(found);
            }
            ensure!(Instant::now() < give_up, "{who:?} waits in vain for {what}\n{}", self.bridge.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the scenario: everything that was said before has come by now, and none of it twice.
    pub(crate) async fn ends(&self) -> Result<()> {
        self.ends_with_twice(&[]).await
    }

    /// The same of a scenario in which Ben is told these words of two things that are alike.
    pub(crate) async fn ends_with_twice(&self, words: &[&str]) -> Result<()> {
        for who in [Who::Ann, Who::Ben] {
            self.said(who, &format!("the last words of {who:?}")).await?;
        }
        for who in [Who::Ann, Who::Ben] {
            let mut heard = self.heard(who).await?;
            for words in words.iter().filter(|_| who == Who::Ben) {
                let times = heard.iter().filter(|heard| heard.words == *words).count();
                ensure!(times == 2, "{who:?} has {words:?} {times} times");
                heard.retain(|heard| heard.words != *words);
            }
            nothing_is_there_twice(&format!("{who:?}"), &heard)?;
        }
        self.bridge.stop().await
    }

    /// Words of one side, and what they are called at each: where they were said, and where they were heard.
    pub(crate) async fn said(&self, who: Who, words: &str) -> Result<Said> {
        let own = self.says(who, Say { words: words.to_owned(), ..Say::default() }).await?;
        let there = self.hears(who.other(), words, |heard| heard.words.ends_with(words)).await?.id;
        Ok(match who {
            Who::Ann => Said { to_ann: own, to_ben: there },
            Who::Ben => Said { to_ann: there, to_ben: own },
        })
    }
}

/// Everything that somebody has heard is there once: each message, file, notice, edit and deletion, and no reaction
/// that was shown already. What one says twice on purpose is told apart by its words.
pub(crate) fn nothing_is_there_twice(who: &str, heard: &[Overheard]) -> Result<()> {
    for (at, one) in heard.iter().enumerate() {
        let again = heard[..at].iter().rev().find(|other| is_the_same(one, other));
        ensure!(again.is_none(), "{who} has twice: {one:?}, and {again:?}");
    }
    Ok(())
}

fn is_the_same(one: &Overheard, other: &Overheard) -> bool {
    let file = |heard: &Overheard| heard.details.file.as_ref().map(|file| (file.name.clone(), file.content.clone()));
    let reactions = one.how == How::Reaction || other.how == How::Reaction;
    let alike = (one.how, &one.words, &one.reply_to) == (other.how, &other.words, &other.reply_to)
        && (&one.details.about, &one.details.place) == (&other.details.about, &other.details.place)
        && file(one) == file(other);
    // What stands under a message may come back to what it was.
    one.id == other.id || alike && !reactions
}

/// What somebody on Matrix hears, in the words of the kit.
pub(crate) fn on_matrix(received: Vec<Received>) -> Vec<Overheard> {
    matrix::heard(received)
}

/// One message, as each side names it.
pub(crate) struct Said {
    pub(crate) to_ann: RemoteId,
    pub(crate) to_ben: RemoteId,
}

impl Said {
    pub(crate) fn to(&self, who: Who) -> &RemoteId {
        if who == Who::Ann { &self.to_ann } else { &self.to_ben }
    }
}

/// The section of an account at this mail server that founds a group, and the file of its password, for as long as
/// `sealbridge init` needs it.
pub(crate) async fn mail_account(mail: &MailServer, group: &str) -> Result<(String, NamedTempFile)> {
    let engine = tokio::task::spawn_blocking(Venv::ready).await??.delta_chat()?;
    let mailbox = mail.mailbox("bridge")?;
    let secret = NamedTempFile::new()?;
    std::fs::write(secret.path(), &mailbox.password)?;
    let lines = format!(
        "[accounts.family]\nnetwork = \"deltachat\"\naddress = {:?}\npassword_file = {:?}\nengine = {engine:?}\n\
         certificate_checks = \"accept-invalid\"\ngroups = [{group:?}]\n\
         imap = {{ server = \"localhost\", port = {} }}\nsmtp = {{ server = \"localhost\", port = {} }}\n",
        mailbox.address,
        secret.path(),
        mail.imaps(),
        mail.smtps()
    );
    Ok((lines, secret))
}

/// What the group that was founded is called in links, and the invitation to it.
pub(crate) fn founded(output: &str) -> Result<(&str, String)> {
    let group = said_after(output, "In links it is called ", |c| c.is_ascii_hexdigit() || c == '-')?;
    let in_a_link = |c: char| c.is_ascii_alphanumeric() || ":/.#&=%+-_~".contains(c);
    Ok((group, format!("https:{}", said_after(output, "https:", in_a_link)?)))
}

/// What `sealbridge init` says after `words`, for as long as it has these characters.
pub(crate) fn said_after<'a>(output: &'a str, words: &str, has: impl Fn(char) -> bool) -> Result<&'a str> {
    let (_, rest) = output.rsplit_once(words).with_context(|| format!("it never says {words:?}"))?;
    Ok(rest.split(|c| !has(c)).next().unwrap_or_default())
}
