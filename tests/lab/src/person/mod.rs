//! A person with a client of their own, which shares no code with ours, but for [`Kind::Js`].
//!
//! The usual one is mautrix-python with its encryption, cross-signed when it logs in. Another is
//! matrix-nio, which can't cross-sign and stands for everybody whose client does not. Both survive
//! that their homeserver stops and starts again: a request is repeated until it is answered, a
//! message with its transaction id. Those with matrix-js-sdk are for what the others lack: a
//! comparison of emoji, or the scan of a code, that the lab has no part in.

mod inbox;
mod keys;
pub(crate) mod process;
mod received;
mod rooms;
mod sending;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub use process::Refusal;
pub use received::{Event, Invite, Member, Message, Received, State, Undecryptable, Verification, Withheld};

pub use sending::Text;

use crate::node::Node;
use crate::synapse::{Synapse, User};
use crate::venv::Venv;
use process::Process;

/// Which client a person has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Mautrix,
    /// Can't cross-sign.
    Nio,
    /// Mautrix that says back what it reads, with as little of ours around it as can be.
    Echo,
    /// matrix-js-sdk of today, as Element Web has it: its own client, but its keys, ciphertext and
    /// comparisons are those of matrix-sdk-crypto, in another version than ours.
    Js,
    /// The last matrix-js-sdk that had all of these for itself, in JavaScript over libolm.
    JsOlm,
}

impl Kind {
    /// What runs this kind's client. Installs it first, if need be.
    fn command(self) -> Result<Command> {
        match self {
            Self::Mautrix => Venv::ready()?.command("person.py"),
            Self::Nio => Venv::ready()?.command("nio_person.py"),
            Self::Echo => Venv::ready()?.command("echo.py"),
            Self::Js => Ok(Node::ready()?.command("person.mjs")),
            Self::JsOlm => {
                let mut command = Node::ready()?.command("person.mjs");
                command.arg("olm");
                Ok(command)
            }
        }
    }

    /// Whether it can be told how to cross-sign.
    fn knows_signing(self) -> bool {
        matches!(self, Self::Mautrix | Self::Echo)
    }

    /// Whether it can be told to scan codes.
    fn knows_codes(self) -> bool {
        matches!(self, Self::Js)
    }
}

/// How a person logs in.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub kind: Kind,
    pub device_id: Option<String>,
    /// Leave the own device without cross-signing, until [`Person::cross_sign`].
    pub without_cross_signing: bool,
    /// Share keys with cross-signed devices only, as newer clients do.
    pub only_cross_signed: bool,
    /// A further device of somebody who has an identity: signs itself with it.
    pub recovery_key: Option<String>,
    /// The client says that it can scan codes. matrix-js-sdk only.
    pub scans: bool,
}

/// One logged-in person. Their client ends when this value is dropped.
#[derive(Debug)]
pub struct Person {
    user_id: String,
    device_id: String,
    access_token: String,
    recovery_key: Option<String>,
    homeserver: String,
    process: Process,
}

impl Person {
    /// A new person on `server`, with mautrix-python, whose name starts with `base`.
    pub async fn new_on(server: &Synapse, base: &str) -> Result<Self> {
        Self::new_with(server, base, Options::default()).await
    }

    pub async fn new_with(server: &Synapse, base: &str, options: Options) -> Result<Self> {
        let user = server.register_unique(base).await?;
        Self::log_in(server.url(), &user, options).await
    }

    /// Logs an existing user in. `homeserver` may be a proxy's address.
    pub async fn log_in(homeserver: &str, user: &User, options: Options) -> Result<Self> {
        let mut command = tokio::task::spawn_blocking(move || options.kind.command()).await??;
        let process = Process::start(&mut command)?;
        let mut login = json!({
            "homeserver": homeserver,
            "user": user.localpart,
            "password": user.password,
            "device_id": options.device_id,
        });
        if options.kind.knows_signing() {
            login["cross_sign"] = json!(!options.without_cross_signing);
            login["only_cross_signed"] = json!(options.only_cross_signed);
            login["recovery_key"] = json!(options.recovery_key);
        }
        if options.kind.knows_codes() {
            login["scans"] = json!(options.scans);
            login["cross_sign"] = json!(!options.without_cross_signing);
        }
        let answer = process.call("login", login).await.context("Log in")?;
        let person = Self {
            user_id: text(&answer, "user_id")?,
            device_id: text(&answer, "device_id")?,
            access_token: text(&answer, "access_token")?,
            recovery_key: answer["recovery_key"].as_str().map(str::to_owned),
            homeserver: homeserver.to_owned(),
            process,
        };
        person
            .wait_event(|one| matches!(one, Received::Synced).then_some(()), Duration::from_secs(60))
            .await
            .context("Wait for the first sync")?;
        Ok(person)
    }

    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    pub fn recovery_key(&self) -> Option<&str> {
        self.recovery_key.as_deref()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The first message of somebody else, received before or after this call, that fits.
    pub async fn wait_for(&self, wanted: impl Fn(&Message) -> bool, within: Duration) -> Result<Message> {
        let pick = |one: &Received| match one {
            Received::Message(message) if !message.own && wanted(message) => Some(message.clone()),
            _ => None,
        };
        self.wait_event(pick, within).await
    }

    /// The first thing received, before or after this call, for which `pick` answers something.
    pub async fn wait_event<T>(&self, pick: impl Fn(&Received) -> Option<T>, within: Duration) -> Result<T> {
        let waited = self.process.inbox().wait(pick, within).await;
        waited.with_context(|| format!("{} waits. {}", self.user_id, self.last_words()))
    }

    /// What came last, for the one who reads why a test failed.
    fn last_words(&self) -> String {
        let last = self.process.inbox().read(|all| {
            let last = &all[all.len().saturating_sub(12)..];
            let lines: Vec<_> = last.iter().map(|one| format!("  {one:?}")).collect();
            lines.join("\n")
        });
        let complaints = self.process.complaints();
        format!("Received last:\n{last}\nIts client complained:\n{complaints}")
    }

    pub async fn wait_invite(&self, room: &str, within: Duration) -> Result<Invite> {
        let pick = |one: &Received| match one {
            Received::Invite(invite) if invite.room == room => Some(invite.clone()),
            _ => None,
        };
        self.wait_event(pick, within).await
    }

    /// Waits until this person saw that `user` has this membership in the room.
    pub async fn wait_member(&self, room: &str, user: &str, membership: &str, within: Duration) -> Result<Member> {
        let pick = |one: &Received| match one {
            Received::Member(member)
                if member.room == room && member.user == user && member.membership.as_deref() == Some(membership) =>
            {
                Some(member.clone())
            }
            _ => None,
        };
        self.wait_event(pick, within).await
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.process.inbox().read(<[Received]>::to_vec)
    }

    /// Every message of others so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.process.inbox().messages(|message| !message.own)
    }

    pub fn messages_in(&self, room: &str) -> Vec<Message> {
        let inbox = self.process.inbox();
        inbox.messages(|message| !message.own && message.room == room)
    }

    /// Every message of the room, with the person's own.
    pub fn timeline(&self, room: &str) -> Vec<Message> {
        self.process.inbox().messages(|message| message.room == room)
    }

    /// What could not be read so far.
    pub fn undecryptable(&self) -> Vec<Undecryptable> {
        self.process.inbox().undecryptable()
    }

    // The rest.

    /// Stops the person's client where it stands (SIGSTOP), as a laptop that is closed.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`Person::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("A process id")?, signal).context("Signal a person's client")
    }

    /// Any request with this person's token, once, whatever the answer.
    pub async fn http(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.homeserver);
        crate::synapse::request(&url, method, Some(&self.access_token), body).await
    }

    /// A command of the script that has no method here.
    pub fn call(&self, name: &str, arguments: Value) -> impl Future<Output = Result<Value>> + Send + use<> {
        self.process.call(name, arguments)
    }
}

fn text(answer: &Value, name: &str) -> Result<String> {
    let value = answer[name].as_str();
    value.map(str::to_owned).with_context(|| format!("No {name} in the answer"))
}
