//! Secret storage: what a lost device is recovered from, under one recovery key.

use std::fmt;

use matrix_sdk_crypto::{
    CrossSigningKeyExport, SecretImportError,
    secret_storage::{DecodeError, SecretStorageKey},
    store::types::BackupDecryptionKey,
};
use ruma::events::{
    EventContentFromType as _, GlobalAccountDataEventType, secret::request::SecretName,
    secret_storage::key::SecretStorageKeyEventContent,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tracing::{info, instrument};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Engine, EngineError, IdentityError, error::contained};

/// The key of the secret storage: who has it can become this account's identity.
///
/// Make it durable before [`Engine::set_up_recovery`], or a crash loses it.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryKey {
    key: String,
    #[zeroize(skip)]
    id: String,
    #[zeroize(skip)]
    description: Box<RawValue>,
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey")
    }
}

impl RecoveryKey {
    /// A fresh random key.
    pub fn generate() -> Self {
        let key = SecretStorageKey::new();
        let description = serde_json::value::to_raw_value(key.event_content());
        Self {
            key: key.to_base58(),
            id: key.key_id().to_owned(),
            description: description.expect("a key's description serialises"),
        }
    }

    /// The words that the operator keeps.
    pub fn shown(&self) -> SecretString {
        self.key.clone().into()
    }

    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("strings serialise"))
    }

    /// `None` if these are not the bytes of a key.
    pub fn from_secret_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    fn open(&self) -> Result<SecretStorageKey, IdentityError> {
        open(&self.id, &self.description, &self.key)
    }
}

fn open(id: &str, description: &RawValue, key: &str) -> Result<SecretStorageKey, IdentityError> {
    let kind = GlobalAccountDataEventType::SecretStorageKey(id.to_owned()).to_string();
    let content =
        SecretStorageKeyEventContent::from_parts(&kind, description).map_err(|_| IdentityError::NoSecretStorage)?;
    SecretStorageKey::from_account_data(key, content).map_err(|error| match error {
        DecodeError::UnsupportedAlgorithm(_) => IdentityError::NoSecretStorage,
        _ => IdentityError::WrongRecoveryKey,
    })
}

const CROSS_SIGNING: [(SecretName, &str); 3] = [
    (SecretName::CrossSigningMasterKey, "the master key"),
    (SecretName::CrossSigningSelfSigningKey, "the self-signing key"),
    (SecretName::CrossSigningUserSigningKey, "the user-signing key"),
];

impl Engine {
    /// Stores our identity's keys and a new key backup's key in the account's secret storage, under `key`. Can be
    /// repeated with the same key after a crash.
    #[instrument(skip_all)]
    pub async fn set_up_recovery(&self, key: &RecoveryKey) -> Result<(), IdentityError> {
        self.require_cross_signed().await?;
        if self.default_secret_key_id().await?.is_some_and(|id| id != key.id) {
            return Err(IdentityError::SecretStorageExists);
        }
        let storage = key.open()?;
        let keys = self.machine().export_cross_signing_keys().await.map_err(EngineError::from)?;
        let keys = keys.ok_or(IdentityError::NeedsRecoveryKey)?;
        let backup = self.backup_key().await?;

        self.set_account_data(storage.event_type(), &key.description).await?;
        let secrets = [
            (SecretName::CrossSigningMasterKey, keys.master_key.clone()),
            (SecretName::CrossSigningSelfSigningKey, keys.self_signing_key.clone()),
            (SecretName::CrossSigningUserSigningKey, keys.user_signing_key.clone()),
            (SecretName::RecoveryKey, Some(backup.to_base64())),
        ];
        for (name, secret) in secrets {
            let secret = Zeroizing::new(secret.ok_or(IdentityError::NeedsRecoveryKey)?);
            self.put_secret(&storage, name, &secret).await?;
        }
        // Last, so that other clients never see a storage half filled.
        let default = serde_json::value::to_raw_value(&json!({ "key": key.id }));
        let default = default.expect("a string serialises");
        self.set_account_data(GlobalAccountDataEventType::SecretStorageDefaultKey, &default).await?;
        info!("Secret storage and key backup set up.");
        Ok(())
    }

    /// Takes over the account's identity with its recovery key (or passphrase) and signs our device.
    #[instrument(skip_all)]
    pub async fn recover(&self, recovery_key: &SecretString) -> Result<(), IdentityError> {
        self.publish_device().await?;
        let id = self.default_secret_key_id().await?.ok_or(IdentityError::NoSecretStorage)?;
        let kind = GlobalAccountDataEventType::SecretStorageKey(id.clone());
        let description = self.account_data(kind).await?.ok_or(IdentityError::NoSecretStorage)?;
        let storage = open(&id, &description, recovery_key.expose_secret())?;

        let mut keys = CrossSigningKeyExport::default();
        for (name, called) in CROSS_SIGNING {
            let secret = self.secret(&storage, name.clone()).await?;
            let secret = secret.ok_or(IdentityError::SecretMissing(called))?;
            match name {
                SecretName::CrossSigningMasterKey => keys.master_key = Some(secret),
                SecretName::CrossSigningSelfSigningKey => keys.self_signing_key = Some(secret),
                _ => keys.user_signing_key = Some(secret),
            }
        }
        if !self.knows_own_identity().await? {
            return Err(IdentityError::SecretsOutdated);
        }
        let import = contained(self.machine().import_cross_signing_keys(keys)).await?;
        let status = import.map_err(|error| match error {
            SecretImportError::Store(error) => IdentityError::Engine(error.into()),
            _ => IdentityError::SecretsOutdated,
        })?;
        if !status.is_complete() {
            return Err(IdentityError::SecretsOutdated);
        }
        self.sign_own_device().await?;
        self.recover_backup(&storage).await?;
        info!("Identity recovered.");
        Ok(())
    }

    /// Uses the server's backup if its key is in the storage; else makes a new one and stores its key.
    async fn recover_backup(&self, storage: &SecretStorageKey) -> Result<(), IdentityError> {
        let stored = self.secret(storage, SecretName::RecoveryKey).await?.map(Zeroizing::new);
        let stored = stored.and_then(|key| BackupDecryptionKey::from_base64(&key).ok());
        if let Some((version, info)) = self.server_backup().await?
            && let Some(key) = stored
            && key.backup_key_matches(&info)
        {
            return Ok(self.use_backup(key, version).await?);
        }
        let key = BackupDecryptionKey::new();
        let encoded = Zeroizing::new(key.to_base64());
        self.put_secret(storage, SecretName::RecoveryKey, &encoded).await?;
        self.create_backup(key).await?;
        Ok(())
    }

    /// The key of the backup we write to; makes the backup if there is none of ours on the server.
    async fn backup_key(&self) -> Result<BackupDecryptionKey, IdentityError> {
        let held = self.machine().backup_machine().get_backup_keys().await;
        let held = held.map_err(EngineError::from)?;
        let server = self.server_backup().await?;
        if let (Some(key), Some(version), Some((current, info))) = (held.decryption_key, held.backup_version, server)
            && version == current
            && key.backup_key_matches(&info)
        {
            return Ok(key);
        }
        let key = BackupDecryptionKey::new();
        self.create_backup(key.clone()).await?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_key_survives_its_secret_bytes_and_opens_nothing_else() {
        let key = RecoveryKey::generate();
        let back = RecoveryKey::from_secret_bytes(&key.to_secret_bytes()).expect("it was written");
        assert!(back.open().is_ok());
        let other = RecoveryKey::generate();
        let wrong = open(&key.id, &key.description, &other.key);
        assert!(matches!(wrong, Err(IdentityError::WrongRecoveryKey)));
        assert!(!format!("{key:?}").contains(&key.key));
    }
}
