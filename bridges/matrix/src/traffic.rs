//! Key traffic on its own task, so that no slow server holds up receiving.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{
    Fatal, Inbox,
    inbox::{Audience, Batch, Incident},
};
use tracing::{debug, warn};

use crate::{
    core::{Core, News, conversation, fatal_http, fatal_journal},
    engine::{Engine, EngineError, Flushed, IdentityError, Retries},
    intake::this_time,
    outgoing, session_store,
};

/// Sends what the engine wants sent, for ever.
pub(crate) async fn flush_keys(core: &Arc<Core>, engine: &Engine, inbox: &Inbox) -> Result<(), Fatal> {
    let mut pause = Duration::from_millis(250);
    core.observe_all(engine).await;
    loop {
        let flushed = engine.flush().await;
        let failed = !flushed.failed.is_empty();
        settle(core, engine, inbox, flushed).await?;
        if failed {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
            continue;
        }
        pause = Duration::from_millis(250);
        tokio::select! {
            () = engine.wants_flush() => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
    }
}

/// Tells the operator when the egress guard stopped something, each kind once an hour, for ever.
pub(crate) async fn tell_what_was_stopped(core: &Arc<Core>) -> Result<(), Fatal> {
    let mut before = core.http.watch().stopped;
    loop {
        core.http.something_stopped().await;
        let now = core.http.watch().stopped;
        for (stop, count) in &now {
            if before.get(stop) != Some(count) {
                core.signals.tell_people(Incident {
                    conversation: None,
                    topic: this_time(core, &format!("egress-guard/{stop:?}")),
                    words: format!(
                        "The egress guard stopped what was about to leave for the homeserver: {stop}. Nothing of it \
                         left. This is a fault of the bridge; please report it."
                    ),
                    audience: Audience::Operator,
                });
            }
        }
        before = now;
    }
}

async fn settle(core: &Arc<Core>, engine: &Engine, inbox: &Inbox, flushed: Flushed) -> Result<(), Fatal> {
    if flushed.one_time_key_conflict {
        session_store::set_device_lost(&core.store).await.map_err(|_| Fatal::Journal)?;
        return Err(Fatal::Policy(
            "the homeserver holds other keys for this device: its crypto store was rolled back. \
             `sealbridge init` logs in again as a new device"
                .into(),
        ));
    }
    if flushed.queried.iter().any(|user| user == core.me()) {
        engine.require_cross_signed().await.map_err(unsigned)?;
    }
    // Before what waits for these people is tried again.
    core.observe_these(engine, &flushed.queried).await;
    core.signals.tell(flushed.queried.into_iter().map(|user| News::Devices { user }));
    for (traffic, error) in &flushed.failed {
        if let EngineError::Http(error) = error
            && let Some(fatal) = fatal_http(&error.kind)
        {
            return Err(fatal);
        }
        if let EngineError::Http(error) = error {
            outgoing::note_limit(core, error);
        }
        debug!(?traffic, %error, "Key traffic waits.");
    }
    for step in flushed.in_room {
        // The next flush has what waits.
        match outgoing::send_step(core, &step, Retries::once()).await {
            Ok(event) => {
                if let Err(error) = engine.in_room_sent(&step, &event).await {
                    warn!(%error, "A step of a verification was sent, and not noted.");
                }
            }
            Err(error) => warn!(%error, "A step of a verification waits."),
        }
    }
    if flushed.backup_replaced {
        let words = "Another client replaced the account's key backup. The bridge no longer writes to it; \
                     run `sealbridge init` again to take it up.";
        let told = Incident {
            conversation: None,
            topic: "backup-replaced".into(),
            words: words.into(),
            audience: Audience::Operator,
        };
        let accepted = inbox.accept(Batch { incidents: vec![told], ..Batch::default() }).await;
        if let Some(fatal) = accepted.err().and_then(fatal_journal) {
            return Err(fatal);
        }
    }
    Ok(())
}

/// Somebody reset the account's identity, or took our device's signature away: whatever we sent or read from now on
/// would be from a device that nobody vouches for.
fn unsigned(error: IdentityError) -> Fatal {
    match error {
        IdentityError::NotCrossSigned => Fatal::Policy(
            "the account's identity was changed, and does not vouch for the bridge's device any more; \
             run `sealbridge init` again"
                .into(),
        ),
        error => Fatal::Broken(error.to_string()),
    }
}

/// Takes in steps of verifications seen in rooms, and tells what sending found, for ever.
pub(crate) async fn observe(core: &Arc<Core>, engine: &Engine, inbox: &Inbox) -> Result<(), Fatal> {
    let mut observed = core.signals.observed.lock().await;
    let mut told = core.signals.told.lock().await;
    let mut moved = core.signals.moved.lock().await;
    let mut next = None;
    loop {
        tokio::select! {
            Some(step) = observed.recv(), if next.is_none() => next = Some(step),
            () = core.signals.all_asked(), if next.is_some() => {
                let Some((room, step)) = next.take() else { continue };
                let _observing = core.signals.observing();
                match engine.observe_in_room(&room, &step).await {
                    Ok(()) => core.signals.verifications.notify_waiters(),
                    Err(error) => warn!(%error, "A step of a verification could not be taken in."),
                }
            }
            Some(room) = moved.recv() => inbox.audience_moved(&conversation(&room)),
            Some(incident) = told.recv() => {
                let mut incidents = vec![incident];
                while let Ok(more) = told.try_recv() {
                    incidents.push(more);
                }
                tell(inbox, incidents).await?;
            }
        }
    }
}

/// Hands incidents in, however long the journal is full.
async fn tell(inbox: &Inbox, incidents: Vec<Incident>) -> Result<(), Fatal> {
    loop {
        let batch = Batch { incidents: incidents.clone(), ..Batch::default() };
        match inbox.accept(batch).await {
            Ok(()) => return Ok(()),
            Err(error) => match (fatal_journal(error), error.again_in()) {
                (Some(fatal), _) => return Err(fatal),
                (None, Some(pause)) => tokio::time::sleep(pause).await,
                // The service stops; it is found again.
                (None, None) => return std::future::pending().await,
            },
        }
    }
}
