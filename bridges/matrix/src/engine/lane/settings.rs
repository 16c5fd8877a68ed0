//! Who gets a room's key and when it is replaced, and what can go wrong on the way.

use std::time::Duration;

use matrix_sdk_crypto::{
    CollectStrategy, EncryptionSettings, OlmError, SessionRecipientCollectionError, types::EventEncryptionAlgorithm,
};
use ruma::{OwnedUserId, events::room::history_visibility::HistoryVisibility};

use super::super::{EngineError, HttpError, Readers, Whom};

/// Who gets the room key, and when it is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSettings {
    pub whom: Whom,
    pub readers: Readers,
    pub rotation_messages: u64,
    pub rotation_period: Duration,
    /// Whether other clients may hand the key to people invited later: not with `Joined` or `Invited`.
    pub history: HistoryVisibility,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            whom: Whom::Admitted,
            readers: Readers::CrossSigned,
            rotation_messages: 100,
            rotation_period: Duration::from_secs(7 * 24 * 3600),
            history: HistoryVisibility::Joined,
        }
    }
}

impl RoomSettings {
    pub(super) fn for_machine(&self) -> EncryptionSettings {
        EncryptionSettings {
            algorithm: EventEncryptionAlgorithm::MegolmV1AesSha2,
            rotation_period: self.rotation_period,
            rotation_period_msgs: self.rotation_messages,
            history_visibility: self.history.clone(),
            sharing_strategy: match self.readers {
                Readers::CrossSigned => CollectStrategy::IdentityBasedStrategy,
                Readers::AnyDevice => CollectStrategy::AllDevices,
            },
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The caller refused the audience. No key left.
    #[error("the audience was refused")]
    Refused,
    #[error("a verified person's identity has changed")]
    VerifiedUserChanged(Vec<OwnedUserId>),
    #[error("our own device is not cross-signed")]
    OwnDeviceUnsigned,
    /// Devices changed while the key was made; try again.
    #[error("the audience changed meanwhile")]
    AudienceMoved,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for PrepareError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Http(error) => Self::Http(error),
            error => Self::Engine(error),
        }
    }
}

impl PrepareError {
    /// Whether trying again later may help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(error) => error.is_transient(),
            Self::AudienceMoved => true,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    #[error("the relation would put more than its target in clear")]
    Relation,
    #[error("the content is not a JSON object")]
    NotAnObject,
    #[error("it is not what everybody in the room may read")]
    ForEverybody,
    /// The room key ran out between preparing and encrypting. Prepare and encrypt again.
    #[error("the room key has expired")]
    Expired,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

pub(super) fn share_failure(error: OlmError) -> PrepareError {
    use SessionRecipientCollectionError as Recipients;
    match error {
        OlmError::SessionRecipientCollectionError(Recipients::VerifiedUserChangedIdentity(who)) => {
            PrepareError::VerifiedUserChanged(who)
        }
        OlmError::SessionRecipientCollectionError(
            Recipients::CrossSigningNotSetup | Recipients::SendingFromUnverifiedDevice,
        ) => PrepareError::OwnDeviceUnsigned,
        error => PrepareError::Engine(error.into()),
    }
}
