//! What is kept of messages in the account's own store: which delivery became which message, or was done to which; which
//! number of the engine's stands for which mail id; how a message was when it was last told of, and what our account did
//! to it. Kept for [`KEPT`], then forgotten.

use std::{collections::BTreeMap, time::Duration};

use sealbridge_contract::{
    DeliveryId, NotAccepted, PersonId, RemoteId, Slip, Text,
    inbox::{AccountStore, Keep, StoreWrite},
    message::Tally,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long a delivery is remembered, so that it is never sent twice.
pub(crate) const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// As many of each sort at the most.
const MOST: usize = 1_000_000;

const SENT: &str = "sent:";
const DID: &str = "did:";
const ID: &str = "id:";
const TOLD: &str = "told:";
const SHOWN: &str = "shown:";

/// One delivery of ours that other people see as a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// When it was handed to the engine, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// Every message that it can have become has a higher number.
    pub(crate) after: u32,
    /// Which message it became, once that is known.
    pub(crate) message: Option<u32>,
    /// How often the engine refused it.
    #[serde(default)]
    pub(crate) refused: u32,
}

/// One delivery of ours that does something to an earlier message. It may end as words, and has a [`Sent`] then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// As in [`Sent`], and so the next three; nobody sees the message that it becomes.
    pub(crate) at: i64,
    pub(crate) after: u32,
    pub(crate) message: Option<u32>,
    pub(crate) refused: u32,
    /// What it is called.
    pub(crate) deed: String,
    /// What our account is to show then, if it is a reaction.
    pub(crate) show: Option<Show>,
}

/// What our account is to react to a message with, and whether that says all of what somebody reacts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Show {
    pub(crate) emoji: Option<String>,
    pub(crate) says_all: bool,
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
    /// The engine does not give it out any more, and is not asked for it.
    #[serde(default)]
    pub(crate) lost: bool,
    /// That more people react to it than are heard was told.
    #[serde(default)]
    pub(crate) crowded: bool,
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

/// What our account did to one message: what it reacts with, and for whom.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) tally: Tally,
    /// How often that changed.
    pub(crate) changes: u32,
    /// How often we edited it.
    #[serde(default)]
    pub(crate) edits: u32,
}

/// A message that has a mail id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Named {
    message: u32,
}

fn put(key: String, value: &impl Serialize) -> StoreWrite {
    StoreWrite::put(key, serde_json::to_vec(value).expect("it has only numbers and texts"))
}

/// Remembers which message a mail id stands for.
pub(crate) fn named(id: &RemoteId, message: u32) -> StoreWrite {
    put(format!("{ID}{}", id.as_str()), &Named { message })
}

/// Which message a mail id stands for.
pub(crate) async fn message(store: &AccountStore, id: &RemoteId) -> Result<Option<u32>, NotAccepted> {
    let found = store.read(&format!("{ID}{}", id.as_str())).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice::<Named>(bytes.expose()).ok()).map(|named| named.message))
}

/// The highest number that a mail id stands for.
pub(crate) async fn highest(store: &AccountStore) -> Result<u32, NotAccepted> {
    let all = store.read_all(ID).await?;
    let numbers = all.iter().filter_map(|(_, bytes)| serde_json::from_slice::<Named>(bytes.expose()).ok());
    Ok(numbers.map(|named| named.message).max().unwrap_or_default())
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

/// What our account did to a message.
pub(crate) async fn shown(store: &AccountStore, message: u32) -> Result<Shown, NotAccepted> {
    let found = store.read(&format!("{SHOWN}{message}")).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()).unwrap_or_default())
}

/// Remembers what our account did to a message.
pub(crate) fn showing(message: u32, shown: &Shown) -> StoreWrite {
    put(format!("{SHOWN}{message}"), shown)
}

/// What is known of a delivery.
pub(crate) async fn sent(store: &AccountStore, delivery: DeliveryId) -> Result<Option<Sent>, NotAccepted> {
    let Some(bytes) = store.read(&format!("{SENT}{delivery}")).await? else { return Ok(None) };
    // One that can't be read was handed in all the same: it is looked for, and never sent without that.
    Ok(Some(serde_json::from_slice(bytes.expose()).unwrap_or(Sent { at: 0, after: 0, message: None, refused: 0 })))
}

/// Remembers that a delivery is about to be handed in.
pub(crate) fn intended(slip: &Slip, sent: &Sent) -> StoreWrite {
    put(format!("{SENT}{}", slip.delivery), sent)
}

/// Forgets that a delivery was handed in, since it was taken out again.
pub(crate) fn taken_out(delivery: DeliveryId) -> [StoreWrite; 2] {
    [StoreWrite::delete(format!("{SENT}{delivery}")), StoreWrite::delete(format!("{DID}{delivery}"))]
}

/// What is known of a delivery that does something to an earlier message. To do it again changes nothing for others, so
/// one that can't be read is done again.
pub(crate) async fn done(store: &AccountStore, delivery: DeliveryId) -> Result<Option<Done>, NotAccepted> {
    let found = store.read(&format!("{DID}{delivery}")).await?;
    Ok(found.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()))
}

/// Remembers that something is about to be done.
pub(crate) fn doing(slip: &Slip, done: &Done) -> StoreWrite {
    put(format!("{DID}{}", slip.delivery), done)
}

/// The messages that other deliveries became.
pub(crate) async fn taken(store: &AccountStore, but: DeliveryId) -> Result<Vec<u32>, NotAccepted> {
    let own = format!("{SENT}{but}");
    let all = store.read_all(SENT).await?;
    let others = all.into_iter().filter(|(key, _)| *key != own);
    Ok(others.filter_map(|(_, bytes)| serde_json::from_slice::<Sent>(bytes.expose()).ok()?.message).collect())
}

/// Forgets what is older than [`KEPT`].
pub(crate) async fn sweep(store: &AccountStore) -> Result<(), NotAccepted> {
    for prefix in [SENT, DID, ID, TOLD, SHOWN] {
        store.prune(prefix, Keep { most: MOST, within: KEPT }).await?;
    }
    Ok(())
}
