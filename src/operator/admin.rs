//! The admin room: where the operator is told what needs a person. Its address is kept in the journal.

use sealbridge_contract::{Address, SecretBytes};

use crate::store::{Journal, JournalError};

const KEY: &str = "admin-room";

/// The admin room, if there is one.
///
/// # Errors
/// [`JournalError`].
pub async fn room(journal: &dyn Journal) -> Result<Option<Address>, JournalError> {
    let bytes = journal.setting(KEY).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()))
}

/// Makes `room` the admin room.
///
/// # Errors
/// [`JournalError`].
pub async fn set_room(journal: &dyn Journal, room: &Address) -> Result<(), JournalError> {
    let bytes = serde_json::to_vec(room).expect("an address is two texts");
    journal.set(KEY, SecretBytes::new(bytes)).await
}
