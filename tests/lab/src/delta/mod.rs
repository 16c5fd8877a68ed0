//! A person with Delta Chat, on an engine process of their own.
//!
//! It is the same engine as the bridge's, since no other exists; it shares no code with ours.

mod doing;
mod seen;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use doing::{Attachment, Saying};
pub use seen::{Deed, Seen, Sent, What};

use crate::mail::{MailServer, Mailbox};
use crate::person::process::Process;
use crate::venv::Venv;

/// One logged-in person. Their client ends when this value is dropped.
#[derive(Debug)]
pub struct DeltaPerson {
    mailbox: Mailbox,
    fingerprint: String,
    link: String,
    name: String,
    process: Process,
    folder: TempDir,
}

impl DeltaPerson {
    /// A new person called `name` with a mailbox on `server`.
    pub async fn new_on(server: &MailServer, name: &str) -> Result<Self> {
        let venv = tokio::task::spawn_blocking(Venv::ready).await??;
        let mailbox = server.mailbox(name)?;
        let folder = tempfile::Builder::new().prefix("sealbridge-lab-delta-").tempdir()?;
        let process = Process::start(&mut venv.command("delta_person.py")?)?;
        let login = json!({
            "addr": mailbox.address,
            "password": mailbox.password,
            // The engine trusts public authorities alone, and the lab has one of its own.
            "certificateChecks": "acceptInvalidCertificates",
            "imapServer": "localhost", "imapPort": server.imaps(), "imapSecurity": "ssl",
            "smtpServer": "localhost", "smtpPort": server.smtps(), "smtpSecurity": "ssl",
        });
        let arguments = json!({ "folder": folder.path().join("accounts"), "name": name, "login": login });
        let answer = process.call("login", arguments).await.context("Log in")?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("No {key}"));
        Ok(Self {
            mailbox,
            fingerprint: text("fingerprint")?,
            link: text("link")?,
            name: name.to_owned(),
            process,
            folder,
        })
    }

    pub fn address(&self) -> &str {
        &self.mailbox.address
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the person's key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The person's own invitation.
    pub fn link(&self) -> &str {
        &self.link
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Follows an invitation to its end; answers the chat that it leads to.
    pub async fn join(&self, link: &str) -> Result<u32> {
        let answer = self.call("join", json!({ "link": link })).await.context("Follow an invitation")?;
        chat(&answer)
    }

    /// Makes a group; answers it and its invitation.
    pub async fn group(&self, name: &str) -> Result<(u32, String)> {
        let answer = self.call("group", json!({ "name": name })).await?;
        Ok((chat(&answer)?, answer["link"].as_str().context("No link")?.to_owned()))
    }

    /// Everything that is on the person's screen, oldest first, without the engine's own words.
    pub async fn messages(&self) -> Result<Vec<Seen>> {
        Ok(self.ever_seen().await?.into_iter().filter(|seen| !seen.info && !seen.gone).collect())
    }

    /// The same with what was deleted and with the engine's words.
    pub async fn ever_seen(&self) -> Result<Vec<Seen>> {
        Ok(serde_json::from_value(self.call("messages", json!({})).await?["messages"].take())?)
    }

    /// What the engine says about chats on the person's screen: who joined, what a group is called now.
    pub async fn notices(&self) -> Result<Vec<Seen>> {
        Ok(self.ever_seen().await?.into_iter().filter(|seen| seen.info).collect())
    }

    /// Everything that was done to earlier messages, oldest first.
    pub async fn deeds(&self) -> Result<Vec<Deed>> {
        Ok(serde_json::from_value(self.call("deeds", json!({})).await?["deeds"].take())?)
    }

    /// The first that others did and that fits.
    pub async fn wait_deed(&self, wanted: impl Fn(&Deed) -> bool, within: Duration) -> Result<Deed> {
        let give_up = Instant::now() + within;
        loop {
            if let Some(found) = self.deeds().await?.into_iter().find(|deed| !deed.own && wanted(deed)) {
                return Ok(found);
            }
            if Instant::now() > give_up {
                bail!("{} waits in vain for a deed. {}", self.name, self.process.complaints());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first message of somebody else that fits.
    pub async fn wait_for(&self, wanted: impl Fn(&Seen) -> bool, within: Duration) -> Result<Seen> {
        let give_up = Instant::now() + within;
        loop {
            let seen = self.messages().await?;
            if let Some(found) = seen.into_iter().find(|seen| !seen.own && wanted(seen)) {
                return Ok(found);
            }
            if Instant::now() > give_up {
                bail!("{} waits in vain. {}", self.name, self.process.complaints());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first message of somebody else with these words in it. Unlike [`Self::wait_for`] it asks once, so that
    /// waiting takes nothing from what is measured.
    pub async fn hears(&self, words: &str, within: Duration) -> Result<Seen> {
        let heard = self.call("hear", json!({ "words": words, "within": within.as_secs_f64() })).await;
        let mut heard = heard.with_context(|| format!("{}: {}", self.name, self.process.complaints()))?;
        Ok(serde_json::from_value(heard["seen"].take())?)
    }

    /// Any method of the engine that has none here.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value> {
        let mut answer = self.call("rpc", json!({ "method": method, "params": params })).await?;
        Ok(answer["result"].take())
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value> {
        self.process.call(name, arguments).await
    }
}

fn chat(answer: &Value) -> Result<u32> {
    Ok(u32::try_from(answer["chat"].as_u64().context("No chat in the answer")?)?)
}
