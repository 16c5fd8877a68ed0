//! How old our stores are: a number that only grows, in three places.
//!
//! It is raised when the account is opened, once a minute while it is used, and at an orderly end: first in the account's
//! store in the journal, then beside the keys, then at the homeserver. So neither of ours is ever behind the homeserver's,
//! wherever a process dies, and one that is, is an older copy. Nothing may go on with it: its ratchets would use keys a
//! second time, and its journal would carry messages a second time. Each raise has a word of chance, by which two copies
//! are told apart that came to the same number.
//!
//! What the homeserver holds has a tag that only we can make. It can keep an older one, or none; it can't make one up.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, Mac as _};
use sealbridge_contract::{
    Fatal,
    inbox::{AccountStore, StoreWrite},
    transport::StoreKey,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::{
    core::{Core, fatal_http},
    engine::{Engine, EngineError},
    session_store,
};

/// Where the account's own store has it.
const KEY: &str = "age";
/// The last number that is known to stand beside the keys.
pub(crate) const BESIDE_KEYS: &str = "age-of-keys";
/// What happens within this time is one raise.
const EVERY: Duration = Duration::from_secs(60);
/// At the end nobody waits longer for the homeserver.
const FAREWELL: Duration = Duration::from_secs(3);

/// A number, and a word by which two of the same number are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Age {
    count: u64,
    word: String,
}

/// The same, as the homeserver has it.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    age: Age,
    tag: String,
}

/// What is known of it while the account runs.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// What was written last, and whether the homeserver took it.
    last: Mutex<(Age, bool)>,
    moved: AtomicBool,
    news: Notify,
}

impl Ages {
    /// Keys moved, or messages.
    pub(crate) fn moved(&self) {
        if !self.moved.swap(true, Ordering::Relaxed) {
            self.news.notify_one();
        }
    }
}

/// Why an account does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Older {
    /// The journal is an older copy, or there are two.
    #[error(
        "what this service keeps is an older copy, or another copy of it was at work: the homeserver was told {told}, and \
         here it is {kept}. Stop the other one and put the newer copy back, or a backup with `sealbridge backup restore`; \
         `sealbridge backup adopt` goes on with this copy as with a backup"
    )]
    Journal { told: u64, kept: u64 },
    /// The keys alone are an older copy.
    #[error(
        "the account's keys are an older copy: it was {told} already, and beside the keys it is {kept}. Put the \
         newer copy back; or `sealbridge init` logs in again as a new device"
    )]
    Keys { told: u64, kept: u64 },
}

/// Compares what we keep with what the homeserver was told.
pub(crate) async fn look(store: &AccountStore, key: &StoreKey, engine: &Engine) -> Result<Result<Age, Older>, Fatal> {
    let kept = store.read(KEY).await.map_err(|_| Fatal::Journal)?;
    let kept = kept.and_then(|kept| serde_json::from_slice::<Age>(kept.expose()).ok()).unwrap_or_default();
    let keys = engine.age_of_keys::<Age>().await.map_err(failed)?.unwrap_or_default();
    let beside = store.read(BESIDE_KEYS).await.map_err(|_| Fatal::Journal)?;
    let beside = beside.and_then(|count| std::str::from_utf8(count.expose()).ok()?.parse().ok()).unwrap_or_default();
    let told = told(key, engine).await.map_err(failed)?;
    Ok(judge(kept, &keys, beside, told.as_ref()))
}

/// `beside`: the last number that the journal knows to have been written beside the keys.
fn judge(kept: Age, keys: &Age, beside: u64, told: Option<&Age>) -> Result<Age, Older> {
    let Some(told) = told else {
        return if keys.count < beside { Err(Older::Keys { told: beside, kept: keys.count }) } else { Ok(kept) };
    };
    if kept.count < told.count || kept.count == told.count && kept.word != told.word {
        return Err(Older::Journal { told: told.count, kept: kept.count });
    }
    let least = told.count.max(beside);
    if keys.count < least {
        return Err(Older::Keys { told: least, kept: keys.count });
    }
    Ok(kept)
}

async fn told(key: &StoreKey, engine: &Engine) -> Result<Option<Age>, EngineError> {
    let told = engine.age_told::<Told>().await?;
    // What we did not make says nothing.
    Ok(told.filter(|told| told.tag == tag(key, engine, &told.age)).map(|told| told.age))
}

fn tag(key: &StoreKey, engine: &Engine, age: &Age) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for part in ["sealbridge age v1", engine.device_id().as_str(), &age.count.to_string(), &age.word] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    hex(&mac.finalize().into_bytes()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// When the account is opened: looks, and raises. A homeserver that does not answer is asked again later.
pub(crate) async fn begin(core: &Core, engine: &Engine) -> Result<(), Fatal> {
    let age = match look(&core.store, &core.store_key, engine).await? {
        Ok(age) => age,
        Err(older) => return Err(refused(core, older).await),
    };
    fail::fail_point!("age::looked");
    // Where the journal is too full to raise it now, what is there is compared with this.
    note(core, age.clone(), true);
    raise(core, engine, &age).await
}

async fn refused(core: &Core, older: Older) -> Fatal {
    match older {
        Older::Journal { .. } => Fatal::RolledBack(older.to_string()),
        Older::Keys { .. } => match session_store::set_device_lost(&core.store).await {
            Ok(()) => Fatal::Policy(older.to_string()),
            Err(_) => Fatal::Journal,
        },
    }
}

/// First here, then there: in this order nobody is locked out by a death in between.
async fn raise(core: &Core, engine: &Engine, after: &Age) -> Result<(), Fatal> {
    let mut word = [0; 8];
    if getrandom::fill(&mut word).is_err() {
        return Err(Fatal::Broken("the system has no randomness to give".into()));
    }
    core.ages.moved.store(false, Ordering::Relaxed);
    let next = Age { count: after.count.saturating_add(1), word: hex(&word) };
    let bytes = serde_json::to_vec(&next).map_err(|error| Fatal::Broken(error.to_string()))?;
    match core.store.write(vec![StoreWrite::put(KEY, bytes)]).await {
        Ok(()) => {}
        // A full journal is no reason to stop: the next raise has this in it.
        Err(error) if error.again_in().is_some() => {
            core.ages.moved();
            return Ok(());
        }
        Err(_) => return Err(Fatal::Journal),
    }
    fail::fail_point!("age::kept");
    engine.set_age_of_keys(&next).await.map_err(failed)?;
    fail::fail_point!("age::beside-keys");
    // From now on keys of before are known for older ones, whatever the homeserver says or hides.
    match core.store.write(vec![StoreWrite::put(BESIDE_KEYS, next.count.to_string().into_bytes())]).await {
        Err(error) if error.again_in().is_none() => return Err(Fatal::Journal),
        _ => {}
    }
    note(core, next.clone(), false);
    tell(core, engine, next).await
}

async fn tell(core: &Core, engine: &Engine, age: Age) -> Result<(), Fatal> {
    let tag = tag(&core.store_key, engine, &age);
    engine.tell_age(&Told { age: age.clone(), tag }).await.map_err(failed)?;
    fail::fail_point!("age::told");
    note(core, age, true);
    Ok(())
}

fn note(core: &Core, age: Age, taken: bool) {
    *core.ages.last.lock().unwrap_or_else(|lock| lock.into_inner()) = (age, taken);
}

/// Raises while the account is used. Ends only if another copy turns out to be at work.
pub(crate) async fn keep(core: &Core, engine: &Engine) -> Result<(), Fatal> {
    loop {
        core.ages.news.notified().await;
        tokio::time::sleep(every()).await;
        match again(core, engine).await {
            Ok(()) => {}
            Err(Waits::Later(why)) => {
                debug!(why, "How old the stores are is told later.");
                core.ages.news.notify_one();
            }
            Err(Waits::Fatal(fatal)) => return Err(fatal),
        }
    }
}

/// In a test build it need not take a minute.
fn every() -> Duration {
    fail::fail_point!("age::soon", |_| Duration::from_millis(100));
    EVERY
}

enum Waits {
    Later(String),
    Fatal(Fatal),
}

async fn again(core: &Core, engine: &Engine) -> Result<(), Waits> {
    let (last, taken) = core.ages.last.lock().unwrap_or_else(|lock| lock.into_inner()).clone();
    let there = told(&core.store_key, engine).await.map_err(later)?;
    // What we were about to say and did not see taken may have been.
    if let Some(there) = there.filter(|there| there.count > last.count || there.count == last.count && *there != last) {
        let older = Older::Journal { told: there.count, kept: last.count };
        return Err(Waits::Fatal(Fatal::RolledBack(older.to_string())));
    }
    let raised = if taken { raise(core, engine, &last).await } else { tell(core, engine, last).await };
    if !taken && core.ages.moved.load(Ordering::Relaxed) {
        // What moved while that was on its way is in the next raise, and nobody else wakes us for it.
        core.ages.news.notify_one();
    }
    raised.map_err(|fatal| match fatal {
        Fatal::Broken(why) => Waits::Later(why),
        fatal => Waits::Fatal(fatal),
    })
}

/// At an orderly end: what moved since is told, so that a copy of before is known for one.
pub(crate) async fn end(core: &Core, engine: &Engine) {
    if !core.ages.moved.load(Ordering::Relaxed) {
        return;
    }
    match tokio::time::timeout(FAREWELL, again(core, engine)).await {
        Ok(Ok(())) => {}
        Ok(Err(Waits::Fatal(fatal @ Fatal::RolledBack(_)))) => {
            warn!(%fatal, "At the end another copy of the stores turns out to be at work.");
        }
        Ok(Err(Waits::Fatal(fatal))) => warn!(%fatal, "How old the stores are could not be told at the end."),
        Ok(Err(Waits::Later(why))) => debug!(why, "How old the stores are is told at the next start."),
        Err(_) => debug!("How old the stores are is told at the next start."),
    }
}

/// What no waiting changes; everything else is [`Fatal::Broken`], which is tried again.
fn failed(error: EngineError) -> Fatal {
    match &error {
        EngineError::Http(http) => fatal_http(&http.kind).unwrap_or_else(|| Fatal::Broken(error.to_string())),
        _ => Fatal::Broken(error.to_string()),
    }
}

fn later(error: EngineError) -> Waits {
    match failed(error) {
        Fatal::Broken(why) => Waits::Later(why),
        fatal => Waits::Fatal(fatal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(count: u64, word: &str) -> Age {
        Age { count, word: word.into() }
    }

    #[test]
    fn no_death_between_the_three_places_locks_anybody_out() {
        let (before, after) = (age(4, "a"), age(5, "b"));
        // In the order in which they are written.
        for (kept, keys, told) in [(&before, &before, &before), (&after, &before, &before), (&after, &after, &before)] {
            assert_eq!(judge(kept.clone(), keys, 4, Some(told)), Ok(kept.clone()));
            assert_eq!(judge(kept.clone(), keys, 4, None), Ok(kept.clone()));
        }
        assert_eq!(judge(after.clone(), &after, 5, Some(&before)), Ok(after.clone()));
        assert_eq!(judge(after.clone(), &after, 5, Some(&after)), Ok(after.clone()));
        assert_eq!(judge(age(0, ""), &age(0, ""), 0, None), Ok(age(0, "")));
    }

    #[test]
    fn older_copy_of_either_store_and_a_copy_of_the_same_number_are_refused() {
        let (older, newer) = (age(4, "a"), age(5, "b"));
        let journal = judge(older.clone(), &older, 4, Some(&newer));
        assert_eq!(journal, Err(Older::Journal { told: 5, kept: 4 }));
        assert_eq!(judge(newer.clone(), &older, 5, Some(&newer)), Err(Older::Keys { told: 5, kept: 4 }));
        assert_eq!(judge(age(5, "c"), &age(5, "c"), 5, Some(&newer)), Err(Older::Journal { told: 5, kept: 5 }));
        // The homeserver hides what it was told, or shows an older one.
        for told in [None, Some(&older)] {
            assert_eq!(judge(newer.clone(), &older, 5, told), Err(Older::Keys { told: 5, kept: 4 }));
        }
    }
}
