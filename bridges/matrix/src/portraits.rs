//! How people look: those from elsewhere in our rooms, each picture uploaded once and encrypted; and those in our rooms
//! elsewhere.
//!
//! No message is held up for long by a picture, or fails for want of one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ruma::OwnedMxcUri;
use sealbridge_contract::{
    Cleared, Kind, Picture, PictureId, Portrait, SecretBytes, SpoolError, inbox::StoreWrite, spool::SpoolReader,
};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use tracing::debug;

use crate::{core::Core, engine::Attachment, prune::PORTRAIT};

/// As long a message waits for a picture.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that could not be had is asked for again after this.
const AGAIN: Duration = Duration::from_secs(600);
/// As many are remembered in memory.
const MOST: usize = 4096;

/// What is known of pictures, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Portraits {
    known: Mutex<HashMap<String, Known>>,
    /// Held while one is brought, so that no two lanes bring the same.
    bringing: AsyncMutex<()>,
}

#[derive(Clone, Debug)]
enum Known {
    Here(Box<Attachment>),
    MissingSince(Instant),
}

impl Portraits {
    /// `None`: nothing is known. `Some(None)`: it could not be had just now.
    fn get(&self, key: &str) -> Option<Option<Attachment>> {
        match self.lock().get(key)? {
            Known::Here(attachment) => Some(Some(Attachment::clone(attachment))),
            Known::MissingSince(since) => (since.elapsed() < AGAIN).then_some(None),
        }
    }

    fn put(&self, key: String, attachment: Option<&Attachment>) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        let now = Instant::now();
        let entry = attachment.map_or(Known::MissingSince(now), |attachment| Known::Here(Box::new(attachment.clone())));
        known.insert(key, entry);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The picture of a message's author, uploaded now if it was not before. `None`: it is shown without.
pub(crate) async fn bring(core: &Core, cleared: &Cleared<'_>) -> Option<Attachment> {
    if matches!(cleared.message().kind, Kind::Redaction(_) | Kind::Reaction(_)) {
        return None;
    }
    let portrait = cleared.portrait()?;
    let key = portrait.key();
    if let Some(known) = core.portraits.get(&key) {
        return known;
    }
    let brought = tokio::time::timeout(PATIENCE, bring_once(core, &portrait, &key)).await;
    let brought = brought.unwrap_or_else(|_| {
        debug!("A picture takes too long.");
        None
    });
    core.portraits.put(key, brought.as_ref());
    brought
}

async fn bring_once(core: &Core, portrait: &Portrait<'_>, key: &str) -> Option<Attachment> {
    let _one = core.portraits.bringing.lock().await;
    if let Some(Some(known)) = core.portraits.get(key) {
        return Some(known);
    }
    let key = format!("{PORTRAIT}{key}");
    let kept = core.store.read(&key).await.ok().flatten();
    if let Some(kept) = kept.and_then(|kept| serde_json::from_slice(kept.expose()).ok()) {
        return Some(kept);
    }
    let picture = portrait.look_up().await?;
    let content = picture.content();
    let brought = core.http.bring(content.expose().len() as u64, &mut OnePiece(Some(content))).await;
    let attachment = brought.inspect_err(|error| debug!(%error, "A picture was not uploaded.")).ok()?;
    let bytes = serde_json::to_vec(&attachment).ok()?;
    // What is not written down is uploaded once more after a restart, and no worse.
    let written = core.store.write(vec![StoreWrite::put(key, bytes)]).await;
    if let Err(error) = written {
        debug!(%error, "That a picture was uploaded is not kept.");
    }
    Some(attachment)
}

/// A picture that somebody in one of our rooms has, from our own homeserver's media store.
pub(crate) async fn look_up(core: &Core, of: &PictureId) -> Option<Picture> {
    let address = OwnedMxcUri::from(of.as_str());
    address.validate().ok()?;
    let content = tokio::time::timeout(PATIENCE, core.http.small_picture(&address, Picture::MOST)).await.ok()?;
    let content = content.inspect_err(|error| debug!(%error, "A picture was not fetched.")).ok()?;
    Picture::new(SecretBytes::new(content))
}

/// A file that is read as a whole.
struct OnePiece<'a>(Option<&'a SecretBytes>);

#[async_trait]
impl SpoolReader for OnePiece<'_> {
    async fn next(&mut self) -> Result<Option<SecretBytes>, SpoolError> {
        Ok(self.0.take().map(|piece| SecretBytes::new(piece.expose().to_vec())))
    }
}
