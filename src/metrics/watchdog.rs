//! What systemd is told: that the service is up, how it is, and that it makes progress.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ready;
use crate::operator::Host;

/// How often systemd is told how the service is, if it does not ask for more.
const USUALLY: Duration = Duration::from_secs(10);
/// How long the journal may take for its sign of life.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the sign of life is written.
const ALIVE: &str = "alive";

/// Tells systemd until `stop`. Says nothing where there is none. That the service is up is said once `up` says so.
///
/// The watchdog hears from us only after something was committed to the journal, by the writer that every message goes
/// through, and only while the lanes are run: so a service that hangs is started anew, and one whose homeserver is down is
/// not, since that would not help.
pub async fn tell(host: Arc<dyn Host>, mut up: oneshot::Receiver<()>, stop: CancellationToken) {
    let pause = sd_notify::watchdog_enabled().map_or(USUALLY, |limit| (limit / 3).min(USUALLY));
    let wanted = sd_notify::watchdog_enabled().is_some();
    let mut is_up = false;
    loop {
        let status = match ready(&*host).await {
            Ok(()) => "Carries messages.".to_owned(),
            Err(missing) => missing.0.join("; "),
        };
        say(&[NotifyState::Status(&status)]);
        if wanted && is_up && makes_progress(&*host).await {
            say(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            // Whoever runs the service and drops this is about to stop.
            Ok(()) = &mut up, if !is_up => {
                is_up = true;
                say(&[NotifyState::Ready]);
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
    say(&[NotifyState::Stopping]);
}

async fn makes_progress(host: &dyn Host) -> bool {
    let journal = host.journal();
    let now = host.clock().now().0.to_string();
    let written = tokio::time::timeout(PATIENCE, journal.set(ALIVE, now.into_bytes().into())).await;
    // A full disk is no reason to start anew.
    let answered = matches!(written, Ok(Ok(()) | Err(crate::store::JournalError::Full)));
    answered && host.beats()
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "systemd can't be told.");
    }
}
