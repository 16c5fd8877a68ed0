//! Logging in, being invited, hearing and saying.

use anyhow::Result;
use sealbridge_contract::{PersonId, Transport, conformance::How};
use sealbridge_lab::{Lab, Person, person::Text};
use serde_json::json;

use crate::bot::{Bot, SOON};

#[tokio::test]
async fn invited_bridge_hears_and_is_heard() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("talk", &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;

    let text =
        Text { body: "hello *bridge*", formatted: Some("hello <b>bridge</b><script>x</script>"), ..Text::default() };
    let event = bob.send_text(&room, text).await?;
    let heard = bot.hears("hello *bridge*").await?;
    assert_eq!(heard.id.as_str(), event);
    assert_eq!(heard.author.as_str(), bob.user_id());
    assert_eq!(heard.how, Some(How::Text));
    assert_eq!(heard.html.map(|html| html.0).as_deref(), Some("hello <b>bridge</b>"));
    assert!(heard.once.is_some());

    let receipt = running.says(&room, "hello bob").await?;
    let read = bob.wait_for(|it| it.body == "Ann: hello bob", SOON).await?;
    assert_eq!(read.event_id, receipt.id.as_str());
    assert!(read.encrypted && read.verified, "{read:?}");
    assert_eq!(read.content["com.beeper.per_message_profile"]["displayname"], "Ann");
    assert_eq!(read.content["m.mentions"], json!({}));
    running.stop().await
}

#[tokio::test]
async fn direct_chat_is_opened_once_and_waits_for_its_person() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    let running = bot.start().await?;
    let with = PersonId::new(bob.user_id());
    let room = running.matrix.open_direct(&with).await?;
    assert_eq!(running.matrix.open_direct(&with).await?, room);
    let slip = crate::bot::slip(room.as_str());
    let early = running.deliver(&slip, crate::bot::ann(), "too early").await;
    assert!(matches!(early.map_err(|error| error.fate), Err(sealbridge_contract::Fate::Retry(Some(_)))));
    bob.wait_invite(room.as_str(), SOON).await?;
    bob.join(room.as_str()).await?;
    running.says(room.as_str(), "first words").await?;
    bob.wait_for(|it| it.body == "Ann: first words", SOON).await?;
    running.kill().await;

    let again = bot.start().await?;
    assert_eq!(again.matrix.open_direct(&with).await?, room, "it is known after a restart");
    again.stop().await
}
