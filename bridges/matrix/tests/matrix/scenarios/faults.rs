//! Key traffic that the homeserver refuses, and more of it than one request usually has.

use anyhow::{Context as _, Result};
use matrix_sdk_crypto::{OlmMachine, types::requests::AnyOutgoingRequest};
use ruma::UserId;
use sealbridge_lab::{
    Lab, Person, Proxy, Synapse,
    person::Options,
    proxy::{Fault, Rule, Seen},
    synapse::User,
};
use serde_json::{Value, json};

use super::{admits, comes, hears, tells};
use crate::{
    bot::{Bot, Running, SOON, until},
    losses::Scene,
};

/// Bodies of what was asked of one path.
pub(super) fn bodies(seen: &[Seen], path: &str) -> Vec<Value> {
    let asked = seen.iter().filter(|seen| seen.path.contains(path));
    asked.filter_map(|seen| serde_json::from_slice(&seen.body).ok()).collect()
}

/// Somebody whom nobody knows makes a room with the bridge.
pub(super) async fn stranger(lab: &Lab, bot: &Bot, running: &Running, name: &str) -> Result<(Person, String)> {
    let person = Person::new_on(&lab.a, name).await?;
    let room = person.create_encrypted_room(name, &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;
    person.wait_member(&room, &bot.user.id, "join", SOON).await?;
    Ok((person, room))
}

/// A bridge that follows everybody, and whose keys the homeserver has.
pub(super) async fn open_to_all(lab: &Lab) -> Result<(Bot, Running, Proxy)> {
    let proxy = Proxy::before(lab.a.url()).await?;
    let bot = Bot::new(&lab.a, proxy.url(), json!({ "invites": { "from": [lab.a.server_name()] } })).await?;
    proxy.record();
    let running = bot.start().await?;
    // The one that is for all goes last.
    let fallback = |body: &Value| body["fallback_keys"].as_object().is_some_and(|keys| !keys.is_empty());
    until(|| bodies(&proxy.take_seen(), "/keys/upload").iter().any(fallback).then_some(())).await?;
    Ok((bot, running, proxy))
}

#[tokio::test]
async fn upload_of_keys_that_is_refused_is_made_again_with_the_same_keys() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (bot, running, proxy) = open_to_all(lab).await?;
    let refused = proxy.add(Rule::new("POST", "/keys/upload", Fault::Fail(503))?.times(2));
    // Whoever speaks to the bridge first takes one of its keys, which it replaces.
    let (person, room) = stranger(lab, &bot, &running, "person").await?;
    person.send(&room, "for the first time").await?;
    bot.hears("for the first time").await?;
    refused.wait_struck(2, SOON).await?;
    let mut uploads = Vec::new();
    let third = || {
        uploads.extend(bodies(&proxy.take_seen(), "/keys/upload"));
        (uploads.len() >= 3).then_some(())
    };
    until(third).await.context("It is made again")?;
    let keys = &uploads[0]["one_time_keys"];
    assert!(keys.as_object().is_some_and(|keys| !keys.is_empty()), "{uploads:?}");
    assert!(uploads.iter().all(|upload| upload["one_time_keys"] == *keys), "{uploads:?}");
    running.stop().await
}

#[tokio::test]
async fn room_key_outlives_that_its_sender_can_not_be_looked_up_when_it_comes() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    let refused = proxy.add(Rule::new("POST", "/keys/query", Fault::Fail(503))?);
    comes(&bob, &room, &carol).await?;
    carol.send(&room, "who am I?").await?;
    bob.send(&room, "somebody new").await?;
    bot.hears("somebody new").await?;
    refused.wait_struck(1, SOON).await?;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;
    refused.remove();
    bot.hears("who am I?").await?;
    assert_eq!(bot.intake.still_waiting(), 0);
    running.stop().await
}

/// One more device of somebody, with keys and without a client.
async fn further_device(server: &Synapse, user: &User, number: usize) -> Result<()> {
    let login = json!({
        "type": "m.login.password", "device_id": format!("DEVICE{number}"), "password": user.password,
        "identifier": { "type": "m.id.user", "user": user.localpart },
    });
    let login = server.call("POST", "/_matrix/client/v3/login", None, Some(login)).await?;
    let device = login["device_id"].as_str().context("It has a name")?;
    let machine = OlmMachine::new(&UserId::parse(&user.id)?, device.into()).await;
    let requests = machine.outgoing_requests().await?;
    let upload = requests.iter().find_map(|request| match request.request() {
        AnyOutgoingRequest::KeysUpload(upload) => Some(upload),
        _ => None,
    });
    let upload = upload.context("A new device has keys")?;
    let keys = json!({ "device_keys": upload.device_keys, "one_time_keys": upload.one_time_keys });
    server.call("POST", "/_matrix/client/v3/keys/upload", login["access_token"].as_str(), Some(keys)).await?;
    Ok(())
}

#[tokio::test]
async fn one_request_has_keys_for_more_than_a_hundred_devices() -> Result<()> {
    const DEVICES: usize = 120;
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let user = lab.a.register_unique("many").await?;
    let many = Person::log_in(lab.a.url(), &user, Options::default()).await?;
    for number in 0..DEVICES {
        further_device(&lab.a, &user, number).await?;
    }
    let bob = Person::new_on(&lab.a, "bob").await?;
    let scene = Scene::with(lab, bob, json!({ "trust": "any-device" })).await?;
    let Scene { bob, bot: _bot, running, room, proxy } = scene;
    tells(&running, &room, "before they came", &bob).await?;
    comes(&bob, &room, &many).await?;
    admits(&running, &room, &many).await?;
    proxy.record();
    tells(&running, &room, "to everybody and every device", &many).await?;
    hears(&bob, "to everybody and every device").await?;
    let sent = bodies(&proxy.take_seen(), "/sendToDevice/m.room.encrypted/");
    let devices = |body: &Value| {
        let users = body["messages"].as_object().into_iter().flatten();
        users.map(|(_, devices)| devices.as_object().map_or(0, serde_json::Map::len)).sum::<usize>()
    };
    let counts: Vec<_> = sent.iter().map(devices).collect();
    assert!(counts.iter().sum::<usize>() > DEVICES && counts.iter().any(|count| *count >= 100), "{counts:?}");
    assert!(counts.len() <= 3, "{counts:?}");
    running.stop().await
}
