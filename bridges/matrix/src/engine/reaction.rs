//! The one room event that leaves in clear, since Matrix has no other form of it: an emoji of Unicode's own list on a
//! message. By it nothing can be said that is not in that list.

use ruma::{EventId, OwnedEventId, RoomId, TransactionId};
use serde_json::json;

use super::{Http, HttpError};

/// An emoji of Unicode's own list.
///
/// ```
/// # use sealbridge_matrix::engine::StandardEmoji;
/// assert!(StandardEmoji::new("👍").is_some());
/// assert!(StandardEmoji::new("a secret").is_none());
/// ```
///
/// It can't be forged:
///
/// ```compile_fail,E0423
/// # use sealbridge_matrix::engine::StandardEmoji;
/// let forged = StandardEmoji("a secret");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandardEmoji<'a>(&'a str);

impl<'a> StandardEmoji<'a> {
    /// `None` if it is none.
    #[must_use]
    pub fn new(emoji: &'a str) -> Option<Self> {
        sealbridge_contract::message::is_standard(emoji).then_some(Self(emoji))
    }
}

impl Http {
    /// Reacts to a message, in clear.
    pub async fn react(
        &self,
        room: &RoomId,
        to: &EventId,
        emoji: StandardEmoji<'_>,
        txn: &TransactionId,
    ) -> Result<OwnedEventId, HttpError> {
        let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": to, "key": emoji.0 } });
        self.send_annotation(room, txn, &content).await
    }
}
