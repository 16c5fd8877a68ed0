//! What is kept of messages in the account's own store: which delivery became which message, which number of the
//! engine's stands for which mail id, and how a message was when it was last told of. Kept for [`KEPT`], then forgotten.

use std::{collections::BTreeMap, time::Duration};

use sealbridge_contract::{
    Clock, DeliveryId, NotAccepted, PersonId, RemoteId, Slip, Text,
    inbox::{AccountStore, StoreWrite},
    message::Tally,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long a delivery is remembered, so that it is never sent twice.
pub(crate) const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const SENT: &str = "sent:";
const ID: &str = "id:";
const TOLD: &str = "told:";
const SHOWN: &str = "shown:";
const SWEPT: &str = "swept";

/// One delivery of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// When it was handed to the engine, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// Every message that it can have become has a higher number.
    pub(crate) after: u32,
    /// Which message it became, once that is known.
    pub(crate) message: Option<u32>,
    /// What it is called, if it did something to an earlier message: other people see no message of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deed: Option<String>,
}

/// How a message was when it was last told of. The engine only says how one is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) at: i64,
    /// Its mail id.
    pub(crate) id: String,
    pub(crate) chat: u32,
    /// Who wrote it; nobody, if we did.
    pub(crate) author: Option<PersonId>,
    /// The same, by the number of their contact.
    pub(crate) contact: u32,
    /// What stands for its words.
    pub(crate) words: Option<[u8; 16]>,
    /// How often it was edited.
    pub(crate) edits: u32,
    /// It is gone, and that was told.
    pub(crate) gone: bool,
    /// It disappears by itself.
    pub(crate) disappears: bool,
    /// By the number of the contact: what they react with, and how often that changed.
    pub(crate) reactions: BTreeMap<u32, (String, u32)>,
}

impl Told {
    /// What stands for words: nobody can read them in it.
    pub(crate) fn words(words: &Text) -> [u8; 16] {
        let hash = Sha256::digest(words.as_str().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        short
    }
}

/// What our account reacts to one message with, and for whom.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) at: i64,
    pub(crate) tally: Tally,
    /// How often it changed.
    pub(crate) changes: u32,
}

/// A message that has a mail id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Named {
    at: i64,
    message: u32,
}

fn put(key: String, value: &impl Serialize) -> StoreWrite {
    StoreWrite::put(key, serde_json::to_vec(value).expect("it has only numbers and texts"))
}

/// Remembers which message a mail id stands for.
pub(crate) fn named(id: &RemoteId, message: u32, at: i64) -> StoreWrite {
    put(format!("{ID}{}", id.as_str()), &Named { at, message })
}

/// Which message a mail id stands for.
pub(crate) async fn message(store: &AccountStore, id: &RemoteId) -> Result<Option<u32>, NotAccepted> {
    let found = store.read(&format!("{ID}{}", id.as_str())).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice::<Named>(bytes.expose()).ok()).map(|named| named.message))
}

/// How a message was when it was last told of.
pub(crate) async fn told(store: &AccountStore, message: u32) -> Result<Option<Told>, NotAccepted> {
    let found = store.read(&told_key(message)).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()))
}

/// Remembers how a message is now.
pub(crate) fn telling(message: u32, told: &Told) -> StoreWrite {
    put(told_key(message), told)
}

/// Every message that was told of.
pub(crate) async fn all_told(store: &AccountStore) -> Result<Vec<u32>, NotAccepted> {
    let all = store.read_all(TOLD).await?;
    Ok(all.iter().filter_map(|(key, _)| key.strip_prefix(TOLD)?.parse().ok()).collect())
}

fn told_key(message: u32) -> String {
    format!("{TOLD}{message:010}")
}

/// What our account reacts to a message with.
pub(crate) async fn shown(store: &AccountStore, message: u32) -> Result<Shown, NotAccepted> {
    let found = store.read(&format!("{SHOWN}{message}")).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()).unwrap_or_default())
}

/// Remembers what our account reacts to a message with.
pub(crate) fn showing(message: u32, shown: &Shown) -> StoreWrite {
    put(format!("{SHOWN}{message}"), shown)
}

/// What is known of a delivery.
pub(crate) async fn sent(store: &AccountStore, delivery: DeliveryId) -> Result<Option<Sent>, NotAccepted> {
    let Some(bytes) = store.read(&format!("{SENT}{delivery}")).await? else { return Ok(None) };
    // One that can't be read was handed in all the same: it is looked for, and never sent without that.
    Ok(Some(serde_json::from_slice(bytes.expose()).unwrap_or(Sent { at: 0, after: 0, message: None, deed: None })))
}

/// Remembers that a delivery is about to be handed in.
pub(crate) fn intended(slip: &Slip, sent: &Sent) -> StoreWrite {
    put(format!("{SENT}{}", slip.delivery), sent)
}

/// The messages that other deliveries became.
pub(crate) async fn taken(store: &AccountStore, but: DeliveryId) -> Result<Vec<u32>, NotAccepted> {
    let own = format!("{SENT}{but}");
    let all = store.read_all(SENT).await?;
    let others = all.into_iter().filter(|(key, _)| *key != own);
    Ok(others.filter_map(|(_, bytes)| serde_json::from_slice::<Sent>(bytes.expose()).ok()?.message).collect())
}

/// Forgets what is older than [`KEPT`], once a day at most.
pub(crate) async fn sweep(store: &AccountStore, clock: &Clock) -> Result<(), NotAccepted> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    #[derive(Deserialize)]
    struct Aged {
        at: i64,
    }
    let at = |bytes: &[u8]| serde_json::from_slice::<Aged>(bytes).ok().map(|aged| aged.at);
    let now = clock.now();
    let swept = store.read(SWEPT).await?.and_then(|bytes| at(bytes.expose()));
    if swept.is_some_and(|swept| swept > now.minus(DAY).0) {
        return Ok(());
    }
    let oldest = now.minus(KEPT).0;
    let mut writes = vec![put(SWEPT.to_owned(), &serde_json::json!({ "at": now.0 }))];
    for prefix in [SENT, ID, TOLD, SHOWN] {
        let old = store.read_all(prefix).await?.into_iter();
        let old = old.filter(|(_, bytes)| at(bytes.expose()).is_some_and(|at| at < oldest));
        writes.extend(old.map(|(key, _)| StoreWrite::delete(key)));
    }
    store.write(writes).await
}
