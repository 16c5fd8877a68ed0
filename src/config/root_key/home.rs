//! Where the root key lies: in a credential, a file, or the desktop's keyring.

use std::{fs, path::PathBuf};

use zeroize::Zeroizing;

use super::{
    CREDENTIAL,
    keyring::{self, Which},
    rotate::put_in_place,
    unwritten, write_new,
};
use crate::{
    config::{Config, secrets},
    operator::{Failure, FailureKind},
};

/// Where the root key lies.
pub(super) enum Home {
    /// The service manager gives it, and nothing here can change it.
    Credential(Zeroizing<String>),
    File(PathBuf),
    /// The desktop's keyring, under the path of this state folder.
    Keyring(PathBuf),
}

impl Home {
    /// Where it is by the config, unless there is a credential.
    pub(super) fn of(config: &Config) -> Result<Self, Failure> {
        if let Some(text) = secrets::read_credential(CREDENTIAL)? {
            return Ok(Self::Credential(text));
        }
        let service = &config.service;
        Ok(if service.root_key_in_keyring {
            Self::Keyring(service.state.clone())
        } else {
            Self::File(config.root_key_path())
        })
    }

    pub(super) fn read(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match self {
            Self::Credential(text) => Ok(Some(text.clone())),
            Self::File(path) => path.exists().then(|| secrets::read_file(path)).transpose(),
            Self::Keyring(state) => keyring::look_up(state, Which::Current),
        }
    }

    /// Keeps a first key there.
    pub(super) fn keep(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Credential(_) => Err(unchangeable()),
            Self::File(path) => write_new(path, text),
            Self::Keyring(state) => keyring::keep(state, Which::Current, text),
        }
    }

    /// Keeps a key beside the one that is in force, in the place of one that an earlier call left there: were that in
    /// force, it would have been taken.
    pub(super) fn keep_next(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Credential(_) => Err(unchangeable()),
            Self::File(path) => {
                let next = next(path);
                if next.exists() {
                    fs::remove_file(&next).map_err(|error| unwritten(&next, &error))?;
                }
                write_new(&next, text)
            }
            Self::Keyring(state) => keyring::keep(state, Which::Next, text),
        }
    }

    /// The key beside the one that is in force, if there is one.
    pub(super) fn next(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match self {
            Self::Credential(_) => Ok(None),
            Self::File(path) => {
                Some(next(path)).filter(|next| next.exists()).map(|next| secrets::read_file(&next)).transpose()
            }
            Self::Keyring(state) => keyring::look_up(state, Which::Next),
        }
    }

    /// The next key takes the place of the one before, which is overwritten.
    pub(super) fn take_next(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Credential(_) => Err(unchangeable()),
            Self::File(path) => put_in_place(&next(path), path).map_err(|error| unwritten(path, &error)),
            Self::Keyring(state) => {
                keyring::keep(state, Which::Current, text)?;
                keyring::forget(state, Which::Next)
            }
        }
    }

    /// Refuses where a new key can't take this one's place.
    pub(super) fn can_change(&self) -> Result<(), Failure> {
        if let Self::Credential(_) = self { Err(unchangeable()) } else { Ok(()) }
    }

    /// The file that it is in, if it is in one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        if let Self::File(path) = self { Some(path.clone()) } else { None }
    }

    /// What holds the key, in words.
    pub(super) fn holder(&self) -> String {
        match self {
            Self::Credential(_) => format!("the credential {CREDENTIAL}"),
            Self::File(path) => path.display().to_string(),
            Self::Keyring(_) => "the entry in the desktop's keyring".to_owned(),
        }
    }

    /// There is none.
    pub(super) fn missing(&self, config: &Config) -> Failure {
        let words = match (self, config.journal_exists()) {
            (Self::Keyring(state), true) => format!(
                "the desktop's keyring has no root key for {}, and without it the journal does not open: put it back from \
                 where you keep a copy (`{} < FILE`)",
                state.display(),
                keyring::command(state)
            ),
            (Self::Keyring(state), false) => {
                format!("the desktop's keyring has no root key for {}: run `sealbridge init`", state.display())
            }
            (_, true) => format!(
                "the root key {} is missing, and without it the journal does not open: put it back from where you keep a \
                 copy",
                self.holder()
            ),
            (_, false) => format!("there is no root key at {}: run `sealbridge init`", self.holder()),
        };
        Failure::new(FailureKind::Config, words)
    }
}

/// Where a new key lies until it has its name.
fn next(path: &std::path::Path) -> PathBuf {
    path.with_added_extension("new")
}

fn unchangeable() -> Failure {
    let words =
        "the root key comes from a credential: name a file for the new one with --to, and make a credential of it";
    Failure::usage(words)
}
