//! The requests that the bridge made, made again by nobody in particular: what the homeservers alone take for them.

use std::{fmt, time::Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use sealbridge_lab::{Lab, Synapse, proxy::Seen};
use serde::Serialize;
use serde_json::{Value, json};

/// How many there were of each kind that a first message takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Whose devices are there?
    pub keys_query: usize,
    /// One-time keys of theirs.
    pub keys_claim: usize,
    /// Room keys on their way.
    pub to_device: usize,
    /// Events.
    pub send: usize,
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys_query, keys_claim, to_device, send } = self;
        write!(f, "by {keys_query} key queries, {keys_claim} claims, {to_device} to devices, {send} events")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    KeysQuery,
    KeysClaim,
    ToDevice,
    Send,
}

fn kind(seen: &Seen) -> Option<Kind> {
    match seen.path.as_str() {
        path if path.ends_with("/keys/query") => Some(Kind::KeysQuery),
        path if path.ends_with("/keys/claim") => Some(Kind::KeysClaim),
        path if path.contains("/sendToDevice/") => Some(Kind::ToDevice),
        path if path.contains("/send/m.room.encrypted/") => Some(Kind::Send),
        _ => None,
    }
}

impl Requests {
    pub(super) fn of(recorded: &[Vec<Seen>; 2]) -> Self {
        let count = |wanted| recorded.iter().flatten().filter(|seen| kind(seen) == Some(wanted)).count();
        Self {
            keys_query: count(Kind::KeysQuery),
            keys_claim: count(Kind::KeysClaim),
            to_device: count(Kind::ToDevice),
            send: count(Kind::Send),
        }
    }
}

/// Makes them again, with as much at once as there are rooms, and says how long it took.
pub(super) async fn by_themselves(lab: &Lab, recorded: &[Vec<Seen>; 2], rooms: usize) -> Result<f64> {
    let (a, b) = tokio::try_join!(Player::new(&lab.a, rooms), Player::new(&lab.b, rooms))?;
    let begun = Instant::now();
    tokio::try_join!(a.play(&recorded[0]), b.play(&recorded[1]))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// A user with rooms of two, as the bridge has.
struct Player {
    client: reqwest::Client,
    homeserver: String,
    token: String,
    rooms: Vec<String>,
}

impl Player {
    async fn new(server: &Synapse, rooms: usize) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let log_in = async || -> Result<(String, String)> {
            let user = server.register_unique("player").await?;
            let login = json!({
                "type": "m.login.password", "password": user.password,
                "identifier": { "type": "m.id.user", "user": user.localpart },
            });
            let answer = server.call("POST", "/_matrix/client/v3/login", None, Some(login)).await?;
            Ok((user.id, answer["access_token"].as_str().context("No token")?.to_owned()))
        };
        let ((_, token), (other, other_token)) = (log_in().await?, log_in().await?);
        let mut player = Self { client, homeserver: server.url().to_owned(), token, rooms: Vec::new() };
        for _ in 0..rooms {
            let room = json!({
                "invite": [other],
                "initial_state": [{
                    "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" },
                }],
            });
            let created = player.request("POST", "/_matrix/client/v3/createRoom", room.to_string().into()).await?;
            let room = created["room_id"].as_str().context("No room")?.to_owned();
            let join = format!("/_matrix/client/v3/rooms/{room}/join");
            server.call("POST", &join, Some(&other_token), Some(json!({}))).await?;
            player.rooms.push(room);
        }
        Ok(player)
    }

    /// What names no room first; then each room's share in its order, all rooms at once.
    async fn play(&self, recorded: &[Seen]) -> Result<()> {
        for seen in recorded {
            if let Some(Kind::KeysQuery | Kind::KeysClaim) = kind(seen) {
                self.request(&seen.method, &seen.path, seen.body.to_vec()).await?;
            }
        }
        let of = |wanted| -> Vec<&Seen> { recorded.iter().filter(|seen| kind(seen) == Some(wanted)).collect() };
        let (keys, events) = (of(Kind::ToDevice), of(Kind::Send));
        let count = self.rooms.len();
        let rooms = self.rooms.iter().enumerate().map(|(number, room)| {
            let share =
                |all: &[&Seen]| -> Vec<Seen> { all.iter().skip(number).step_by(count).map(|s| (*s).clone()).collect() };
            let (keys, events) = (share(&keys), share(&events));
            async move {
                for (turn, seen) in keys.iter().enumerate() {
                    let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/again-{number}-{turn}");
                    self.request("PUT", &path, seen.body.to_vec()).await?;
                }
                for (turn, seen) in events.iter().enumerate() {
                    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/again-{number}-{turn}");
                    self.request("PUT", &path, seen.body.to_vec()).await?;
                }
                anyhow::Ok(())
            }
        });
        try_join_all(rooms).await?;
        Ok(())
    }

    async fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Value> {
        let url = format!("{}{path}", self.homeserver);
        let request = self.client.request(method.parse()?, url).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap_or_default();
        ensure!(status.is_success(), "{method} {path}: {status} {}", answer["errcode"]);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_first_message_are_told_from_others() {
        let seen = |path: &str| Seen { method: "PUT".into(), path: path.into(), body: bytes::Bytes::new() };
        let base = "/_matrix/client/v3";
        let recorded = [
            vec![
                seen(&format!("{base}/keys/query")),
                seen(&format!("{base}/sendToDevice/m.room.encrypted/1")),
                seen(&format!("{base}/sync?timeout=0")),
            ],
            vec![
                seen(&format!("{base}/keys/claim")),
                seen(&format!("{base}/rooms/!r:x/send/m.room.encrypted/1")),
                seen(&format!("{base}/rooms/!r:x/send/m.room.encrypted/2")),
                seen(&format!("{base}/keys/upload")),
            ],
        ];
        let expected = Requests { keys_query: 1, keys_claim: 1, to_device: 1, send: 2 };
        assert_eq!(Requests::of(&recorded), expected);
    }
}
