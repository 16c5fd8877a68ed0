//! Rooms and who is in them.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Person, text};

impl Person {
    pub async fn create_encrypted_room(&self, name: &str, invite: &[&str]) -> Result<String> {
        let room = json!({ "name": name, "invite": invite });
        text(&self.call("create_encrypted_room", room).await?, "room_id")
    }

    /// As [`Person::create_encrypted_room`], with a new session after so many messages.
    pub async fn create_rotating_room(&self, name: &str, invite: &[&str], rotation_msgs: u32) -> Result<String> {
        let room = json!({ "name": name, "invite": invite, "rotation_msgs": rotation_msgs });
        text(&self.call("create_encrypted_room", room).await?, "room_id")
    }

    pub async fn create_plain_room(&self, name: &str, invite: &[&str]) -> Result<String> {
        let room = json!({ "name": name, "invite": invite });
        text(&self.call("create_plain_room", room).await?, "room_id")
    }

    pub async fn invite(&self, room: &str, user: &str) -> Result<()> {
        let arguments = json!({ "room": room, "user": user });
        self.call("invite", arguments).await.map(drop)
    }

    pub async fn join(&self, room: &str) -> Result<()> {
        self.call("join", json!({ "room": room })).await.map(drop)
    }

    pub async fn leave(&self, room: &str) -> Result<()> {
        self.call("leave", json!({ "room": room })).await.map(drop)
    }

    pub async fn kick(&self, room: &str, user: &str) -> Result<()> {
        let arguments = json!({ "room": room, "user": user });
        self.call("kick", arguments).await.map(drop)
    }

    /// Every member that ever was, with `join`, `invite`, `leave` or `ban`.
    pub async fn members(&self, room: &str) -> Result<Vec<(String, String)>> {
        let answer = self.call("members", json!({ "room": room })).await?;
        let members = answer["members"].as_object().context("No members")?;
        let pairs = members.iter().map(|(user, membership)| {
            let membership = membership.as_str().unwrap_or_default();
            (user.clone(), membership.to_owned())
        });
        Ok(pairs.collect())
    }

    pub async fn send_state(&self, room: &str, kind: &str, key: &str, content: Value) -> Result<String> {
        let state = json!({ "room": room, "type": kind, "key": key, "content": content });
        text(&self.call("send_state", state).await?, "event_id")
    }

    pub async fn state(&self, room: &str, kind: &str, key: &str) -> Result<Value> {
        let state = json!({ "room": room, "type": kind, "key": key });
        Ok(self.call("state", state).await?["content"].take())
    }
}
