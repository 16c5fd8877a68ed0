//! Mail that the engine passed over.
//!
//! Engine 2.65 takes an answer of its mail server for whole when the connection ends in the middle of it, as it does
//! when a Dovecot is restarted: mail that the answer lacks is never asked for again. So what a connection read counts
//! only once that connection has outlived it for a while; when one ends, the engine goes back to what counts, and asks
//! for everything since then once more. It knows by the mail ids what it has, and fetches only the rest.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealbridge_child::CallError;
use sealbridge_contract::{
    NotAccepted,
    inbox::{AccountStore, StoreWrite},
};
use tokio::{sync::Notify, time::Instant};
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

/// How long the engine may take to open a mailbox for the first time.
const OPENS: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Why it is not known where reading begins.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBegun {
    #[error("the mailbox was not opened in time")]
    NotOpened,
    #[error(transparent)]
    Engine(#[from] CallError),
    #[error(transparent)]
    Journal(#[from] NotAccepted),
}

/// Has the engine open the mailbox of an account that was just made, before anybody can know of it. It reads what comes
/// from then on: whoever writes before it runs for the first time would not be read otherwise, and what it passes over
/// in its first moments could not be asked for again.
pub(crate) async fn begin(store: &AccountStore, engine: &Engine) -> Result<(), NotBegun> {
    if store.read(READ).await?.is_some() {
        return Ok(());
    }
    let Some(progress) = Progress::of(engine).await? else { return Ok(()) };
    // One whose database says nothing is used without this, and that is told when it runs.
    let Ok(mut places) = progress.read().await else { return Ok(()) };
    if places.is_empty() {
        engine.start().await?;
        let give_up = Instant::now() + OPENS;
        while places.is_empty() && Instant::now() < give_up {
            tokio::time::sleep(LOOK).await;
            places = progress.read().await.unwrap_or_default();
        }
        engine.stop().await?;
    }
    if places.is_empty() {
        return Err(NotBegun::NotOpened);
    }
    Ok(store.write(vec![counting(&places)]).await?)
}

fn counting(places: &[Place]) -> StoreWrite {
    StoreWrite::put(READ, serde_json::to_vec(places).expect("it has only numbers and texts"))
}

/// Before an engine starts to read: what the one before it read last may not have been whole.
pub(crate) async fn go_back(core: &Core, engine: &Engine) -> Result<(), Ended> {
    let Some(progress) = Progress::of(engine).await? else { return Ok(()) };
    let counts = counted(core).await?;
    let tried = match counts.is_empty() {
        false => progress.back_to(counts).await.map(|_| Vec::new()),
        true => progress.read().await,
    };
    match tried {
        Ok(places) if places.is_empty() => {}
        Ok(places) => insist!(core.store.write(vec![counting(&places)])),
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
    let mut steps = Steps::default();
    // The first login of an engine follows no other connection of its, and until then there is nothing to lose.
    let mut expected = Count { logins: logins_of(&counts), losses: u64::MAX };
    let mut read: Option<(Count, Vec<Place>)> = None;
    let mut unread = 0;
    loop {
        let _ = tokio::time::timeout(OUTLIVED, connections.changed.notified()).await;
        let now = connections.count();
        let places = match progress.read().await {
            Ok(places) => places,
            Err(unknown) if unread >= TRIES => return Ok(unknown),
            Err(_) => {
                unread += 1;
                continue;
            }
        };
        unread = 0;
        // Where nothing counted yet, this is the earliest that is known.
        let new = places.iter().filter(|place| !counts.iter().any(|known| known.is_in_the_same(place)));
        let new: Vec<Place> = new.cloned().collect();
        if !new.is_empty() {
            counts.extend(new);
            counts.sort();
            insist!(core.store.write(vec![counting(&counts)]));
        }
        if now.logins > expected.logins || now.losses > expected.losses {
            (read, expected) = (None, now);
            steps.owed |= places != counts;
        }
        if steps.owed {
            if !steps.may_go(Instant::now()) {
                continue;
            }
            engine.stop().await?;
            let back = progress.back_to(counts.clone()).await;
            // What ends by being stopped is no loss.
            expected = Count { logins: connections.count().logins + logins_of(&places), losses: u64::MAX };
            engine.start().await?;
            steps.gone(Instant::now());
            match back {
                Ok(true) => info!("A connection to the mail server ended; what came last is asked for again."),
                Ok(false) => {}
                Err(_) => steps.owed = true,
            }
            continue;
        }
        if engine.connectivity().await? < WORKING {
            continue;
        }
        expected.losses = expected.losses.min(now.losses);
        match read.take() {
            Some((then, outlived)) if then == now && outlived != counts => {
                insist!(core.store.write(vec![counting(&outlived)]));
                counts = outlived;
            }
            _ if places != counts => {
                // An engine that lost its connection may wait for a minute before it says so, unless it is called.
                engine.try_again().await?;
                read = Some((now, places));
            }
            _ => {}
        }
    }
}

/// How often the engine's database may not be read in a row.
const TRIES: u32 = 5;
/// A server that ends one connection after the other is not asked anew for each: what is owed waits, longer each time.
const SOONEST: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_secs(300);

/// Steps back: whether one is owed, and when.
#[derive(Debug, Default)]
struct Steps {
    owed: bool,
    last: Option<Instant>,
    pause: Duration,
}

impl Steps {
    fn may_go(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.duration_since(last) >= self.pause)
    }

    fn gone(&mut self, now: Instant) {
        let often = self.last.is_some_and(|last| now.duration_since(last) < self.pause * 2 + SOONEST);
        self.pause = if often { (self.pause * 2).clamp(SOONEST, LATEST) } else { SOONEST };
        (self.owed, self.last) = (false, Some(now));
    }
}

/// An engine logs in once for each mail account that it reads.
fn logins_of(places: &[Place]) -> u64 {
    let transports: BTreeSet<i64> = places.iter().map(Place::transport).collect();
    u64::try_from(transports.len().max(1)).unwrap_or(1)
}

/// Nothing is known of it at first, or when it can't be read.
async fn counted(core: &Core) -> Result<Vec<Place>, Ended> {
    let bytes = insist!(core.store.read(READ));
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_ends_every_connection_is_asked_anew_less_and_less_often() {
        let (start, mut steps) = (Instant::now(), Steps::default());
        let mut now = start;
        let mut gone = Vec::new();
        while now.duration_since(start) < Duration::from_secs(3600) {
            if steps.may_go(now) {
                steps.gone(now);
                gone.push(now.duration_since(start).as_secs());
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(gone[..6], [0, 5, 15, 35, 75, 155]);
        assert!(gone.len() < 20, "{gone:?}");
        // After a rest it begins anew.
        now += LATEST * 3;
        assert!(steps.may_go(now));
        steps.gone(now);
        assert!(steps.may_go(now + SOONEST));
    }
}
