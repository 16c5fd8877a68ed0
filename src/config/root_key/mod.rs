//! The root key: 32 random bytes in base64, in a file that only its owner reads, in a credential, or in the desktop's
//! keyring.
//!
//! It opens one thing: the inner key, which lies locked in the state folder and opens all the rest. So the root key can
//! be changed without a message being touched, and the moment at which one file takes another's place decides which of
//! two keys it is. Both are made once, by `init`: nothing here makes a second one for a journal that exists, since that
//! would lock it for ever.

mod home;
mod keyring;
mod rotate;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{RootKey, Vault};
use zeroize::Zeroizing;

use super::{Config, secrets};
use crate::operator::{Failure, FailureKind};

use home::Home;
pub use rotate::{FAILPOINTS, Rotated, rotate};

/// The credential's name.
pub const CREDENTIAL: &str = "sealbridge-root-key";

/// The inner key's file in the state folder.
const INNER: &str = "journal.key";

/// Where the inner key is locked into.
const PLACE: &[u8] = b"sealbridge inner key v1";

/// Reads what opens the journal, by the root key.
///
/// # Errors
/// [`FailureKind::Config`] if there is no root key, if it is none, if it is another one, or if others can read it.
pub fn load(config: &Config) -> Result<RootKey, Failure> {
    rotate::wipe_left(config);
    let (root, from) = outer(config)?;
    let Some(locked) = Inner::read(config)? else {
        // A journal of a build that had no inner key.
        return Ok(root);
    };
    if let Some(inner) = locked.unlock(&root) {
        return Ok(inner);
    }
    rotate::finish(config, &locked).unwrap_or_else(|| Err(locked.is_not_opened_by(&root, &from)))
}

/// The same for who makes a journal if there is none.
///
/// # Errors
/// As [`load`].
pub fn load_or_begin(config: &Config) -> Result<RootKey, Failure> {
    let (root, _) = outer(config)?;
    begin(config, &root)?;
    load(config)
}

/// Makes the root key if there is none and there is no journal yet. Says where, if it did.
///
/// # Errors
/// [`FailureKind::Config`] if there is a journal without a key, or the key can't be kept; [`FailureKind::Temporary`] if
/// the keyring is locked.
pub fn create(config: &Config) -> Result<Option<String>, Failure> {
    let home = Home::of(config)?;
    if config.journal_exists() || home.read()?.is_some() {
        return load_or_begin(config).map(|_| None);
    }
    let root = RootKey::random();
    home.keep(&text_of(&root))?;
    begin(config, &root)?;
    Ok(Some(home.holder()))
}

/// Whether there is a root key, be it one that opens the journal or not.
///
/// # Errors
/// As [`load`], if that can't be seen.
pub fn is_made(config: &Config) -> Result<bool, Failure> {
    Ok(Home::of(config)?.read()?.is_some())
}

/// What opens the journal, for a backup. Never the root key: that stays where it is.
///
/// # Errors
/// As [`load`]; and if the journal opens with the root key itself, as one does of a build that had no inner key.
pub fn load_inner(config: &Config) -> Result<RootKey, Failure> {
    let inner = load(config)?;
    if Inner::read(config)?.is_none() {
        let words = "this journal opens with the root key itself, as those of early builds do, and the root key is never \
                     put into a backup";
        return Err(Failure::new(FailureKind::Config, words));
    }
    Ok(inner)
}

/// Where the root key lies that opens what was restored, and whether it is a new one.
#[derive(Debug)]
pub struct Taken {
    /// In words.
    pub from: String,
    /// It was made now.
    pub made: bool,
}

/// Locks the inner key of a backup into `folder`, which is to be the state folder, with the root key that there is; with
/// a new one if there is none.
///
/// # Errors
/// [`FailureKind::Config`] if there is a root key that can't be read, or the files can't be written.
pub fn take_over(config: &Config, folder: &Path, inner: &RootKey) -> Result<Taken, Failure> {
    let home = Home::of(config)?;
    let from = home.holder();
    if let Some(text) = home.read()? {
        let root = parse(&text, &from)?;
        write_new(&folder.join(INNER), &Inner::lock(&root, inner).text())?;
        return Ok(Taken { from, made: false });
    }
    let root = RootKey::random();
    write_new(&folder.join(INNER), &Inner::lock(&root, inner).text())?;
    match &home {
        // One that lies in the state folder comes there with it.
        Home::File(path) => {
            let inside = path.strip_prefix(&config.service.state).map(|name| folder.join(name));
            write_new(inside.as_deref().unwrap_or(path), &text_of(&root))?;
        }
        home => home.keep(&text_of(&root))?,
    }
    Ok(Taken { from, made: true })
}

/// Makes the inner key where there is neither one nor a journal.
fn begin(config: &Config, root: &RootKey) -> Result<(), Failure> {
    let path = config.inner_key_path();
    if path.exists() || config.journal_exists() {
        return Ok(());
    }
    let folder = &config.service.state;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| fs::metadata(folder));
    let made = made.map_err(|error| unwritten(folder, &error))?;
    if made.permissions().mode() & 0o077 != 0 {
        // Whoever opens the journal says what is to be done about it.
        return Ok(());
    }
    write_new(&path, &Inner::lock(root, &RootKey::random()).text())
}

/// The root key, and where it comes from.
fn outer(config: &Config) -> Result<(RootKey, String), Failure> {
    let home = Home::of(config)?;
    let text = home.read()?.ok_or_else(|| home.missing(config))?;
    let from = home.holder();
    Ok((parse(&text, &from)?, from))
}

/// The inner key, locked by the root key that has this number.
struct Inner {
    root: String,
    locked: Vec<u8>,
}

impl Inner {
    fn lock(root: &RootKey, inner: &RootKey) -> Self {
        let vault = Vault::new(copy(root));
        let locked = vault.lock(PLACE, inner.expose());
        Self { root: number(&vault), locked: vault.to_row(&locked).to_vec() }
    }

    fn read(config: &Config) -> Result<Option<Self>, Failure> {
        let path = config.inner_key_path();
        if !path.exists() {
            return Ok(None);
        }
        let text = secrets::read_file(&path)?;
        let read = || {
            let (root, locked) = text.split_once(' ')?;
            Some(Self { root: root.to_owned(), locked: STANDARD.decode(locked).ok()? })
        };
        let damaged = || format!("{} is damaged: put it back from a copy of the state folder", path.display());
        read().map(Some).ok_or_else(|| Failure::new(FailureKind::Config, damaged()))
    }

    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{} {}\n", self.root, STANDARD.encode(&self.locked)))
    }

    fn unlock(&self, root: &RootKey) -> Option<RootKey> {
        let vault = Vault::new(copy(root));
        let bytes = vault.unlock(PLACE, &vault.from_row(self.locked.clone())).ok()?;
        Some(RootKey::new(bytes.expose().try_into().ok()?))
    }

    fn is_not_opened_by(&self, root: &RootKey, from: &str) -> Failure {
        let has = number(&Vault::new(copy(root)));
        let words = if has == self.root {
            "the journal's key, journal.key in the state folder, is damaged: put it back from a copy".to_owned()
        } else {
            // Numbers are our own, or what somebody wrote into the file.
            let wanted: String = self.root.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
            format!(
                "{from} is not the root key of this journal: it has the number {has}, and the journal opens with the one \
                 that has {wanted}. It may be one from before `sealbridge key rotate`"
            )
        };
        Failure::new(FailureKind::Config, words)
    }
}

/// Tells a root key from others, and tells nothing else.
pub(crate) fn number(vault: &Vault) -> String {
    vault.key_for("root key number v1")[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn copy(key: &RootKey) -> RootKey {
    RootKey::new(*key.expose())
}

pub(crate) fn text_of(root: &RootKey) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", &*Zeroizing::new(STANDARD.encode(root.expose()))))
}

/// Writes a file that nobody else ever reads, and that is not there yet.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder_of(path)
    };
    write().map_err(|error| unwritten(path, &error))
}

/// What was done to names in a folder is on disk after this.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("can't write {}: {error}", path.display()))
}

pub(crate) fn parse(text: &str, from: &str) -> Result<RootKey, Failure> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
        Failure::new(FailureKind::Config, format!("{from} does not hold a root key, which is 32 bytes in base64"))
    })?;
    Ok(RootKey::new(bytes))
}

impl Config {
    /// The inner key's file.
    fn inner_key_path(&self) -> PathBuf {
        self.service.state.join(INNER)
    }
}
