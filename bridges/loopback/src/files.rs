//! Files between the network and the spool.

use std::collections::HashMap;

use sealbridge_contract::{
    Cleared, DeliveryError, RemoteId, Spool, SpoolError, Spooled,
    message::{Absence, Media},
};

use crate::{
    core::Core,
    hub::{Event, How, More, Readable, SentFile, What},
};

/// What became of the files of some events, by the events' names.
pub(crate) type Files = HashMap<RemoteId, Result<Taken, Absence>>;

/// A file that lies in the spool now.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) content: Spooled,
    pub(crate) thumbnail: Option<Spooled>,
}

/// Takes the file of an event into the spool, if it has one that can be read. `Err`: there is no room now.
pub(crate) async fn take(core: &Core, event: &Event, files: &mut Files) -> Result<(), SpoolError> {
    let What::Said { content, encrypted: true, readable: Readable::Now, .. } = &event.what else { return Ok(()) };
    take_content(core, &event.id, content.how, &content.more, files).await
}

/// The same for something that waited to be read.
pub(crate) async fn take_content(
    core: &Core,
    id: &RemoteId,
    how: How,
    more: &More,
    files: &mut Files,
) -> Result<(), SpoolError> {
    let (How::File(_), Some(file)) = (how, &more.file) else { return Ok(()) };
    if files.contains_key(id) {
        return Ok(());
    }
    let taken = match spool(core, file).await {
        Ok(taken) => Ok(taken),
        Err(SpoolError::TooLong { most }) => Err(Absence::TooLarge { most: Some(most) }),
        Err(SpoolError::WrongHash) => Err(Absence::NotAsSaid),
        Err(error) => return Err(error),
    };
    files.insert(id.clone(), taken);
    Ok(())
}

async fn spool(core: &Core, file: &SentFile) -> Result<Taken, SpoolError> {
    let content = write(core, &file.content, file.wrong_hash).await?;
    let thumbnail = match &file.thumbnail {
        Some(thumbnail) => Some(write(core, thumbnail, None).await?),
        None => None,
    };
    Ok(Taken { content, thumbnail })
}

async fn write(core: &Core, content: &[u8], said: Option<[u8; 32]>) -> Result<Spooled, SpoolError> {
    let mut writer = core.spool.create(core.abilities.most_file).await?;
    // As a network would bring it.
    for piece in content.chunks(16 * 1024) {
        writer.write(piece).await?;
    }
    writer.finish(said).await
}

/// Brings the files of a message out of the spool, as far as the gate lets them through.
pub(crate) async fn bring(core: &Core, cleared: &Cleared<'_>) -> Result<Option<Box<SentFile>>, DeliveryError> {
    let Some(media) = cleared.message().media() else { return Ok(None) };
    let thumbnail = match &media.thumbnail {
        Some(thumbnail) => Some(read(core.spool.as_ref(), cleared, &thumbnail.content).await?),
        None => None,
    };
    let content = read(core.spool.as_ref(), cleared, &media.content).await?;
    Ok(Some(Box::new(SentFile { content, thumbnail, ..described(media) })))
}

async fn read(spool: &dyn Spool, cleared: &Cleared<'_>, file: &Spooled) -> Result<Vec<u8>, DeliveryError> {
    let pass = cleared.pass(file.id).ok_or_else(|| DeliveryError::give_up("the file is none of this message"))?;
    let mut content = Vec::new();
    let mut reader = spool.open(&pass, 0).await.map_err(spool_error)?;
    while let Some(piece) = reader.next().await.map_err(spool_error)? {
        content.extend_from_slice(piece.expose());
    }
    Ok(content)
}

fn spool_error(error: SpoolError) -> DeliveryError {
    match error {
        SpoolError::NotThere | SpoolError::Damaged => DeliveryError::without_file(Absence::Damaged),
        error => DeliveryError::retry(error.to_string()),
    }
}

fn described(media: &Media) -> SentFile {
    SentFile {
        name: media.name.as_str().to_owned(),
        mime: media.mime.as_str().to_owned(),
        dimensions: media.dimensions.map(|dimensions| (dimensions.width, dimensions.height)),
        milliseconds: media.duration.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
        waveform: media.waveform.as_ref().map(|waveform| waveform.values().to_vec()).unwrap_or_default(),
        ..SentFile::default()
    }
}
