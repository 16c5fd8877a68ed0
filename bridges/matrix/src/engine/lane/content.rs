//! Ciphertext as a type.

use std::fmt;

use matrix_sdk_crypto::types::events::room::encrypted::RoomEncryptedEventContent;
use ruma::{OwnedRoomId, RoomId, serde::Raw};

/// A room event's ciphertext. Only [`Ready::encrypt`] makes one, and nothing else can be sent into a room.
///
/// ```
/// # use sealbridge_matrix::engine::{EncryptedContent, Http, HttpError};
/// async fn send(http: &Http, content: &EncryptedContent) -> Result<(), HttpError> {
///     let txn = ruma::TransactionId::new();
///     http.send_encrypted(content, &txn).await?;
///     Ok(())
/// }
/// ```
///
/// It can't be forged:
///
/// ```compile_fail,E0451
/// # use sealbridge_matrix::engine::EncryptedContent;
/// fn forge(real: EncryptedContent) -> EncryptedContent {
///     EncryptedContent { session_id: String::new(), ..real }
/// }
/// ```
///
/// And a message that is not one can't be sent:
///
/// ```compile_fail,E0277
/// # use sealbridge_matrix::engine::{Class, Http, HttpError};
/// use ruma::api::client::message::send_message_event::v3::Request;
/// async fn send(http: &Http, clear: Request) -> Result<(), HttpError> {
///     http.send(clear, Class::Short).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct EncryptedContent {
    pub(super) room: OwnedRoomId,
    pub(super) raw: Raw<RoomEncryptedEventContent>,
    pub(super) session_id: String,
    pub(super) message_index: u32,
}

impl fmt::Debug for EncryptedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedContent").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl EncryptedContent {
    pub fn room(&self) -> &RoomId {
        &self.room
    }

    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    pub fn message_index(&self) -> u32 {
        self.message_index
    }

    /// Bytes of the content. Homeservers refuse events beyond 64 KiB in all.
    pub fn size(&self) -> usize {
        self.raw.json().get().len()
    }

    pub(in super::super) fn raw(&self) -> &Raw<RoomEncryptedEventContent> {
        &self.raw
    }
}
