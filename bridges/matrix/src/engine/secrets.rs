//! The account's secret storage on the homeserver, entry by entry.

use matrix_sdk_crypto::secret_storage::{AesHmacSha2EncryptedData, SecretStorageKey};
use ruma::{
    api::client::config::{get_global_account_data, set_global_account_data},
    events::{GlobalAccountDataEventType, secret::request::SecretName, secret_storage::secret::SecretEventContent},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Class, Engine, EngineError, IdentityError};

#[derive(Deserialize)]
struct DefaultKey {
    key: String,
}

impl Engine {
    pub(super) async fn default_secret_key_id(&self) -> Result<Option<String>, EngineError> {
        let data = self.account_data(GlobalAccountDataEventType::SecretStorageDefaultKey).await?;
        // Account data can't be deleted; clients empty it instead.
        Ok(data.and_then(|data| serde_json::from_str::<DefaultKey>(data.get()).ok()).map(|d| d.key))
    }

    pub(super) async fn secret(
        &self,
        storage: &SecretStorageKey,
        name: SecretName,
    ) -> Result<Option<String>, IdentityError> {
        let Some(data) = self.account_data(name.clone().into()).await? else {
            return Ok(None);
        };
        let Ok(content) = serde_json::from_str::<SecretEventContent>(data.get()) else {
            return Ok(None);
        };
        let Some(sealed) = content.encrypted.get(storage.key_id()) else {
            return Ok(None);
        };
        let sealed = sealed.deserialize_as::<AesHmacSha2EncryptedData>();
        let opened = sealed.ok().and_then(|sealed| storage.decrypt(&sealed, &name).ok());
        let secret = opened.and_then(|opened| String::from_utf8(opened).ok());
        // The key fits its description, so a secret it does not open was tampered with or is outdated.
        secret.map(Some).ok_or(IdentityError::SecretsOutdated)
    }

    pub(super) async fn put_secret(
        &self,
        storage: &SecretStorageKey,
        name: SecretName,
        secret: &str,
    ) -> Result<(), IdentityError> {
        let kind = GlobalAccountDataEventType::from(name.clone());
        // Under other keys the secret stays as it is.
        let data = self.account_data(kind.clone()).await?;
        let held = data.and_then(|data| serde_json::from_str::<SecretEventContent>(data.get()).ok());
        let mut content = held.unwrap_or_else(|| SecretEventContent::new(Default::default()));
        let sealed = Raw::new(&storage.encrypt(secret.as_bytes().to_vec(), &name));
        let sealed = sealed.expect("ciphertext serialises").cast();
        content.encrypted.insert(storage.key_id().to_owned(), sealed);
        let content = serde_json::value::to_raw_value(&content).expect("ciphertext serialises");
        Ok(self.set_account_data(kind, &content).await?)
    }

    pub(super) async fn account_data(
        &self,
        kind: GlobalAccountDataEventType,
    ) -> Result<Option<Box<RawValue>>, EngineError> {
        let request = get_global_account_data::v3::Request::new(self.user_id().to_owned(), kind);
        match self.http().send(request, Class::Short).await {
            Ok(answer) => Ok(Some(answer.account_data.into_json())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn set_account_data(
        &self,
        kind: GlobalAccountDataEventType,
        content: &RawValue,
    ) -> Result<(), EngineError> {
        let request = set_global_account_data::v3::Request::new_raw(
            self.user_id().to_owned(),
            kind,
            Raw::from_json(content.to_owned()),
        );
        self.http().send(request, Class::Short).await?;
        Ok(())
    }
}
