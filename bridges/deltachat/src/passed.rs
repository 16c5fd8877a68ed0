//! Mail that the engine passed over.
//!
//! Engine 2.65 takes an answer of its mail server for whole when the connection ends in the middle of it, as it does
//! when a Dovecot is restarted: mail that the answer lacks is never asked for again. So what a connection read counts
//! only once that connection has outlived it for a while; when one ends, the engine goes back to what counts, and asks
//! for everything since then once more. It knows by the mail ids what it has, and fetches only the rest.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealbridge_contract::inbox::StoreWrite;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    core::Core,
    engine::{
        Engine,
        progress::{Place, Progress, Unreadable},
        types::WORKING,
    },
    session::{Ended, insist},
};

/// Where reading goes on for certain.
const READ: &str = "read";
/// What was read so long before a connection was still there is whole.
const OUTLIVED: Duration = Duration::from_secs(5);

/// Whether connections ended.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// How often the engine logged in to read.
    logins: AtomicU64,
    /// How often it lost the server.
    losses: AtomicU64,
    changed: Notify,
}

/// How many connections there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    logins: u64,
    losses: u64,
}

impl Connections {
    pub(crate) fn logged_in(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub(crate) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn count(&self) -> Count {
        Count { logins: self.logins.load(Ordering::Relaxed), losses: self.losses.load(Ordering::Relaxed) }
    }
}

/// Before an engine starts to read: what the one before it read last may not have been whole.
pub(crate) async fn go_back(core: &Core, engine: &Engine) -> Result<(), Ended> {
    let Some(progress) = Progress::of(engine).await? else { return Ok(()) };
    match progress.back_to(counted(core).await?).await {
        Ok(_) => {}
        Err(error) => warn!(%error, "Mail that the engine passes over is not noticed."),
    }
    Ok(())
}

/// Goes back whenever a connection ends, and remembers what counts.
pub(crate) async fn watch(core: &Core, engine: &Engine, connections: &Connections) -> Result<(), Ended> {
    let unknown = match Progress::of(engine).await? {
        Some(progress) => follow(core, engine, connections, &progress).await?,
        None => Unreadable,
    };
    warn!(error = %unknown, "Mail that the engine passes over is not noticed.");
    std::future::pending().await
}

async fn follow(
    core: &Core,
    engine: &Engine,
    connections: &Connections,
    progress: &Progress,
) -> Result<Unreadable, Ended> {
    let mut counts = counted(core).await?;
    // The first login of an engine follows no other connection of its, and until then there is nothing to lose.
    let mut expected = Count { logins: 1, losses: u64::MAX };
    let mut read: Option<(Count, Vec<Place>)> = None;
    loop {
        let _ = tokio::time::timeout(OUTLIVED, connections.changed.notified()).await;
        let now = connections.count();
        let Ok(places) = progress.read().await else { return Ok(Unreadable) };
        if now.logins > expected.logins || now.losses > expected.losses {
            read = None;
            expected = now;
            if counts.is_empty() || places == counts {
                continue;
            }
            engine.stop().await?;
            let back = progress.back_to(counts.clone()).await;
            // What ends by being stopped is no loss.
            expected = Count { logins: connections.count().logins + 1, losses: u64::MAX };
            engine.start().await?;
            match back {
                Ok(true) => info!("A connection to the mail server ended; what came last is asked for again."),
                Ok(false) => {}
                Err(unknown) => return Ok(unknown),
            }
            continue;
        }
        if engine.connectivity().await? < WORKING {
            continue;
        }
        expected.losses = expected.losses.min(now.losses);
        match read.replace((now, places)) {
            Some((then, outlived)) if then == now && outlived != counts => {
                let bytes = serde_json::to_vec(&outlived).expect("it has only numbers and texts");
                insist!(core.store.write(vec![StoreWrite::put(READ, bytes.clone())]));
                counts = outlived;
            }
            _ => {}
        }
    }
}

/// Nothing is known of it at first, or when it can't be read.
async fn counted(core: &Core) -> Result<Vec<Place>, Ended> {
    let bytes = insist!(core.store.read(READ));
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()).unwrap_or_default())
}
