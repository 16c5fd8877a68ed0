//! Lies about what people said.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use sealbridge_lab::Person;
use serde_json::Value;

use super::{ALICE, BOB, SHORT_POLLS, SOON, Stage, in_sync, in_timelines, strikes};

fn is_encrypted(event: &Value) -> bool {
    event["type"] == "m.room.encrypted"
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_that_replays_rewrites_senders_or_repeats_its_token_carries_nothing_twice_or_for_another()
-> Result<()> {
    let Some(mut stage) = Stage::set(SHORT_POLLS).await? else { return Ok(()) };
    let carol = Person::new_on(&stage.scene.lab.a, "carol").await?;
    let room = stage.room().to_owned();
    stage.scene.people[ALICE].invite(&room, carol.user_id()).await?;
    carol.wait_invite(&room, SOON).await?;
    carol.join(&room).await?;
    stage.crosses(ALICE).await?;

    let replays = stage.liar().add(in_timelines(|events| {
        let copies: Vec<_> = events.iter().filter(|event| is_encrypted(event)).cloned().collect();
        events.extend(copies.into_iter().map(|mut copy| {
            copy["event_id"] = format!("{}again", copy["event_id"].as_str().unwrap_or_default()).into();
            copy
        }));
    })?);
    stage.begins().await?;
    strikes(&replays).await?;
    let once = stage.says(ALICE).await?;
    stage.hears(BOB, &once).await?;
    stage.operator_reads("did not cross: replayed").await?;
    replays.remove();
    stage.begins().await?;
    stage.crosses(ALICE).await?;
    ensure!(stage.has_heard(BOB, &once) == 1, "it was heard {} times", stage.has_heard(BOB, &once));
    stage.nothing_is_readable("a replay")?;

    let as_carol = carol.user_id().to_owned();
    let rewrites = stage.liar().add(in_timelines(move |events| {
        for event in events.iter_mut().filter(|event| is_encrypted(event)) {
            event["sender"] = as_carol.as_str().into();
        }
    })?);
    stage.begins().await?;
    strikes(&rewrites).await?;
    let not_hers = stage.says(ALICE).await?;
    stage.operator_reads("sender").await?;
    rewrites.remove();
    stage.begins().await?;
    stage.crosses(ALICE).await?;
    ensure!(stage.has_heard(BOB, &not_hers) == 0, "it was carried as somebody else's");
    stage.nothing_is_readable("a rewritten sender")?;

    let first = Mutex::new(None);
    let stuck = stage.liar().add(in_sync(move |answer| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = answer.get_mut("next_batch") {
            *token = first.get_or_insert_with(|| token.clone()).clone();
        }
    })?);
    stage.begins().await?;
    strikes(&stuck).await?;
    let (before, again) = (stage.says(ALICE).await?, stage.says(ALICE).await?);
    stage.hears(BOB, &again).await?;
    stage.status_says("does not move").await?;
    stage.crosses(BOB).await?;
    stuck.remove();
    stage.crosses(ALICE).await?;
    for words in [&before, &again] {
        ensure!(stage.has_heard(BOB, words) == 1, "{words} was heard {} times", stage.has_heard(BOB, words));
    }
    stage.status_is("that all is well", |status| status["accounts"][0]["trouble"].is_null()).await?;
    stage.nothing_is_readable("a token that never moves")?;
    stage.close().await
}
