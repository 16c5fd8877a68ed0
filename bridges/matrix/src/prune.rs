//! What is remembered in the account's store only for a while: under which keys, how much of it, and for how long.
//!
//! What is forgotten is never guessed at: a reaction to a message so old may be shown too little, or stay.

use std::time::Duration;

use sealbridge_contract::{Fatal, inbox::Keep};
use tracing::debug;

use crate::core::{Core, fatal_journal};

/// Who reacted with what, by the message.
pub(crate) const TALLY: &str = "tally/";
/// Which message a reaction is on and whose it is, by the reaction.
pub(crate) const REACTED: &str = "reacted/";
/// Reactions that were taken back before they were seen.
pub(crate) const TAKEN_BACK: &str = "taken-back/";
/// What our account shows on a message, and for whom.
pub(crate) const SHOWN: &str = "shown/";
/// The pictures that were uploaded, by what they are called where they come from.
pub(crate) const PORTRAIT: &str = "portrait/";
/// What was uploaded for a delivery, until that is delivered.
pub(crate) const UPLOADED: &str = "uploaded/";

const fn keep(most: usize, days: u64) -> Keep {
    Keep { most, within: Duration::from_secs(days * 24 * 3600) }
}

/// A delivery that became a dead letter is kept for thirty days, and what was uploaded for it serves when it is retried.
const BOUNDS: [(&str, Keep); 6] = [
    (TALLY, keep(5_000, 90)),
    (REACTED, keep(20_000, 90)),
    (TAKEN_BACK, keep(5_000, 30)),
    (SHOWN, keep(5_000, 90)),
    // A homeserver may forget old files: each picture is uploaded anew now and then.
    (PORTRAIT, keep(10_000, 60)),
    (UPLOADED, keep(5_000, 40)),
];
const EVERY: Duration = Duration::from_secs(3600);

/// Forgets what is too old or too much, for ever.
pub(crate) async fn forget(core: &Core) -> Result<(), Fatal> {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        for (prefix, keep) in BOUNDS {
            match core.store.prune(prefix, keep).await {
                Ok(0) => {}
                Ok(forgotten) => debug!(prefix, forgotten, "Forgot what was remembered for a while."),
                Err(error) => match fatal_journal(error) {
                    Some(fatal) => return Err(fatal),
                    None => debug!(%error, "What was remembered for a while is kept longer."),
                },
            }
        }
    }
}
