//! What goes wrong meanwhile, in turn.

use std::time::Duration;

use anyhow::Result;

use super::stand::Stand;
use crate::proxy::{Active, Fault, Rule};

const KINDS: usize = 7;
/// So long each lasts: sometimes longer than what is being sent, sometimes not.
const LASTS: Duration = Duration::from_millis(800);

pub(super) fn is_kill(turn: usize) -> bool {
    turn.is_multiple_of(KINDS)
}

/// Does the next thing, and says how many requests were struck.
pub(super) async fn strike(stand: &mut Stand, turn: usize) -> Result<u32> {
    let side = turn / KINDS % 2;
    let mut rules: Vec<Active> = Vec::new();
    match turn % KINDS {
        0 => {
            stand.bridge.kill().await?;
            stand.bridge.spawn().await?;
        }
        1 => stand.proxies[side].go_offline(),
        2 => rules.push(rule(stand, side, "/send", Fault::Throttle { retry_after_ms: 300 }, 6)?),
        // Accepted, and nobody knows.
        3 => rules.push(rule(stand, side, "/send|/upload|/keys|/sync", Fault::DropAfter, 4)?),
        4 => stand.wires.iter().for_each(|wire| wire.cut()),
        5 => rules.push(rule(stand, side, "/sync|/download", Fault::CutAnswer, 3)?),
        _ => {
            rules.push(rule(stand, side, "/send|/upload", Fault::CutRequest, 2)?);
            rules.push(rule(stand, 1 - side, "/send|/sync", Fault::Fail(502), 4)?);
        }
    }
    stand.note_what_it_says(&[&["status"]]).await?;
    tokio::time::sleep(LASTS).await;
    stand.proxies[side].go_online();
    stand.wires.iter().for_each(|wire| wire.mend());
    let struck = rules.iter().map(Active::struck).sum();
    rules.iter().for_each(Active::remove);
    Ok(struck)
}

fn rule(stand: &Stand, side: usize, path: &str, fault: Fault, times: u32) -> Result<Active> {
    Ok(stand.proxies[side].add(Rule::new("*", path, fault)?.times(times)))
}
