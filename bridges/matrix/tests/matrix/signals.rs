//! Who writes and who has read what, as a person's client says and sees it.

use anyhow::Result;
use sealbridge_contract::{PersonId, RemoteId, Signal};
use sealbridge_lab::{Person, person::Received};
use serde_json::{Value, json};

pub(crate) async fn does(person: &Person, room: &str, signal: &Signal) -> Result<()> {
    let (method, path, body) = match signal {
        Signal::Typing { typing, .. } => {
            let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", person.user_id());
            ("PUT", path, json!({ "typing": typing, "timeout": 30_000 }))
        }
        Signal::Read { up_to, .. } => {
            let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{}", up_to.as_str());
            ("POST", path, json!({}))
        }
    };
    person.call("http", json!({ "method": method, "path": path, "body": body })).await.map(drop)
}

/// What others do, oldest first.
pub(crate) fn told(received: Vec<Received>) -> Vec<Signal> {
    let told = received.into_iter().filter_map(|one| match one {
        Received::Ephemeral(event) => Some(event),
        _ => None,
    });
    told.flat_map(|event| match event.kind.as_str() {
        "m.typing" => {
            let all = event.content["user_ids"].as_array().cloned().unwrap_or_default();
            let person = PersonId::new(all.first().and_then(Value::as_str).unwrap_or_default());
            vec![Signal::Typing { person, typing: !all.is_empty() }]
        }
        _ => {
            let read = event.content.as_object().cloned().unwrap_or_default();
            let one = |(id, users): (String, Value)| {
                let users = users["m.read"].as_object().cloned().unwrap_or_default();
                users
                    .into_iter()
                    .map(move |(user, _)| Signal::Read { person: PersonId::new(user), up_to: RemoteId::new(&*id) })
            };
            read.into_iter().flat_map(one).collect()
        }
    })
    .collect()
}
