//! Room keys that somebody hands on who was not asked, or hands in as their own.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    proxy::{Fault, Rule},
};
use serde_json::json;

use crate::{
    bot::{Bot, SOON, until},
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

/// Carol comes and says something whose key Bob gets and the bridge does not. Gives her, and what her message is called.
async fn speaks_without_the_bridge(lab: &Lab, scene: &Scene) -> Result<(Person, String)> {
    let Scene { bob, bot, room, .. } = scene;
    let carol = Person::new_on(&lab.a, "carol").await?;
    comes(bob, room, &carol).await?;
    bob.wait_member(room, carol.user_id(), "join", SOON).await?;
    carol.wait_member(room, carol.user_id(), "join", SOON).await?;
    carol.withhold(room, &[&bot.user.id], false).await?;
    let first = carol.send(room, "mine").await?;
    bob.wait_for(|it| it.body == "mine", SOON).await?;
    Ok((carol, first))
}

/// Bob says something under a key of his own. What he sent to the bridge before has come when that is heard.
async fn says_his_own(bob: &Person, bot: &Bot, room: &str) -> Result<()> {
    bob.new_session(room).await?;
    bob.send(room, "his own").await?;
    bot.hears("his own").await.map(drop)
}

#[tokio::test]
async fn room_key_that_somebody_handed_in_as_their_own_before_its_maker_did_reads_what_its_maker_says() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let (carol, first) = speaks_without_the_bridge(lab, &scene).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } = scene;
    ensure!(bob.pass_off_key(&room, &first, &bot.user.id).await? >= 1);
    says_his_own(&bob, &bot, &room).await?;
    assert_eq!(bot.heard(), ["his own"]);
    assert_eq!(bot.intake.still_waiting(), 1, "it waits for its author");

    // With the same key as before: its maker hands it in now, too.
    carol.share_key(&room).await?;
    bot.hears("mine").await?;
    carol.send(&room, "mine again").await?;
    bot.hears("mine again").await?;
    assert_eq!(bot.intake.refused(), []);
    let authors: Vec<_> = bot.intake.accepted().iter().map(|one| one.author.as_str().to_owned()).collect();
    assert_eq!(authors, [bob.user_id(), carol.user_id(), carol.user_id()]);
    running.stop().await
}

#[tokio::test]
async fn nobody_keeps_anothers_words_away_by_saying_that_their_key_is_withheld() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    comes(&bob, &room, &carol).await?;
    for one in [&bob, &carol] {
        one.wait_member(&room, carol.user_id(), "join", SOON).await?;
    }
    carol.withhold(&room, &[&bot.user.id, bob.user_id()], false).await?;
    let first = carol.send(&room, "mine").await?;
    ensure!(carol.hand_on_key(&room, bob.user_id()).await? >= 1);
    carol.send(&room, "mine too").await?;
    bob.wait_for(|it| it.body == "mine too", SOON).await?;
    // What he has of it reads the second alone, and that the rest is withheld is his word.
    ensure!(bob.pass_off_key(&room, &first, &bot.user.id).await? >= 1);
    bob.say_withheld(&room, &first, &bot.user.id).await?;
    says_his_own(&bob, &bot, &room).await?;
    assert_eq!(bot.heard(), ["his own"]);

    carol.share_key(&room).await?;
    bot.hears("mine").await?;
    bot.hears("mine too").await?;
    assert_eq!(bot.intake.refused(), []);
    running.stop().await
}

#[tokio::test]
async fn nobody_is_shut_out_or_accused_by_a_member_who_makes_up_devices() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let (carol, first) = speaks_without_the_bridge(lab, &scene).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } = scene;
    bob.pass_off_key_by_made_up_devices(&room, &first, &bot.user.id, 33).await?;
    says_his_own(&bob, &bot, &room).await?;
    assert_eq!(bot.intake.still_waiting(), 1, "it waits for its author");

    carol.share_key(&room).await?;
    bot.hears("mine").await?;
    carol.send(&room, "mine again").await?;
    bot.hears("mine again").await?;
    assert_eq!((bot.intake.refused(), bot.intake.still_waiting()), (vec![], 0));
    let told: Vec<_> = bot.intake.incidents().into_iter().map(|told| told.topic).collect();
    ensure!(!told.iter().any(|topic| topic.contains(carol.user_id())), "{told:?}");
    running.stop().await
}

#[tokio::test]
async fn message_that_waited_long_for_its_key_still_waits_for_its_senders_own_when_another_hands_it_in() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let (carol, first) = speaks_without_the_bridge(lab, &scene).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } = scene;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;
    bot.clock.shift(60_000);
    ensure!(bob.pass_off_key(&room, &first, &bot.user.id).await? >= 1);
    says_his_own(&bob, &bot, &room).await?;

    carol.share_key(&room).await?;
    bot.hears("mine").await?;
    assert_eq!(bot.intake.refused(), []);
    running.stop().await
}

#[tokio::test]
async fn nobody_silences_another_by_handing_in_their_key_as_that_of_another_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let (carol, first) = speaks_without_the_bridge(lab, &scene).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } = scene;
    // Before her own comes, and after.
    ensure!(bob.pass_off_key_as_of("!other:alpha.test", &room, &first, &bot.user.id).await? >= 1);
    says_his_own(&bob, &bot, &room).await?;
    carol.share_key(&room).await?;
    bot.hears("mine").await?;
    bob.new_session(&room).await?;
    carol.new_session(&room).await?;
    let second = carol.send(&room, "under another").await?;
    bot.hears("under another").await?;
    bob.wait_for(|it| it.body == "under another", SOON).await?;
    ensure!(bob.pass_off_key_as_of("!other:alpha.test", &room, &second, &bot.user.id).await? >= 1);
    bob.send(&room, "his own again").await?;
    bot.hears("his own again").await?;
    carol.send(&room, "and again").await?;
    bot.hears("and again").await?;
    assert_eq!(bot.intake.refused(), []);
    running.stop().await
}

#[tokio::test]
async fn time_in_which_the_homeserver_does_not_answer_is_not_waited_for_the_senders_own_key() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let (carol, first) = speaks_without_the_bridge(lab, &scene).await?;
    let Scene { bob, bot, running, room, proxy } = scene;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;
    ensure!(bob.pass_off_key(&room, &first, &bot.user.id).await? >= 1);
    says_his_own(&bob, &bot, &room).await?;
    let silent = proxy.add(Rule::new("GET", "/sync", Fault::Hang)?);
    // What it was asked before is answered by this.
    bob.send(&room, "and then silence").await?;
    silent.wait_struck(1, SOON).await?;
    // Longer than it is waited for while the homeserver answers.
    tokio::time::sleep(Duration::from_secs(21)).await;
    carol.share_key(&room).await?;
    silent.remove();
    bot.hears("mine").await?;
    assert_eq!(bot.intake.refused(), []);
    running.stop().await
}
