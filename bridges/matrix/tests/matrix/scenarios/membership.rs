//! Who comes and goes reads what is said while they are there, and nothing else.

use anyhow::{Result, ensure};
use sealbridge_contract::gate::Encryption;
use sealbridge_lab::{
    Lab, Person, Proxy,
    proxy::{Fault, Rule},
};
use serde_json::json;

use super::{admits, can_read, comes, hears, key_of, sees_come, sees_gone, tells};
use crate::{
    bot::{Bot, SOON},
    losses::Scene,
};

#[tokio::test]
async fn person_reads_what_was_said_while_they_were_admitted_however_much_the_room_shows() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot: _bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bob.send_state(&room, "m.room.join_rules", "", json!({ "join_rule": "public" })).await?;
    bob.send_state(&room, "m.room.history_visibility", "", json!({ "history_visibility": "shared" })).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    let before = tells(&running, &room, "before anybody came", &bob).await?;
    carol.join(&room).await?;
    sees_come(&running, &room, &carol).await?;
    let new = tells(&running, &room, "before anybody was told of her", &bob).await?;
    admits(&running, &room, &carol).await?;
    let here = tells(&running, &room, "to all who are here", &carol).await?;

    carol.leave(&room).await?;
    sees_gone(&running, &room, &carol).await?;
    let away = tells(&running, &room, "while she is away", &bob).await?;
    bob.invite(&room, carol.user_id()).await?;
    let invited = tells(&running, &room, "while she is only invited", &bob).await?;
    carol.join(&room).await?;
    admits(&running, &room, &carol).await?;
    let again = tells(&running, &room, "welcome back", &carol).await?;

    for (event, reads) in [(before, false), (new, false), (here, true), (away, false), (invited, false), (again, true)]
    {
        // The room shows her all of them.
        let read = carol.try_read(&room, &event).await?;
        ensure!(read.is_ok() == reads, "{read:?}");
        ensure!(can_read(&bob, &room, &event).await?, "he was there all the time");
    }
    running.stop().await
}

#[tokio::test]
async fn bridge_hears_what_is_said_from_its_own_join_on_and_nothing_of_when_it_was_away() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let proxy = Proxy::before(lab.a.url()).await?;
    let bot = Bot::new(&lab.a, proxy.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("talk", &[]).await?;
    bob.send(&room, "before it was invited").await?;
    // It is invited, and has not joined yet.
    let joining = proxy.add(Rule::new("POST", "/join", Fault::Hang)?);
    bob.invite(&room, &bot.user.id).await?;
    joining.wait_struck(1, SOON).await?;
    let early = bob.send(&room, "between invitation and join").await?;
    joining.remove();
    running.joins(&room, 2).await?;
    bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
    let first = bob.send(&room, "now that it is here").await?;
    bot.hears("now that it is here").await?;
    // His client gives keys to who is invited: what was said before could be read, and is not carried.
    assert_eq!(key_of(&bob, &room, &early).await?, key_of(&bob, &room, &first).await?);

    bob.kick(&room, &bot.user.id).await?;
    running.waits_for(&room, Encryption::Left).await?;
    bob.send(&room, "while it was away").await?;
    bob.invite(&room, &bot.user.id).await?;
    running.joins(&room, 2).await?;
    bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
    bob.send(&room, "now that it is back").await?;
    bot.hears("now that it is back").await?;
    assert_eq!(bot.heard(), ["now that it is here", "now that it is back"]);
    assert_eq!(bot.intake.still_waiting(), 0);
    running.stop().await
}

#[tokio::test]
async fn room_key_is_replaced_when_somebody_goes_and_they_do_not_get_the_next() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot: _bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    tells(&running, &room, "between the two of us", &bob).await?;
    comes(&bob, &room, &carol).await?;
    admits(&running, &room, &carol).await?;
    let three = tells(&running, &room, "among the three of us", &bob).await?;
    hears(&carol, "among the three of us").await?;
    carol.leave(&room).await?;
    sees_gone(&running, &room, &carol).await?;
    proxy.record();
    let two = tells(&running, &room, "between the two of us again", &bob).await?;
    assert_ne!(key_of(&bob, &room, &three).await?, key_of(&bob, &room, &two).await?);
    let keys: Vec<_> = proxy.take_seen().into_iter().filter(|seen| seen.path.contains("/sendToDevice")).collect();
    let got = |who: &Person| keys.iter().any(|seen| String::from_utf8_lossy(&seen.body).contains(who.user_id()));
    assert!(got(&bob) && !got(&carol), "{keys:?}");
    running.stop().await
}
