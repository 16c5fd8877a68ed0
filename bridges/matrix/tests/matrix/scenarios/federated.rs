//! People whose homeserver is another one, which the bridge's own speaks with, and which is away for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealbridge_contract::{
    ConversationId, Transport as _,
    audience::{Admission, Member, Standing},
};
use sealbridge_lab::{
    Lab, Person, Proxy,
    proxy::{Fault, Rule},
};
use serde_json::json;
use tokio::time::Instant;

use super::{can_read, comes, hears, key_of, sees, tells};
use crate::bot::{Bot, Running, SOON};

/// The bridge and Alice on one homeserver, Bob on the other, in a room whose key is good for twenty messages.
struct Scene {
    lab: Lab,
    alice: Person,
    bob: Person,
    proxy: Proxy,
    bot: Bot,
    running: Running,
    room: String,
}

impl Scene {
    async fn set() -> Result<Option<Self>> {
        let Some(lab) = Lab::federated().await? else { return Ok(None) };
        let (alice, bob) = tokio::try_join!(Person::new_on(&lab.a, "alice"), Person::new_on(&lab.b, "bob"))?;
        let proxy = Proxy::before(lab.a.url()).await?;
        let bot = Bot::new(&lab.a, proxy.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
        let running = bot.start().await?;
        // It is Bob's room, so that the bridge comes over federation, too.
        let room = bob.create_rotating_room("talk", &[&bot.user.id, alice.user_id()], 20).await?;
        alice.wait_invite(&room, SOON).await?;
        alice.join(&room).await?;
        running.joins(&room, 3).await?;
        bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
        Ok(Some(Self { lab, alice, bob, proxy, bot, running, room }))
    }
}

#[tokio::test]
async fn people_of_a_federated_homeserver_are_heard_and_hear_also_what_was_said_while_it_was_away() -> Result<()> {
    let Some(scene) = Scene::set().await? else { return Ok(()) };
    let Scene { lab, alice, bob, proxy: _proxy, bot, running, room } = scene;
    bob.send(&room, "from over there").await?;
    bot.hears("from over there").await?;
    let before = tells(&running, &room, "to over there", &bob).await?;
    hears(&alice, "to over there").await?;

    // He has a channel to the bridge. A new key is made while his homeserver can't be reached.
    lab.b.stop().await?;
    let begun = Instant::now();
    let mut last = String::new();
    for number in 0..21 {
        last = tells(&running, &room, &format!("while you are away {number}"), &alice).await?;
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "the others wait for him: {:?}", begun.elapsed());
    assert_ne!(key_of(&alice, &room, &before).await?, key_of(&alice, &room, &last).await?);
    lab.b.restart().await?;
    // What comes from a homeserver tells the others that it is back.
    bob.send(&room, "what did I miss?").await?;
    bot.hears("what did I miss?").await?;
    tells(&running, &room, "welcome back", &bob).await?;
    for number in 0..21 {
        hears(&bob, &format!("while you are away {number}")).await?;
    }
    running.stop().await
}

#[tokio::test]
async fn newcomer_whose_homeserver_is_away_holds_up_nobody_and_reads_once_it_is_back() -> Result<()> {
    let Some(scene) = Scene::set().await? else { return Ok(()) };
    let Scene { lab, alice, bob, proxy, bot, running, room } = scene;
    tells(&running, &room, "before he came", &alice).await?;
    let dave = Person::new_on(&lab.b, "dave").await?;
    // Nothing can be learnt of his devices before his homeserver goes.
    let unknown = proxy.add(Rule::new("POST", "/keys/query", Fault::Fail(503))?);
    comes(&bob, &room, &dave).await?;
    alice.wait_member(&room, dave.user_id(), "join", SOON).await?;
    let standing = |wanted: Standing, known: bool| {
        let who = dave.user_id().to_owned();
        move |members: &[Member]| {
            let member = members.iter().find(|member| member.person.as_str() == who)?;
            (member.standing == wanted && member.identity.is_some() == known).then(|| Admission::from(member))
        }
    };
    lab.b.stop().await?;
    unknown.remove();
    let at = ConversationId::new(&*room);
    let nobody = sees(&running, &room, "him, without an identity", standing(Standing::New, false)).await?;
    running.matrix.admit(&at, &[nobody]).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let begun = Instant::now();
    let missed = tells(&running, &room, "while he can't be reached", &alice).await?;
    assert!(begun.elapsed() < Duration::from_secs(20), "the others wait for him: {:?}", begun.elapsed());

    lab.b.restart().await?;
    bob.send(&room, "mine is back").await?;
    bot.hears("mine is back").await?;
    let give_up = Instant::now() + 2 * SOON;
    let known = loop {
        match sees(&running, &room, "his identity", standing(Standing::New, true)).await {
            Ok(known) => break known,
            Err(error) => ensure!(Instant::now() < give_up, "{error:#}"),
        }
    };
    running.matrix.admit(&at, &[known]).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    tells(&running, &room, "now that he is known", &dave).await?;
    ensure!(!can_read(&dave, &room, &missed).await? && can_read(&alice, &room, &missed).await?);
    running.stop().await
}
