//! Comparisons with clients of another library, whose part in them is not the lab's.
//!
//! They are done with both cryptographies that matrix-js-sdk has had. The one up to its version 36 is an implementation
//! of its own, in JavaScript over libolm. Today's is `matrix-sdk-crypto`, the library that we use, in another version
//! and under another client: it is what Element Web has.

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    Answer, ConversationId, Flow, FlowError, PersonId, Screen, Step, Transport as _, audience::Proof,
};
use sealbridge_lab::{
    Lab, Person, node,
    person::{Kind, Message, Options, Verification},
    proxy::{Fault, Rule},
};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::{
    bot::{Running, SOON},
    losses::Scene,
    verifying::{same, step},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Bridge,
    Person,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Room,
    Device,
}

use Asks::{Bridge, Person as Someone};
use Place::{Device, Room};

/// A comparison in which both sides see their emoji, and nobody has said anything.
struct Shown {
    flow: Box<dyn Flow>,
    ours: Vec<String>,
    theirs: Verification,
}

/// `None` if there is no such library here; the test is then counted as skipped.
async fn lab() -> Result<Option<&'static Lab>> {
    let Some(lab) = Lab::shared().await? else { return Ok(None) };
    Ok(node::available().await.then_some(lab))
}

/// A person of another library and the bridge, who have heard each other and know nothing of each other's identity.
async fn scene(lab: &Lab, kind: Kind) -> Result<Scene> {
    let bob = Person::new_with(&lab.a, "bob", Options { kind, ..Options::default() }).await?;
    let scene = Scene::with(lab, bob, json!({})).await?;
    talk(&scene, "before").await?;
    nobody_is_verified(&scene).await?;
    Ok(scene)
}

/// Each says something, and the other reads it.
async fn talk(Scene { bob, bot, running, room, .. }: &Scene, words: &str) -> Result<()> {
    bob.send(room, words).await?;
    bot.hears(words).await?;
    running.says(room, words).await?;
    let said = format!("Ann: {words}");
    let arrived = |it: &Message| it.room == *room && it.body == said && it.encrypted && it.verified;
    bob.wait_for(arrived, SOON).await?;
    Ok(())
}

async fn proof(running: &Running, room: &str, bob: &Person) -> Result<Proof> {
    let audience = running.matrix.audience(&ConversationId::new(room)).await?.context("It has an audience")?;
    let who = PersonId::new(bob.user_id());
    let member = audience.members.into_iter().find(|member| member.person == who);
    Ok(member.context("They are in the room")?.proof)
}

async fn nobody_is_verified(Scene { bob, bot, running, room, .. }: &Scene) -> Result<()> {
    ensure!(proof(running, room, bob).await? == Proof::CrossSigned, "The bridge holds the person verified");
    ensure!(!bob.holds_verified(&bot.user.id).await?, "The person holds the bridge verified");
    Ok(())
}

async fn both_are_verified(Scene { bob, bot, running, room, .. }: &Scene) -> Result<()> {
    ensure!(proof(running, room, bob).await? == Proof::Verified, "It was said before it was so");
    // Theirs has still to come back from the homeserver.
    let give_up = Instant::now() + SOON;
    while !bob.holds_verified(&bot.user.id).await? {
        ensure!(Instant::now() < give_up, "They do not hold the bridge verified");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn until_shown(Scene { bob, bot, running, room, .. }: &Scene, asks: Asks, place: Place) -> Result<Shown> {
    let with = match (asks, place) {
        (Someone, _) => None,
        (Bridge, Device) => Some(PersonId::new(format!("{}/{}", bob.user_id(), bob.device_id()))),
        (Bridge, Room) => {
            let with = PersonId::new(bob.user_id());
            let direct = running.matrix.open_direct(&with).await?;
            bob.wait_invite(direct.as_str(), SOON).await?;
            bob.join(direct.as_str()).await?;
            Some(with)
        }
    };
    let mut flow = running.matrix.comparison(with.as_ref(), Screen::Words).context("Matrix has comparisons")?;
    let person = async {
        if asks == Someone {
            bob.verify_request(&bot.user.id, None, (place == Room).then_some(room)).await?;
            let ready = step(bob, "ready").await?;
            bob.verify_begin(&ready.flow).await?;
        } else {
            let asked = step(bob, "requested").await?;
            bob.verify_accept(&asked.flow).await?;
        }
        step(bob, "emoji").await
    };
    let both = timeout(SOON, async { tokio::try_join!(emoji(&mut flow), person) });
    let (ours, theirs) = both.await.context("Nobody saw emoji")??;
    ensure!(theirs.room.is_some() == (place == Room), "It went another way: {theirs:?}");
    Ok(Shown { flow, ours, theirs })
}

/// Goes on until the emoji are shown; gives their names.
async fn emoji(flow: &mut Box<dyn Flow>) -> Result<Vec<String>> {
    loop {
        if let Step::Compare(emoji) = flow.next(None).await? {
            return Ok(emoji.iter().map(|emoji| emoji.name.to_owned()).collect());
        }
    }
}

/// Says what the operator saw, and gives how it ended.
async fn ends(flow: &mut Box<dyn Flow>, answer: Answer) -> Result<Result<String, FlowError>> {
    let mut answer = Some(answer);
    let ended = async {
        loop {
            match flow.next(answer.take()).await {
                Ok(Step::Done(words)) => return Ok(words),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    };
    timeout(SOON, ended).await.context("It did not end")
}

fn is_stopped(ended: Result<String, FlowError>, why: &str) -> Result<()> {
    let Err(FlowError::Cancelled(words)) = &ended else { anyhow::bail!("It ended otherwise: {ended:?}") };
    ensure!(words.contains(why), "{words}");
    Ok(())
}

async fn all_of_it_matches(lab: &Lab, kind: Kind, asks: Asks, place: Place) -> Result<()> {
    let scene = scene(lab, kind).await?;
    let Scene { bob, .. } = &scene;
    let Shown { mut flow, ours, theirs } = until_shown(&scene, asks, place).await?;
    ensure!(same(&ours, &theirs.emoji), "{ours:?} {theirs:?}");
    nobody_is_verified(&scene).await?;
    bob.verify_confirm(&theirs.flow).await?;
    nobody_is_verified(&scene).await?;
    let ended = ends(&mut flow, Answer::Yes).await??;
    assert_eq!(ended, format!("{} is verified.", bob.user_id()));
    step(bob, "done").await?;
    both_are_verified(&scene).await?;
    talk(&scene, "after").await?;
    scene.running.stop().await
}

/// The person says that the emoji differ, after the operator said that they don't.
async fn person_refuses(lab: &Lab, kind: Kind, place: Place) -> Result<()> {
    let scene = scene(lab, kind).await?;
    let Shown { mut flow, theirs, .. } = until_shown(&scene, Someone, place).await?;
    let refuses = scene.bob.verify_mismatch(&theirs.flow);
    let (ended, refused) = tokio::join!(ends(&mut flow, Answer::Yes), refuses);
    refused?;
    is_stopped(ended?, "the other side stopped it")?;
    step(&scene.bob, "cancelled").await?;
    talk(&scene, "after").await?;
    nobody_is_verified(&scene).await?;
    scene.running.stop().await
}

/// The operator says that the emoji differ, after the person said that they don't.
async fn operator_refuses(lab: &Lab, kind: Kind, place: Place) -> Result<()> {
    let scene = scene(lab, kind).await?;
    let Shown { mut flow, theirs, .. } = until_shown(&scene, Bridge, place).await?;
    scene.bob.verify_confirm(&theirs.flow).await?;
    is_stopped(ends(&mut flow, Answer::No).await?, "did not match")?;
    let cancelled = step(&scene.bob, "cancelled").await?;
    assert_eq!(cancelled.reason.as_deref(), Some("m.mismatched_sas: they stopped it"));
    talk(&scene, "after").await?;
    nobody_is_verified(&scene).await?;
    scene.running.stop().await
}

#[tokio::test]
async fn other_library_is_asked_in_a_room_and_both_are_verified() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    all_of_it_matches(lab, Kind::JsOlm, Bridge, Room).await?;
    all_of_it_matches(lab, Kind::Js, Bridge, Room).await
}

#[tokio::test]
async fn other_library_is_asked_on_its_device_and_both_are_verified() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    all_of_it_matches(lab, Kind::JsOlm, Bridge, Device).await?;
    all_of_it_matches(lab, Kind::Js, Bridge, Device).await
}

#[tokio::test]
async fn other_library_asks_in_a_room_and_both_are_verified() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    all_of_it_matches(lab, Kind::JsOlm, Someone, Room).await?;
    all_of_it_matches(lab, Kind::Js, Someone, Room).await
}

#[tokio::test]
async fn other_library_asks_our_device_and_both_are_verified() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    all_of_it_matches(lab, Kind::JsOlm, Someone, Device).await?;
    all_of_it_matches(lab, Kind::Js, Someone, Device).await
}

#[tokio::test]
async fn refusal_by_the_person_verifies_nobody_though_the_operator_agreed() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    person_refuses(lab, Kind::JsOlm, Room).await?;
    person_refuses(lab, Kind::Js, Device).await
}

#[tokio::test]
async fn refusal_by_the_operator_verifies_nobody_though_the_person_agreed() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    operator_refuses(lab, Kind::JsOlm, Device).await?;
    operator_refuses(lab, Kind::Js, Room).await
}

/// A homeserver that puts a key of its own in the place of the person's can't know which emoji come of it.
#[tokio::test]
async fn key_swapped_on_its_way_shows_other_emoji_and_verifies_nobody_even_if_both_agree() -> Result<()> {
    let Some(lab) = lab().await? else { return Ok(()) };
    let scene = scene(lab, Kind::JsOlm).await?;
    let swap = Fault::rewrite(|answer| {
        let events = answer.pointer_mut("/to_device/events").and_then(Value::as_array_mut);
        for event in events.into_iter().flatten() {
            if event["type"] == "m.key.verification.key" {
                event["content"]["key"] = json!("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
            }
        }
    });
    let swapping = scene.proxy.add(Rule::new("GET", "/sync", swap)?);
    scene.running.reconnects(&scene.proxy).await?;
    let Shown { mut flow, ours, theirs } = until_shown(&scene, Someone, Device).await?;
    ensure!(ours.len() == 7 && !same(&ours, &theirs.emoji), "{ours:?}");
    scene.bob.verify_confirm(&theirs.flow).await?;
    let ended = ends(&mut flow, Answer::Yes).await?;
    ensure!(matches!(ended, Err(FlowError::Cancelled(_))), "{ended:?}");
    step(&scene.bob, "cancelled").await?;
    swapping.remove();
    talk(&scene, "after").await?;
    nobody_is_verified(&scene).await?;
    scene.running.stop().await
}
