//! What a person says. What goes into one room goes in the order of the calls.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Person, text};

/// What to send besides a plain text.
#[derive(Debug, Clone, Default)]
pub struct Text<'a> {
    pub body: &'a str,
    pub formatted: Option<&'a str>,
    /// `m.text` if not said.
    pub msgtype: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    /// Put over the content by key.
    pub extra: Option<Value>,
}

impl Person {
    /// Sends a text, encrypted if the room is. Queued at once, so that calls keep their order even
    /// when the futures are awaited together.
    pub fn send(&self, room: &str, body: &str) -> impl Future<Output = Result<String>> + Send + use<> {
        self.send_text(room, Text { body, ..Text::default() })
    }

    pub fn send_text(&self, room: &str, text: Text<'_>) -> impl Future<Output = Result<String>> + Send + use<> {
        let sent = self.process.call(
            "send",
            json!({
                "room": room,
                "body": text.body,
                "formatted": text.formatted,
                "msgtype": text.msgtype,
                "reply_to": text.reply_to,
                "extra": text.extra,
            }),
        );
        async move { self::text(&sent.await?, "event_id") }
    }

    /// Sends any event, encrypted if the room is.
    pub async fn send_event(&self, room: &str, kind: &str, content: Value) -> Result<String> {
        let event = json!({ "room": room, "type": kind, "content": content });
        text(&self.call("send_event", event).await?, "event_id")
    }

    /// Puts an event into the room as it stands, in clear even if the room is encrypted. With type
    /// `m.room.encrypted` and an old content it is a replay.
    pub async fn send_raw_plain(&self, room: &str, kind: &str, content: Value) -> Result<String> {
        let event = json!({ "room": room, "type": kind, "content": content });
        text(&self.call("send_raw_plain", event).await?, "event_id")
    }

    pub async fn redact(&self, room: &str, event_id: &str) -> Result<String> {
        let arguments = json!({ "room": room, "event_id": event_id });
        text(&self.call("redact", arguments).await?, "event_id")
    }

    /// Encrypts and uploads a file, and sends it. Mautrix only.
    pub async fn send_file(&self, room: &str, name: &str, mimetype: &str, data: &[u8]) -> Result<String> {
        let data = STANDARD.encode(data);
        let file = json!({ "room": room, "name": name, "mimetype": mimetype, "data": data });
        text(&self.call("send_file", file).await?, "event_id")
    }

    /// The same of a file that lies at a path, for one that is too large to be handed over. Mautrix only.
    pub async fn send_file_at(&self, room: &str, name: &str, mimetype: &str, path: &Path) -> Result<String> {
        let file = json!({ "room": room, "name": name, "mimetype": mimetype, "path": path });
        text(&self.call("send_file", file).await?, "event_id")
    }

    /// Uploads a file as it is, and sends it. Mautrix only.
    pub async fn send_open_file(&self, room: &str, name: &str, mimetype: &str, data: &[u8]) -> Result<String> {
        let data = STANDARD.encode(data);
        let file = json!({ "room": room, "name": name, "mimetype": mimetype, "data": data });
        text(&self.call("send_open_file", file).await?, "event_id")
    }

    /// Fetches and opens the encrypted file of a message's content. Mautrix only.
    pub async fn download(&self, content: &Value) -> Result<Vec<u8>> {
        let file = json!({ "file": content["file"] });
        let answer = self.call("download", file).await?;
        Ok(STANDARD.decode(text(&answer, "data")?)?)
    }

    /// The same, and puts it at a path. Mautrix only.
    pub async fn download_to(&self, content: &Value, path: &Path) -> Result<()> {
        let file = json!({ "file": content["file"], "to": path });
        self.call("download", file).await.map(drop)
    }

    /// An event as the homeserver stores it, for example the ciphertext of a message.
    pub async fn raw_event(&self, room: &str, event_id: &str) -> Result<Value> {
        let arguments = json!({ "room": room, "event_id": event_id });
        Ok(self.call("raw_event", arguments).await?["event"].take())
    }
}
