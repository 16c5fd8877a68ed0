//! The root key: 32 random bytes in base64, in a file that only its owner reads, or in a credential.
//!
//! It is made once, by `init`. Nothing here makes a second one for a journal that exists: that would lock it for ever.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::RootKey;
use zeroize::Zeroizing;

use super::{Config, secrets};
use crate::operator::{Failure, FailureKind};

/// The credential's name.
pub const CREDENTIAL: &str = "sealbridge-root-key";

/// Reads the root key.
///
/// # Errors
/// [`FailureKind::Config`] if there is none, if it is not a key, or if others can read it.
pub fn load(config: &Config) -> Result<RootKey, Failure> {
    if let Some(text) = secrets::read_credential(CREDENTIAL)? {
        return parse(&text, &format!("the credential {CREDENTIAL}"));
    }
    let path = config.root_key_path();
    if !path.exists() {
        let words = if config.journal_exists() {
            format!(
                "the root key {} is missing, and without it the journal does not open: put it back from where you keep \
                 a copy",
                path.display()
            )
        } else {
            format!("there is no root key at {}: run `sealbridge init`", path.display())
        };
        return Err(Failure::new(FailureKind::Config, words));
    }
    parse(&secrets::read_file(&path)?, &path.display().to_string())
}

/// Makes the root key if there is none and there is no journal yet. Says whether it did.
///
/// # Errors
/// [`FailureKind::Config`] if there is a journal without a key, or the file can't be written.
pub fn create(config: &Config) -> Result<bool, Failure> {
    let path = config.root_key_path();
    if path.exists() || config.journal_exists() || secrets::read_credential(CREDENTIAL)?.is_some() {
        return load(config).map(|_| false);
    }
    let text = Zeroizing::new(format!("{}\n", &*Zeroizing::new(STANDARD.encode(RootKey::random().expose()))));
    write_new(&path, text.as_bytes())?;
    Ok(true)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|error| Failure::new(FailureKind::Config, format!("can't write {}: {error}", path.display())))
}

fn parse(text: &str, from: &str) -> Result<RootKey, Failure> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
        Failure::new(FailureKind::Config, format!("{from} does not hold a root key, which is 32 bytes in base64"))
    })?;
    Ok(RootKey::new(bytes))
}
