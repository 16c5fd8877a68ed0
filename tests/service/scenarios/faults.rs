//! Key traffic that the homeserver refuses, and more of it than one request usually has.

use anyhow::{Result, ensure};
use sealbridge_lab::{
    Person,
    proxy::{Fault, Rule},
};
use serde_json::Value;

use super::{
    SOON,
    stand::{Stand, Wish, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn upload_of_keys_that_is_refused_is_made_again_with_the_same_keys() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let carol = Person::new_on(&lab.a, "carol").await?;
    stand.comes(&carol).await?;
    stand.stands(&carol, "reads").await?;
    // The homeserver has the keys of the first time. Whoever speaks to the bridge first takes one, which it replaces.
    stand.asked("/keys/upload");
    let refused = stand.proxies[0].add(Rule::new("POST", "/keys/upload", Fault::Fail(503))?.times(2));
    carol.send(&stand.far, "for the first time").await?;
    stand.hears("for the first time").await?;
    refused.wait_struck(2, SOON).await?;
    let mut uploads = Vec::new();
    let third = || {
        uploads.extend(stand.asked("/keys/upload"));
        (uploads.len() >= 3).then_some(())
    };
    until("it is made again", third).await?;
    let keys = &uploads[0]["one_time_keys"];
    ensure!(keys.as_object().is_some_and(|keys| !keys.is_empty()), "{uploads:?}");
    ensure!(uploads.iter().all(|upload| upload["one_time_keys"] == *keys), "{uploads:?}");
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn room_key_outlives_that_its_sender_can_not_be_looked_up_when_it_comes() -> Result<()> {
    let Some((lab, stand)) = Stand::usual().await? else { return Ok(()) };
    let carol = Person::new_on(&lab.a, "carol").await?;
    let refused = stand.proxies[0].add(Rule::new("POST", "/keys/query", Fault::Fail(503))?);
    stand.comes(&carol).await?;
    carol.send(&stand.far, "who am I?").await?;
    stand.bob.send(&stand.far, "somebody new").await?;
    stand.hears("somebody new").await?;
    refused.wait_struck(1, SOON).await?;
    stand.waits_for_keys_of(1).await?;
    refused.remove();
    stand.hears("who am I?").await?;
    stand.waits_for_keys_of(0).await?;
    stand.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_has_keys_for_more_than_a_hundred_devices() -> Result<()> {
    const DEVICES: usize = 120;
    let wish = Wish { extra: "trust = \"any-device\"", ..Wish::default() };
    let Some((lab, stand)) = Stand::with(wish).await? else { return Ok(()) };
    let many = Person::new_on(&lab.a, "many").await?;
    many.further_devices(DEVICES).await?;
    stand.tells("before they came", &stand.bob).await?;
    stand.asked("/sendToDevice");
    stand.comes(&many).await?;
    stand.stands(&many, "reads").await?;
    stand.tells("to everybody and every device", &many).await?;
    stand.is_heard("to everybody and every device", &stand.bob).await?;
    let devices = |body: &Value| {
        let users = body["messages"].as_object().into_iter().flatten();
        users.map(|(_, devices)| devices.as_object().map_or(0, serde_json::Map::len)).sum::<usize>()
    };
    let counts: Vec<_> = stand.asked("/sendToDevice/m.room.encrypted/").iter().map(devices).collect();
    ensure!(counts.iter().sum::<usize>() > DEVICES && counts.iter().any(|count| *count >= 100), "{counts:?}");
    ensure!(counts.len() <= 3, "{counts:?}");
    stand.close().await
}
