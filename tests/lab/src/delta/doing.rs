//! What a person with Delta Chat says and does.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{DeltaPerson, Sent};

/// What to send besides plain words.
#[derive(Debug, Clone, Default)]
pub struct Saying<'a> {
    pub text: &'a str,
    /// The mail id of what it answers.
    pub answers: Option<&'a str>,
    /// Under another name.
    pub name: Option<&'a str>,
    pub file: Option<Attachment<'a>>,
    /// Latitude and longitude.
    pub place: Option<(f64, f64)>,
}

/// A file to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attachment<'a> {
    /// The engine's word for what it is: `Image`.
    pub view: &'a str,
    pub name: &'a str,
    pub content: &'a [u8],
    /// How long it plays, in milliseconds, if the person's program knows that.
    pub plays: Option<u64>,
}

impl DeltaPerson {
    pub async fn send(&self, chat: u32, text: &str) -> Result<Sent> {
        self.say(chat, Saying { text, ..Saying::default() }).await
    }

    /// Sends in answer to a mail id, or under another name.
    pub async fn send_with(&self, chat: u32, text: &str, answers: Option<&str>, name: Option<&str>) -> Result<Sent> {
        self.say(chat, Saying { text, answers, name, ..Saying::default() }).await
    }

    /// Sends once more what was sent, under the same mail id, encrypted and signed as ever, and with other words in it:
    /// the engine is made to believe that these were always in it.
    pub async fn send_again_as(&self, sent: &Sent, words: &str) -> Result<()> {
        let accounts = self.folder.path().join("accounts");
        let mut databases = std::fs::read_dir(accounts)?.filter_map(|entry| Some(entry.ok()?.path().join("dc.db")));
        let database = databases.find(|path| path.exists()).context("The engine has a database")?;
        let database = rusqlite::Connection::open(database).context("Open the engine's database")?;
        database.busy_timeout(std::time::Duration::from_secs(10))?;
        let changed = database.execute("UPDATE msgs SET txt = ?1 WHERE rfc724_mid = ?2", [words, &*sent.id])?;
        anyhow::ensure!(changed == 1, "{changed} messages have this id");
        self.rpc("resend_messages", json!([[sent.number]])).await?;
        Ok(())
    }

    pub async fn say(&self, chat: u32, saying: Saying<'_>) -> Result<Sent> {
        let mut more = Map::new();
        // The engine makes a copy before it answers.
        let mut written = None;
        if let Some(Attachment { view, name, content, plays }) = saying.file {
            let ending = name.rsplit_once('.').map(|(_, ending)| format!(".{ending}")).unwrap_or_default();
            let file = tempfile::Builder::new().suffix(&ending).tempfile().context("Write what is to be sent")?;
            std::fs::write(file.path(), content)?;
            more.insert("file".to_owned(), json!(file.path()));
            more.insert("filename".to_owned(), json!(name));
            more.insert("viewtype".to_owned(), json!(view));
            more.insert("plays".to_owned(), json!(plays));
            written = Some(file);
        }
        if let Some(place) = saying.place {
            more.insert("location".to_owned(), json!(place));
        }
        let arguments = json!({
            "chat": chat, "text": saying.text, "answers": saying.answers, "name": saying.name,
            "more": Value::Object(more),
        });
        let sent = serde_json::from_value(self.call("send", arguments).await?)?;
        drop(written);
        Ok(sent)
    }

    /// Hears that the network is back, as a phone's system tells it. By itself an engine waits longer each time.
    pub async fn network_is_back(&self) -> Result<()> {
        self.call("network", json!({})).await.map(drop)
    }

    /// Looks for all mail in the mailbox that the engine does not have, also for what it passed over.
    pub async fn read_again(&self) -> Result<()> {
        self.call("read_again", json!({})).await.map(drop)
    }

    /// From now on has this picture, a PNG.
    pub async fn has_picture(&self, picture: &[u8]) -> Result<()> {
        let file = tempfile::Builder::new().suffix(".png").tempfile().context("Write a picture")?;
        std::fs::write(file.path(), picture)?;
        // The engine makes a copy before it answers.
        self.rpc("set_config", json!(["selfavatar", file.path()])).await.map(drop)
    }

    /// Sends what follows as a machine would, or as a person again.
    pub async fn be_a_bot(&self, bot: bool) -> Result<()> {
        self.rpc("set_config", json!(["bot", if bot { "1" } else { "0" }])).await.map(drop)
    }

    /// Gives an own message new words.
    pub async fn edit(&self, of: &str, text: &str) -> Result<()> {
        self.call("edit", json!({ "of": of, "text": text })).await.map(drop)
    }

    /// Reacts to a message with this and nothing else.
    pub async fn react(&self, to: &str, emoji: &[&str]) -> Result<()> {
        self.call("react", json!({ "to": to, "emoji": emoji })).await.map(drop)
    }

    /// Deletes an own message for everybody.
    pub async fn delete(&self, of: &str) -> Result<()> {
        self.call("delete", json!({ "of": of })).await.map(drop)
    }
}
