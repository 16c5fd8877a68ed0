//! Files between the spool and the engine, which reads and writes them on disk and in clear.
//!
//! What goes out lies for the engine in a folder of its own within the account's, under a random name, from the moment
//! before it is asked to send it until it has answered: then it has made its copy. What comes in lies where the engine
//! put it, and is only read.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sealbridge_contract::{
    Cleared, DeliveryError, Fatal, Picture, PictureId, SecretBytes, Spool, SpoolError, SpoolId, Spooled,
    message::{Absence, Media},
    spool::SpoolReader,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::{core::keep_private, engine::types::Contact, translate};

const HANDOVER: &str = "handover";
/// How much is read at once.
const PIECE: usize = 256 * 1024;

/// A file on its way out, before it is written for the engine.
pub(crate) struct Leaving {
    reader: Box<dyn SpoolReader>,
    ending: String,
}

/// A file that lies in clear for the engine. It is erased with this value.
#[derive(Debug)]
pub(crate) struct HandedOver(PathBuf);

/// Opens a file that the gate let through.
pub(crate) async fn open(spool: &dyn Spool, cleared: &Cleared<'_>, media: &Media) -> Result<Leaving, DeliveryError> {
    let pass = cleared.pass(media.content.id);
    let pass = pass.ok_or_else(|| DeliveryError::give_up("the file is none of this message"))?;
    let reader = spool.open(&pass, 0).await.map_err(spool_error)?;
    let name = translate::file_name(media);
    let ending = translate::ending(name.as_str());
    Ok(Leaving { reader, ending: if ending.is_empty() { "bin" } else { ending }.to_owned() })
}

impl Leaving {
    /// Writes it where the engine can read it.
    pub(crate) async fn hand_over(mut self, account: &Path) -> Result<HandedOver, DeliveryError> {
        let failed = |error: std::io::Error| DeliveryError::retry(format!("the file can't be handed over: {error}"));
        let folder = account.join(HANDOVER);
        keep_private(&folder).map_err(|error| DeliveryError::retry(error.to_string()))?;
        let path = folder.join(format!("{}.{}", SpoolId::random(), self.ending));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        // From here on it is erased, whatever happens.
        let handed_over = HandedOver(path);
        let mut file = tokio::fs::File::from_std(file);
        while let Some(piece) = self.reader.next().await.map_err(spool_error)? {
            file.write_all(piece.expose()).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        Ok(handed_over)
    }
}

impl HandedOver {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let erased = match tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            // Others go on while the disk takes its time.
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| erase(&self.0)),
            _ => erase(&self.0),
        };
        if let Err(error) = erased {
            tracing::warn!(%error, "A file that was handed to the engine is still there; it is erased at the next start.");
        }
    }
}

/// Overwrites a file, so that the disk does not keep what it was, and removes it.
fn erase(path: &Path) -> std::io::Result<()> {
    let overwritten = OpenOptions::new().write(true).open(path).and_then(|mut file| {
        let mut left = file.metadata()?.len();
        while left > 0 {
            let piece = left.min(PIECE as u64);
            file.write_all(&vec![0; usize::try_from(piece).unwrap_or(PIECE)])?;
            left -= piece;
        }
        file.sync_data()
    });
    match overwritten.and_then(|()| std::fs::remove_file(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Erases what a process that was killed left for the engine.
pub(crate) fn sweep(account: &Path) -> Result<(), Fatal> {
    let folder = account.join(HANDOVER);
    let failed = |error: std::io::Error| Fatal::Broken(format!("files that were handed over can't be erased: {error}"));
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        erase(&entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

/// Takes a file that the engine received and keeps in `folder` into the spool. The inner error is why it never will be there.
pub(crate) async fn take(
    spool: &dyn Spool,
    folder: &Path,
    file: &str,
    most: u64,
) -> Result<Result<Spooled, Absence>, SpoolError> {
    let gone = || Ok(Err(Absence::NotFetched));
    let Some(path) = inside(folder, Path::new(file)) else { return gone() };
    let Ok(mut from) = tokio::fs::File::open(&path).await else { return gone() };
    let mut writer = spool.create(most).await?;
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    loop {
        // The engine's disk is not the spool's, and one file that can't be read says nothing about another.
        let Ok(length) = from.read(&mut piece).await else { return Ok(Err(Absence::NotFetched)) };
        if length == 0 {
            break;
        }
        if let Err(error) = writer.write(&piece[..length]).await {
            return too_long(error).map(Err);
        }
    }
    match writer.finish(None).await {
        Ok(spooled) => Ok(Ok(spooled)),
        Err(error) => too_long(error).map(Err),
    }
}

/// What the picture of a contact is called: as the engine calls its file, by what is in it.
pub(crate) fn picture_id(of: &Contact) -> Option<PictureId> {
    let path = Path::new(of.profile_image.as_deref()?);
    PictureId::new(path.file_name()?.to_str()?)
}

/// A picture of that name in the folder where the engine keeps files.
pub(crate) async fn picture(folder: &Path, of: &PictureId) -> Option<Picture> {
    let name = Path::new(of.as_str());
    // It is a name and no way to another place.
    if name.file_name() != Some(name.as_os_str()) {
        return None;
    }
    let path = inside(folder, &folder.join(name))?;
    let mut content = Vec::new();
    let file = tokio::fs::File::open(&path).await.ok()?;
    file.take(Picture::MOST as u64 + 1).read_to_end(&mut content).await.ok()?;
    Picture::new(SecretBytes::new(content))
}

/// The file itself, if it lies in the folder: where a name of a stranger might lead elsewhere, nothing is read.
fn inside(folder: &Path, file: &Path) -> Option<PathBuf> {
    let (folder, file) = (folder.canonicalize().ok()?, file.canonicalize().ok()?);
    file.starts_with(folder).then_some(file)
}

/// Why a file never will be in the spool, if it is too long for it.
fn too_long(error: SpoolError) -> Result<Absence, SpoolError> {
    match error {
        SpoolError::TooLong { most } => Ok(Absence::TooLarge { most: Some(most) }),
        error => Err(error),
    }
}

fn spool_error(error: SpoolError) -> DeliveryError {
    match error {
        SpoolError::NotThere | SpoolError::Damaged => DeliveryError::without_file(Absence::Damaged),
        error => DeliveryError::retry(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::conformance::MemorySpool;

    use super::*;

    #[tokio::test]
    async fn file_that_the_engine_cannot_read_is_refused_and_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        // It opens, and reading it fails, as on a broken disk.
        let broken = folder.path().join("broken.bin");
        std::fs::create_dir(&broken).expect("it can be made");
        let broken = broken.to_str().expect("it is a name");
        let taken = take(&MemorySpool::default(), folder.path(), broken, 100).await.expect("the spool is sound");
        assert_eq!(taken, Err(Absence::NotFetched));
    }

    #[tokio::test]
    async fn picture_is_found_by_its_name_and_nothing_elsewhere_is() {
        let account = tempfile::tempdir().expect("a folder");
        let folder = account.path().join("blobs");
        keep_private(&folder).expect("a private folder");
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0, 0, 0, 0, 0]];
        for path in [folder.join("ann.png"), account.path().join("outside.png")] {
            std::fs::write(path, png.concat()).expect("it can be written");
        }
        std::os::unix::fs::symlink(account.path().join("outside.png"), folder.join("link.png")).expect("a link");
        let found = async |name: &str| picture(&folder, &PictureId::new(name).expect("a name")).await.is_some();
        assert!(found("ann.png").await);
        for elsewhere in ["../outside.png", "..", ".", "link.png", "none.png", "/etc/hostname", "blobs/ann.png"] {
            assert!(!found(elsewhere).await, "{elsewhere}");
        }
    }

    #[test]
    fn what_was_handed_over_is_overwritten_and_gone_after_a_crash_too() {
        let account = tempfile::tempdir().expect("a folder");
        let folder = account.path().join(HANDOVER);
        keep_private(&folder).expect("a private folder");
        let (left, held) = (folder.join("left.bin"), folder.join("held.bin"));
        for path in [&left, &held] {
            std::fs::write(path, b"secret").expect("it can be written");
        }
        // Somebody who has it open still sees what became of it.
        let mut open = std::fs::File::open(&held).expect("it is there");
        drop(HandedOver(held.clone()));
        let mut seen = Vec::new();
        std::io::Read::read_to_end(&mut open, &mut seen).expect("it can be read");
        assert_eq!(seen, [0; 6]);
        sweep(account.path()).expect("it can be swept");
        assert!(!left.exists() && !held.exists());
    }
}
