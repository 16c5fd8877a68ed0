//! Which other message a decrypted content belongs to, and which delivery of ours it is.

use sealbridge_contract::{DeliveryId, RemoteId};
use serde_json::Value;

use super::{DELIVERY, words::event_id};

/// Which delivery of ours a decrypted content is, by its own word.
pub(crate) fn delivery(content: &Value) -> Option<DeliveryId> {
    DeliveryId::parse(content.get(DELIVERY)?.as_str()?).ok()
}

/// The message that a content changes.
pub(crate) fn replaced(content: &Value) -> Option<RemoteId> {
    let relation = content.get("m.relates_to")?;
    (relation.get("rel_type")?.as_str()? == "m.replace").then(|| event_id(relation))?
}

/// The message that a content reacts to, and the emoji.
pub(crate) fn annotated(content: &Value) -> Option<(RemoteId, &str)> {
    let relation = content.get("m.relates_to")?;
    let key = relation.get("key")?.as_str()?;
    (relation.get("rel_type")?.as_str()? == "m.annotation").then(|| event_id(relation).map(|id| (id, key)))?
}
