//! The key backup on the homeserver: upload, and download of single keys.

use matrix_sdk_crypto::{olm::ExportedRoomKey, store::types::BackupDecryptionKey, types::RoomKeyBackupInfo};
use ruma::{
    RoomId,
    api::client::backup::{
        add_backup_keys, create_backup_version, get_backup_keys_for_session, get_latest_backup_info,
    },
    serde::Raw,
};
use tracing::{info, instrument};

use super::{Class, Engine, EngineError, Flushed, HttpError, error::contained, http::is_name, keystore::importing};

/// A flush uploads at most this many batches of 100 keys, so that other traffic is not held up.
const BATCHES: usize = 5;

impl Engine {
    pub(super) async fn back_up(&self, flushed: &mut Flushed) -> Result<(), EngineError> {
        let _single = self.inner.backing_up.lock().await;
        let backups = self.machine().backup_machine();
        if !backups.enabled().await {
            return Ok(());
        }
        for _ in 0..BATCHES {
            let Some((id, batch)) = contained(backups.backup()).await?? else {
                return Ok(());
            };
            let request = add_backup_keys::v3::Request::new(batch.version, batch.rooms);
            match self.http().send_any(request, Class::Short).await {
                Ok(answer) => {
                    self.mark(self.machine().mark_request_as_sent(&id, &answer)).await?;
                }
                Err(error) if is_replaced(&error) => {
                    info!("The key backup was replaced by another client; ours is off.");
                    backups.disable_backup().await?;
                    flushed.backup_replaced = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.inner.wants_flush.notify_one();
        Ok(())
    }

    /// Looks in the key backup for one room key; true if it was there. What it opens has no proven sender.
    #[instrument(skip_all)]
    pub async fn download_from_backup(&self, room: &RoomId, session_id: &str) -> Result<bool, EngineError> {
        // Whoever wrote the event chose it, and nothing that is no id goes into an address.
        if !is_name(session_id) {
            return Ok(false);
        }
        let keys = self.machine().backup_machine().get_backup_keys().await?;
        let (Some(key), Some(version)) = (keys.decryption_key, keys.backup_version) else {
            return Ok(false);
        };
        let request =
            get_backup_keys_for_session::v3::Request::new(version.clone(), room.to_owned(), session_id.to_owned());
        let answer = match self.http().send_any(request, Class::Short).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let unreadable = || EngineError::Olm("the backup's entry can't be read");
        let data = answer.key_data.deserialize().map_err(|_| unreadable())?;
        let session = key.decrypt_session_data(data.session_data).map_err(|_| unreadable())?;
        let exported = ExportedRoomKey::from_backed_up_room_key(room.to_owned(), session_id.to_owned(), session);
        let import = self.machine().store().import_room_keys(vec![exported], Some(&version), |_, _| {});
        let _turn = self.turn().await?;
        let imported = contained(importing(import)).await??;
        Ok(imported.imported_count > 0)
    }

    /// The server's current backup, if any.
    pub(super) async fn server_backup(&self) -> Result<Option<(String, RoomKeyBackupInfo)>, EngineError> {
        let request = get_latest_backup_info::v3::Request::new();
        let answer = match self.http().send_any(request, Class::Short).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let info = answer.algorithm.deserialize_as_unchecked::<RoomKeyBackupInfo>();
        let info = info.map_err(|_| EngineError::Olm("the backup's description can't be read"))?;
        Ok(Some((answer.version, info)))
    }

    /// Makes a new backup on the server and uses it from now on.
    pub(super) async fn create_backup(&self, key: BackupDecryptionKey) -> Result<String, EngineError> {
        let backups = self.machine().backup_machine();
        let mut info = key.to_backup_info();
        backups.sign_backup(&mut info).await.map_err(|_| EngineError::Olm("signing failed"))?;
        let algorithm = Raw::new(&info).map_err(|_| EngineError::Olm("serialising failed"))?;
        let request = create_backup_version::v3::Request::new(algorithm.cast_unchecked());
        let version = self.http().send_any(request, Class::Short).await?.version;
        self.use_backup(key, version.clone()).await?;
        Ok(version)
    }

    pub(super) async fn use_backup(&self, key: BackupDecryptionKey, version: String) -> Result<(), EngineError> {
        let backups = self.machine().backup_machine();
        backups.save_decryption_key(Some(key.clone()), Some(version.clone())).await?;
        let public = key.megolm_v1_public_key();
        public.set_version(version);
        backups.enable_backup_v1(public).await?;
        self.inner.wants_flush.notify_one();
        Ok(())
    }
}

fn is_replaced(error: &HttpError) -> bool {
    error.errcode() == Some("M_WRONG_ROOM_KEYS_VERSION") || error.is_not_found()
}
