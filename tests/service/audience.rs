//! Who can read: newcomers get nothing before everybody was told of them, and an identity that changed stops everything.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    DeltaPerson, MailServer, Person,
    bridge::Binary,
    demo::{Scene, Setting, Stage},
    person::{Message, Options},
    proxy::{Fault, Rule},
    servers,
};
use serde_json::{Value, json};

use super::phones;

const SOON: Duration = Duration::from_secs(30);
/// Mail takes longer.
const LONG: Duration = Duration::from_secs(60);

fn binary() -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_sealbridge"))
}

async fn scene(setting: Setting) -> Result<Option<Scene>> {
    if !servers::available().await {
        return Ok(None);
    }
    Ok(Some(Scene::set_with(&binary(), &Stage::new(true), setting).await?))
}

/// The operator goes into the admin room, as whoever runs a bridge does first.
async fn operator_listens(scene: &Scene) -> Result<()> {
    let status = scene.bridge.status().await?;
    let room =
        status["admin_room"].as_str().and_then(|room| room.strip_prefix("a/")).context("There is an admin room")?;
    scene.operator.wait_invite(room, SOON).await?;
    scene.operator.join(room).await
}

/// Somebody of the first homeserver comes into the first room.
async fn comes(scene: &Scene, name: &str) -> Result<Person> {
    let newcomer = Person::new_on(&scene.lab.a, name).await?;
    let [alice, _] = &scene.people;
    alice.invite(&scene.rooms[0], newcomer.user_id()).await?;
    newcomer.wait_invite(&scene.rooms[0], SOON).await?;
    newcomer.join(&scene.rooms[0]).await?;
    Ok(newcomer)
}

async fn says(scene: &Scene, speaker: usize, words: &str) -> Result<()> {
    scene.people[speaker].send(&scene.rooms[speaker], words).await?;
    Ok(())
}

async fn hears(person: &Person, words: &str) -> Result<()> {
    let heard = person.wait_for(|message| message.body.contains(words), SOON).await;
    heard.with_context(|| format!("{} should hear {words:?}", person.user_id()))?;
    Ok(())
}

fn has_heard(person: &Person, words: &str) -> bool {
    person.messages().iter().any(|message| message.body.contains(words))
}

/// What `sealbridge audience` shows of one person.
async fn member(scene: &Scene, person: &str) -> Result<Value> {
    let answer = scene.bridge.cli(&["audience", "demo"]).await?.ok()?;
    let lines = answer.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut members = lines.into_iter().filter(|line| line["person"] == person);
    members.next().with_context(|| format!("{person} is in the audience: {}", answer.stdout))
}

async fn stands(scene: &Scene, person: &str, standing: &str) -> Result<Value> {
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        let member = member(scene, person).await;
        if let Ok(member) = &member
            && member["standing"] == standing
        {
            return Ok(member.clone());
        }
        ensure!(tokio::time::Instant::now() < give_up, "{person} should stand {standing}: {member:?}");
        tokio::task::yield_now().await;
    }
}

/// Waits until somebody is not in the audience any more.
async fn gone(scene: &Scene, person: &str) -> Result<()> {
    let give_up = tokio::time::Instant::now() + SOON;
    while member(scene, person).await.is_ok() {
        ensure!(tokio::time::Instant::now() < give_up, "{person} is still there");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomer_gets_nothing_until_everybody_in_the_link_was_told_of_them() -> Result<()> {
    let Some(scene) = scene(Setting { proxies: true, ..Setting::default() }).await? else { return Ok(()) };
    let [alice, bob] = &scene.people;
    says(&scene, 1, "before anybody came").await?;
    hears(alice, "before anybody came").await?;
    // The far side can't be told now.
    scene.proxies[1].go_offline();
    let carol = comes(&scene, "carol").await?;
    hears(alice, &format!("Now here: {}", carol.user_id())).await?;
    let waits = stands(&scene, carol.user_id(), "new").await?;
    ensure!(waits["proof"] == "cross_signed", "{waits}");
    ensure!(!bob.messages().iter().any(|message| message.body.contains(carol.user_id())), "it can't be told there yet");
    // A death in between makes nobody a reader.
    let Scene { bridge, .. } = &scene;
    bridge.kill().await?;
    let mut scene = scene;
    scene.bridge.spawn().await?;
    scene.proxies[1].go_online();
    scene.bridge.wait_connected(SOON).await?;
    let [alice, bob] = &scene.people;
    let told = bob.wait_for(|message| message.body.contains(carol.user_id()), SOON).await?;
    ensure!(told.body.contains("can read what is said here"), "{told:?}");
    stands(&scene, carol.user_id(), "reads").await?;
    says(&scene, 1, "now that we know").await?;
    hears(alice, "now that we know").await?;
    hears(&carol, "now that we know").await?;
    // What was said to her conversation before that, the notice itself among it, is not for her.
    ensure!(!has_heard(&carol, "Now here") && !has_heard(&carol, "before anybody came"), "{:?}", carol.messages());
    let here = |message: &&Message| message.body.contains("Now here");
    ensure!(alice.messages().iter().filter(here).count() == 1, "it is said once");
    // A room that is opened to the world shows who writes there.
    let open = json!({ "history_visibility": "world_readable" });
    alice.send_state(&scene.rooms[0], "m.room.history_visibility", "", open).await?;
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        let shown = scene.bridge.cli(&["audience", "demo"]).await?.ok()?.stdout;
        let is_open = |at: &str| {
            let is_it = |line: &Value| line["open"] == true && line["at"] == at;
            shown.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|line| is_it(&line))
        };
        ensure!(!is_open(&format!("b/{}", scene.rooms[1])), "{shown}");
        if is_open(&format!("a/{}", scene.rooms[0])) {
            break;
        }
        ensure!(tokio::time::Instant::now() < give_up, "{shown}");
    }
    // Who only was invited gets nothing either.
    let dora = Person::new_on(&scene.lab.a, "dora").await?;
    alice.invite(&scene.rooms[0], dora.user_id()).await?;
    stands(&scene, dora.user_id(), "invited").await?;
    // Who goes and comes back is new again.
    carol.leave(&scene.rooms[0]).await?;
    alice.wait_member(&scene.rooms[0], carol.user_id(), "leave", SOON).await?;
    says(&scene, 1, "while she was away").await?;
    hears(alice, "while she was away").await?;
    alice.invite(&scene.rooms[0], carol.user_id()).await?;
    carol.wait_invite(&scene.rooms[0], SOON).await?;
    carol.join(&scene.rooms[0]).await?;
    bob.wait_for(|message| message.event_id != told.event_id && message.body.contains("can read what is said"), SOON)
        .await
        .context("It is told again")?;
    stands(&scene, carol.user_id(), "reads").await?;
    says(&scene, 1, "welcome back").await?;
    hears(&carol, "welcome back").await?;
    ensure!(!has_heard(&carol, "while she was away"));
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_is_refused_admits_nobody_and_one_of_another_time_counts_for_nothing() -> Result<()> {
    let Some(scene) = scene(Setting { proxies: true, ..Setting::default() }).await? else { return Ok(()) };
    operator_listens(&scene).await?;
    let [alice, bob] = &scene.people;
    says(&scene, 1, "before anybody came").await?;
    hears(alice, "before anybody came").await?;
    let first = comes(&scene, "first").await?;
    hears(bob, first.user_id()).await?;
    stands(&scene, first.user_id(), "reads").await?;
    // Told of, and gone before anything else was said: the next time is another time.
    let too_large = Fault::Answer { status: 413, body: json!({ "errcode": "M_TOO_LARGE", "error": "no" }) };
    let refusing = scene.proxies[1].add(Rule::new("PUT", "/send/m.room.encrypted", too_large)?);
    let carol = comes(&scene, "carol").await?;
    refusing.wait_struck(1, SOON).await?;
    hears(&scene.operator, "could not be told").await?;
    stands(&scene, carol.user_id(), "new").await?;
    ensure!(!has_heard(bob, carol.user_id()), "it was refused");
    carol.leave(&scene.rooms[0]).await?;
    alice.wait_member(&scene.rooms[0], carol.user_id(), "leave", SOON).await?;
    refusing.remove();
    alice.invite(&scene.rooms[0], carol.user_id()).await?;
    carol.wait_invite(&scene.rooms[0], SOON).await?;
    carol.join(&scene.rooms[0]).await?;
    let told = bob.wait_for(|message| message.body.contains(carol.user_id()), LONG).await;
    told.with_context(|| format!("He is told of her now: {}", scene.bridge.tail()))?;
    stands(&scene, carol.user_id(), "reads").await?;
    says(&scene, 1, "to all of you").await?;
    hears(&carol, "to all of you").await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_and_went_before_they_could_read_is_told_of_when_they_come_again() -> Result<()> {
    let Some(scene) = scene(Setting { proxies: true, ..Setting::default() }).await? else { return Ok(()) };
    let [alice, bob] = &scene.people;
    says(&scene, 1, "before anybody came").await?;
    hears(alice, "before anybody came").await?;
    scene.proxies[1].go_offline();
    let carol = comes(&scene, "carol").await?;
    hears(alice, &format!("Now here: {}", carol.user_id())).await?;
    carol.leave(&scene.rooms[0]).await?;
    says(&scene, 0, "she is gone").await?;
    gone(&scene, carol.user_id()).await?;
    scene.proxies[1].go_online();
    let first = bob.wait_for(|message| message.body.contains(carol.user_id()), LONG).await?;
    hears(bob, "she is gone").await?;
    alice.invite(&scene.rooms[0], carol.user_id()).await?;
    carol.wait_invite(&scene.rooms[0], SOON).await?;
    carol.join(&scene.rooms[0]).await?;
    let again = |message: &Message| {
        message.event_id != first.event_id && message.body.contains("Now in") && message.body.contains(carol.user_id())
    };
    bob.wait_for(again, LONG).await.context("It is told again")?;
    stands(&scene, carol.user_id(), "reads").await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn link_that_freezes_says_nothing_to_a_conversation_until_its_newcomer_is_approved() -> Result<()> {
    let Some(mut scene) = scene(Setting::default()).await? else { return Ok(()) };
    let [alice_id, _] = scene.people.each_ref().map(|person| person.user_id().to_owned());
    // The same link, declared in the config.
    scene.bridge.cli(&["links", "remove", "demo"]).await?.ok()?;
    scene.bridge.stop().await?;
    let ends = format!("\"a/{}\", \"b/{}\"", scene.rooms[0], scene.rooms[1]);
    let config = std::fs::read_to_string(scene.bridge.config())?;
    let link = format!("\n[links.demo]\nends = [{ends}]\nnew_members = \"freeze\"\n");
    std::fs::write(scene.bridge.config(), format!("{config}{link}"))?;
    scene.bridge.start().await?;
    let [alice, bob] = &scene.people;
    says(&scene, 1, "all as before").await?;
    hears(alice, "all as before").await?;

    operator_listens(&scene).await?;
    let carol = comes(&scene, "carol").await?;
    hears(&scene.operator, carol.user_id()).await?;
    hears(bob, "somebody new is there").await?;
    says(&scene, 1, "is not said yet").await?;
    // The other direction has no newcomer.
    says(&scene, 0, "goes on").await?;
    hears(bob, "goes on").await?;
    let status = scene.bridge.status().await?;
    let waits = |lane: &Value| lane["why"] == "audience_changed";
    ensure!(status["lanes"].as_array().is_some_and(|lanes| lanes.iter().any(waits)), "{status}");
    ensure!(!has_heard(alice, "is not said yet") && !has_heard(&carol, "is not said yet"));
    let nobody = scene.bridge.cli(&["approve", "demo", "@nobody:example.org"]).await?;
    ensure!(nobody.code == 2 && nobody.stderr.contains("does not wait"), "{nobody:?}");
    let known = scene.bridge.cli(&["approve", "demo", &alice_id]).await?;
    ensure!(known.code == 2, "{known:?}");
    let waiting = stands(&scene, carol.user_id(), "new").await?;
    let key = waiting["identity"].as_str().context("She has an identity")?;
    let another =
        scene.bridge.cli(&["approve", "demo", carol.user_id(), "--key", &key.replace(&key[..4], "AAAA")]).await?;
    ensure!(another.code == 6 && another.stderr.contains("not the one that you named"), "{another:?}");
    stands(&scene, carol.user_id(), "new").await?;
    let grouped = format!("{} {}", &key[..8], &key[8..]);
    let approved = scene.bridge.cli(&["approve", "demo", carol.user_id(), "--key", &grouped]).await?.ok()?;
    ensure!(approved.stdout.contains(carol.user_id()), "{approved:?}");
    hears(alice, "is not said yet").await?;
    hears(&carol, "is not said yet").await?;
    let audit = std::fs::read_to_string(scene.bridge.folder().join("state/audit.jsonl"))?;
    ensure!(audit.lines().any(|line| line.contains("\"approve\"") && line.contains(carol.user_id())), "{audit}");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_identity_of_anybody_freezes_both_directions_until_somebody_approves_it() -> Result<()> {
    let Some(scene) = scene(Setting::default()).await? else { return Ok(()) };
    let [alice, bob] = &scene.people;
    says(&scene, 0, "as herself").await?;
    hears(bob, "as herself").await?;
    operator_listens(&scene).await?;
    let before = stands(&scene, alice.user_id(), "reads").await?;
    alice.cross_sign().await.context("She makes a new identity")?;
    let changed = stands(&scene, alice.user_id(), "changed").await?;
    ensure!(changed["pinned"] == before["identity"] && changed["identity"] != before["identity"], "{changed}");
    says(&scene, 0, "under the same key").await?;
    alice.new_session(&scene.rooms[0]).await?;
    says(&scene, 0, "who says this?").await?;
    says(&scene, 1, "not for a stranger").await?;
    hears(&scene.operator, "their identity is another").await?;
    let shown = scene.bridge.cli(&["trust", "show", alice.user_id()]).await?.ok()?;
    ensure!(shown.stdout.contains(changed["identity"].as_str().unwrap_or("?")), "{shown:?}");
    ensure!(!has_heard(bob, "under the same key") && !has_heard(bob, "who says this?"));
    ensure!(!has_heard(alice, "not for a stranger"));
    scene.bridge.cli(&["approve", "demo", alice.user_id()]).await?.ok()?;
    let audit = std::fs::read_to_string(scene.bridge.folder().join("state/audit.jsonl"))?;
    let lines: Vec<Value> = audit.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let admitted = lines.iter().filter_map(|line| line["found"].as_array()).flatten();
    let admitted: Vec<_> = admitted.map(|one| (&one["person"], &one["identity"])).collect();
    // The key stands there though nobody named it.
    assert_eq!(admitted, [(&changed["person"], &changed["identity"])], "{audit}");
    hears(bob, "under the same key").await?;
    hears(bob, "who says this?").await?;
    hears(alice, "not for a stranger").await?;
    stands(&scene, alice.user_id(), "reads").await?;

    // Whoever is forgotten is told of anew.
    scene.bridge.cli(&["trust", "forget", "a", alice.user_id()]).await?.ok()?;
    hears(bob, "Now in").await?;
    stands(&scene, alice.user_id(), "reads").await?;
    let twice = scene.bridge.cli(&["trust", "forget", "a", "@nobody:example.org"]).await?;
    ensure!(twice.code == 2, "{twice:?}");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_no_identity_is_told_of_before_their_first_one_reads() -> Result<()> {
    let Some(scene) = scene(Setting::default()).await? else { return Ok(()) };
    let [alice, bob] = &scene.people;
    let unsigned = Options { without_cross_signing: true, ..Options::default() };
    let carol = Person::new_with(&scene.lab.a, "carol", unsigned).await?;
    alice.invite(&scene.rooms[0], carol.user_id()).await?;
    carol.wait_invite(&scene.rooms[0], SOON).await?;
    carol.join(&scene.rooms[0]).await?;
    bob.wait_for(|m| m.body.contains(carol.user_id()) && m.body.contains("no identity"), SOON).await?;
    stands(&scene, carol.user_id(), "no_identity").await?;
    says(&scene, 1, "she can't read this").await?;
    hears(alice, "she can't read this").await?;
    carol.cross_sign().await?;
    bob.wait_for(|m| m.body.contains(carol.user_id()) && m.body.contains("cross-signed, not verified"), SOON).await?;
    stands(&scene, carol.user_id(), "reads").await?;
    says(&scene, 1, "and this she can").await?;
    hears(&carol, "and this she can").await?;
    ensure!(!has_heard(&carol, "she can't read this"));
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomer_on_a_phone_is_told_of_in_the_room_before_anything_is_said_to_them() -> Result<()> {
    let Some(family) = phones::Family::set(&binary()).await? else { return Ok(()) };
    let mail = MailServer::shared().await?.context("There is a mail server")?;
    let phones::Family { bridge, ann, ben, room, chat, .. } = &family;
    ann.send(room, "before she came").await?;
    ben.hears("before she came", LONG).await?;
    let links = bridge.cli(&["links", "list"]).await?.ok()?;
    let group = links.stdout.split('"').find(|text| text.starts_with("family/")).context("The group is linked")?;
    let invitation = bridge.cli(&["conversations", "invite", group]).await?.json()?;
    let eve = DeltaPerson::new_on(mail, "eve").await?;
    let her_chat = eve.join(invitation["link"].as_str().context("It has a link")?).await?;
    ann.wait_for(|message| message.body.contains("Now in") && message.body.contains("eve"), LONG).await?;
    ben.hears("Now here", LONG).await?;
    ann.send(room, "after that").await?;
    eve.hears("after that", LONG).await?;
    ben.hears("after that", LONG).await?;
    let on_screen = ben.messages().await?;
    let place = |words: &str| on_screen.iter().position(|seen| seen.chat == *chat && seen.text.contains(words));
    ensure!(place("Now here") < place("after that"), "{:?} {:?}", place("Now here"), place("after that"));
    ensure!(!eve.messages().await?.iter().any(|seen| seen.chat == her_chat && seen.text.contains("before she came")));
    let shown = bridge.cli(&["trust", "show", eve.fingerprint()]).await?.json()?;
    ensure!(shown["proof"] == "secure_join" && shown["identity"] == eve.fingerprint(), "{shown}");
    bridge.stop().await
}
