//! What must not be carried is not, and those who can change it are told.

use anyhow::{Context as _, Result};
use sealbridge_contract::{ConversationId, EndToEnd as _, Fate, Transport as _, conformance::How, gate::Encryption};
use sealbridge_lab::{
    Lab, Person,
    person::{Kind, Options},
    proxy::{Fault, Rule},
};
use serde_json::{Value, json};

use crate::{
    bot::{Bot, SOON, ann, slip, until, until_within},
    losses::Scene,
};

/// Changes every event in the timelines of a sync's joined rooms.
fn each_event(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Result<Rule> {
    let rewrite = Fault::rewrite(move |answer| {
        let Some(rooms) = answer.pointer_mut("/rooms/join").and_then(Value::as_object_mut) else { return };
        for room in rooms.values_mut() {
            if let Some(events) = room.pointer_mut("/timeline/events").and_then(Value::as_array_mut) {
                change(events);
            }
        }
    });
    Rule::new("GET", "/sync", rewrite)
}

fn is_encrypted(event: &Value) -> bool {
    event["type"] == "m.room.encrypted"
}

#[tokio::test]
async fn words_in_clear_do_not_cross_and_the_room_is_told() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let clear = json!({ "msgtype": "m.text", "body": "in clear" });
    let event = bob.send_raw_plain(&room, "m.room.message", clear).await?;
    let asked = json!({ "msgtype": "m.key.verification.request", "body": "verify", "from_device": "X",
        "methods": ["m.sas.v1"], "to": bot.user.id });
    bob.send_raw_plain(&room, "m.room.message", asked).await?;
    bob.send(&room, "encrypted").await?;
    bot.hears("encrypted").await?;
    assert_eq!(bot.heard(), ["encrypted"]);
    let refused: Vec<_> = bot.intake.refused().into_iter().map(|(id, _)| id.as_str().to_owned()).collect();
    assert_eq!(refused, [event], "a step of a verification is nothing to tell of");
    let told = bot.tells("plaintext").await?;
    assert!(!told.contains("in clear"));
    running.stop().await
}

#[tokio::test]
async fn replayed_ciphertext_is_refused() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    proxy.add(each_event(|events| {
        let copies = events.iter().filter(|event| is_encrypted(event)).cloned().map(|mut copy| {
            let id = copy["event_id"].as_str().unwrap_or_default();
            copy["event_id"] = format!("{id}replay").into();
            copy
        });
        let copies: Vec<_> = copies.collect();
        events.extend(copies);
    })?);
    // The request that waits was made before the rule.
    running.reconnects(&proxy).await?;
    let event = bob.send(&room, "once").await?;
    bot.hears("once").await?;
    let replayed = || bot.intake.refused().into_iter().find(|(id, _)| id.as_str() == format!("{event}replay"));
    until(replayed).await?;
    assert_eq!(bot.heard(), ["once"]);
    running.stop().await
}

#[tokio::test]
async fn nobodys_server_makes_an_edit_of_what_is_none() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let asked = bob.send(&room, "shall we pay?").await?;
    bot.hears("shall we pay?").await?;
    proxy.add(each_event(move |events| {
        for event in events.iter_mut().filter(|event| is_encrypted(event)) {
            event["content"]["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": asked });
        }
    })?);
    running.reconnects(&proxy).await?;
    bob.send(&room, "no, never").await?;
    let heard = bot.hears("no, never").await?;
    assert_eq!(heard.how, Some(How::Text));
    running.stop().await
}

#[tokio::test]
async fn session_that_its_sender_names_as_ours_keeps_out_nothing() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let said = bob.send(&room, "as bob said it").await?;
    let mut event = bob.raw_event(&room, &said).await?;
    event["content"]["session_id"] = "fetch".into();
    for _ in 0..60 {
        bob.send_raw_plain(&room, "m.room.encrypted", event["content"].clone()).await?;
    }
    let new = json!({ "msgtype": "m.text", "body": "as bob means it" });
    let edit = json!({
        "msgtype": "m.text", "body": "* as bob means it", "m.new_content": new,
        "m.relates_to": { "rel_type": "m.replace", "event_id": said },
    });
    bob.send_event(&room, "m.room.message", edit).await?;
    assert_eq!(bot.hears("as bob means it").await?.how, Some(How::Edit));
    running.stop().await
}

#[tokio::test]
async fn what_happens_to_a_room_again_is_told_again() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let told = || {
        let all = bot.intake.incidents().into_iter().filter(|told| told.topic.starts_with("left"));
        all.map(|told| told.topic).collect::<std::collections::BTreeSet<_>>()
    };
    for times in 1..=2 {
        bob.kick(&room, &bot.user.id).await?;
        until(|| (told().len() == times).then_some(())).await?;
        bot.clock.shift(3_600_000);
        bob.invite(&room, &bot.user.id).await?;
        running.joins(&room, 2).await?;
    }
    running.stop().await
}

#[tokio::test]
async fn encrypted_room_stays_one_for_us_when_a_stranger_invites_us_again() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let eve = Person::new_on(&lab.a, "eve").await?;
    bob.invite(&room, eve.user_id()).await?;
    eve.wait_invite(&room, SOON).await?;
    eve.join(&room).await?;
    let mut levels = bob.state(&room, "m.room.power_levels", "").await?;
    levels["users"][eve.user_id()] = 100.into();
    bob.send_state(&room, "m.room.power_levels", "", levels).await?;
    bob.kick(&room, &bot.user.id).await?;
    running.waits_for(&room, Encryption::Left).await?;
    eve.invite(&room, &bot.user.id).await?;
    bot.tells("invitation/").await?;
    running.waits_for(&room, Encryption::Left).await?;
    bob.invite(&room, &bot.user.id).await?;
    running.waits_for(&room, Encryption::Pinned).await?;
    running.stop().await
}

#[tokio::test]
async fn spoofed_sender_is_refused_and_strange_events_stop_nothing() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({ "sync_timeout": "1s" })).await?;
    let carol = Person::new_on(&lab.a, "carol").await?;
    bob.invite(&room, carol.user_id()).await?;
    carol.wait_invite(&room, SOON).await?;
    carol.join(&room).await?;
    running.joins(&room, 3).await?;
    bob.send(&room, "mine").await?;
    bot.hears("mine").await?;
    let as_carol = carol.user_id().to_owned();
    let forging = proxy.add(each_event(move |events| {
        let Some(at) = events.iter().position(is_encrypted) else { return };
        events[at]["sender"] = as_carol.as_str().into();
        let odd = [
            json!({ "type": "m.room.encrypted", "event_id": "$odd1", "sender": "@x:y", "content": 7 }),
            json!({ "type": "m.room.encrypted", "event_id": "$odd2", "sender": "@x:y", "origin_server_ts": "soon",
                "content": { "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AAAA" } }),
            json!({ "type": "m.room.encrypted", "event_id": "$odd3", "sender": "nobody", "content": {} }),
            json!({ "type": ["m.room.message"], "event_id": "$odd4", "sender": "@x:y" }),
            json!({}),
        ];
        events.splice(at..at, odd);
    })?);
    // The request that waits was made before the rule.
    running.reconnects(&proxy).await?;
    let forged = bob.send(&room, "not carol's").await?;
    let refused = || bot.intake.refused().into_iter().find(|(id, _)| id.as_str() == forged).map(|(_, why)| why);
    // Her own key might have come yet.
    let why = until_within(SOON * 3, refused).await?;
    assert!(why.contains("sender"), "{why}");
    forging.remove();
    running.reconnects(&proxy).await?;
    bob.send(&room, "still here").await?;
    bot.hears("still here").await?;
    assert_eq!(bot.heard(), ["mine", "still here"]);
    let refused: Vec<_> = bot.intake.refused().into_iter().map(|(id, _)| id.as_str().to_owned()).collect();
    for odd in ["$odd1", "$odd2", "$odd3", "$odd4"] {
        assert!(refused.iter().any(|id| id == odd), "{odd} is not named among {refused:?}");
    }
    running.stop().await
}

#[tokio::test]
async fn unencrypted_room_is_left_with_a_reason() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [lab.a.server_name()] } })).await?;
    let running = bot.start().await?;
    let room = bob.create_plain_room("open", &[&bot.user.id]).await?;
    let left = bob.wait_member(&room, &bot.user.id, "leave", SOON).await?;
    assert!(left.reason.context("It says why")?.contains("not encrypted"));
    bot.tells("not-encrypted").await?;
    running.waits_for(&room, Encryption::Left).await?;
    assert!(!bot.intake.incidents().iter().any(|told| told.topic.starts_with("left")), "its own leaving is no news");
    running.stop().await
}

#[tokio::test]
async fn invitation_by_a_stranger_is_declined_with_a_reason_and_told() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (bob, eve) = (Person::new_on(&lab.a, "bob").await?, Person::new_on(&lab.a, "eve").await?);
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let running = bot.start().await?;
    let hers = eve.create_encrypted_room("trap", &[&bot.user.id]).await?;
    let told = bot.tells("invitation/").await?;
    assert!(told.contains(eve.user_id()));
    let room = bob.create_encrypted_room("talk", &[&bot.user.id]).await?;
    running.joins(&room, 2).await?;
    let declined = eve.wait_member(&hers, &bot.user.id, "leave", SOON).await?;
    assert!(declined.reason.context("It says why")?.contains("operator"));
    let known = running.matrix.conversations();
    assert!(known.iter().all(|known| known.id.as_str() != hers), "{known:?}");
    running.stop().await
}

#[tokio::test]
async fn many_invitations_by_strangers_are_told_by_the_hour() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let eve = Person::new_on(&lab.a, "eve").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({})).await?;
    let running = bot.start().await?;
    let mut rooms = Vec::new();
    for n in 0..8 {
        rooms.push(eve.create_encrypted_room(&format!("trap {n}"), &[&bot.user.id]).await?);
    }
    for room in &rooms {
        eve.wait_member(room, &bot.user.id, "leave", SOON).await?;
    }
    bot.tells("invitations-more/").await?;
    let told = bot.intake.incidents();
    assert_eq!(told.iter().filter(|told| told.topic.starts_with("invitation")).count(), 6, "{told:?}");
    let begun = std::time::Instant::now();
    // The last of them is forgotten after it was left.
    while !bot.context().store.read_all("room/").await?.is_empty() {
        anyhow::ensure!(begun.elapsed() < SOON, "facts of rooms are kept");
        tokio::task::yield_now().await;
    }
    running.stop().await
}

#[tokio::test]
async fn emptied_encryption_holds_the_room_and_speaks_again_after() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bob.send_state(&room, "m.room.encryption", "", json!({})).await?;
    running.waits_for(&room, Encryption::Violated).await?;
    bot.tells("encryption-violated").await?;
    let held = running.deliver(&slip(&room), ann(), "never in clear").await;
    assert!(matches!(held.map_err(|error| error.fate), Err(Fate::Retry(_))));
    running.kill().await;
    let running = bot.start().await?;
    running.waits_for(&room, Encryption::Violated).await?;
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    bob.send_state(&room, "m.room.encryption", "", megolm).await?;
    running.waits_for(&room, Encryption::Pinned).await?;
    bob.send_state(&room, "m.room.tombstone", "", json!({ "body": "moved", "replacement_room": "!evil:x" })).await?;
    running.waits_for(&room, Encryption::Replaced).await?;
    bot.tells("replaced").await?;
    bob.kick(&room, &bot.user.id).await?;
    running.waits_for(&room, Encryption::Left).await?;
    bot.tells("left").await?;
    running.stop().await
}

/// Synapse takes the redaction, and shows the room's encryption without an algorithm from then on.
#[tokio::test]
async fn room_whose_encryption_was_redacted_gets_nothing_in_clear() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let encrypts = bob.send_state(&room, "m.room.encryption", "", megolm).await?;
    bob.send(&room, "before").await?;
    bot.hears("before").await?;
    bob.redact(&room, &encrypts).await?;
    assert_eq!(bob.state(&room, "m.room.encryption", "").await?, json!({}));
    bob.send(&room, "after").await?;
    bot.hears("after").await?;
    proxy.record();
    running.says(&room, "as ever").await?;
    // A bridge that begins anew, and reads the room anew, is of the same mind.
    running.kill().await;
    let running = bot.start().await?;
    running.says(&room, "again").await?;
    for words in ["Ann: as ever", "Ann: again"] {
        let heard = bob.wait_for(|it| it.body == words, SOON).await?;
        assert!(heard.encrypted, "{heard:?}");
    }
    let sent: Vec<_> = proxy.take_seen().into_iter().filter(|it| it.path.contains("/send/")).collect();
    assert!(sent.len() >= 2 && sent.iter().all(|it| it.path.contains("/send/m.room.encrypted/")), "{sent:?}");
    running.stop().await
}

/// A server, or whoever may, opens a room's history: what can be seen is who writes, and the audience says so.
#[tokio::test]
async fn room_whose_history_is_opened_to_the_world_shows_it_no_words_and_no_keys() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let eve = Person::new_on(&lab.a, "eve").await?;
    let conversation = ConversationId::new(room.as_str());
    let audience = running.matrix.audience(&conversation).await?.context("It has an audience")?;
    assert!(!audience.open);
    bob.send_state(&room, "m.room.history_visibility", "", json!({ "history_visibility": "world_readable" })).await?;
    bob.send(&room, "open").await?;
    bot.hears("open").await?;
    let begun = std::time::Instant::now();
    while !running.matrix.audience(&conversation).await?.context("It has an audience")?.open {
        anyhow::ensure!(begun.elapsed() < SOON, "the audience does not say so");
        tokio::task::yield_now().await;
    }
    proxy.record();
    running.says(&room, "not for the world").await?;
    bob.wait_for(|it| it.body == "Ann: not for the world", SOON).await?;
    // She is in no room of ours, and reads it as the world does.
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let (_, seen) = eve.http("GET", &path, None).await?;
    let seen = seen["chunk"].as_array().context("She sees it")?;
    let ours: Vec<_> = seen.iter().filter(|it| it["sender"] == *bot.user.id && it["type"] != "m.room.member").collect();
    assert!(!ours.is_empty() && ours.iter().all(|it| is_encrypted(it)), "{ours:?}");
    for sent in proxy.take_seen() {
        let text = format!("{} {}", sent.path, String::from_utf8_lossy(&sent.body));
        assert!(!text.contains("not for the world") && !text.contains(eve.user_id()), "{}", sent.path);
    }
    running.stop().await
}

#[tokio::test]
async fn muted_bridge_holds_the_room_and_goes_on_by_itself() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    // Bob made the room, and stands above its levels.
    let levels = |least: u32| json!({ "events_default": least });
    bob.send_state(&room, "m.room.power_levels", "", levels(50)).await?;
    running.waits_for(&room, Encryption::Muted).await?;
    let told = bot.tells("muted").await?;
    assert!(told.contains("power level"), "{told}");
    let held = running.deliver(&slip(&room), ann(), "not now").await;
    assert!(matches!(held.map_err(|error| error.fate), Err(Fate::Retry(_))));
    bob.send_state(&room, "m.room.power_levels", "", levels(0)).await?;
    running.waits_for(&room, Encryption::Pinned).await?;
    running.says(&room, "now").await?;
    bob.wait_for(|it| it.body == "Ann: now", SOON).await?;

    // A bridge that was never told the levels learns them from the refusal.
    let hide = Fault::rewrite(|answer| {
        let Some(rooms) = answer.pointer_mut("/rooms/join").and_then(Value::as_object_mut) else { return };
        for part in rooms.values_mut().filter_map(Value::as_object_mut).flat_map(|room| room.values_mut()) {
            if let Some(events) = part.pointer_mut("/events").and_then(Value::as_array_mut) {
                events.retain(|event| event["type"] != "m.room.power_levels");
            }
        }
    });
    let hiding = proxy.add(Rule::new("GET", "/sync", hide)?);
    running.reconnects(&proxy).await?;
    bob.send_state(&room, "m.room.power_levels", "", levels(50)).await?;
    bob.send(&room, "that was all").await?;
    bot.hears("that was all").await?;
    assert_eq!(running.matrix.encryption(&ConversationId::new(&*room)), Encryption::Pinned);
    let held = running.deliver(&slip(&room), ann(), "refused").await;
    assert!(matches!(held.map_err(|error| error.fate), Err(Fate::Retry(_))));
    running.waits_for(&room, Encryption::Muted).await?;
    hiding.remove();
    running.stop().await
}

#[tokio::test]
async fn device_without_its_owners_signature_is_not_read_gets_no_key_and_is_told() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let nio = Options { kind: Kind::Nio, ..Options::default() };
    let eve = Person::new_with(&lab.a, "eve", nio.clone()).await?;
    let Scene { bob: eve, bot, running, room, proxy: _proxy } = Scene::with(lab, eve, json!({})).await?;
    let bob = Person::new_on(&lab.a, "bob").await?;
    eve.invite(&room, bob.user_id()).await?;
    bob.wait_invite(&room, SOON).await?;
    bob.join(&room).await?;
    running.joins(&room, 3).await?;
    eve.send(&room, "unsigned words").await?;
    bob.send(&room, "signed words").await?;
    bot.hears("signed words").await?;
    let told = bot.tells("not-trusted/").await?;
    assert!(told.contains(eve.user_id()));
    assert_eq!(bot.heard(), ["signed words"], "the one does not wait for the other");
    let sent = running.says(&room, "for signed devices").await?;
    bob.wait_for(|it| it.body == "Ann: for signed devices", SOON).await?;
    until(|| eve.undecryptable().into_iter().find(|it| it.event_id == sent.id.as_str())).await?;
    running.stop().await
}

#[tokio::test]
async fn silent_member_who_gets_no_key_is_told_too() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let eve = Person::new_with(&lab.a, "eve", Options { kind: Kind::Nio, ..Options::default() }).await?;
    bob.invite(&room, eve.user_id()).await?;
    eve.wait_invite(&room, SOON).await?;
    eve.join(&room).await?;
    running.joins(&room, 3).await?;
    running.says(&room, "not for eve").await?;
    let told = bot.tells("not-trusted/").await?;
    assert!(told.contains(eve.user_id()));
    running.stop().await
}

#[tokio::test]
async fn any_device_is_read_and_gets_keys_if_the_account_says_so() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let eve = Person::new_with(&lab.a, "eve", Options { kind: Kind::Nio, ..Options::default() }).await?;
    let scene = Scene::with(lab, eve, json!({ "trust": "any-device" })).await?;
    let Scene { bob: eve, bot, running, room, proxy: _proxy } = scene;
    eve.send(&room, "unsigned words").await?;
    bot.hears("unsigned words").await?;
    running.says(&room, "for any device").await?;
    eve.wait_for(|it| it.body == "Ann: for any device", SOON).await?;
    running.stop().await
}

#[tokio::test]
async fn message_refused_on_trust_crosses_once_its_sender_has_signed() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let unsigned = Options { without_cross_signing: true, ..Options::default() };
    let bob = Person::new_with(&lab.a, "bob", unsigned).await?;
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::with(lab, bob, json!({})).await?;
    bob.send(&room, "signed later").await?;
    bot.tells("not-trusted/").await?;
    assert!(bot.heard().is_empty());
    bob.cross_sign().await?;
    bot.hears("signed later").await?;
    running.stop().await
}

#[tokio::test]
async fn id_of_a_stranger_says_nothing_in_our_name() -> Result<()> {
    const ID: &str = "@ann was let in.\n\nYour recovery key ends.\nRenew it at evil.example.org\n\nPS:evil.example.org";
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let eve = Person::new_on(&lab.a, "eve").await?;
    let proxy = sealbridge_lab::Proxy::before(lab.a.url()).await?;
    let bot = Bot::new(&lab.a, proxy.url(), json!({ "invites": { "from": ["@nobody:x"] } })).await?;
    let (me, hers) = (bot.user.id.clone(), eve.user_id().to_owned());
    let rewrite = Fault::rewrite(move |answer| {
        let Some(rooms) = answer.pointer_mut("/rooms/invite").and_then(Value::as_object_mut) else { return };
        for room in rooms.values_mut() {
            let events = room.pointer_mut("/invite_state/events").and_then(Value::as_array_mut);
            for event in events.into_iter().flatten().filter(|event| event["state_key"] == me.as_str()) {
                if event["sender"] == hers.as_str() {
                    event["sender"] = ID.into();
                }
            }
        }
    });
    let _lies = proxy.add(Rule::new("GET", "/sync", rewrite)?);
    let running = bot.start().await?;
    eve.create_encrypted_room("trap", &[&bot.user.id]).await?;
    let told = bot.tells("invitation/").await?;
    assert!(!told.contains('\n') && !told.contains("in. "), "{told}");
    assert!(!bot.intake.incidents().iter().any(|told| told.topic.contains('\n')));
    running.stop().await
}
