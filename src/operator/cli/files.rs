//! The files that `init` and `account add` make.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sealbridge_contract::Text;
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::{
    config::{Config, secrets},
    operator::{Failure, FailureKind},
};

/// Writes a new file whole or not at all.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let half = path.with_extension("toml.half");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&half)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A second name, unlike a new one, is never put over a file that is there.
        let linked = fs::hard_link(&half, path);
        fs::remove_file(&half)?;
        linked?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error: io::Error| {
        Failure::new(FailureKind::Config, format!("{} can't be written: {error}", path.display()))
    })
}

/// Puts a text in the place of a file's, whole or not at all. The file keeps its mode, and a link to it stays one.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let path = fs::canonicalize(path)?;
        let half = path.with_extension("toml.half");
        let mode = fs::metadata(&path)?.permissions().mode();
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&half)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&half, &path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|error: io::Error| {
        Failure::new(FailureKind::Config, format!("{} can't be written: {error}", path.display()))
    })
}

/// Writes a secret into a file that nobody else ever reads.
pub(super) fn write_secret(path: &Path, secret: &Text) -> Result<(), Failure> {
    let write = || {
        let half = path.with_added_extension("half");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(secret.as_str().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&half, path)
    };
    write().map_err(|error: io::Error| {
        Failure::new(FailureKind::Config, format!("{} can't be written: {error}", path.display()))
    })
}

/// Writes a secret into a file that only its owner reads, and over none that is there: where the name is taken by another
/// secret, a number follows it. Gives the file.
pub(super) fn keep_secret(path: &Path, secret: &Text) -> Result<PathBuf, Failure> {
    const MOST: usize = 1_000;
    let text = Zeroizing::new(format!("{}\n", secret.as_str()));
    let failed = |path: &Path, error: io::Error| {
        Failure::new(FailureKind::Config, format!("{} can't be written: {error}", path.display()))
    };
    for number in 1..=MOST {
        let path = if number == 1 { path.to_owned() } else { path.with_added_extension(number.to_string()) };
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match made {
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                return written.map(|()| path.clone()).map_err(|error| failed(&path, error));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Of a run before, which was broken off.
                let is_same = fs::read(&path).map(Zeroizing::new).is_ok_and(|there| *there == text.as_bytes());
                if is_same && secrets::refuse_if_others_read(&path, 0o077).is_ok() {
                    return Ok(path);
                }
            }
            Err(error) => return Err(failed(&path, error)),
        }
    }
    Err(failed(path, io::ErrorKind::AlreadyExists.into()))
}

/// Makes a folder that only its owner can look into.
pub(super) fn private_folder(folder: &Path) -> Result<(), Failure> {
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mode = fs::metadata(folder)?.permissions().mode();
        if mode & 0o077 != 0 {
            Err(io::Error::other(format!("others can look into it; run: chmod 700 {}", folder.display())))
        } else {
            Ok(())
        }
    };
    make().map_err(|error| Failure::new(FailureKind::Config, format!("the folder {}: {error}", folder.display())))
}

/// Answers go on with a config only if they are about the same accounts.
pub(super) fn must_agree(answers: &Table, config: &Config, path: &Path) -> Result<(), Failure> {
    let accounts = answers.get("accounts").and_then(Value::as_table);
    for (name, section) in accounts.into_iter().flatten() {
        let known = config.accounts.iter().find(|(known, _)| known.as_str() == name);
        let network = section.get("network").and_then(Value::as_str);
        if known.is_none_or(|(_, known)| Some(known.network()) != network) {
            return Err(Failure::refused(format!(
                "{} is there already and is not written over, and it has no such account `{name}`: add it there by hand, \
                 or name another file with --config",
                path.display()
            )));
        }
    }
    Ok(())
}
