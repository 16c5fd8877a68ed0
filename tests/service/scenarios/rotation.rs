//! How long a room key lives by the number of messages.

use anyhow::{Result, ensure};

use super::stand::{Stand, Wish};

#[tokio::test(flavor = "multi_thread")]
async fn room_key_is_replaced_after_as_many_messages_as_the_room_says() -> Result<()> {
    const MESSAGES: usize = 20;
    let wish = Wish { rotate_after: Some(20), ..Wish::default() };
    let Some((_, stand)) = Stand::with(wish).await? else { return Ok(()) };
    let mut keys = Vec::new();
    for number in 0..2 * MESSAGES + 1 {
        let event = stand.tells(&format!("number {number}"), &stand.bob).await?;
        keys.push(stand.key_of(&event).await?);
    }
    let mut runs: Vec<_> = keys.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
    // The first key carried what the bridge itself said when it was linked.
    let (first, last) = (runs.remove(0), runs.pop());
    ensure!((1..MESSAGES).contains(&first) && runs == [MESSAGES] && last.is_some(), "{first}, {runs:?}, {last:?}");
    stand.close().await
}
