//! What somebody does just now: passed on in a moment, never kept, and lost without harm.

use std::time::Duration;

use sealbridge_contract::{Address, Clock, Destination, Signal, Verb, gate::Encryption};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::table::TableHandle;
use crate::store::{JournalError, SharedJournal};

/// So many wait at most; what comes then is forgotten.
const WAITING: usize = 256;
/// No network may take longer for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where signals are taken out.
pub type Signals = mpsc::Receiver<(Address, Signal)>;

/// A line for signals: what is put in is taken out by [`pass_on`].
#[must_use]
pub fn line() -> (mpsc::Sender<(Address, Signal)>, Signals) {
    mpsc::channel(WAITING)
}

/// Passes signals on over links that ask for them, until `stop`.
///
/// # Errors
/// [`JournalError`]: the journal failed.
pub async fn pass_on(
    mut signals: Signals,
    table: TableHandle,
    journal: SharedJournal,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), JournalError> {
    loop {
        let (from, signal) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            next = signals.recv() => match next {
                Some(next) => next,
                None => return Ok(()),
            },
        };
        let table = table.now();
        for (_, to, rule) in table.listeners(&from, clock.now()) {
            let Some(transport) = table.transport(&to.account).filter(|_| rule.signals && !rule.paused) else {
                continue;
            };
            // Where nothing is said for now, nobody is seen writing or reading either.
            let open = match table.destination(to, false) {
                Some(Destination::EndToEnd(encryption)) => encryption == Encryption::Pinned,
                other => other.is_some(),
            };
            if !open {
                continue;
            }
            let verb = match signal {
                Signal::Typing { .. } => Verb::Typing,
                Signal::Read { .. } => Verb::Receipt,
            };
            if !transport.common().abilities().of(verb).is_native() {
                continue;
            }
            let there = match &signal {
                Signal::Typing { .. } => signal.clone(),
                Signal::Read { person, up_to } => match journal.called(&from, up_to, to).await? {
                    Some(up_to) => Signal::Read { person: person.clone(), up_to },
                    None => continue,
                },
            };
            // Late is as good as lost.
            let _ = tokio::time::timeout(PATIENCE, transport.common().signal(&to.conversation, &there)).await;
        }
    }
}
