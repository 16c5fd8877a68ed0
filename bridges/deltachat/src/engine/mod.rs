//! The engine: `deltachat-rpc-server` as a child process, and the few of its 180 methods that are used.
//!
//! The method that makes a group without encryption is not among them, nor is any that sends without looking at a
//! chat: whoever adds one reads `tests/service/architecture.rs` first.

pub(crate) mod progress;
pub(crate) mod servers;
pub(crate) mod types;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use sealbridge_child::{CallError, Child, Limits, Program};
use sealbridge_contract::Text;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::watch;

use crate::{backup::PATIENCE, core::lock};
use servers::Server;
use types::{Chat, Contact, Event, Happened, Loaded, Login, Message, MessageInfo, Outgoing, Place, SELF};

/// How long the engine may take for what it answers by itself.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it may take to log in: it tries every way that a mail server may have.
const LOG_IN: Duration = Duration::from_secs(180);
/// How long it may take to say why it did not.
const REPORT: Duration = Duration::from_secs(5);
/// As good as for ever: it answers when something happens.
const EVENTS: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest answer that is read. A longer one ends the engine, and what was asked for is asked for in smaller parts.
const LINE: usize = 16 << 20;

/// The first version that has everything that is used, within the major version whose answers are known.
const MAJOR: u32 = 2;
const MINOR: u32 = 65;

type Answer<T> = Result<T, CallError>;

/// One running engine with one account in it.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    account: u32,
    /// Messages that this very process was given, so that none is left over from one that died.
    pub(crate) given: Mutex<HashSet<u32>>,
    /// Counts what became of messages.
    pub(crate) moved: watch::Sender<u64>,
}

/// What to run.
pub(crate) fn program(engine: &Path, folder: &Path) -> Program {
    let limits = Limits { line: LINE, answer: ANSWER, notifications: 1 };
    // Its own log would hold addresses, and nobody reads it.
    let program = Program::new(engine, folder).variable("DC_ACCOUNTS_PATH", folder.join("accounts"));
    Program { limits, ..program.variable("RUST_LOG", "error") }
}

/// Whether the child is an engine that we know, and what is to be said of it all the same. The inner error is why it is
/// not used.
pub(crate) async fn is_known(child: &Child, program: &Path) -> Answer<Result<Option<String>, String>> {
    let program = program.display();
    let info: HashMap<String, serde_json::Value> = match child.call("get_system_info", ()).await {
        Err(CallError::Refused { .. } | CallError::Form { .. }) => {
            return Ok(Err(format!("{program} is no deltachat-rpc-server that this version of the bridge knows")));
        }
        info => info?,
    };
    let version = info.get("deltachat_core_version").and_then(serde_json::Value::as_str).unwrap_or_default();
    let said: String = version.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(20).collect();
    let needed = format!("{MAJOR}.{MINOR} or a later {MAJOR}.x is needed");
    Ok(match age(version) {
        Age::Tried => Ok(None),
        Age::Newer => Ok(Some(format!(
            "the engine {program} is version {said:?}, newer than {MAJOR}.{MINOR}, with which this version of the bridge \
             was tried"
        ))),
        Age::TooOld => Err(format!("the engine {program} is version {said:?}, which lacks what is used; {needed}")),
        Age::TooNew => Err(format!("the engine {program} is version {said:?}, whose answers are not known; {needed}")),
        Age::Unknown => Err(format!("the engine {program} does not say its version; {needed}")),
    })
}

/// How a version stands to those that are known.
#[derive(Debug, PartialEq, Eq)]
enum Age {
    Unknown,
    TooOld,
    Tried,
    Newer,
    TooNew,
}

fn age(version: &str) -> Age {
    let mut parts = version.trim_start_matches('v').split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return Age::Unknown };
    match (major, minor) {
        (MAJOR, MINOR) => Age::Tried,
        (MAJOR, MINOR..) => Age::Newer,
        (..MAJOR, _) | (MAJOR, _) => Age::TooOld,
        _ => Age::TooNew,
    }
}

impl Engine {
    pub(crate) fn new(child: Child, account: u32) -> Self {
        Self { child, account, given: Mutex::default(), moved: watch::Sender::new(0) }
    }

    /// The account that is logged in, if there is one.
    pub(crate) async fn account(child: &Child) -> Answer<Option<u32>> {
        let accounts: Vec<u32> = child.call("get_all_account_ids", ()).await?;
        for account in accounts {
            if child.call("is_configured", (account,)).await? {
                return Ok(Some(account));
            }
        }
        Ok(None)
    }

    /// An account that is not logged in yet: one that a broken-off login left, or a new one.
    pub(crate) async fn empty_account(child: &Child) -> Answer<u32> {
        let accounts: Vec<u32> = child.call("get_all_account_ids", ()).await?;
        match accounts.first() {
            Some(account) => Ok(*account),
            None => child.call("add_account", ()).await,
        }
    }

    /// An account with nothing in it; those that a broken-off call left are gone.
    pub(crate) async fn new_account(child: &Child) -> Answer<u32> {
        let accounts: Vec<u32> = child.call("get_all_account_ids", ()).await?;
        for account in accounts {
            child.call::<()>("remove_account", (account,)).await?;
        }
        child.call("add_account", ()).await
    }

    /// Writes all of the account into a folder, as one file of a name that the engine chooses.
    pub(crate) async fn export(&self, folder: &Path, passphrase: &str) -> Answer<()> {
        self.child.call_within(PATIENCE, "export_backup", (self.account, folder, passphrase)).await
    }

    /// Takes what was exported into an account that has nothing in it.
    pub(crate) async fn import(&self, file: &Path, passphrase: &str) -> Answer<()> {
        self.child.call_within(PATIENCE, "import_backup", (self.account, file, passphrase)).await
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    async fn call<T: DeserializeOwned>(&self, method: &'static str, params: serde_json::Value) -> Answer<T> {
        let mut all = vec![json!(self.account)];
        if let serde_json::Value::Array(params) = params {
            all.extend(params);
        }
        self.child.call(method, all).await
    }

    pub(crate) async fn set(&self, key: &str, value: &str) -> Answer<()> {
        self.call("set_config", json!([key, value])).await
    }

    pub(crate) async fn get(&self, key: &str) -> Answer<Option<String>> {
        self.call("get_config", json!([key])).await
    }

    pub(crate) async fn log_in(&self, login: &Login<'_>) -> Answer<()> {
        self.child.call_within(LOG_IN, "add_or_update_transport", (self.account, login)).await
    }

    /// The servers that the last login tried in vain. Nothing, if it did not come so far. Nobody else may listen.
    pub(crate) async fn tried(&self) -> Answer<Vec<Server>> {
        let mut tried = Vec::new();
        loop {
            let events: Answer<Vec<Event>> = self.child.call_within(REPORT, "get_next_event_batch", ()).await;
            if matches!(events, Err(CallError::Late { .. })) {
                return Ok(tried);
            }
            for Event { event } in events? {
                match event {
                    Happened::Warning { msg } => tried = servers::tried(msg.as_str()).unwrap_or(tried),
                    // It comes after everything else.
                    Happened::ConfigureProgress { progress: 0 } => return Ok(tried),
                    _ => {}
                }
            }
        }
    }

    /// The servers that it uses since it logged in.
    pub(crate) async fn servers(&self) -> Answer<Vec<Server>> {
        let info: HashMap<String, serde_json::Value> = self.call("get_info", json!([])).await?;
        let used = info.get("used_transport_settings").and_then(serde_json::Value::as_str);
        Ok(servers::listed(used.unwrap_or_default()))
    }

    pub(crate) async fn start(&self) -> Answer<()> {
        self.call("start_io", json!([])).await
    }

    /// Nothing is received or mailed until the next start.
    pub(crate) async fn stop(&self) -> Answer<()> {
        self.call("stop_io", json!([])).await
    }

    /// What happened since the last time. Waits until something does.
    pub(crate) async fn events(&self) -> Answer<Vec<Event>> {
        self.child.call_within(EVENTS, "get_next_event_batch", ()).await
    }

    /// Looks for the mail server at once, instead of after the engine's own growing waits.
    pub(crate) async fn try_again(&self) -> Answer<()> {
        self.child.call("maybe_network", ()).await
    }

    pub(crate) async fn connectivity(&self) -> Answer<u32> {
        self.call("get_connectivity", json!([])).await
    }

    /// Messages with higher numbers than `last_msg_id`, which nobody but us moves.
    pub(crate) async fn next_messages(&self) -> Answer<Vec<u32>> {
        self.call("get_next_msgs", json!([])).await
    }

    pub(crate) async fn messages(&self, ids: &[u32]) -> Answer<HashMap<u32, Loaded>> {
        self.call("get_messages", json!([ids])).await
    }

    /// One message, or why there is none.
    pub(crate) async fn look(&self, id: u32) -> Answer<Loaded> {
        Ok(self.messages(&[id]).await?.remove(&id).unwrap_or(Loaded::Withheld))
    }

    pub(crate) async fn message(&self, id: u32) -> Answer<Message> {
        self.call("get_message", json!([id])).await
    }

    /// The whole of a message that is too long to be shown, as a page of HTML.
    pub(crate) async fn whole(&self, id: u32) -> Answer<Option<Text>> {
        Ok(self.call::<Option<String>>("get_message_html", json!([id])).await?.map(Text::from))
    }

    pub(crate) async fn info(&self, id: u32) -> Answer<MessageInfo> {
        self.call("get_message_info_object", json!([id])).await
    }

    pub(crate) async fn mail_id(&self, id: u32) -> Answer<String> {
        Ok(self.info(id).await?.rfc724_mid)
    }

    /// Fetches what is missing of a message.
    pub(crate) async fn download(&self, id: u32) -> Answer<()> {
        self.call("download_full_message", json!([id])).await
    }

    /// The places that somebody named in a chat, between two seconds.
    pub(crate) async fn places(&self, chat: u32, contact: u32, within: (i64, i64)) -> Answer<Vec<Place>> {
        self.call("get_locations", json!([chat, contact, within.0, within.1])).await
    }

    /// We are done with these: nobody is told, and timers of messages that disappear begin.
    pub(crate) async fn seen(&self, ids: &[u32]) -> Answer<()> {
        self.call("markseen_msgs", json!([ids])).await
    }

    /// The folder where the engine keeps files.
    pub(crate) async fn files(&self) -> Answer<Option<PathBuf>> {
        self.call("get_blob_dir", json!([])).await
    }

    pub(crate) async fn contact(&self, id: u32) -> Answer<Contact> {
        self.call("get_contact", json!([id])).await
    }

    /// After how long messages of a chat disappear.
    pub(crate) async fn timer(&self, chat: u32) -> Answer<u32> {
        self.call("get_chat_ephemeral_timer", json!([chat])).await
    }

    /// We react with this emoji, or with none any more.
    pub(crate) async fn react(&self, id: u32, emoji: Option<&str>) -> Answer<u32> {
        let message = self.call("send_reaction", json!([id, emoji.as_slice()])).await?;
        lock(&self.given).insert(message);
        Ok(message)
    }

    /// Gives a message of ours new words.
    pub(crate) async fn edit(&self, id: u32, words: &Text) -> Answer<()> {
        self.child.call("send_edit_request", (self.account, id, words.as_str())).await
    }

    /// Takes a message of ours back, on all devices.
    pub(crate) async fn take_back(&self, id: u32) -> Answer<()> {
        self.call("delete_messages_for_all", json!([[id]])).await
    }

    pub(crate) async fn chats(&self) -> Answer<Vec<u32>> {
        const ARCHIVED_ONLY: u32 = 1;
        let mut chats: Vec<u32> = self.call("get_chatlist_entries", json!([null, null, null])).await?;
        chats.extend(self.call::<Vec<u32>>("get_chatlist_entries", json!([ARCHIVED_ONLY, null, null])).await?);
        // Numbers up to nine stand for no chat.
        chats.retain(|chat| *chat > 9);
        Ok(chats)
    }

    pub(crate) async fn chat(&self, chat: u32) -> Answer<Chat> {
        self.call("get_full_chat_by_id", json!([chat])).await
    }

    pub(crate) async fn chat_messages(&self, chat: u32) -> Answer<Vec<u32>> {
        self.call("get_message_ids", json!([chat, false, false])).await
    }

    pub(crate) async fn send(&self, chat: u32, message: &Outgoing) -> Answer<u32> {
        let id = self.child.call("send_msg", (self.account, chat, message)).await?;
        lock(&self.given).insert(id);
        Ok(id)
    }

    /// Hands a message in once more, under its old mail id.
    pub(crate) async fn send_again(&self, id: u32) -> Answer<()> {
        lock(&self.given).insert(id);
        self.call("resend_messages", json!([[id]])).await
    }

    pub(crate) async fn delete(&self, id: u32) -> Answer<()> {
        self.call("delete_messages", json!([[id]])).await
    }

    pub(crate) async fn contacts(&self) -> Answer<Vec<u32>> {
        self.call("get_contact_ids", json!([0, null])).await
    }

    /// Whose keys are used with a contact, in words of the engine with fingerprints in them.
    pub(crate) async fn keys(&self, contact: u32) -> Answer<String> {
        self.call("get_contact_encryption_info", json!([contact])).await
    }

    pub(crate) async fn chat_with(&self, contact: u32) -> Answer<u32> {
        self.call("create_chat_by_contact_id", json!([contact])).await
    }

    /// A number that is higher than that of any message that was ever there. A draft takes it, and is gone again.
    pub(crate) async fn next_number(&self) -> Answer<u32> {
        #[derive(Deserialize)]
        struct Draft {
            id: u32,
        }
        let notes = self.chat_with(SELF).await?;
        self.call::<()>("misc_set_draft", json!([notes, "-", null, null, null, null])).await?;
        let Draft { id } = self.call("get_draft", json!([notes])).await?;
        self.call::<()>("remove_draft", json!([notes])).await?;
        Ok(id)
    }

    pub(crate) async fn make_group(&self, name: &str) -> Answer<u32> {
        self.call("create_group_chat", json!([name, false])).await
    }

    /// An invitation to a group, or, without one, to ourselves.
    pub(crate) async fn invitation(&self, chat: Option<u32>) -> Answer<String> {
        self.call("get_chat_securejoin_qr_code", json!([chat])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_are_known_are_used() {
        let known = [("v2.65.0", Age::Tried), ("2.65.1", Age::Tried), ("v2.70.3-dev", Age::Newer)];
        let others = [("v2.64.9", Age::TooOld), ("1.155.0", Age::TooOld), ("v3.0.0", Age::TooNew)];
        let none = ["", "v2", "2.x.1"].map(|version| (version, Age::Unknown));
        for (version, expected) in known.into_iter().chain(others).chain(none) {
            assert_eq!(age(version), expected, "{version}");
        }
    }
}
