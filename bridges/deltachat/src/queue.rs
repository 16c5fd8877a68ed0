//! What becomes of a message that the engine has: mailed, given up, or left over from an engine that was killed.

use std::time::Duration;

use sealbridge_contract::{DeliveryError, Slip, Text, message::Absence};
use tokio::time::{Instant, timeout_at};

use crate::{
    core::{Core, lock},
    engine::{
        Engine,
        types::{Loaded, Message, state},
    },
    outgoing::{has_padlock, in_doubt, may_speak},
};

/// How long a mail server may take for a message before the delivery is in doubt.
const TAKEN: Duration = Duration::from_secs(45);
/// An engine that did not reach the mail server rests before it tries again, longer each time. After so long it is told
/// to try now, since something waits.
const IN_VAIN: Duration = Duration::from_secs(3);
/// How long a message that an engine before this one had is given to go by itself.
const BY_ITSELF: Duration = Duration::from_millis(1_500);

/// Waits until a mail server took a message, and hands it in again where the engine has given up on it.
pub(crate) async fn taken(
    core: &Core,
    engine: &Engine,
    slip: &Slip,
    chat: u32,
    message: u32,
) -> Result<(), DeliveryError> {
    let deadline = Instant::now() + TAKEN;
    let now = goes_by_itself(engine, message).await?;
    if now == state::FAILED || is_left_over(engine, message, now) {
        tracing::info!(delivery = %slip.delivery, "A message that the engine does not mail is handed in again.");
        hand_in_again(core, engine, slip, chat, message).await?;
    }
    match comes_through(engine, message, deadline).await? {
        now if now >= state::DELIVERED => Ok(()),
        state::FAILED => Err(refused(&there(engine, message).await?)),
        _ => Err(DeliveryError::unknown("the mail server has not taken it yet; the engine goes on trying")),
    }
}

/// What becomes of a delivery that the mail server refuses for good.
fn refused(message: &Message) -> DeliveryError {
    if message.sort().is_none() {
        return DeliveryError::give_up("the mail server refuses it for good");
    }
    // RFC 5321 and RFC 3463 have these two for what is too large, and one of them means nothing else.
    let said = message.error.as_ref().map_or("", Text::as_str);
    let is_too_large = said.contains("5.3.4") || said.contains("552") && said.to_lowercase().contains("size");
    DeliveryError::without_file(if is_too_large { Absence::TooLarge { most: None } } else { Absence::Refused })
}

/// Under its old mail id. Whatever became of the chat since, and whoever handed it in first: it is looked at anew.
async fn hand_in_again(
    core: &Core,
    engine: &Engine,
    slip: &Slip,
    chat: u32,
    message: u32,
) -> Result<(), DeliveryError> {
    may_speak(core, engine, slip, chat).await?;
    has_padlock(core, engine, slip, message).await?;
    engine.send_again(message).await.map_err(in_doubt)
}

/// Whether it waits in an engine that was not given it: one before it was killed, and it may never be mailed.
pub(crate) fn is_left_over(engine: &Engine, message: u32, state: u32) -> bool {
    state == state::PENDING && !lock(&engine.given).contains(&message)
}

/// What state a message is in, once one that a killed engine left had time to go.
pub(crate) async fn goes_by_itself(engine: &Engine, message: u32) -> Result<u32, DeliveryError> {
    let now = there(engine, message).await?.state;
    if !is_left_over(engine, message, now) {
        return Ok(now);
    }
    comes_through(engine, message, Instant::now() + BY_ITSELF).await
}

/// A message of ours that the engine has.
pub(crate) async fn there(engine: &Engine, message: u32) -> Result<Message, DeliveryError> {
    match engine.look(message).await.map_err(in_doubt)? {
        Loaded::There(message) => Ok(*message),
        Loaded::Gone => Err(DeliveryError::give_up("the engine does not have it any more")),
        Loaded::Withheld => Err(DeliveryError::unknown("the engine has it and can't say what became of it")),
    }
}

/// Waits until a mail server took a message or refused it for good, and gives the state that it is in at last.
async fn comes_through(engine: &Engine, message: u32, until: Instant) -> Result<u32, DeliveryError> {
    let mut moved = engine.moved.subscribe();
    loop {
        moved.borrow_and_update();
        let now = there(engine, message).await?.state;
        if now >= state::FAILED || Instant::now() >= until {
            return Ok(now);
        }
        let soon = until.min(Instant::now() + IN_VAIN);
        tokio::select! {
            // Woken or not, the message is looked at again.
            moved = timeout_at(soon, moved.changed()) => if moved.is_err() && soon < until {
                engine.try_again().await.map_err(in_doubt)?;
            },
            why = engine.child().ended() => return Err(DeliveryError::unknown(why.to_string())),
        }
    }
}
