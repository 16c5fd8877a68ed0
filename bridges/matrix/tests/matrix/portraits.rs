//! How people look: uploaded once and encrypted, and never fetched from where a message says.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Album, Cleartext, Destination, EndToEnd as _, Message, Origin, Picture, PictureId, Pictures, Receipt,
    Rule, SenderTrust, Timestamp, Verdict, gate::Encryption, judge,
};
use sealbridge_lab::{
    Lab,
    proxy::{Fault, Rule as Broken},
};
use serde_json::json;

use crate::{
    bot::{Bot, Running, SOON, ann, slip},
    losses::Scene,
};

const FACE: &[u8] = include_bytes!("../../../contract/src/conformance/face.png");

/// Has one picture, and counts how often it was asked.
#[derive(Default)]
struct Faces(AtomicUsize);

#[async_trait]
impl Pictures for Faces {
    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        self.0.fetch_add(1, Ordering::SeqCst);
        (of.as_str() == "ann").then(|| Picture::new(FACE.into())).flatten()
    }
}

async fn says(running: &Running, room: &str, words: &str, who: &str, faces: &Faces) -> Result<Receipt> {
    let portrait = PictureId::new(who);
    let message = Cleartext::new(Message { portrait, ..Message::text(ann(), Timestamp(0), words) });
    let to = Destination::EndToEnd(Encryption::Pinned);
    let Verdict::Speak(cleared) =
        judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &Rule::default())
    else {
        anyhow::bail!("the gate refuses");
    };
    let account = AccountName::parse("elsewhere")?;
    let cleared = cleared.with_album(Album { account: &account, pictures: Some(faces) });
    running.matrix.deliver(cleared, &slip(room)).await.map_err(|error| anyhow::anyhow!("{error}"))
}

#[tokio::test]
async fn picture_is_uploaded_once_encrypted_and_not_again_after_a_restart() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, mut running, room, proxy } = Scene::set(lab, json!({})).await?;
    let faces = Faces::default();
    proxy.record();
    let mut shown = Vec::new();
    for (number, words) in ["one", "two", "three"].into_iter().enumerate() {
        if number == 2 {
            running.kill().await;
            running = bot.start().await?;
            running.joins(&room, 2).await?;
        }
        says(&running, &room, words, "ann", &faces).await?;
        let heard = bob.wait_for(|it| it.body == format!("Ann: {words}"), SOON).await?;
        let profile = &heard.content["com.beeper.per_message_profile"];
        assert!(profile.get("avatar_url").is_none(), "an address in clear is never named");
        shown.push(profile["avatar_file"].clone());
    }
    assert!(shown.iter().all(|file| *file == shown[0]));
    assert_eq!(bob.download(&json!({ "file": shown[0] })).await?, FACE);
    let uploads: Vec<_> = proxy.take_seen().into_iter().filter(|seen| seen.path.contains("/media/v3/upload")).collect();
    assert_eq!(uploads.len(), 1);
    assert!(!uploads[0].body.windows(8).any(|part| part == &FACE[..8]), "what leaves is ciphertext");
    assert_eq!(faces.0.load(Ordering::SeqCst), 1);
    running.stop().await
}

#[tokio::test]
async fn no_message_is_lost_or_held_up_for_want_of_a_picture() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot: _bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let faces = Faces::default();
    let fails = proxy.add(Broken::new("*", "/media/v3/upload", Fault::Fail(502))?);
    for (words, who) in [("not taken", "ann"), ("not known", "nobody"), ("not asked again", "nobody")] {
        says(&running, &room, words, who, &faces).await?;
        let heard = bob.wait_for(|it| it.body == format!("Ann: {words}"), SOON).await?;
        assert!(heard.content["com.beeper.per_message_profile"].get("avatar_file").is_none());
    }
    assert_eq!((fails.struck(), faces.0.load(Ordering::SeqCst)), (1, 2));
    running.stop().await
}

#[tokio::test]
async fn picture_that_a_message_names_is_never_fetched() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    proxy.record();
    let profile = json!({ "id": "x", "displayname": "Carol", "avatar_url": "mxc://evil.test/face",
        "avatar_file": { "url": "mxc://evil.test/face" } });
    let content = json!({ "msgtype": "m.text", "body": "hi", "com.beeper.per_message_profile": profile });
    bob.send_event(&room, "m.room.message", content).await?;
    let heard = bot.hears("hi").await?;
    assert!(heard.name.is_some_and(|name| name.starts_with("Carol (via ")));
    assert!(heard.portrait.is_none());
    assert!(!proxy.take_seen().iter().any(|seen| seen.path.contains("/media/")));
    running.stop().await
}

/// What is remembered only for a while is bounded, however much there is.
#[tokio::test]
async fn what_is_remembered_for_a_while_is_bounded() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    let store = bot.context().store;
    let old =
        |number: usize| sealbridge_contract::inbox::StoreWrite::put(format!("tally/${number:05}"), b"[]".as_slice());
    store.write((0..5_100).map(old).collect()).await?;
    let running = bot.start().await?;
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        let kept = store.read_all("tally/").await?;
        if kept.len() == 5_000 {
            assert_eq!(kept[0].0, "tally/$00100", "the oldest go");
            break;
        }
        assert!(tokio::time::Instant::now() < give_up, "{} are kept", kept.len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!store.read_all("session").await?.is_empty(), "the login stays");
    running.stop().await
}
