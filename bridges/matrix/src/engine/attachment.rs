//! Files as Matrix encrypts them, piece by piece: only ciphertext leaves, and nothing that comes is released before its
//! hash was checked to the end.

use std::{
    fmt,
    io::{self, Read},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use matrix_sdk_crypto::{AttachmentDecryptor, AttachmentEncryptor, MediaEncryptionInfo};
use ruma::{
    MxcUri, OwnedMxcUri,
    api::client::media::create_mxc_uri,
    events::room::{EncryptedFile, EncryptedFileHash, EncryptedFileHashes, EncryptedFileInfo},
    serde::Base64,
};
use sealbridge_contract::{
    SpoolError, Spooled,
    spool::{SpoolReader, SpoolWriter},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Class, Http, HttpError, HttpErrorKind};

/// Pieces that wait between encryption and the wire.
const AHEAD: usize = 2;

/// Where an encrypted file lies, and what opens it. Shows nothing of that in `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attachment(EncryptedFile);

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachment(redacted)")
    }
}

/// Why a file was not taken or not brought.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttachmentError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// It began to come, and broke off.
    #[error("it ended too early: {0}")]
    CutShort(HttpError),
    /// What opens it is none of the ways that Matrix has.
    #[error("how it is encrypted is not known")]
    Malformed,
}

impl Http {
    /// Fetches an encrypted file of at most `most` bytes into the spool.
    pub async fn take(
        &self,
        attachment: &Attachment,
        most: u64,
        mut writer: Box<dyn SpoolWriter>,
    ) -> Result<Spooled, AttachmentError> {
        let feed = Feed::default();
        let mut input = feed.clone();
        let key = MediaEncryptionInfo::from(attachment.0.clone());
        let mut opener = AttachmentDecryptor::new(&mut input, key).map_err(|_| AttachmentError::Malformed)?;
        let mut download = self.download(&attachment.0.url).await?;
        let mut left = most;
        if download.length().is_some_and(|length| length > most) {
            return Err(SpoolError::TooLong { most }.into());
        }
        while let Some(piece) = download.next().await.map_err(AttachmentError::CutShort)? {
            left = left.checked_sub(piece.len() as u64).ok_or(SpoolError::TooLong { most })?;
            let mut clear = Zeroizing::new(vec![0; piece.len()]);
            feed.put(piece);
            opener.read_exact(&mut clear).map_err(|_| AttachmentError::Malformed)?;
            writer.write(&clear).await?;
        }
        // At the end it compares the hash.
        opener.read(&mut [0]).map_err(|_| SpoolError::WrongHash)?;
        Ok(writer.finish(None).await?)
    }

    /// The largest file that the homeserver takes, if it says so.
    pub async fn most_file(&self) -> Result<Option<u64>, HttpError> {
        self.most_upload().await
    }

    /// Reserves a place for one file in the media store. `None`: the homeserver has no such thing, or lets us have no
    /// more of it now.
    pub async fn reserve(&self) -> Result<Option<Reserved>, HttpError> {
        match self.send_any(create_mxc_uri::v1::Request::default(), Class::Short).await {
            Ok(answer) => Ok(Some(Reserved { place: answer.content_uri, info: fresh_key() })),
            Err(HttpError { kind: HttpErrorKind::Client { .. } | HttpErrorKind::Limited { .. } }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Encrypts a file of `length` bytes, and uploads it as it is read: to a new place, that nobody knows of if the
    /// answer is lost.
    pub async fn bring(&self, length: u64, reader: &mut dyn SpoolReader) -> Result<Attachment, AttachmentError> {
        let info = fresh_key();
        let (hash, place) = self.bring_as(&info, None, length, reader).await?;
        Ok(attachment(place, info, hash))
    }

    /// The same to a place that was reserved for this very file. Done again after it was cut, it brings the same bytes
    /// to the same place; and if they are there already, nothing is brought.
    pub async fn bring_to(
        &self,
        reserved: &Reserved,
        length: u64,
        reader: &mut dyn SpoolReader,
    ) -> Result<Attachment, AttachmentError> {
        let (hash, place) = self.bring_as(&reserved.info, Some(&reserved.place), length, reader).await?;
        Ok(attachment(place, reserved.info.clone(), hash))
    }

    async fn bring_as(
        &self,
        info: &EncryptedFileInfo,
        place: Option<&MxcUri>,
        length: u64,
        reader: &mut dyn SpoolReader,
    ) -> Result<([u8; 32], OwnedMxcUri), AttachmentError> {
        let (pieces, waiting) = mpsc::channel(AHEAD);
        let waiting = futures_util::stream::unfold(waiting, async |mut waiting| Some((waiting.recv().await?, waiting)));
        let mut sealing = pin!(seal(info, reader, pieces));
        let mut uploading = pin!(self.upload(place, length, waiting));
        let (uploaded, hash) = tokio::select! {
            // A spool that failed broke the upload, too.
            hash = &mut sealing => (uploading.await, Some(hash?)),
            uploaded = &mut uploading => (uploaded, None),
        };
        let place = match (uploaded, place) {
            (Ok(place), _) => place,
            (Err(error), Some(place)) if error.errcode() == Some("M_CANNOT_OVERWRITE_MEDIA") => place.to_owned(),
            (Err(error), _) => return Err(error.into()),
        };
        let hash = match hash {
            Some(hash) => hash,
            None => sealing.await?,
        };
        Ok((hash, place))
    }
}

/// A place in the media store that was reserved for one file, and the key under which that file lies there. To be kept
/// with what it is for: the key serves for one content.
#[derive(Clone, Serialize, Deserialize)]
pub struct Reserved {
    place: OwnedMxcUri,
    #[serde(flatten)]
    info: EncryptedFileInfo,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reserved(redacted)")
    }
}

fn fresh_key() -> EncryptedFileInfo {
    AttachmentEncryptor::new(&mut io::empty()).finish().encryption_info
}

fn attachment(place: OwnedMxcUri, info: EncryptedFileInfo, hash: [u8; 32]) -> Attachment {
    Attachment(EncryptedFile::new(place, info, hashes(hash)))
}

fn hashes(hash: [u8; 32]) -> EncryptedFileHashes {
    let mut hashes = EncryptedFileHashes::new();
    hashes.insert(EncryptedFileHash::Sha256(Base64::new(hash)));
    hashes
}

/// Encrypts to the end, whatever becomes of the upload, and gives the hash of the ciphertext.
///
/// The library's encryptor takes no key, so that it can't encrypt the same a second time. In counter mode decrypting
/// is the same as encrypting, so its decryptor does it; the hash that it compares at its end is never asked for.
async fn seal(
    info: &EncryptedFileInfo,
    reader: &mut dyn SpoolReader,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> Result<[u8; 32], AttachmentError> {
    let feed = Feed::default();
    let mut input = feed.clone();
    let key = MediaEncryptionInfo { encryption_info: info.clone(), hashes: hashes([0; 32]) };
    let mut sealer = AttachmentDecryptor::new(&mut input, key).map_err(|_| AttachmentError::Malformed)?;
    let mut hash = Sha256::new();
    let mut wanted = true;
    loop {
        let clear = match reader.next().await {
            Ok(Some(clear)) => clear,
            Ok(None) => return Ok(hash.finalize().into()),
            Err(error) => {
                // Cut short, the upload must not pass for a whole one.
                let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return Err(error.into());
            }
        };
        let mut sealed = vec![0; clear.expose().len()];
        feed.put(Bytes::copy_from_slice(clear.expose()));
        sealer.read_exact(&mut sealed).map_err(|_| AttachmentError::Malformed)?;
        hash.update(&sealed);
        // An upload that has ended says why.
        wanted = wanted && pieces.send(Ok(sealed.into())).await.is_ok();
    }
}

/// What the library reads from: the pieces that were put in, then nothing.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Bytes>>);

impl Feed {
    /// The one before was read.
    fn put(&self, piece: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = piece;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece.split_to(count));
        Ok(count)
    }
}
