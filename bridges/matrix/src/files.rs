//! Files between the homeserver and the spool.

use std::time::Duration;

use sealbridge_contract::{
    Cleared, DeliveryError, Fate, Slip, SpoolError, Spooled,
    inbox::StoreWrite,
    message::{Absence, Media},
};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::{
    core::Core,
    engine::{Attachment, AttachmentError, HttpErrorKind, Reserved},
    outgoing::http_error,
    prune::UPLOADED,
    translate::{Brought, Files, Taken},
};

/// Why a file was not taken.
pub(crate) enum Untaken {
    /// Perhaps later.
    Later(String),
    /// The homeserver does not have it, or not yet.
    Missing(String),
    /// The homeserver answers, and does not give out all of it.
    Broken(String),
    /// It never will be.
    Never(Absence),
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
            Err(_) => {
                debug!("A small picture was left out.");
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
            HttpErrorKind::Client { status: 404, .. } => Untaken::Missing("its file is not on the homeserver".into()),
            HttpErrorKind::Client { .. } | HttpErrorKind::Malformed => Untaken::Never(Absence::NotFetched),
            // Another homeserver, on which it lies, may be down.
            HttpErrorKind::Server { .. } | HttpErrorKind::Stranger { .. } => Untaken::Broken(error.to_string()),
            _ => Untaken::Later(error.to_string()),
        },
        AttachmentError::CutShort(error) => Untaken::Broken(error.to_string()),
        AttachmentError::Malformed => Untaken::Never(Absence::NotUnderstood),
        AttachmentError::Spool(SpoolError::TooLong { most }) => Untaken::Never(Absence::TooLarge { most: Some(most) }),
        AttachmentError::Spool(SpoolError::WrongHash) => Untaken::Never(Absence::NotAsSaid),
        AttachmentError::Spool(error) => Untaken::Later(error.to_string()),
    }
}

/// What became of the upload of one file of a delivery. Kept from before the first byte until the delivery is done with,
/// so that any later attempt, even of another process, goes on with the same.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Upload {
    Begun(Reserved),
    Done(Attachment),
}

/// Uploads the files of a message, as far as the gate lets them through and as far as they are not there yet.
pub(crate) async fn bring(core: &Core, cleared: &Cleared<'_>, slip: &Slip) -> Result<Option<Brought>, DeliveryError> {
    let Some(media) = cleared.message().media() else { return Ok(None) };
    let most = core.http.most_file().await.map_err(|error| http_error(&error))?.unwrap_or(u64::MAX);
    if media.size() > most {
        return Err(DeliveryError::without_file(Absence::TooLarge { most: Some(most) }));
    }
    let thumbnail = match media.thumbnail.as_ref().filter(|thumbnail| thumbnail.content.size <= most) {
        Some(thumbnail) => match bring_one(core, cleared, slip, &thumbnail.content).await {
            // The file is what was meant.
            Err(DeliveryError { fate: Fate::WithoutFile(_), .. }) => {
                debug!("A small picture was left out.");
                None
            }
            brought => Some(brought?),
        },
        None => None,
    };
    let content = bring_one(core, cleared, slip, &media.content).await?;
    Ok(Some(Brought { content, thumbnail }))
}

async fn bring_one(
    core: &Core,
    cleared: &Cleared<'_>,
    slip: &Slip,
    file: &Spooled,
) -> Result<Attachment, DeliveryError> {
    let key = key(slip, file);
    let kept = core.store.read(&key).await.map_err(|error| DeliveryError::retry(error.to_string()))?;
    let reserved = match kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()) {
        Some(Upload::Done(attachment)) => return Ok(attachment),
        Some(Upload::Begun(reserved)) => Some(reserved),
        None => reserve(core, &key).await?,
    };
    let pass = cleared.pass(file.id).ok_or_else(|| DeliveryError::give_up("the file is none of this message"))?;
    let mut reader = core.spool.open(&pass, 0).await.map_err(spool_error)?;
    let brought = match &reserved {
        Some(reserved) => core.http.bring_to(reserved, file.size, reader.as_mut()).await,
        None => core.http.bring(file.size, reader.as_mut()).await,
    };
    match brought {
        Ok(attachment) => {
            keep(core, &key, &Upload::Done(attachment.clone())).await?;
            Ok(attachment)
        }
        Err(AttachmentError::Http(error)) if reserved.is_some() && error.is_not_found() => {
            // It was reserved so long ago that it is not ours any more.
            core.store
                .write(vec![StoreWrite::delete(key)])
                .await
                .map_err(|error| DeliveryError::retry(error.to_string()))?;
            Err(DeliveryError::retry_after(Duration::from_millis(100), "the place for the file was given up"))
        }
        Err(error) => Err(not_brought(error)),
    }
}

async fn reserve(core: &Core, key: &str) -> Result<Option<Reserved>, DeliveryError> {
    let reserved = core.http.reserve().await.map_err(|error| http_error(&error))?;
    if let Some(reserved) = &reserved {
        keep(core, key, &Upload::Begun(reserved.clone())).await?;
    }
    Ok(reserved)
}

async fn keep(core: &Core, key: &str, upload: &Upload) -> Result<(), DeliveryError> {
    let bytes = serde_json::to_vec(upload).map_err(|error| DeliveryError::give_up(error.to_string()))?;
    let written = core.store.write(vec![StoreWrite::put(key, bytes)]).await;
    written.map_err(|error| DeliveryError::retry(error.to_string()))
}

fn key(slip: &Slip, file: &Spooled) -> String {
    format!("{UPLOADED}{}/{}", slip.delivery, file.id)
}

fn not_brought(error: AttachmentError) -> DeliveryError {
    match error {
        AttachmentError::Spool(error) => spool_error(error),
        AttachmentError::Http(error) => match error.kind {
            HttpErrorKind::Client { status, ref errcode } if status == 413 || errcode == "M_TOO_LARGE" => {
                DeliveryError::without_file(Absence::TooLarge { most: None })
            }
            HttpErrorKind::Client { .. } => DeliveryError::without_file(Absence::Refused),
            _ => http_error(&error),
        },
        error => DeliveryError::give_up(error.to_string()),
    }
}

fn spool_error(error: SpoolError) -> DeliveryError {
    match error {
        SpoolError::NotThere | SpoolError::Damaged => DeliveryError::without_file(Absence::Damaged),
        error => DeliveryError::retry(error.to_string()),
    }
}

/// Forgets what was uploaded for a delivery that is done with.
pub(crate) async fn forget(core: &Core, media: &Media, slip: &Slip) {
    let writes = media.spooled().map(|file| StoreWrite::delete(key(slip, file))).collect();
    if let Err(error) = core.store.write(writes).await {
        warn!(%error, "What was uploaded for a delivery is still kept.");
    }
}
