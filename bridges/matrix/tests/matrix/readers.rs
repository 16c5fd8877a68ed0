//! Who gets keys: those who were there, or were admitted since, whatever the homeserver says.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use sealbridge_contract::{
    Answer, ConversationId, PersonId, Screen, Transport as _,
    audience::{Admission, Book, Identity, Member, Proof, Standing},
    gate::Encryption,
};
use sealbridge_lab::{
    Lab, Person,
    person::{Options, Received},
    proxy::{Active, Fault, Proxy, Rule},
};
use serde_json::{Value, json};

use crate::{
    bot::{Running, SOON, until},
    losses::Scene,
    verifying::{both_agree, compare},
};

async fn member(running: &Running, room: &str, who: &str) -> Result<Member> {
    let audience = running.matrix.audience(&ConversationId::new(room)).await?.context("It is known who reads")?;
    audience.members.into_iter().find(|member| member.person.as_str() == who).context("They are shown")
}

/// Waits until somebody stands so.
async fn stands(running: &Running, room: &str, who: &str, standing: Standing) -> Result<Member> {
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        match member(running, room, who).await {
            Ok(member) if member.standing == standing => return Ok(member),
            other if tokio::time::Instant::now() > give_up => anyhow::bail!("not {standing:?}: {other:?}"),
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

fn heard(person: &Person, words: &str) -> bool {
    person.messages().iter().any(|message| message.body.contains(words))
}

/// From now on the homeserver says that somebody joined who did not, or leaves out that they did.
fn joins_by_the_servers_word(room: &str, who: &str) -> Result<Rule> {
    let event = json!({
        "type": "m.room.member", "state_key": who, "sender": who, "event_id": "$forged", "origin_server_ts": 1,
        "content": { "membership": "join", "displayname": "Bob" },
    });
    let room = room.to_owned();
    let forge = Fault::rewrite(move |answer| {
        let Some(rooms) = answer.get_mut("rooms").and_then(Value::as_object_mut) else { return };
        let joined = rooms.entry("join").or_insert_with(|| json!({}));
        joined[&room]["timeline"] = json!({ "events": [event], "limited": false, "prev_batch": "p" });
        joined[&room]["org.matrix.msc4222.state_after"] = json!({ "events": [event] });
        joined[&room]["state_after"] = json!({ "events": [event] });
    });
    Rule::new("GET", "/sync", forge)
}

#[tokio::test]
async fn member_whom_the_homeserver_makes_up_gets_no_key() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room: _, proxy } = Scene::set(lab, json!({})).await?;
    // A key of this room is good for twenty messages.
    let room = bob.create_rotating_room("rotates", &[&bot.user.id], 20).await?;
    running.joins(&room, 2).await?;
    running.says(&room, "among ourselves").await?;
    let evil = Person::new_on(&lab.a, "evil").await?;
    let forged = proxy.add(joins_by_the_servers_word(&room, evil.user_id())?.times(1));
    // Something must be answered with it.
    bob.send(&room, "hello").await?;
    forged.wait_struck(1, SOON).await?;
    let shown = stands(&running, &room, evil.user_id(), Standing::New).await?;
    assert!(shown.since.is_none(), "nobody was pinned: {shown:?}");
    proxy.record();
    for count in 0..20 {
        running.says(&room, &format!("not for them, {count}.")).await?;
    }
    bob.wait_for(|it| it.body.contains("not for them, 19."), SOON).await?;
    let keys: Vec<_> = proxy.take_seen().into_iter().filter(|seen| seen.path.contains("/sendToDevice")).collect();
    let names = |who: &str| keys.iter().filter(|seen| String::from_utf8_lossy(&seen.body).contains(who)).count();
    assert!(names(bob.user_id()) > 0, "a new key was made, and he got it");
    assert_eq!(names(evil.user_id()), 0, "and nobody else");
    running.stop().await
}

#[tokio::test]
async fn member_whom_the_homeserver_hides_gets_no_key_and_is_new_once_they_are_seen() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot: _bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    running.says(&room, "among ourselves").await?;
    let evil = Person::new_on(&lab.a, "evil").await?;
    let hidden = evil.user_id().to_owned();
    let hide = Fault::rewrite(move |answer| {
        let rooms = answer.pointer_mut("/rooms/join").and_then(Value::as_object_mut);
        for room in rooms.into_iter().flat_map(serde_json::Map::values_mut) {
            for part in ["timeline", "state", "state_after", "org.matrix.msc4222.state_after"] {
                if let Some(events) = room.pointer_mut(&format!("/{part}/events")).and_then(Value::as_array_mut) {
                    events.retain(|event| event["state_key"] != hidden.as_str());
                }
            }
        }
    });
    let hiding = proxy.add(Rule::new("GET", "/sync", hide)?);
    running.reconnects(&proxy).await?;
    bob.invite(&room, evil.user_id()).await?;
    evil.wait_invite(&room, SOON).await?;
    evil.join(&room).await?;
    bob.wait_member(&room, evil.user_id(), "join", SOON).await?;
    running.says(&room, "not for who is hidden").await?;
    bob.wait_for(|it| it.body.contains("not for who is hidden"), SOON).await?;
    // Their client has the event, and no key for it.
    let unread = || (!evil.undecryptable().is_empty()).then_some(());
    until(unread).await?;
    assert!(!heard(&evil, "not for who is hidden"));
    hiding.remove();
    evil.leave(&room).await?;
    bob.invite(&room, evil.user_id()).await?;
    evil.join(&room).await?;
    let shown = stands(&running, &room, evil.user_id(), Standing::New).await?;
    running.says(&room, "and not for who is new").await?;
    bob.wait_for(|it| it.body.contains("and not for who is new"), SOON).await?;
    let of_another = Admission { identity: None, ..Admission::from(&shown) };
    running.matrix.admit(&ConversationId::new(&room), &[of_another]).await.expect_err("it is not who was seen");
    running.matrix.admit(&ConversationId::new(&room), &[Admission::from(&shown)]).await?;
    running.says(&room, "now for everybody").await?;
    evil.wait_for(|it| it.body.contains("now for everybody"), SOON).await?;
    assert!(!heard(&evil, "and not for who is new") && !heard(&evil, "not for who is hidden"));
    running.stop().await
}

/// Waits until a comparison has come so far.
async fn takes(person: &Person, flow: &str, wanted: &str) -> Result<()> {
    let step = |one: &Received| match one {
        Received::Verification(seen) if seen.step == wanted && seen.flow == flow => Some(()),
        _ => None,
    };
    person.wait_event(step, SOON).await.with_context(|| format!("No step {wanted}"))
}

/// Takes a comparison to its end, and says that all of it matches.
pub(crate) async fn follows(person: &Person, flow: &str) -> Result<()> {
    for (wait, answer) in [("ready", "verify_begin"), ("emoji", "verify_confirm")] {
        takes(person, flow, wait).await?;
        person.call(answer, json!({ "flow": flow })).await?;
    }
    Ok(())
}

#[tokio::test]
async fn changed_identity_reads_again_once_it_was_compared() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    for round in 0..2 {
        let ours =
            compare(running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?, Answer::Yes);
        let flow = bob.verify_request(&bot.user.id, None, Some(&room)).await?;
        follows(&bob, &flow).await?;
        tokio::time::timeout(SOON, ours).await??.1?;
        stands(&running, &room, bob.user_id(), Standing::Reads).await?;
        let words = format!("to whom we know, {round}");
        running.says(&room, &words).await?;
        bob.wait_for(|it| it.body.contains(&words), SOON).await?;
        if round == 0 {
            bob.cross_sign().await?;
            let changed = stands(&running, &room, bob.user_id(), Standing::Changed).await?;
            assert!(changed.pinned.is_some() && changed.pinned != changed.identity, "{changed:?}");
            running.waits_for(&room, Encryption::Frozen).await?;
        }
    }
    running.stop().await
}

#[tokio::test]
async fn identity_that_is_shown_for_a_moment_speaks_for_nobody_afterwards() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let eve = Person::new_on(&lab.a, "eve").await?;
    bob.invite(&room, eve.user_id()).await?;
    eve.wait_invite(&room, SOON).await?;
    eve.join(&room).await?;
    bob.wait_member(&room, eve.user_id(), "join", SOON).await?;
    bob.send(&room, "as himself").await?;
    bot.hears("as himself").await?;
    running.says(&room, "to himself").await?;
    let wanted = json!({ "device_keys": { bob.user_id(): [] } });
    let (_, known) = bob.http("POST", "/_matrix/client/v3/keys/query", Some(wanted)).await?;
    // Another identity, for as long as it takes for a key to be taken from it.
    bob.cross_sign().await?;
    stands(&running, &room, bob.user_id(), Standing::Changed).await?;
    bob.new_session(&room).await?;
    bob.send(&room, "as somebody else").await?;
    bot.tells("another-identity/").await?;
    let (theirs, again) = (bob.user_id().to_owned(), bob.user_id().to_owned());
    let back = Fault::rewrite(move |answer| {
        for kind in ["master_keys", "self_signing_keys", "user_signing_keys", "device_keys"] {
            if let (Some(keys), Some(before)) =
                (answer.pointer_mut(&format!("/{kind}")).and_then(Value::as_object_mut), known[kind].get(&theirs))
                && keys.contains_key(&theirs)
            {
                keys.insert(theirs.clone(), before.clone());
            }
        }
    });
    let back = proxy.add(Rule::new("POST", "/keys/query", back)?);
    let changed = Fault::rewrite(move |answer| {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("device_lists".to_owned(), json!({ "changed": [again], "left": [] }));
        }
    });
    proxy.add(Rule::new("GET", "/sync", changed)?);
    running.reconnects(&proxy).await?;
    back.wait_struck(1, SOON).await?;
    stands(&running, &room, bob.user_id(), Standing::Reads).await?;
    // What waits for his trust was tried again by the time that this is heard.
    eve.send(&room, "from somebody else altogether").await?;
    bot.hears("from somebody else altogether").await?;
    bob.send(&room, "and as somebody else again").await?;
    eve.send(&room, "the last").await?;
    bot.hears("the last").await?;
    assert_eq!(bot.heard(), ["as himself", "from somebody else altogether", "the last"]);
    running.stop().await
}

/// From now on the homeserver answers otherwise for somebody's keys, and says that they are others.
async fn keys_are(
    proxy: &Proxy,
    user: &str,
    otherwise: impl Fn(&mut Value) + Send + Sync + 'static,
) -> Result<[Active; 2]> {
    let forging = proxy.add(Rule::new("POST", "/keys/query", Fault::rewrite(otherwise))?);
    let theirs = user.to_owned();
    let changed = Fault::rewrite(move |answer| {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("device_lists".to_owned(), json!({ "changed": [theirs], "left": [] }));
        }
    });
    Ok([forging, proxy.add(Rule::new("GET", "/sync", changed)?)])
}

#[tokio::test]
async fn identity_that_was_compared_before_it_was_replaced_is_not_believed_again() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    both_agree(&scene).await??;
    let Scene { bob, bot, running, room, proxy } = scene;
    let first = stands(&running, &room, bob.user_id(), Standing::Reads).await?;
    assert_eq!(first.proof, Proof::Verified);
    // As the homeserver shows him now, with what we signed.
    let shown = Arc::new(Mutex::new(Value::Null));
    let (seen, theirs) = (Arc::clone(&shown), bob.user_id().to_owned());
    let looking = keys_are(&proxy, bob.user_id(), move |answer| {
        if answer["master_keys"][&theirs].is_object() {
            *seen.lock().expect("nobody panicked") = answer.clone();
        }
    });
    let looking = looking.await?;
    running.reconnects(&proxy).await?;
    until(|| (!shown.lock().expect("nobody panicked").is_null()).then_some(())).await?;
    looking.iter().for_each(Active::remove);
    let before = shown.lock().expect("nobody panicked").clone();
    assert!(before["master_keys"][bob.user_id()]["signatures"][&bot.user.id].is_object(), "{before}");
    // It was stolen, and he has another, which the operator let in.
    bob.cross_sign().await?;
    let second = stands(&running, &room, bob.user_id(), Standing::Changed).await?;
    running.matrix.admit(&ConversationId::new(&room), &[Admission::from(&second)]).await?;
    stands(&running, &room, bob.user_id(), Standing::Reads).await?;
    let theirs = bob.user_id().to_owned();
    let _back = keys_are(&proxy, bob.user_id(), move |answer| {
        for kind in ["master_keys", "self_signing_keys", "user_signing_keys", "device_keys"] {
            if let Some(keys) = answer.pointer_mut(&format!("/{kind}")).and_then(Value::as_object_mut)
                && let Some(before) = before[kind].get(&theirs)
                && keys.contains_key(&theirs)
            {
                keys.insert(theirs.clone(), before.clone());
            }
        }
    });
    let _back = _back.await?;
    running.reconnects(&proxy).await?;
    let again = stands(&running, &room, bob.user_id(), Standing::Changed).await?;
    assert_eq!((&again.identity, &again.pinned, again.proof), (&first.identity, &second.identity, Proof::CrossSigned));
    running.waits_for(&room, Encryption::Frozen).await?;
    // The operator was told each time.
    for identity in [&second.identity, &first.identity] {
        let identity = identity.as_ref().context("He has one")?;
        bot.tells(&format!("identity-changed/{}/{}", bob.user_id(), identity.as_str())).await?;
    }
    // Also where all that is known is what was kept.
    running.stop().await?;
    let running = bot.start().await?;
    stands(&running, &room, bob.user_id(), Standing::Changed).await?;
    // Let in once more it is who was compared.
    running.matrix.admit(&ConversationId::new(&room), &[Admission::from(&again)]).await?;
    let as_before = stands(&running, &room, bob.user_id(), Standing::Reads).await?;
    assert_eq!((as_before.identity, as_before.proof), (first.identity, Proof::Verified));
    running.stop().await
}

#[tokio::test]
async fn identity_that_is_gone_holds_where_any_device_reads_until_it_is_approved() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let options = Options { without_cross_signing: true, ..Options::default() };
    let bob = Person::new_with(&lab.a, "bob", options).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } =
        Scene::with(lab, bob, json!({ "trust": "any-device" })).await?;
    running.says(&room, "to whom we know").await?;
    running.stop().await?;
    // They had one once, and the homeserver shows none to the store of a new login.
    let book = Book::load(&bot.context().store).await?;
    let had = Admission { person: PersonId::new(bob.user_id()), identity: Some(Identity::new("a key that is gone")) };
    book.pin_anew(&had, bot.clock.now()).await?;
    let running = bot.start().await?;
    let shown = stands(&running, &room, bob.user_id(), Standing::Changed).await?;
    running.waits_for(&room, Encryption::Frozen).await?;
    assert_eq!((&shown.identity, &shown.pinned), (&None, &had.identity));
    running.matrix.admit(&ConversationId::new(&room), &[Admission::from(&shown)]).await?;
    running.waits_for(&room, Encryption::Pinned).await?;
    running.says(&room, "to whom was approved").await?;
    bob.wait_for(|it| it.body.contains("to whom was approved"), SOON).await?;
    running.stop().await
}

#[tokio::test]
async fn person_whose_verification_the_homeserver_lost_can_be_compared_again() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let scene = Scene::set(lab, json!({})).await?;
    both_agree(&scene).await??;
    let Scene { bob, bot, running, room, proxy } = &scene;
    stands(running, room, bob.user_id(), Standing::Reads).await?;
    let (theirs, ours) = (bob.user_id().to_owned(), bot.user.id.clone());
    let lost = move |answer: &mut Value| {
        let signed = answer.pointer_mut("/master_keys").and_then(|keys| keys.get_mut(&theirs));
        if let Some(by) = signed.and_then(|key| key.get_mut("signatures")).and_then(Value::as_object_mut) {
            by.remove(&ours);
        }
    };
    let losing = keys_are(proxy, bob.user_id(), lost).await?;
    running.reconnects(proxy).await?;
    let shown = stands(running, room, bob.user_id(), Standing::Changed).await?;
    assert!(shown.identity.is_some() && shown.pinned.is_none(), "the same identity, no longer verified: {shown:?}");
    let flow = running.matrix.comparison(None, Screen::Words).context("Matrix has comparisons")?;
    let ours = compare(flow, Answer::Yes);
    let again = bob.verify_request(&bot.user.id, None, Some(room)).await?;
    takes(bob, &again, "ready").await?;
    // From then on it knows what we sign.
    losing.iter().for_each(Active::remove);
    follows(bob, &again).await?;
    tokio::time::timeout(SOON, ours).await??.1?;
    stands(running, room, bob.user_id(), Standing::Reads).await?;
    running.says(room, "to whom we compared again").await?;
    bob.wait_for(|it| it.body.contains("to whom we compared again"), SOON).await?;
    scene.running.stop().await
}

#[tokio::test]
async fn identities_that_change_again_and_again_fill_no_admin_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let mut known = stands(&running, &room, bob.user_id(), Standing::Reads).await?.identity;
    for _ in 0..8 {
        bob.cross_sign().await?;
        let give_up = tokio::time::Instant::now() + SOON;
        known = loop {
            let now = member(&running, &room, bob.user_id()).await?.identity;
            if now != known {
                break now;
            }
            anyhow::ensure!(tokio::time::Instant::now() < give_up, "the new identity is not seen");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        // What was told of the one before is known to be over.
        running.matrix.forget_person(&PersonId::new(bob.user_id())).await?;
        stands(&running, &room, bob.user_id(), Standing::New).await?;
        let now = member(&running, &room, bob.user_id()).await?;
        running.matrix.admit(&ConversationId::new(&room), &[Admission::from(&now)]).await?;
    }
    bob.send(&room, "all the same").await?;
    bot.hears("all the same").await?;
    let told = bot.intake.incidents();
    let of = |topic: &str| told.iter().filter(|one| one.topic.starts_with(topic)).count();
    assert_eq!((of("identity-changed/"), of("identity-changed-more/")), (5, 1), "{told:?}");
    running.stop().await
}
