//! What is kept of messages in the account's own store: which delivery became which message, and which number of the
//! engine's stands for which mail id. Kept for [`KEPT`], then forgotten.

use std::time::Duration;

use sealbridge_contract::{
    Clock, DeliveryId, NotAccepted, RemoteId, Slip,
    inbox::{AccountStore, StoreWrite},
};
use serde::{Deserialize, Serialize};

/// How long a delivery is remembered, so that it is never sent twice.
pub(crate) const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const SENT: &str = "sent:";
const ID: &str = "id:";
const SWEPT: &str = "swept";

/// One delivery of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// When it was handed to the engine, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// Every message that it can have become has a higher number.
    pub(crate) after: u32,
    /// Which message it became, once that is known.
    pub(crate) message: Option<u32>,
}

/// A message that has a mail id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Named {
    at: i64,
    message: u32,
}

fn put(key: String, value: &impl Serialize) -> StoreWrite {
    StoreWrite::put(key, serde_json::to_vec(value).expect("it has only numbers"))
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

/// What is known of a delivery.
pub(crate) async fn sent(store: &AccountStore, delivery: DeliveryId) -> Result<Option<Sent>, NotAccepted> {
    let Some(bytes) = store.read(&format!("{SENT}{delivery}")).await? else { return Ok(None) };
    // One that can't be read was handed in all the same: it is looked for, and never sent without that.
    Ok(Some(serde_json::from_slice(bytes.expose()).unwrap_or(Sent { at: 0, after: 0, message: None })))
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
    for prefix in [SENT, ID] {
        let old = store.read_all(prefix).await?.into_iter();
        let old = old.filter(|(_, bytes)| at(bytes.expose()).is_some_and(|at| at < oldest));
        writes.extend(old.map(|(key, _)| StoreWrite::delete(key)));
    }
    store.write(writes).await
}
