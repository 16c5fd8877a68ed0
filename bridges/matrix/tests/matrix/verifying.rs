//! Emoji are compared by people, whoever starts, and nothing confirms itself.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use sealbridge_contract::{
    Answer, ConversationId, Flow, FlowError, PersonId, Screen, Step, Transport as _,
    audience::{Proof, Standing},
};
use sealbridge_lab::{
    Lab,
    person::{Kind, Options, Person, Received, Verification},
    proxy::{Fault, Proxy, Rule},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    bot::{Running, SOON},
    losses::Scene,
    readers::follows,
};

/// Plays the operator: gives `answer` to the emoji. Ends with what was shown and how it ended.
pub(crate) fn compare(mut flow: Box<dyn Flow>, answer: Answer) -> JoinHandle<(Vec<String>, Result<String, FlowError>)> {
    tokio::spawn(async move {
        let (mut shown, mut given) = (Vec::new(), None);
        let mut answer = Some(answer);
        loop {
            match flow.next(given.take()).await {
                Ok(Step::Compare(emoji)) => {
                    shown = emoji.iter().map(|emoji| emoji.name.to_owned()).collect();
                    given = answer.take();
                }
                Ok(Step::Done(words)) => return (shown, Ok(words)),
                Ok(_) => {}
                Err(error) => return (shown, Err(error)),
            }
        }
    })
}

pub(crate) async fn step(person: &Person, wanted: &str) -> Result<Verification> {
    let pick = |one: &Received| match one {
        Received::Verification(seen) if seen.step == wanted => Some(seen.clone()),
        _ => None,
    };
    person.wait_event(pick, SOON).await.with_context(|| format!("No step {wanted}"))
}

pub(crate) async fn confirms(person: &Person) -> Result<Vec<String>> {
    let seen = step(person, "emoji").await?;
    person.call("verify_confirm", json!({ "flow": seen.flow })).await?;
    Ok(seen.emoji)
}

pub(crate) fn same(ours: &[String], theirs: &[String]) -> bool {
    ours.len() == 7 && ours.iter().zip(theirs).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// The bridge asks in a direct chat, with its way to the homeserver as it is after `meanwhile`.
async fn bridge_asks(meanwhile: impl FnOnce(&Proxy) -> Result<()>) -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, running, room, bot, proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "hello").await?;
    bot.hears("hello").await?;
    let with = PersonId::new(bob.user_id());
    let direct = running.matrix.open_direct(&with).await?;
    bob.wait_invite(direct.as_str(), SOON).await?;
    bob.join(direct.as_str()).await?;
    meanwhile(&proxy)?;
    let flow = running.matrix.comparison(Some(&with), Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    let asked = step(&bob, "requested").await?;
    assert_eq!(asked.room.as_deref(), Some(direct.as_str()));
    bob.call("verify_accept", json!({ "flow": asked.flow })).await?;
    let theirs = confirms(&bob).await?;
    let (shown, ended) = tokio::time::timeout(SOON, ours).await??;
    assert!(same(&shown, &theirs), "{shown:?} {theirs:?}");
    ended?;
    step(&bob, "done").await?;
    assert!(!bot.intake.incidents().iter().any(|told| told.topic.starts_with("plaintext")));
    assert_eq!(bot.heard(), ["hello"]);
    running.stop().await
}

#[tokio::test]
async fn bridge_asks_and_both_see_the_same_emoji() -> Result<()> {
    bridge_asks(|_| Ok(())).await
}

#[tokio::test]
async fn comparison_goes_on_though_the_homeserver_could_not_say_that_it_took_the_request() -> Result<()> {
    bridge_asks(|proxy| {
        proxy.add(Rule::new("PUT", "/send/m.room.encrypted/", Fault::DropAfter)?.times(2));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn person_asks_a_device_and_a_room_alike() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    for in_room in [false, true] {
        let Scene { bob, running, room, bot, proxy: _proxy } = Scene::set(lab, json!({})).await?;
        bob.send(&room, "hello").await?;
        bot.hears("hello").await?;
        let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
        let ours = compare(flow, Answer::Yes);
        let room = in_room.then_some(&room);
        let asked = json!({ "user": bot.user.id, "in_room": room });
        bob.call("verify_request", asked).await?;
        let ready = step(&bob, "ready").await?;
        bob.call("verify_begin", json!({ "flow": ready.flow })).await?;
        let theirs = confirms(&bob).await?;
        let (shown, ended) = tokio::time::timeout(SOON, ours).await??;
        assert!(same(&shown, &theirs), "{shown:?} {theirs:?}");
        ended?;
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_several_ask_to_verify_nobody_is_taken_for_the_one_who_is_meant() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, running, room, bot, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let eve = Person::new_on(&lab.a, "aaa").await?;
    bob.invite(&room, eve.user_id()).await?;
    eve.wait_invite(&room, SOON).await?;
    eve.join(&room).await?;
    for person in [&bob, &eve] {
        person.send(&room, "hello").await?;
        bot.hears("hello").await?;
        person.call("verify_request", json!({ "user": bot.user.id, "in_room": room })).await?;
    }
    // What is heard after another message, which came after both requests, is heard when both were read of the server.
    for words in ["both", "asked"] {
        bob.send(&room, words).await?;
        bot.hears(words).await?;
    }
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let (_, ended) = tokio::time::timeout(SOON, compare(flow, Answer::Yes)).await??;
    let Err(FlowError::Refused(words)) = ended else { bail!("it ended otherwise: {ended:?}") };
    assert!(words.contains(bob.user_id()) && words.contains(eve.user_id()), "{words}");
    // Named, the one who is meant is compared with, by what they asked for.
    let with = PersonId::new(bob.user_id());
    let flow = running.matrix.comparison(Some(&with), Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    let ready = step(&bob, "ready").await?;
    bob.call("verify_begin", json!({ "flow": ready.flow })).await?;
    let theirs = confirms(&bob).await?;
    let (shown, ended) = tokio::time::timeout(SOON, ours).await??;
    assert!(same(&shown, &theirs), "{shown:?} {theirs:?}");
    ended?;
    running.stop().await
}

#[tokio::test]
async fn emoji_that_differ_end_it_and_verify_nobody() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, running, room, bot, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "hello").await?;
    bot.hears("hello").await?;
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::No);
    bob.call("verify_request", json!({ "user": bot.user.id, "in_room": room })).await?;
    let ready = step(&bob, "ready").await?;
    bob.call("verify_begin", json!({ "flow": ready.flow })).await?;
    let (shown, ended) = tokio::time::timeout(SOON, ours).await??;
    assert_eq!(shown.len(), 7);
    let Err(FlowError::Cancelled(words)) = ended else { bail!("it ended otherwise: {ended:?}") };
    assert!(words.contains("did not match"));
    let cancelled = step(&bob, "cancelled").await?;
    assert!(cancelled.reason.is_some());
    drop(Arc::clone(&running.matrix));
    running.stop().await
}

/// Whoever compares may go away while the request is still being sent.
#[tokio::test]
async fn request_that_was_under_way_when_the_comparison_was_given_up_is_taken_back() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, running, room, bot, proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "hello").await?;
    bot.hears("hello").await?;
    let direct = running.matrix.open_direct(&PersonId::new(bob.user_id())).await?;
    bob.wait_invite(direct.as_str(), SOON).await?;
    bob.join(direct.as_str()).await?;
    let device = format!("{}/{}", bob.user_id(), bob.device_id());
    for (whom, request) in
        [(device.as_str(), "/sendToDevice/m.key.verification.request/"), (bob.user_id(), "/send/m.room.encrypted/")]
    {
        let held = proxy.add(Rule::new("PUT", request, Fault::HoldAnswer)?.times(1));
        let flow = running.matrix.comparison(Some(&PersonId::new(whom)), Screen::Words);
        let mut flow = flow.context("Matrix has comparisons")?;
        let asked = tokio::select! {
            said = flow.next(None) => bail!("{whom} was asked already: {said:?}"),
            asked = step(&bob, "requested") => asked?,
        };
        drop(flow);
        held.remove();
        let cancelled = step(&bob, "cancelled").await.with_context(|| whom.to_owned())?;
        assert_eq!(cancelled.flow, asked.flow);
    }
    running.stop().await
}

/// Compares with a person who asks for it in the room, and both say that all of it matches.
pub(crate) async fn both_agree(Scene { bob, bot, running, room, .. }: &Scene) -> Result<Result<String, FlowError>> {
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    bob.verify_request(&bot.user.id, None, Some(room)).await?;
    let ready = step(bob, "ready").await?;
    bob.verify_begin(&ready.flow).await?;
    confirms(bob).await?;
    let (_, ended) = tokio::time::timeout(SOON, ours).await??;
    Ok(ended)
}

#[tokio::test]
async fn person_whose_device_alone_was_compared_is_not_called_verified() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let options = Options { without_cross_signing: true, ..Options::default() };
    let bob = Person::new_with(&lab.a, "bob", options).await?;
    let scene = Scene::with(lab, bob, json!({ "trust": "any-device" })).await?;
    scene.bob.send(&scene.room, "hello").await?;
    scene.bot.hears("hello").await?;
    let ended = both_agree(&scene).await?;
    let Err(FlowError::Refused(words)) = ended else { bail!("it ended otherwise: {ended:?}") };
    assert!(words.contains("no identity"), "{words}");
    scene.running.stop().await
}

#[tokio::test]
async fn identity_that_changed_is_pinned_anew_when_it_was_compared() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let Scene { bob, bot, running, room, .. } = &scene;
    bob.send(room, "hello").await?;
    bot.hears("hello").await?;
    let conversation = ConversationId::new(room.as_str());
    assert_eq!(standing(running, &conversation).await?, (Proof::CrossSigned, Standing::Reads));
    bob.cross_sign().await?;
    bot.tells("identity-changed/").await?;
    assert_eq!(standing(running, &conversation).await?, (Proof::CrossSigned, Standing::Changed));
    both_agree(&scene).await??;
    assert_eq!(standing(running, &conversation).await?, (Proof::Verified, Standing::Reads));
    running.says(room, "to whom I compared").await?;
    bob.wait_for(|it| it.body == "Ann: to whom I compared", SOON).await?;
    // Under the key that he has had since before.
    bob.send(room, "who was compared").await?;
    bot.hears("who was compared").await?;
    scene.running.stop().await
}

#[tokio::test]
async fn nobody_is_called_verified_where_the_homeserver_shows_another_identity_than_was_compared() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let Scene { bob, bot, running, room, proxy } = &scene;
    bob.send(room, "hello").await?;
    bot.hears("hello").await?;
    // What the bridge is told of him once he was compared.
    let told = Arc::new(Mutex::new(Value::Null));
    let keep = {
        let told = Arc::clone(&told);
        Fault::rewrite(move |answer| *told.lock().unwrap_or_else(PoisonError::into_inner) = answer.clone())
    };
    let listening = proxy.add(Rule::new("POST", "/keys/query", keep)?);
    both_agree(&scene).await??;
    listening.remove();
    bob.cross_sign().await?;
    bot.tells("identity-changed/").await?;

    // It lies from the moment on in which it has what the bridge signed.
    let then = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let signed = Arc::new(AtomicBool::new(false));
    let uploaded = {
        let signed = Arc::clone(&signed);
        Fault::rewrite(move |_| signed.store(true, Ordering::SeqCst))
    };
    proxy.add(Rule::new("POST", "/keys/signatures/upload", uploaded)?);
    let lie = Fault::rewrite(move |answer| {
        if signed.load(Ordering::SeqCst) {
            *answer = then.clone();
        }
    });
    proxy.add(Rule::new("POST", "/keys/query", lie)?);
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    let asked = bob.verify_request(&bot.user.id, None, Some(room)).await?;
    follows(bob, &asked).await?;
    let (_, ended) = tokio::time::timeout(SOON, ours).await??;
    let Err(FlowError::Refused(words)) = ended else { bail!("it ended otherwise: {ended:?}") };
    assert!(words.contains("another identity"), "{words}");
    scene.running.stop().await
}

async fn standing(running: &Running, of: &ConversationId) -> Result<(Proof, Standing)> {
    let audience = running.matrix.audience(of).await?.context("It has an audience")?;
    let [member] = &audience.members[..] else { bail!("Others are there: {audience:?}") };
    Ok((member.proof, member.standing))
}

/// matrix-nio knows no requests: it begins at once, which the specification has taken back since (MSC3122). Nobody here
/// was asked whether they want to compare, so nobody answers.
#[tokio::test]
async fn comparison_that_nobody_was_asked_for_is_not_taken_up() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    let Scene { bob, bot, running, room, proxy } = &scene;
    let nio = Person::new_with(&lab.a, "nio", Options { kind: Kind::Nio, ..Options::default() }).await?;
    bob.invite(room, nio.user_id()).await?;
    nio.join(room).await?;
    running.joins(room, 3).await?;
    // The bridge knows the device that begins.
    let audience = running.matrix.audience(&ConversationId::new(room.as_str())).await?.context("It has an audience")?;
    assert!(audience.members.iter().any(|it| it.person.as_str() == nio.user_id() && !it.devices.is_empty()));

    proxy.record();
    let begun = nio.call("verify_begin", json!({ "room": room, "user": bot.user.id })).await?;
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    bob.verify_request(&bot.user.id, None, None).await?;
    let ready = step(bob, "ready").await?;
    bob.verify_begin(&ready.flow).await?;
    confirms(bob).await?;
    let (_, ended) = tokio::time::timeout(SOON, ours).await??;
    assert_eq!(ended?, format!("{} is verified.", bob.user_id()));

    let seen = proxy.take_seen();
    let to_devices: Vec<_> = seen.iter().filter(|it| it.path.contains("/sendToDevice/m.key.verification.")).collect();
    let is_for = |user: &str| to_devices.iter().any(|it| String::from_utf8_lossy(&it.body).contains(user));
    assert!(is_for(bob.user_id()) && !is_for(nio.user_id()), "{to_devices:?}");
    let state = nio.call("verify_state", json!({ "flow": begun["flow"] })).await?;
    assert_eq!(state["state"], "created");
    scene.running.stop().await
}
