//! Commands in real rooms: an admin, a moderator, somebody on a device that nobody signed and somebody on a phone, each
//! with a client of another implementation.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo,
    person::{Message, Options, Text},
};
use serde_json::{Value, json};

use crate::phones::Family;

const PATIENCE: Duration = Duration::from_secs(60);

/// The master key of somebody's identity.
pub(super) async fn master_key(person: &Person) -> Result<String> {
    let user = person.user_id();
    let asked = json!({ "device_keys": { user: [] } });
    let (status, keys) = person.http("POST", "/_matrix/client/v3/keys/query", Some(asked)).await?;
    ensure!(status == 200, "the homeserver answers {status}");
    let keys = keys["master_keys"][user]["keys"].as_object().context("there is no identity")?;
    Ok(keys.values().next().and_then(Value::as_str).context("it has a key")?.to_owned())
}

fn admin(name: &str, person: &str, key: Option<&str>) -> String {
    let key = key.map_or(String::new(), |key| format!("key = {key:?}\n"));
    format!("[operator.admins.{name}]\naccount = \"a\"\nperson = {person:?}\n{key}")
}

fn answers(message: &Message, to: &str) -> bool {
    message.content["m.relates_to"]["m.in_reply_to"]["event_id"] == to
}

/// What is answered to an event, to be seen by somebody.
async fn answer(seen_by: &Person, to: &str) -> Result<String> {
    let heard = seen_by.wait_for(|message| answers(message, to), PATIENCE).await.context("no answer")?;
    ensure!(heard.content["msgtype"] == "m.notice", "{:?}", heard.content);
    Ok(heard.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admins_own_signed_device_is_obeyed_in_a_real_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let unsigned = Options { without_cross_signing: true, ..Options::default() };
    let (ann, mod_, eve, uma) = tokio::try_join!(
        Person::new_on(&lab.a, "ann"),
        Person::new_on(&lab.a, "moderator"),
        Person::new_on(&lab.a, "eve"),
        Person::new_with(&lab.a, "uma", unsigned),
    )?;
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let account = AccountPlan::on(&lab.a, "a").await?;
    let bot = account.user.id.clone();
    let plan =
        Plan { accounts: vec![account], admin: Some(("a".to_owned(), ann.user_id().to_owned())), ..Plan::default() };
    let mut bridge = Bridge::set_up(&binary, &plan).await?;
    let own = std::fs::read_to_string(bridge.config())?;
    // Eve calls herself an admin of whose identity the config knows another key.
    let admins = [
        admin("ann", ann.user_id(), Some(&master_key(&ann).await?)),
        admin("uma", uma.user_id(), None),
        admin("eve", eve.user_id(), Some(&master_key(&ann).await?)),
    ];
    std::fs::write(bridge.config(), format!("{own}\n{}", admins.concat()))?;
    bridge.start().await?;

    let room = demo::invited(&ann, "here", &bot, None).await?;
    let far = demo::invited(&ann, "far", &bot, None).await?;
    for person in [&mod_, &eve, &uma] {
        ann.invite(&room, person.user_id()).await?;
        person.join(&room).await?;
    }
    let mut levels = ann.state(&room, "m.room.power_levels", "").await?;
    levels["users"][mod_.user_id()] = json!(50);
    ann.send_state(&room, "m.room.power_levels", "", levels).await?;
    let [here, there] = [&room, &far].map(|room| format!("a/{room}"));
    for end in [&here, &there] {
        bridge.wait_conversation(end, PATIENCE).await?;
    }

    // In the admin room an admin makes a link; it says nothing of it to anybody else.
    let admin_room = bridge.status().await?["admin_room"].as_str().context("an admin room")?.to_owned();
    let admin_room = admin_room.split_once('/').context("account/room")?.1.to_owned();
    ann.join(&admin_room).await?;
    let made = ann.send(&admin_room, &format!("!seal link lounge {here} {there}")).await?;
    let made = answer(&ann, &made).await?;
    ensure!(made.contains("`lounge` is made") && made.contains(&there), "{made}");

    // Nobody of these is obeyed: a stranger to the key, a device that nobody signed, somebody who was carried here, an
    // edit, and words in clear.
    let refused = eve.send(&room, "!seal unlink").await?;
    let said = answer(&ann, &refused).await?;
    ensure!(said.contains("Only the operator's admins"), "{said}");
    uma.send(&room, "!seal unlink").await?;
    let profile = json!({ "com.beeper.per_message_profile": { "id": "b", "displayname": "Bob" } });
    let carried = Text { body: "!seal unlink", extra: Some(profile), ..Text::default() };
    let carried = ann.send_text(&room, carried).await?;
    let said = answer(&ann, &carried).await?;
    ensure!(said.contains("carried here for somebody else"), "{said}");
    let status = ann.send(&room, "!seal status").await?;
    let said = answer(&ann, &status).await?;
    ensure!(said.contains("`lounge` is on") && !said.contains(&far), "{said}");
    let edit = json!({
        "m.new_content": { "msgtype": "m.text", "body": "!seal unlink" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": status },
    });
    ann.send_text(&room, Text { body: "* !seal unlink", extra: Some(edit), ..Text::default() }).await?;
    ann.send_raw_plain(&room, "m.room.message", json!({ "msgtype": "m.text", "body": "!seal unlink" })).await?;
    // The same ciphertext once more, under another name.
    let paused = ann.send(&room, "!seal pause").await?;
    let said = answer(&ann, &paused).await?;
    ensure!(said.contains("`lounge` is paused"), "{said}");
    let resumed = ann.send(&room, "!seal resume").await?;
    answer(&ann, &resumed).await?;
    let ciphertext = ann.raw_event(&room, &paused).await?["content"].clone();
    ann.send_raw_plain(&room, "m.room.encrypted", ciphertext).await?;

    // A moderator gets what changes nothing, and nothing else.
    let asked = mod_.send(&room, "!seal status").await?;
    let said = answer(&mod_, &asked).await?;
    ensure!(said.contains("`lounge` is on"), "{said}");
    let asked = mod_.send(&room, "!seal unlink").await?;
    let said = answer(&mod_, &asked).await?;
    ensure!(said.contains("Only the operator's admins"), "{said}");

    // What people say to each other crosses, and not one command did.
    let first = mod_.send(&room, "hello over there").await?;
    let heard = ann.wait_for(|m| m.room == far && m.body.ends_with("hello over there"), PATIENCE).await?;
    ensure!(heard.content["msgtype"] == "m.text", "{:?}", heard.content);
    let why = mod_.send_text(&room, Text { body: "!seal why", reply_to: Some(&first), ..Text::default() }).await?;
    let said = answer(&mod_, &why).await?;
    ensure!(said.contains("Delivered: the other side") && !said.contains("hello"), "{said}");
    let crossed: Vec<_> = ann.messages_in(&far).into_iter().filter(|m| m.body.contains("seal")).collect();
    ensure!(crossed.is_empty(), "{crossed:?}");
    let gone = ann.send(&room, "!seal unlink").await?;
    let said = answer(&ann, &gone).await?;
    ensure!(said.contains("`lounge` is removed"), "{said}");

    let state = bridge.folder().join("state").join("audit.jsonl");
    let audit = std::fs::read_to_string(&state).with_context(|| format!("{}", state.display()))?;
    let lines: Vec<Value> = audit.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let by = |line: &Value| line["by"]["person"]["person"].as_str().map(str::to_owned);
    let done: Vec<_> = lines.iter().filter(|line| line["outcome"].is_null() && by(line).is_some()).collect();
    let actions: Vec<_> = done.iter().filter_map(|line| line["action"].as_str()).collect();
    let expected = ["add_link", "show_link", "pause_link", "resume_link", "show_link", "why", "remove_link"];
    ensure!(actions == expected, "{actions:?}");
    let (looked, changed): (Vec<_>, Vec<_>) =
        done.iter().copied().partition(|line| ["show_link", "why"].map(Value::from).contains(&line["action"]));
    ensure!(changed.iter().all(|line| by(line).as_deref() == Some(ann.user_id())), "{changed:?}");
    let looked: Vec<_> = looked.iter().filter_map(|line| by(line)).collect();
    ensure!(looked == [ann.user_id(), mod_.user_id(), mod_.user_id()], "{looked:?}");
    let refused = lines.iter().filter(|line| line["action"] == "command");
    let refused: Vec<_> = refused.filter_map(|line| line["why"].as_str()).collect();
    ensure!(refused == ["Stranger", "Relayed", "NoAdmin"], "{refused:?}");
    bridge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_on_a_phone_is_known_by_their_key_in_the_group_and_in_a_direct_chat() -> Result<()> {
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let Some(Family { mut bridge, ann, ben, room, chat, .. }) = Family::set(&binary).await? else { return Ok(()) };
    bridge.stop().await?;
    let own = std::fs::read_to_string(bridge.config())?;
    let admin = format!("[operator.admins.ben]\naccount = \"family\"\nperson = {:?}\n", ben.fingerprint());
    std::fs::write(bridge.config(), format!("{own}\n{admin}"))?;
    bridge.start().await?;
    let says = async |chat: u32, words: &str, answered: &str| -> Result<String> {
        ben.send(chat, words).await?;
        let seen = ben.wait_for(|seen| seen.chat == chat && seen.text.contains(answered), PATIENCE).await;
        let seen = seen.with_context(|| format!("{words}: no answer\n{}", bridge.tail()))?;
        ensure!(seen.padlock && seen.name.is_none(), "{seen:?}");
        Ok(seen.text)
    };
    let paused = says(chat, "!seal pause", "`lounge` is paused").await?;
    ensure!(!paused.contains(&room), "others in the group read it too: {paused}");
    let contacts = ben.rpc("get_chat_contacts", json!([chat])).await?;
    let bot = contacts.as_array().into_iter().flatten().filter_map(Value::as_u64).find(|contact| *contact > 9);
    let direct = ben.rpc("create_chat_by_contact_id", json!([bot.context("the bridge is in the group")?])).await?;
    let direct = u32::try_from(direct.as_u64().context("a chat's number")?)?;
    says(direct, "!seal status", "links: 1, 1 of them paused").await?;
    let resumed = says(direct, "!seal resume lounge", "`lounge` goes on").await?;
    ensure!(resumed.contains(&room), "with nobody else there the admin is told what it joins: {resumed}");
    // Whoever is no admin is answered nothing of it, and it does not cross.
    let asked = ann.send(&room, "!seal pause").await?;
    ann.wait_for(|m| answers(m, &asked) && m.body.contains("Only the operator's admins"), PATIENCE).await?;
    ben.send(chat, "dinner is ready").await?;
    ann.wait_for(|m| m.body.ends_with("dinner is ready"), PATIENCE).await?;
    let crossed: Vec<_> = ann.messages_in(&room).into_iter().filter(|m| m.body.contains("!seal pause")).collect();
    ensure!(crossed.iter().all(|m| m.sender == ann.user_id()), "{crossed:?}");
    bridge.stop().await
}
