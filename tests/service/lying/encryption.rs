//! Lies about whether a room is encrypted.

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::proxy::{Fault, Rule};
use serde_json::{Map, Value, json};

use super::{ALICE, BOB, SOON, Stage, in_sync, strikes, with_state};

/// Takes the event out of a sync answer, wherever it stands.
pub(super) fn without_encryption(answer: &mut Map<String, Value>) {
    let rooms = answer.get_mut("rooms").and_then(Value::as_object_mut);
    for rooms in rooms.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        for part in rooms.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            if let Some(events) = part.pointer_mut("/events").and_then(Value::as_array_mut) {
                events.retain(|event| event["type"] != "m.room.encryption");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn homeserver_that_omits_or_empties_the_encryption_of_a_room_gets_nothing_readable() -> Result<()> {
    let Some(mut stage) = Stage::set("").await? else { return Ok(()) };
    stage.crosses(ALICE).await?;
    // Omitted, wherever it could be read.
    let omitted = stage.liar().add(in_sync(without_encryption)?);
    let none = json!({ "errcode": "M_NOT_FOUND", "error": "no such event" });
    let asked = Rule::new("GET", "/state/m.room.encryption", Fault::Answer { status: 404, body: none })?;
    let asked = stage.liar().add(asked);
    stage.begins().await?;
    stage.crosses(BOB).await?;
    // A room that it sees for the first time: it looks, leaves, and says why.
    let bot = stage.scene.bots[ALICE].clone();
    let new = stage.scene.people[ALICE].create_encrypted_room("new", &[&bot]).await?;
    let left = stage.scene.people[ALICE].wait_member(&new, &bot, "leave", SOON).await?;
    ensure!(left.reason.context("It says why")?.contains("not encrypted"));
    stage.operator_reads("not encrypted. It joined, looked, and left again").await?;
    strikes(&asked).await?;
    // The room that it knows: a restart learns nothing new of it.
    stage.scene.bridge.kill().await?;
    stage.scene.bridge.start().await?;
    strikes(&omitted).await?;
    stage.crosses(BOB).await?;
    stage.nothing_is_readable("an omitted encryption")?;
    stage.liar().clear();

    let emptied = json!({
        "type": "m.room.encryption", "state_key": "", "sender": stage.scene.people[ALICE].user_id(),
        "event_id": "$emptied", "origin_server_ts": 1, "content": {},
    });
    let emptied = stage.liar().add(with_state(stage.room(), emptied)?);
    stage.begins().await?;
    strikes(&emptied).await?;
    stage.operator_reads("its homeserver now says that it is not").await?;
    let held = stage.says(BOB).await?;
    stage.is_held("encryption_violated").await?;
    ensure!(stage.has_heard(ALICE, &held) == 0, "it was said all the same");
    stage.nothing_is_readable("an emptied encryption")?;

    // A homeserver makes no event of what is said already.
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 50 });
    let room = stage.room().to_owned();
    stage.scene.people[ALICE].send_state(&room, "m.room.encryption", "", megolm).await?;
    stage.hears(ALICE, &held).await?;
    stage.close().await
}
