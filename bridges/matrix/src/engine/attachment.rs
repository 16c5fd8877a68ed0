//! Files as Matrix encrypts them, piece by piece: only ciphertext leaves, and nothing that comes is released before its
//! hash was checked to the end.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use matrix_sdk_crypto::{AttachmentDecryptor, AttachmentEncryptor, MediaEncryptionInfo};
use ruma::events::room::EncryptedFile;
use sealbridge_contract::{
    SpoolError, Spooled,
    spool::{SpoolReader, SpoolWriter},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Http, HttpError};

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
        while let Some(piece) = download.next().await? {
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

    /// Encrypts a file of `length` bytes, and uploads it as it is read.
    pub async fn bring(&self, length: u64, reader: &mut dyn SpoolReader) -> Result<Attachment, AttachmentError> {
        let (pieces, waiting) = mpsc::channel(AHEAD);
        let waiting = futures_util::stream::unfold(waiting, async |mut waiting| Some((waiting.recv().await?, waiting)));
        let (key, uploaded) = tokio::join!(seal(reader, pieces), self.upload(length, waiting));
        // A spool that failed broke the upload, too.
        let MediaEncryptionInfo { encryption_info, hashes } = key?;
        Ok(Attachment(EncryptedFile::new(uploaded?, encryption_info, hashes)))
    }
}

async fn seal(
    reader: &mut dyn SpoolReader,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> Result<MediaEncryptionInfo, SpoolError> {
    let feed = Feed::default();
    let mut input = feed.clone();
    let mut sealer = AttachmentEncryptor::new(&mut input);
    loop {
        let clear = match reader.next().await {
            Ok(Some(clear)) => clear,
            Ok(None) => return Ok(sealer.finish()),
            Err(error) => {
                // Cut short, the upload must not pass for a whole one.
                let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return Err(error);
            }
        };
        let mut sealed = vec![0; clear.expose().len()];
        feed.put(Bytes::copy_from_slice(clear.expose()));
        sealer.read_exact(&mut sealed).map_err(|error| SpoolError::Failed(error.to_string()))?;
        if pieces.send(Ok(sealed.into())).await.is_err() {
            // The upload has ended, and says why.
            return Ok(sealer.finish());
        }
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
