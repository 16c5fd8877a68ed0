//! A person with Delta Chat, on an engine process of their own.
//!
//! It is the same engine as the bridge's, since no other exists; it shares no code with ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

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
    _folder: TempDir,
}

/// A message as the person sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Its number on the person's device.
    pub number: u32,
    pub chat: u32,
    /// Its mail id.
    pub id: String,
    pub text: String,
    /// Whether they wrote it themselves.
    pub own: bool,
    /// Whether it is the engine's own word about a chat.
    pub info: bool,
    /// Under which other name it appears.
    pub name: Option<String>,
    /// What its sender calls themselves.
    pub sender: String,
    pub padlock: bool,
    pub bot: bool,
    /// The mail id of what it answers.
    pub answers: Option<String>,
    /// When it appeared, in seconds since the epoch.
    pub at: f64,
}

/// What a message became when it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct Sent {
    pub number: u32,
    pub id: String,
}

impl DeltaPerson {
    /// A new person called `name` with a mailbox on `server`.
    pub async fn new_on(server: &MailServer, name: &str) -> Result<Self> {
        let venv = tokio::task::spawn_blocking(Venv::ready).await??;
        let mailbox = server.mailbox(name)?;
        let folder = tempfile::Builder::new().prefix("sealbridge-lab-delta-").tempdir()?;
        let process = Process::start(&venv, "delta_person.py")?;
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
            _folder: folder,
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

    pub async fn send(&self, chat: u32, text: &str) -> Result<Sent> {
        self.send_with(chat, text, None, None).await
    }

    /// Sends in answer to a mail id, or under another name.
    pub async fn send_with(&self, chat: u32, text: &str, answers: Option<&str>, name: Option<&str>) -> Result<Sent> {
        let arguments = json!({ "chat": chat, "text": text, "answers": answers, "name": name });
        Ok(serde_json::from_value(self.call("send", arguments).await?)?)
    }

    /// Everything that is on the person's screen, oldest first, without the engine's own words.
    pub async fn messages(&self) -> Result<Vec<Seen>> {
        let answer = self.call("messages", json!({})).await?;
        let messages: Vec<Seen> = serde_json::from_value(answer["messages"].clone())?;
        Ok(messages.into_iter().filter(|seen| !seen.info).collect())
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
