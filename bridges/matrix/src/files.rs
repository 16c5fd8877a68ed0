//! Files between the homeserver and the spool.

use sealbridge_contract::{
    Cleared, DeliveryError, Slip, SpoolError, Spooled, adapt, inbox::StoreWrite, message::Media,
};
use tracing::{debug, warn};

use crate::{
    core::Core,
    engine::{Attachment, AttachmentError, HttpErrorKind},
    outgoing::http_error,
    prune::UPLOADED,
    translate::{Brought, Files, Taken},
};

/// Why a file was not taken.
pub(crate) enum Untaken {
    /// Perhaps later.
    Later(String),
    /// It never will be.
    Never(String),
}

/// Takes the files of a message into the spool.
pub(crate) async fn take(core: &Core, files: &Files) -> Result<Taken, Untaken> {
    let most = core.settings.most_file();
    if files.claimed.is_some_and(|claimed| claimed > most) {
        return Err(untaken(SpoolError::TooLong { most }.into()));
    }
    let content = take_one(core, &files.content, most).await.map_err(untaken)?;
    let thumbnail = match &files.thumbnail {
        Some(thumbnail) => match take_one(core, thumbnail, most).await.map_err(untaken) {
            Ok(thumbnail) => Some(thumbnail),
            Err(Untaken::Later(why)) => return Err(Untaken::Later(why)),
            // The file is what was meant; readers make small pictures of their own.
            Err(Untaken::Never(why)) => {
                debug!(why, "A small picture was left out.");
                None
            }
        },
        None => None,
    };
    Ok(Taken { content, thumbnail })
}

async fn take_one(core: &Core, attachment: &Attachment, most: u64) -> Result<Spooled, AttachmentError> {
    let writer = core.spool.create(most).await?;
    core.http.take(attachment, most, writer).await
}

fn untaken(error: AttachmentError) -> Untaken {
    match error {
        AttachmentError::Http(error) => match error.kind {
            HttpErrorKind::Client { status: 404, .. } => Untaken::Later("its file is not on the homeserver".into()),
            HttpErrorKind::Client { .. } | HttpErrorKind::Malformed => {
                Untaken::Never(format!("its file can't be fetched: {error}"))
            }
            _ => Untaken::Later(error.to_string()),
        },
        AttachmentError::Malformed => Untaken::Never("how its file is encrypted is not known".into()),
        AttachmentError::Spool(SpoolError::TooLong { most }) => {
            Untaken::Never(format!("its file is larger than {}, the most that is taken", adapt::bytes(most)))
        }
        AttachmentError::Spool(SpoolError::WrongHash) => {
            Untaken::Never("its file is not what its sender said: the hash is another".into())
        }
        AttachmentError::Spool(error) => Untaken::Later(error.to_string()),
    }
}

/// Uploads the files of a message, as far as the gate lets them through and as far as they are not there yet.
pub(crate) async fn bring(core: &Core, cleared: &Cleared<'_>, slip: &Slip) -> Result<Option<Brought>, DeliveryError> {
    let Some(media) = cleared.message().media() else { return Ok(None) };
    let key = format!("{UPLOADED}{}", slip.delivery);
    let kept = core.store.read(&key).await.map_err(|error| DeliveryError::retry(error.to_string()))?;
    if let Some(brought) = kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()) {
        return Ok(Some(brought));
    }
    check_size(core, media).await?;
    let thumbnail = match &media.thumbnail {
        Some(thumbnail) => Some(bring_one(core, cleared, &thumbnail.content).await?),
        None => None,
    };
    let brought = Brought { content: bring_one(core, cleared, &media.content).await?, thumbnail };
    let bytes = serde_json::to_vec(&brought).map_err(|error| DeliveryError::give_up(error.to_string()))?;
    // From here on another attempt, even of another process, uploads nothing again.
    let written = core.store.write(vec![StoreWrite::put(key, bytes)]).await;
    written.map_err(|error| DeliveryError::retry(error.to_string()))?;
    Ok(Some(brought))
}

async fn check_size(core: &Core, media: &Media) -> Result<(), DeliveryError> {
    let most = core.http.most_file().await.map_err(|error| http_error(&error))?;
    match most {
        Some(most) if media.spooled().any(|spooled| spooled.size > most) => {
            Err(DeliveryError::give_up(format!("the homeserver takes no file larger than {}", adapt::bytes(most))))
        }
        _ => Ok(()),
    }
}

async fn bring_one(core: &Core, cleared: &Cleared<'_>, file: &Spooled) -> Result<Attachment, DeliveryError> {
    let pass = cleared.pass(file.id).ok_or_else(|| DeliveryError::give_up("the file is none of this message"))?;
    let mut reader = core.spool.open(&pass, 0).await.map_err(spool_error)?;
    match core.http.bring(file.size, reader.as_mut()).await {
        Ok(attachment) => Ok(attachment),
        Err(AttachmentError::Spool(error)) => Err(spool_error(error)),
        Err(AttachmentError::Http(error)) => Err(match error.kind {
            HttpErrorKind::Client { status: 413, .. } => {
                DeliveryError::give_up("the homeserver says that the file is too large")
            }
            HttpErrorKind::Client { .. } => DeliveryError::give_up(format!("the file was not taken: {error}")),
            _ => http_error(&error),
        }),
        Err(error) => Err(DeliveryError::give_up(error.to_string())),
    }
}

fn spool_error(error: SpoolError) -> DeliveryError {
    match error {
        SpoolError::NotThere | SpoolError::Damaged => DeliveryError::give_up(error.to_string()),
        error => DeliveryError::retry(error.to_string()),
    }
}

/// Forgets what was uploaded for a delivery that is done with.
pub(crate) async fn forget(core: &Core, slip: &Slip) {
    let key = format!("{UPLOADED}{}", slip.delivery);
    if let Err(error) = core.store.write(vec![StoreWrite::delete(key)]).await {
        warn!(%error, "What was uploaded for a delivery is still kept.");
    }
}
