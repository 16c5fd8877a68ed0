//! Failures of the crypto machine, named by kind: the library's own texts may quote what it was reading.

use std::any::Any;

use futures_util::FutureExt as _;
use matrix_sdk_crypto::{CryptoStoreError, OlmError};
use tracing::error;

use super::HttpError;

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error("the crypto store failed: {0}")]
    Store(&'static str),
    /// The cryptography library broke one of its own promises; what was asked for was not done.
    #[error("the cryptography library panicked")]
    Panicked,
    #[error("the cryptography library refused: {0}")]
    Olm(&'static str),
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl From<CryptoStoreError> for EngineError {
    fn from(error: CryptoStoreError) -> Self {
        Self::Store(store_failure(&error))
    }
}

impl From<OlmError> for EngineError {
    fn from(error: OlmError) -> Self {
        match error {
            OlmError::Store(error) => error.into(),
            OlmError::EventError(_) | OlmError::JsonError(_) => Self::Olm("malformed event"),
            OlmError::SessionCreation(_) => Self::Olm("no session could be made"),
            OlmError::MissingSession => Self::Olm("no session with the device"),
            OlmError::SessionRecipientCollectionError(_) => Self::Olm("recipients are not in order"),
            _ => Self::Olm("operation failed"),
        }
    }
}

pub(super) fn store_failure(error: &CryptoStoreError) -> &'static str {
    match error {
        CryptoStoreError::AccountUnset => "no account in it",
        CryptoStoreError::MismatchedAccount { .. } => "it belongs to another device",
        CryptoStoreError::Io(_) => "input or output failed",
        CryptoStoreError::UnpicklingError | CryptoStoreError::Pickle(_) => "a key can't be opened",
        CryptoStoreError::Serialization(_) => "an entry can't be read",
        CryptoStoreError::UnsupportedDatabaseVersion(..) => "its version is not supported",
        CryptoStoreError::Backend(_) => "the database failed",
        _ => "operation failed",
    }
}

/// Runs a step of the cryptography library so that its panic ends that step and not the service.
pub(super) async fn contained<T>(step: impl Future<Output = T>) -> Result<T, EngineError> {
    std::panic::AssertUnwindSafe(step).catch_unwind().await.map_err(panicked)
}

// The panic's own message is not repeated: it is not ours, and may quote anything.
fn panicked(_: Box<dyn Any + Send>) -> EngineError {
    error!("The cryptography library panicked; the step was abandoned.");
    EngineError::Panicked
}
