//! Room keys that somebody hands on who was not asked.

use anyhow::{Result, ensure};
use sealbridge_lab::{Lab, Person};
use serde_json::json;

use crate::{
    bot::{SOON, until},
    losses::Scene,
};

/// Bob invites somebody, who comes.
async fn comes(bob: &Person, room: &str, who: &Person) -> Result<()> {
    bob.invite(room, who.user_id()).await?;
    who.wait_invite(room, SOON).await?;
    who.join(room).await
}

#[tokio::test]
async fn room_key_that_somebody_else_hands_on_unasked_opens_nothing() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let (carol, dave) = tokio::try_join!(Person::new_on(&lab.a, "carol"), Person::new_on(&lab.a, "dave"))?;
    comes(&bob, &room, &carol).await?;
    comes(&bob, &room, &dave).await?;
    for newcomer in [&carol, &dave] {
        bob.wait_member(&room, newcomer.user_id(), "join", SOON).await?;
        carol.wait_member(&room, newcomer.user_id(), "join", SOON).await?;
    }
    carol.withhold(&room, &[&bot.user.id, dave.user_id()], false).await?;
    let event = carol.send(&room, "not for the bridge").await?;
    bob.wait_for(|it| it.body == "not for the bridge", SOON).await?;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;

    for user in [&*bot.user.id, dave.user_id()] {
        ensure!(bob.forward_key(&room, &event, user).await? >= 1);
    }
    // Another client takes the same for a key.
    let late = dave.wait_for(|it| it.body == "not for the bridge", SOON).await?;
    ensure!(late.late, "{late:?}");
    // What was sent to the bridge after it came after it.
    bob.new_session(&room).await?;
    bob.send(&room, "and in the open").await?;
    bot.hears("and in the open").await?;
    assert_eq!(bot.heard(), ["and in the open"]);
    assert_eq!(bot.intake.still_waiting(), 1, "it waits for its author");

    carol.share_key(&room).await?;
    bot.hears("not for the bridge").await?;
    running.stop().await
}
