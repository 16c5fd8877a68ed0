//! Which other message a decrypted content belongs to, and which delivery of ours it is.

use sealbridge_contract::{DeliveryId, RemoteId};
use serde_json::Value;

use super::{DELIVERY, words::event_id};

/// Which delivery of ours a decrypted content is, by its own word.
pub(crate) fn delivery(content: &Value) -> Option<DeliveryId> {
    DeliveryId::parse(content.get(DELIVERY)?.as_str()?).ok()
}

/// The message that a content changes. Which one stands outside the ciphertext, where a homeserver can write what it
/// likes; that it is an edit at all, its author says inside, by new words in a content of their own.
pub(crate) fn replaced(content: &Value) -> Option<RemoteId> {
    content.get("m.new_content").filter(|new| new.is_object())?;
    let relation = content.get("m.relates_to")?;
    (relation.get("rel_type")?.as_str()? == "m.replace").then(|| event_id(relation))?
}

/// The event that a content goes on with: the poll that ends, the live place that moves.
pub(super) fn referred(content: &Value) -> Option<RemoteId> {
    let relation = content.get("m.relates_to")?;
    (relation.get("rel_type")?.as_str()? == "m.reference").then(|| event_id(relation))?
}

/// The message that a content reacts to, and the emoji.
pub(crate) fn annotated(content: &Value) -> Option<(RemoteId, &str)> {
    let relation = content.get("m.relates_to")?;
    let key = relation.get("key")?.as_str()?;
    (relation.get("rel_type")?.as_str()? == "m.annotation").then(|| event_id(relation).map(|id| (id, key)))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_message_becomes_an_edit_by_a_relation_that_its_homeserver_adds() {
        let relation = json!({"rel_type": "m.replace", "event_id": "$x"});
        let plain = json!({"msgtype": "m.text", "body": "no, never", "m.relates_to": relation});
        assert!(replaced(&plain).is_none());
        let edit = json!({"body": "* no", "m.new_content": {"body": "no"}, "m.relates_to": relation});
        assert_eq!(replaced(&edit), Some(RemoteId::new("$x")));
    }
}
