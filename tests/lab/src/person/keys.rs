//! Room keys, cross-signing and verification. Only a person with mautrix-python has all of these; one with
//! matrix-js-sdk has the verification.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Person, Received, Verification, text};

impl Person {
    /// From the next message in `room` on, these users get no room keys from this person. With
    /// `announce` they are told so.
    pub async fn withhold(&self, room: &str, users: &[&str], announce: bool) -> Result<()> {
        let arguments = json!({ "room": room, "users": users, "announce": announce });
        self.call("withhold", arguments).await.map(drop)
    }

    /// Ends [`Person::withhold`] and hands over every key kept back in the room. Answers to how
    /// many devices and sessions.
    pub async fn share_key(&self, room: &str) -> Result<u64> {
        let answer = self.call("share_key", json!({ "room": room })).await?;
        answer["devices"].as_u64().context("No count of devices")
    }

    /// Ends [`Person::withhold`] for what is said from now on. What was kept back stays so, until
    /// [`Person::share_key`].
    pub async fn share_later(&self, room: &str) -> Result<()> {
        self.call("share_later", json!({ "room": room })).await.map(drop)
    }

    /// The next message in the room starts a new Megolm session.
    pub async fn new_session(&self, room: &str) -> Result<()> {
        let room = json!({ "room": room });
        self.call("new_session", room).await.map(drop)
    }

    /// What this person's client makes of an event with the keys that it has, whenever it was sent: its words, or why it
    /// can't be read.
    pub async fn try_read(&self, room: &str, event_id: &str) -> Result<std::result::Result<String, String>> {
        let answer = self.call("try_read", json!({ "room": room, "event_id": event_id })).await?;
        match answer["reason"].as_str() {
            Some(reason) => Ok(Err(reason.to_owned())),
            None => text(&answer, "body").map(Ok),
        }
    }

    /// Hands the key of an event to `user`'s devices, who did not ask for it. Answers to how many devices.
    pub async fn forward_key(&self, room: &str, event_id: &str, user: &str) -> Result<u64> {
        let arguments = json!({ "room": room, "event_id": event_id, "user": user });
        self.call("forward_key", arguments).await?["devices"].as_u64().context("No count of devices")
    }

    /// Hands the key of an event of somebody else's to `user`'s devices as the own. Answers to how many devices.
    pub async fn pass_off_key(&self, room: &str, event_id: &str, user: &str) -> Result<u64> {
        let arguments = json!({ "room": room, "event_id": event_id, "user": user });
        self.call("pass_off_key", arguments).await?["devices"].as_u64().context("No count of devices")
    }

    /// The same as [`Person::pass_off_key`], as if it were the key of another room.
    pub async fn pass_off_key_as_of(&self, other: &str, room: &str, event_id: &str, user: &str) -> Result<u64> {
        let arguments = json!({ "room": room, "event_id": event_id, "user": user, "as_of": other });
        self.call("pass_off_key", arguments).await?["devices"].as_u64().context("No count of devices")
    }

    /// Hands the key that this person speaks with to `user`'s devices, from the next message on. Answers to how many.
    pub async fn hand_on_key(&self, room: &str, user: &str) -> Result<u64> {
        let arguments = json!({ "room": room, "user": user });
        self.call("hand_on_key", arguments).await?["devices"].as_u64().context("No count of devices")
    }

    /// Says to `user`'s devices that the key of an event is kept from them, whoever made it.
    pub async fn say_withheld(&self, room: &str, event_id: &str, user: &str) -> Result<()> {
        let arguments = json!({ "room": room, "event_id": event_id, "user": user });
        self.call("say_withheld", arguments).await.map(drop)
    }

    /// The same as [`Person::pass_off_key`], under so many keys of devices that there are not.
    pub async fn pass_off_key_by_made_up_devices(
        &self,
        room: &str,
        event_id: &str,
        user: &str,
        count: usize,
    ) -> Result<()> {
        let arguments = json!({ "room": room, "event_id": event_id, "user": user, "count": count });
        self.call("pass_off_made_up", arguments).await.map(drop)
    }

    /// Cross-signs the own device now; answers the recovery key.
    pub async fn cross_sign(&self) -> Result<String> {
        text(&self.call("cross_sign", json!({})).await?, "recovery_key")
    }

    /// Gives this person so many devices more, which nobody has signed and nobody uses.
    pub async fn further_devices(&self, count: usize) -> Result<()> {
        self.call("further_devices", json!({ "count": count })).await.map(drop)
    }

    /// A user's devices, each with the trust that this person's client has in it.
    pub async fn devices(&self, user: &str) -> Result<Vec<(String, String)>> {
        let answer = self.call("devices", json!({ "user": user })).await?;
        let devices = answer["devices"].as_object().context("No devices")?;
        let pairs = devices.iter().map(|(device, trust)| {
            let trust = trust.as_str().unwrap_or_default();
            (device.clone(), trust.to_owned())
        });
        Ok(pairs.collect())
    }

    // Verification by emoji, or by a code. Every step is a call here and a `Verification` that is received.

    /// Asks `user` to verify, on one of their devices or in a room; answers the flow's id.
    pub async fn verify_request(&self, user: &str, device: Option<&str>, room: Option<&str>) -> Result<String> {
        let arguments = json!({ "user": user, "device": device, "in_room": room });
        text(&self.call("verify_request", arguments).await?, "flow")
    }

    /// Answers a request with yes.
    pub async fn verify_accept(&self, flow: &str) -> Result<()> {
        self.verify("accept", flow).await
    }

    /// Starts once both said yes; one side does this.
    pub async fn verify_begin(&self, flow: &str) -> Result<()> {
        self.verify("begin", flow).await
    }

    /// The emoji are the same on both sides. The other user's identity is then signed.
    pub async fn verify_confirm(&self, flow: &str) -> Result<()> {
        self.verify("confirm", flow).await
    }

    /// The emoji are not the same. matrix-js-sdk only.
    pub async fn verify_mismatch(&self, flow: &str) -> Result<()> {
        self.verify("mismatch", flow).await
    }

    /// The person scanned a code, in which these bytes are. Answers once their client has compared it with what it knows,
    /// and told the other side. matrix-js-sdk only.
    pub async fn verify_scan(&self, flow: &str, code: &[u8]) -> Result<()> {
        let arguments = json!({ "flow": flow, "code": STANDARD.encode(code) });
        self.call("verify_scan", arguments).await.map(drop)
    }

    /// Whether this person's client holds that user's identity verified. matrix-js-sdk only.
    pub async fn holds_verified(&self, user: &str) -> Result<bool> {
        let answer = self.call("holds_verified", json!({ "user": user })).await?;
        answer["verified"].as_bool().context("No yes or no")
    }

    pub async fn verify_cancel(&self, flow: &str) -> Result<()> {
        self.verify("cancel", flow).await
    }

    /// Waits until any flow with `user` gets to this step.
    pub async fn wait_verification(&self, user: &str, step: &str, within: Duration) -> Result<Verification> {
        let pick = |one: &Received| match one {
            Received::Verification(it) if it.user == user && it.step == step => Some(it.clone()),
            _ => None,
        };
        self.wait_event(pick, within).await
    }

    async fn verify(&self, step: &str, flow: &str) -> Result<()> {
        let name = format!("verify_{step}");
        self.call(&name, json!({ "flow": flow })).await.map(drop)
    }
}
