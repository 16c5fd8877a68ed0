//! Our own cross-signing identity: made at the first start, or taken over with the recovery key.

use matrix_sdk_crypto::{UserIdentity, types::requests::AnyIncomingResponse};
use ruma::{
    DeviceId, OneTimeKeyAlgorithm, TransactionId,
    api::client::{
        device::{delete_devices, get_device},
        keys::{get_keys, upload_keys, upload_signing_keys},
        uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{info, instrument};

use super::{Class, Engine, EngineError, HttpError, HttpErrorKind, Interactive, error::contained};

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The account has an identity already, made by another client.
    #[error("this account already has a cross-signing identity; give its recovery key")]
    NeedsRecoveryKey,
    #[error("this is not the account's recovery key")]
    WrongRecoveryKey,
    #[error("the account has no secret storage to recover from; set it up in another client")]
    NoSecretStorage,
    #[error("the secret storage lacks {0}")]
    SecretMissing(&'static str),
    /// The stored secrets belong to an identity that has been replaced since.
    #[error("the secret storage holds the keys of an older identity; renew it in another client")]
    SecretsOutdated,
    #[error("the account already has a secret storage of another client; give its recovery key")]
    SecretStorageExists,
    #[error("the homeserver asks for the password")]
    NeedsPassword,
    #[error("wrong password")]
    WrongPassword,
    #[error("the homeserver wants this approved in a browser")]
    NeedsBrowser,
    #[error("our device is not cross-signed")]
    NotCrossSigned,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<HttpError> for IdentityError {
    fn from(error: HttpError) -> Self {
        Self::Engine(error.into())
    }
}

/// How our own account stands.
#[derive(Clone, Debug)]
pub struct OwnState {
    /// Our device is signed by our identity, as the server has it, and we trust that identity.
    pub cross_signed: bool,
    pub has_private_keys: bool,
    /// The public master key of our identity.
    pub master_key: Option<String>,
    /// The backup we write to.
    pub backup_version: Option<String>,
    /// The server's current backup; another than ours means that another client replaced it.
    pub server_backup_version: Option<String>,
    pub secret_storage: bool,
    /// The homeserver has our device's keys, and gives them to others.
    pub device_known: bool,
    /// How many one-time keys of ours the homeserver had last, and whether it had one to fall back to.
    pub keys_left: Option<(u64, bool)>,
    pub other_devices: usize,
}

impl Engine {
    /// Publishes our device keys, makes the cross-signing identity, and signs our device with it. Does only what is
    /// missing, so it can be repeated after a crash.
    #[instrument(skip_all)]
    pub async fn bootstrap(&self, password: Option<&SecretString>) -> Result<(), IdentityError> {
        self.publish_device().await?;
        match self.server_master_key().await? {
            None => self.publish_identity(password).await?,
            Some(_) if self.has_private_keys().await => {}
            Some(_) => return Err(IdentityError::NeedsRecoveryKey),
        }
        self.sign_own_device().await
    }

    /// Refuses unless our device is cross-signed. Sends nothing.
    pub async fn require_cross_signed(&self) -> Result<(), IdentityError> {
        if self.is_cross_signed().await? { Ok(()) } else { Err(IdentityError::NotCrossSigned) }
    }

    /// How our account stands, as the server has it now.
    #[instrument(skip_all)]
    pub async fn own_state(&self) -> Result<OwnState, IdentityError> {
        self.query_self().await?;
        let person = self.person(self.user_id()).await?;
        Ok(OwnState {
            cross_signed: self.is_cross_signed().await?,
            has_private_keys: self.has_private_keys().await,
            master_key: person.master_key,
            backup_version: self.machine().backup_machine().backup_version().await,
            server_backup_version: self.server_backup().await?.map(|(version, _)| version),
            device_known: self.is_device_known().await?,
            keys_left: self.keys_left().await,
            secret_storage: self.default_secret_key_id().await?.is_some(),
            other_devices: person.devices.len(),
        })
    }

    pub(super) async fn has_private_keys(&self) -> bool {
        self.machine().cross_signing_status().await.is_complete()
    }

    async fn is_cross_signed(&self) -> Result<bool, EngineError> {
        let identity = self.machine().get_identity(self.user_id(), None).await?;
        let device = self.machine().get_device(self.user_id(), self.device_id(), None).await?;
        Ok(identity.is_some_and(|identity| identity.is_verified())
            && device.is_some_and(|device| device.is_cross_signed_by_owner()))
    }

    /// Uploads our device keys and reads what the server holds about us.
    pub(super) async fn publish_device(&self) -> Result<(), IdentityError> {
        let flushed = self.flush().await;
        if let Some((_, error)) = flushed.failed.into_iter().next() {
            return Err(error.into());
        }
        Ok(self.query_self().await?)
    }

    /// Reads our own devices and identity anew.
    pub(super) async fn query_self(&self) -> Result<(), EngineError> {
        let _single = self.inner.querying.lock().await;
        let (id, query) = self.machine().query_keys_for_users([self.user_id()]);
        let mut request = get_keys::v3::Request::new();
        request.device_keys = query.device_keys;
        let answer = self.http().send_any(request, Class::Keys).await?;
        self.mark(self.machine().mark_request_as_sent(&id, &answer)).await?;
        self.inner.stale.moved();
        Ok(())
    }

    /// The machine knows its own device in any case, so the server itself is asked.
    async fn is_device_known(&self) -> Result<bool, IdentityError> {
        let mut request = get_keys::v3::Request::new();
        request.device_keys.insert(self.user_id().to_owned(), Vec::new());
        let answer = self.http().send_any(request, Class::Keys).await?;
        Ok(answer.device_keys.get(self.user_id()).is_some_and(|devices| devices.contains_key(self.device_id())))
    }

    /// An upload of nothing is answered with what is there. Where uploads are refused, the last sync answer told it.
    async fn keys_left(&self) -> Option<(u64, bool)> {
        let told = self.inner.standing.keys_left();
        let (_, falls_back) = told?;
        let Ok(answer) = self.http().send_any(upload_keys::v3::Request::new(), Class::Short).await else { return told };
        let left = answer.one_time_key_counts.get(&OneTimeKeyAlgorithm::SignedCurve25519).copied();
        Some((left.unwrap_or_default().into(), falls_back))
    }

    /// The machine's own view counts an identity that never reached the server, so the server itself is asked.
    async fn server_master_key(&self) -> Result<Option<()>, IdentityError> {
        let mut request = get_keys::v3::Request::new();
        request.device_keys.insert(self.user_id().to_owned(), Vec::new());
        let answer = self.http().send_any(request, Class::Keys).await?;
        Ok(answer.master_keys.contains_key(self.user_id()).then_some(()))
    }

    async fn publish_identity(&self, password: Option<&SecretString>) -> Result<(), IdentityError> {
        // Gives the same keys again after a crash: they are stored before they are sent.
        let bootstrap = contained(self.machine().bootstrap_cross_signing(false)).await?;
        let bootstrap = bootstrap.map_err(EngineError::from)?;
        let keys = bootstrap.upload_signing_keys_req;
        let mut request = upload_signing_keys::v3::Request::new();
        request.master_key = keys.master_key.map(|key| key.to_raw());
        request.self_signing_key = keys.self_signing_key.map(|key| key.to_raw());
        request.user_signing_key = keys.user_signing_key.map(|key| key.to_raw());

        let answer = match self.http().send_any(request.clone(), Class::Short).await {
            Err(HttpError { kind: HttpErrorKind::Interactive(asked) }) => {
                request.auth = Some(self.proof(asked, password)?);
                self.http().send_any(request, Class::Short).await.map_err(refused_proof)?
            }
            answer => answer?,
        };
        let id = TransactionId::new();
        let published = AnyIncomingResponse::SigningKeysUpload(&answer);
        self.mark(self.machine().mark_request_as_sent(&id, published)).await?;
        self.http().send_any(bootstrap.upload_signatures_req, Class::Short).await?;
        info!("Cross-signing identity published.");
        Ok(())
    }

    /// What the homeserver asks for before it does something that matters.
    fn proof(&self, asked: Interactive, password: Option<&SecretString>) -> Result<AuthData, IdentityError> {
        if !asked.password_suffices {
            return Err(match asked.needs_browser {
                true => IdentityError::NeedsBrowser,
                false => IdentityError::NeedsPassword,
            });
        }
        let password = password.ok_or(IdentityError::NeedsPassword)?;
        let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(self.user_id().to_string()));
        let mut proof = Password::new(user, password.expose_secret().to_owned());
        proof.session = asked.session;
        Ok(AuthData::Password(proof))
    }

    /// Removes another device of ours. One that is gone already is no trouble.
    #[instrument(skip_all)]
    pub async fn remove_device(&self, device: &DeviceId, password: Option<&SecretString>) -> Result<(), IdentityError> {
        let mut request = delete_devices::v3::Request::new(vec![device.to_owned()]);
        match self.http().send_any(get_device::v3::Request::new(device.to_owned()), Class::Short).await {
            Err(error) if error.is_not_found() => return Ok(()),
            there => there?,
        };
        match self.http().send_any(request.clone(), Class::Short).await {
            Err(HttpError { kind: HttpErrorKind::Interactive(asked) }) => {
                request.auth = Some(self.proof(asked, password)?);
                self.http().send_any(request, Class::Short).await.map_err(refused_proof)?;
            }
            answer => {
                answer?;
            }
        }
        info!("The device that we had before was removed.");
        Ok(())
    }

    /// Signs our device with our identity unless the server has that signature.
    pub(super) async fn sign_own_device(&self) -> Result<(), IdentityError> {
        self.query_self().await?;
        if self.is_cross_signed().await? {
            return Ok(());
        }
        let device = self.machine().get_device(self.user_id(), self.device_id(), None).await;
        let device = device.map_err(EngineError::from)?.ok_or(EngineError::Olm("our device is missing"))?;
        let signature = device.verify().await.map_err(|_| EngineError::Olm("our device can't be signed"))?;
        self.http().send_any(signature, Class::Short).await?;
        self.query_self().await?;
        self.require_cross_signed().await
    }

    pub(super) async fn knows_own_identity(&self) -> Result<bool, EngineError> {
        let identity = self.machine().get_identity(self.user_id(), None).await?;
        Ok(matches!(identity, Some(UserIdentity::Own(_))))
    }
}

fn refused_proof(error: HttpError) -> IdentityError {
    match &error.kind {
        HttpErrorKind::Interactive(asked) if asked.rejected => IdentityError::WrongPassword,
        HttpErrorKind::Interactive(_) => IdentityError::NeedsPassword,
        _ if error.errcode() == Some("M_FORBIDDEN") => IdentityError::WrongPassword,
        _ => error.into(),
    }
}
