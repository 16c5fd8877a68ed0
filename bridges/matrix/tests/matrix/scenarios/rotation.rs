//! How long a room key lives by the number of messages. How long by the clock is in the service's own tests.

use anyhow::Result;
use sealbridge_lab::Lab;
use serde_json::json;

use super::{key_of, tells};
use crate::{bot::SOON, losses::Scene};

#[tokio::test]
async fn room_key_is_replaced_after_as_many_messages_as_the_room_says() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room: _, proxy: _proxy } = Scene::set(lab, json!({})).await?;
    let room = bob.create_rotating_room("rotates", &[&bot.user.id], 20).await?;
    running.joins(&room, 2).await?;
    bob.wait_member(&room, &bot.user.id, "join", SOON).await?;
    let mut keys = Vec::new();
    for number in 0..41 {
        let event = tells(&running, &room, &format!("number {number}"), &bob).await?;
        keys.push(key_of(&bob, &room, &event).await?);
    }
    keys.dedup();
    assert_eq!(keys.len(), 3, "each of the first two carried twenty");
    running.stop().await
}
