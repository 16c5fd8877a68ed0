//! Nothing is lost, and nothing comes twice, whenever we die and whatever the homeserver leaves out.

use std::time::Duration;

use anyhow::Result;
use sealbridge_lab::{
    Lab, Person, Proxy,
    proxy::{Fault, Rule},
};
use serde_json::json;

use crate::bot::{Bot, Running, SOON, until, until_within};

/// Bob and the bridge in an encrypted room, through a proxy.
pub(crate) struct Scene {
    pub(crate) bob: Person,
    pub(crate) proxy: Proxy,
    pub(crate) bot: Bot,
    pub(crate) running: Running,
    pub(crate) room: String,
}

impl Scene {
    pub(crate) async fn set(lab: &Lab, settings: serde_json::Value) -> Result<Self> {
        Self::with(lab, Person::new_on(&lab.a, "bob").await?, settings).await
    }

    pub(crate) async fn with(lab: &Lab, bob: Person, mut settings: serde_json::Value) -> Result<Self> {
        let proxy = Proxy::before(lab.a.url()).await?;
        settings["invites"] = json!({ "from": [bob.user_id()] });
        let bot = Bot::new(&lab.a, proxy.url(), settings).await?;
        let running = bot.start().await?;
        let room = bob.create_encrypted_room("talk", &[&bot.user.id]).await?;
        running.joins(&room, 2).await?;
        bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
        Ok(Self { bob, proxy, bot, running, room })
    }
}

#[tokio::test]
async fn full_journal_takes_the_message_when_there_is_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bot.intake.be_full(3);
    bob.send(&room, "one").await?;
    bob.send(&room, "two").await?;
    bot.hears("two").await?;
    assert_eq!(bot.heard(), ["one", "two"]);
    running.stop().await
}

#[tokio::test]
async fn what_was_left_out_is_read_backwards_to_the_last_known() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "before").await?;
    bot.hears("before").await?;
    running.stop().await?;
    let mut expected = vec!["before".to_owned()];
    for n in 0..250 {
        expected.push(format!("message {n}"));
        bob.send(&room, &format!("message {n}")).await?;
    }
    // Killed after the first page: the next start goes on where it was.
    let stuck = proxy.add(Rule::new("GET", "/messages", Fault::Hang)?.after(1));
    let running = bot.start().await?;
    stuck.wait_struck(1, SOON).await?;
    running.kill().await;
    stuck.remove();
    let running = bot.start().await?;
    until(|| (bot.intake.accepted().len() >= expected.len()).then_some(())).await?;
    assert_eq!(bot.heard(), expected);
    until(|| (bot.intake.gaps().0 == 0).then_some(())).await?;
    assert!(bot.intake.gaps().1 >= 1, "250 messages are more than one answer holds");
    running.stop().await
}

#[tokio::test]
async fn what_was_said_before_we_joined_stays_unread() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let bob = Person::new_on(&lab.a, "bob").await?;
    let bot = Bot::new(&lab.a, lab.a.url(), json!({ "invites": { "from": [bob.user_id()] } })).await?;
    let room = bob.create_encrypted_room("talk", &[]).await?;
    for n in 0..5 {
        bob.send(&room, &format!("private {n}")).await?;
    }
    let running = bot.start().await?;
    bob.invite(&room, &bot.user.id).await?;
    bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
    running.joins(&room, 2).await?;
    bob.send(&room, "public").await?;
    bot.hears("public").await?;
    assert_eq!(bot.heard(), ["public"]);
    assert_eq!(bot.intake.still_waiting(), 0);
    running.stop().await
}

#[tokio::test]
async fn key_that_comes_late_opens_what_waited() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bob.send(&room, "early").await?;
    bot.hears("early").await?;
    bob.new_session(&room).await?;
    bob.withhold(&room, &[&bot.user.id], false).await?;
    bob.send(&room, "late").await?;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;
    running.kill().await;
    let running = bot.start().await?;
    bob.share_key(&room).await?;
    bot.hears("late").await?;
    assert_eq!(bot.intake.still_waiting(), 0);
    running.stop().await
}

#[tokio::test]
async fn delivery_whose_answer_is_lost_is_found_and_never_doubled() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let slip = crate::bot::slip(&room);
    let lost = proxy.add(Rule::new("PUT", "/send/m.room.encrypted/", Fault::DropAfter)?.times(1));
    let error = running.deliver(&slip, crate::bot::ann(), "only once").await.expect_err("its answer is lost");
    assert_eq!(error.fate, sealbridge_contract::Fate::Unknown);
    assert_eq!(lost.struck(), 1);
    use sealbridge_contract::Transport as _;
    let found = running.matrix.find(&slip).await?;
    let sealbridge_contract::Found::There(id) = found else { panic!("it arrived") };
    let again = running.deliver(&slip, crate::bot::ann(), "only once").await?;
    assert_eq!(again.id, id, "the homeserver remembers its transaction");
    running.says(&room, "the end").await?;
    bob.wait_for(|it| it.body == "Ann: the end", SOON).await?;
    let bodies: Vec<_> = bob.messages_in(&room).into_iter().map(|it| it.body).collect();
    assert_eq!(bodies, ["Ann: only once", "Ann: the end"]);
    let unsent = crate::bot::slip(&room);
    assert_eq!(running.matrix.find(&unsent).await?, sealbridge_contract::Found::NotThere);
    let echoed = || bot.intake.echoes().into_iter().any(|echo| echo.delivery == slip.delivery).then_some(());
    until(echoed).await?;
    running.stop().await
}

#[tokio::test]
async fn echoes_that_came_with_nothing_else_are_told_before_what_answers_them_and_by_themselves() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    for round in 0..4 {
        let slip = crate::bot::slip(&room);
        let question = format!("question {round}");
        running.deliver(&slip, crate::bot::ann(), &question).await?;
        bob.wait_for(|it| it.body.ends_with(&question), SOON).await?;
        let answer = format!("answer {round}");
        bob.send(&room, &answer).await?;
        bot.hears(&answer).await?;
        assert!(bot.intake.echoes().iter().any(|echo| echo.delivery == slip.delivery), "{round}: it comes too late");
    }
    let last: Vec<_> = (0..3).map(|_| crate::bot::slip(&room)).collect();
    for slip in &last {
        running.deliver(slip, crate::bot::ann(), "no answer").await?;
    }
    // Nothing more comes from the homeserver, and the last of them is told all the same.
    let told = || {
        let echoes = bot.intake.echoes();
        last.iter().all(|slip| echoes.iter().any(|echo| echo.delivery == slip.delivery)).then_some(())
    };
    until(told).await?;
    running.stop().await
}

#[tokio::test]
async fn echoes_that_a_full_journal_did_not_take_are_told_once_there_is_room() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bot.intake.be_full(u32::MAX);
    let (begun, mut slips) = (std::time::Instant::now(), Vec::new());
    // Longer than echoes are kept back.
    while begun.elapsed() < Duration::from_secs(3) {
        let slip = crate::bot::slip(&room);
        let words = format!("while it is full {}", slips.len());
        running.deliver(&slip, crate::bot::ann(), &words).await?;
        bob.wait_for(|it| it.body.ends_with(&words), SOON).await?;
        slips.push(slip);
    }
    bot.intake.be_full(0);
    bob.send(&room, "there is room").await?;
    bot.hears("there is room").await?;
    let echoes = bot.intake.echoes();
    let told = slips.iter().filter(|slip| echoes.iter().any(|echo| echo.delivery == slip.delivery)).count();
    assert_eq!(told, slips.len());
    running.stop().await
}

#[tokio::test]
async fn deliveries_in_doubt_read_the_rooms_history_once() -> Result<()> {
    use sealbridge_contract::{Found, Transport as _};
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    let arrived = crate::bot::slip(&room);
    let there = running.deliver(&arrived, crate::bot::ann(), "it arrived").await?;
    bob.send(&room, "and so on").await?;
    bot.hears("and so on").await?;
    proxy.record();
    let pages = || proxy.take_seen().iter().filter(|seen| seen.path.contains("/messages")).count();
    let unsent: Vec<_> = (0..20).map(|_| crate::bot::slip(&room)).collect();
    let oldest = sealbridge_contract::Slip { enqueued_at: arrived.enqueued_at, ..crate::bot::slip(&room) };
    assert_eq!(running.matrix.find(&oldest).await?, Found::NotThere);
    let once = pages();
    assert!(once > 0);
    for slip in &unsent {
        assert_eq!(running.matrix.find(slip).await?, Found::NotThere);
    }
    assert_eq!(running.matrix.find(&arrived).await?, Found::There(there.id));
    assert_eq!(pages(), 0, "it was read before");
    // What is sent after the look is found by another, which reads no more than what is new.
    let lost = proxy.add(Rule::new("PUT", "/send/m.room.encrypted/", Fault::DropAfter)?.times(1));
    running.deliver(&unsent[0], crate::bot::ann(), "late").await.expect_err("its answer is lost");
    assert_eq!(lost.struck(), 1);
    assert!(matches!(running.matrix.find(&unsent[0]).await?, Found::There(_)));
    assert_eq!(running.matrix.find(&unsent[1]).await?, Found::NotThere);
    assert_eq!(pages(), 1);
    running.stop().await
}

#[tokio::test]
async fn gateways_page_in_place_of_the_homeserver_is_waited_for() -> Result<()> {
    use sealbridge_contract::Transport as _;
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    running.stop().await?;
    for status in [403, 404, 200] {
        let page = Fault::Answer { status, body: json!("no such site") };
        let page = proxy.add(Rule::new("*", "/_matrix/", page)?);
        let running = bot.start().await?;
        page.wait_struck(1, SOON).await?;
        until(|| running.matrix.health().trouble).await?;
        page.remove();
        let words = format!("after a page with {status}");
        bob.send(&room, &words).await?;
        bot.hears(&words).await?;
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn unreachable_homeserver_is_waited_for() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    running.kill().await;
    proxy.go_offline();
    let running = bot.start().await?;
    bob.send(&room, "while you were away").await?;
    let error = running.deliver(&crate::bot::slip(&room), crate::bot::ann(), "not yet").await;
    assert!(matches!(error.map_err(|error| error.fate), Err(sealbridge_contract::Fate::Retry(_))));
    proxy.go_online();
    bot.hears("while you were away").await?;
    running.says(&room, "and now").await?;
    bob.wait_for(|it| it.body == "Ann: and now", SOON).await?;
    running.stop().await
}

#[tokio::test]
async fn key_that_its_sender_withholds_is_said_and_holds_up_nobody() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    bob.withhold(&room, &[&bot.user.id], true).await?;
    bob.send(&room, "not for bridges").await?;
    until(|| (bot.intake.still_waiting() == 1).then_some(())).await?;
    bob.call("share_later", json!({ "room": room })).await?;
    bob.send(&room, "for all").await?;
    bot.hears("for all").await?;
    assert_eq!(bot.heard(), ["for all"]);
    bob.share_key(&room).await?;
    bot.hears("not for bridges").await?;
    running.stop().await
}

/// The bridge on a new machine hears a message whose key only the backup has. Gives the message's name.
async fn with_a_key_from_the_backup(lab: &Lab, backup_keys: &str) -> Result<(Scene, String)> {
    let mut scene = Scene::set(lab, json!({ "backup_keys": backup_keys, "sync_timeout": "1s" })).await?;
    scene.proxy.record();
    scene.bob.send(&scene.room, "old key").await?;
    let heard = scene.bot.hears("old key").await?;
    let backed_up = || {
        let seen = scene.proxy.take_seen();
        seen.iter().any(|seen| seen.method == "PUT" && seen.path.contains("/room_keys/keys")).then_some(())
    };
    until(backed_up).await?;
    scene.bob.send(&scene.room, "the backup has it by now").await?;
    scene.bot.hears("the backup has it by now").await?;
    let event = scene.bob.raw_event(&scene.room, heard.id.as_str()).await?;
    scene.running.stop().await?;
    let key = scene.bot.recovery_key.clone().unwrap_or_default();
    scene.bot.on_a_new_machine()?;
    scene.bot.set_up(&[("recovery_key", &key)]).await?;
    scene.running = scene.bot.start().await?;
    scene.running.joins(&scene.room, 2).await?;
    let again = event["content"].clone();
    let sent = scene.bob.send_raw_plain(&scene.room, "m.room.encrypted", again).await?;
    Ok((scene, sent))
}

#[tokio::test]
async fn key_from_the_backup_proves_no_sender_and_opens_nothing_by_default() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (Scene { bot, running, bob: _bob, proxy: _proxy, .. }, event) =
        with_a_key_from_the_backup(lab, "refuse").await?;
    let refused = || bot.intake.refused().into_iter().find(|(id, _)| id.as_str() == event).map(|(_, why)| why);
    // The key itself might have come yet.
    let why = until_within(SOON * 3, refused).await?;
    assert!(why.contains("backup"), "{why}");
    running.stop().await
}

#[tokio::test]
async fn key_from_the_backup_opens_what_is_then_marked_if_the_account_says_so() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let (Scene { bot, running, bob: _bob, proxy: _proxy, .. }, event) = with_a_key_from_the_backup(lab, "mark").await?;
    let heard = bot.hears("old key").await?;
    assert_eq!(heard.id.as_str(), event);
    running.stop().await
}

#[tokio::test]
async fn token_that_ends_in_the_middle_of_a_send_is_renewed_and_the_message_is_there_once() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot: _bot, running, room, proxy } = Scene::set(lab, json!({})).await?;
    running.says(&room, "before").await?;
    proxy.record();
    let ended = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "ended", "soft_logout": true });
    let ended = Fault::Answer { status: 401, body: ended };
    let ended = proxy.add(Rule::new("PUT", "/send/m.room.encrypted/", ended)?.times(1));
    running.says(&room, "renewed on the way").await?;
    assert_eq!(ended.struck(), 1);
    let seen = proxy.take_seen();
    let asked =
        |what: &str| seen.iter().filter(|seen| seen.path.contains(what)).map(|seen| &seen.path).collect::<Vec<_>>();
    assert_eq!(asked("/refresh").len(), 1);
    let sends = asked("/send/m.room.encrypted/");
    assert!(sends.len() == 2 && sends[0] == sends[1], "it is the same message: {sends:?}");
    running.says(&room, "after").await?;
    bob.wait_for(|it| it.body == "Ann: after", SOON).await?;
    let heard: Vec<_> = bob.messages_in(&room).into_iter().map(|it| it.body).collect();
    assert_eq!(heard, ["Ann: before", "Ann: renewed on the way", "Ann: after"]);
    running.stop().await
}

#[tokio::test]
async fn session_that_is_ended_in_the_middle_of_a_send_ends_the_account_and_keeps_the_message() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    running.says(&room, "before").await?;
    lab.a.log_out_everywhere(&bot.user).await?;
    let slip = crate::bot::slip(&room);
    let held = running.deliver(&slip, crate::bot::ann(), "never sent").await.expect_err("nobody is logged in");
    assert!(matches!(held.fate, sealbridge_contract::Fate::Retry(_)), "{held}");
    let why = running.ended().await.expect_err("the account ends");
    assert!(why.to_string().contains("`sealbridge init`"), "it says the way out: {why}");
    assert_eq!(bob.messages_in(&room).len(), 1);
    Ok(())
}
