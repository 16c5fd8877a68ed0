//! What happens by the clock: waits that end, events that are given up, lines that are forgotten, links that the
//! circuit breaker paused.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::Clock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    spool::SpoolFolder,
    store::{JournalError, SharedJournal},
};

/// The longest pause between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How often old lines are looked for when there were none.
const SWEEP: Duration = Duration::from_secs(600);
/// How often files are looked for that nobody needs any more.
const FILES: Duration = Duration::from_secs(3);

/// Keeps the journal's waits and old lines in hand until `stop`.
///
/// # Errors
/// [`JournalError`]: the journal failed.
pub async fn keep_up(
    journal: SharedJournal,
    spool: SpoolFolder,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), JournalError> {
    let journal: Arc<_> = journal;
    let mut sweep_at = clock.now();
    let mut files_at = clock.now();
    while !stop.is_cancelled() {
        let due = match journal.expire().await {
            // A full journal lets nothing new in, but what waits can wait a little longer.
            Err(JournalError::Full) => None,
            due => due?,
        };
        if clock.now() >= sweep_at {
            let forgotten = match journal.sweep().await {
                Err(JournalError::Full) => 0,
                forgotten => forgotten?,
            };
            if forgotten == 0 {
                sweep_at = clock.now().plus(SWEEP);
            } else {
                info!(forgotten, "Forgot old lines.");
            }
        }
        if spool.used() > 0 && clock.now() >= files_at {
            sweep_files(&journal, &spool).await?;
            files_at = clock.now().plus(FILES);
        }
        let pause = due.map_or(LOOK, |due| due.since(clock.now()).clamp(Duration::from_millis(10), LOOK));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Removes files that no message needs any more. The order is what makes it safe: the journal is asked after the leases.
async fn sweep_files(journal: &SharedJournal, spool: &SpoolFolder) -> Result<(), JournalError> {
    let swept = match spool.unleased().await {
        Ok(files) if files.is_empty() => return Ok(()),
        Ok(files) => spool.remove(files, &journal.files().await?).await,
        Err(error) => Err(error),
    };
    match swept {
        Ok(0) => {}
        Ok(removed) => info!(removed, "Removed files that crossed."),
        Err(error) => warn!(%error, "Files that crossed were not removed; they are locked, and it is tried again."),
    }
    Ok(())
}
