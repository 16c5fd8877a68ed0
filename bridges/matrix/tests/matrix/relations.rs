//! What is said about earlier messages: only by those who may, and exactly about what it names.

use anyhow::Result;
use sealbridge_contract::{
    Author, Cleartext, Destination, EndToEnd as _, Kind, Message, Origin, PersonId, RemoteId, SenderTrust, Slip,
    Timestamp, Verdict,
    conformance::How,
    gate::Encryption,
    judge,
    message::{Reaction, Target},
};
use sealbridge_lab::{
    Lab, Person,
    proxy::{Fault, Rule},
};
use serde_json::{Value, json};

use crate::{
    bot::{Bot, Running, SOON, slip, until},
    losses::Scene,
    speech,
};

fn edit(of: &str, words: &str) -> serde_json::Value {
    json!({
        "msgtype": "m.text", "body": format!("* {words}"),
        "m.new_content": { "msgtype": "m.text", "body": words },
        "m.relates_to": { "rel_type": "m.replace", "event_id": of },
    })
}

#[tokio::test]
async fn nobody_edits_what_somebody_else_wrote() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (bob, eve) = (Person::new_on(&lab.a, "bob").await?, Person::new_on(&lab.a, "eve").await?);
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("edits", &[&bot.user.id, eve.user_id()]).await?;
    eve.join(&room).await?;
    running.joins(&room, 3).await?;
    let said = bob.send(&room, "as bob said it").await?;
    bot.hears("as bob said it").await?;
    let ours = running.says(&room, "as ann said it").await?;

    for target in [said.as_str(), ours.id.as_str()] {
        let forged = eve.send_event(&room, "m.room.message", edit(target, "as eve would have it")).await?;
        let reason = until(|| bot.intake.refused().into_iter().find(|(id, _)| id.as_str() == forged)).await?.1;
        assert!(reason.contains("somebody else"), "{reason}");
    }
    let own = bob.send_event(&room, "m.room.message", edit(&said, "as bob means it")).await?;
    let heard = bot.hears("as bob means it").await?;
    assert_eq!((heard.how, heard.id.as_str()), (Some(How::Edit), own.as_str()));
    assert_eq!(heard.details.about.as_ref().map(RemoteId::as_str), Some(said.as_str()));
    assert!(!bot.heard().iter().any(|words| words.contains("eve")));
    running.stop().await
}

#[tokio::test]
async fn deletion_and_reactions_are_told_as_they_are() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (bob, eve) = (Person::new_on(&lab.a, "bob").await?, Person::new_on(&lab.a, "eve").await?);
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_encrypted_room("likes", &[&bot.user.id, eve.user_id()]).await?;
    eve.join(&room).await?;
    running.joins(&room, 3).await?;
    let said = eve.send(&room, "to be deleted").await?;
    bot.hears("to be deleted").await?;
    let react = async |emoji: &str| {
        let relation = json!({ "rel_type": "m.annotation", "event_id": said, "key": emoji });
        bob.send_raw_plain(&room, "m.reaction", json!({ "m.relates_to": relation })).await
    };
    let accepted = |id: &str| bot.intake.accepted().into_iter().find(|one| one.id.as_str() == id);
    let first = react("👍").await?;
    let second = react("❤️").await?;
    let both = until(|| accepted(&second)).await?;
    assert_eq!(both.details.emoji, ["👍", "❤️"]);
    let words = react("a secret").await?;
    until(|| bot.intake.refused().into_iter().find(|(id, _)| id.as_str() == words)).await?;
    let back = bob.redact(&room, &first).await?;
    let left = until(|| accepted(&back)).await?;
    assert_eq!((left.how, left.details.emoji), (Some(How::Reaction), vec!["❤️".to_owned()]));
    assert_eq!(left.author.as_str(), bob.user_id());

    // Bob made the room, so he may.
    let deleted = bob.redact(&room, &said).await?;
    let deleted = until(|| accepted(&deleted)).await?;
    assert_eq!(deleted.how, Some(How::Redaction));
    assert_eq!(deleted.details.about.as_ref().map(RemoteId::as_str), Some(said.as_str()));
    running.stop().await
}

async fn reacts(running: &Running, slip: &Slip, person: &str, emoji: &[&str]) -> Result<()> {
    let author = Author { id: PersonId::new(person), name: Some(person.into()) };
    let reaction = Reaction::new(Target::new(RemoteId::new("far")), emoji.iter().copied());
    let message = Cleartext::new(Message::of(author, Timestamp(0), Kind::Reaction(reaction)));
    let to = Destination::EndToEnd(Encryption::Pinned);
    let Verdict::Speak(cleared) = judge(
        &message,
        Origin { sender: SenderTrust::Local, said: &message },
        &to,
        &sealbridge_contract::Rule::default(),
    ) else {
        anyhow::bail!("the gate refuses");
    };
    running.matrix.deliver(cleared, slip).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(())
}

#[tokio::test]
async fn one_account_shows_what_anybody_elsewhere_reacts_with() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let mut running = bot.start().await?;
    let room = bob.create_encrypted_room("likes", &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;
    let said = bob.send(&room, "to be liked").await?;
    bot.hears("to be liked").await?;
    let about = || Slip { about: Some(RemoteId::new(said.as_str())), ..slip(&room) };
    let shown = |wanted: &[&str]| {
        let heard = speech::heard(bob.received());
        let shown = heard.into_iter().find(|one| one.how == How::Reaction)?.details.emoji;
        let same = wanted.len() == shown.len() && wanted.iter().all(|emoji| shown.iter().any(|one| one == emoji));
        same.then_some(())
    };
    reacts(&running, &about(), "ann", &["👍", "🎉"]).await?;
    reacts(&running, &about(), "ben", &["👍"]).await?;
    until(|| shown(&["👍", "🎉"])).await?;
    running.kill().await;
    running = bot.start().await?;
    running.joins(&room, 2).await?;
    // Ben still means it.
    reacts(&running, &about(), "ann", &[]).await?;
    until(|| shown(&["👍"])).await?;
    let last = about();
    reacts(&running, &last, "ben", &["❤️"]).await?;
    reacts(&running, &last, "ben", &["❤️"]).await?;
    until(|| shown(&["❤️"])).await?;
    running.stop().await
}

#[tokio::test]
async fn reaction_that_was_taken_back_while_it_was_missing_does_not_come() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let said = bob.send(&room, "to be liked").await?;
    bot.hears("to be liked").await?;
    running.stop().await?;
    let relation = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": said, "key": "👍" } });
    let reaction = bob.send_raw_plain(&room, "m.reaction", relation.clone()).await?;
    for number in 0..110 {
        bob.send(&room, &format!("message {number}")).await?;
    }
    bob.redact(&room, &reaction).await?;
    // A homeserver that shows what was as it was, in pages that come late.
    let stuck = proxy.add(Rule::new("GET", "/messages", Fault::Hang)?);
    let as_it_was = Fault::rewrite(move |answer| {
        for event in answer.pointer_mut("/chunk").and_then(Value::as_array_mut).into_iter().flatten() {
            if event["type"] == "m.reaction" {
                event["content"] = relation.clone();
            }
        }
    });
    proxy.add(Rule::new("GET", "/messages", as_it_was)?);
    let running = bot.start().await?;
    stuck.wait_struck(1, SOON).await?;
    let key = format!("taken-back/{reaction}");
    let store = bot.context().store;
    let give_up = tokio::time::Instant::now() + SOON;
    while store.read(&key).await?.is_none() {
        assert!(tokio::time::Instant::now() < give_up, "the deletion is taken in");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stuck.remove();
    bot.hears("message 0").await?;
    until(|| (bot.intake.gaps().0 == 0 && bot.intake.still_waiting() == 0).then_some(())).await?;
    assert!(!bot.intake.accepted().iter().any(|one| one.how == Some(How::Reaction)));
    running.stop().await
}

#[tokio::test]
async fn quote_of_a_redacted_message_does_not_bring_its_words_back() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let secret = bob.send(&room, "the secret").await?;
    bot.hears("the secret").await?;
    bob.redact(&room, &secret).await?;
    let answer = json!({
        "msgtype": "m.text", "body": format!("> <{}> the secret\n\nan answer", bob.user_id()),
        "format": "org.matrix.custom.html",
        "formatted_body": "<mx-reply><blockquote>the secret</blockquote></mx-reply>an answer",
        "m.relates_to": { "m.in_reply_to": { "event_id": secret } },
    });
    bob.send_event(&room, "m.room.message", answer).await?;
    let heard = bot.hears("an answer").await?;
    assert_eq!(heard.reply_to.as_ref().map(RemoteId::as_str), Some(secret.as_str()));
    assert!(heard.html.is_none_or(|html| !html.0.contains("secret")));
    running.stop().await
}
