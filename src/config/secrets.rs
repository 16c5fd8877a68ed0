//! Secrets by file or by credential, never written into the config, and refused when others can read them.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::operator::{Failure, FailureKind};

/// No secret is larger; what is larger is some other file.
const LARGEST: u64 = 64 * 1024;

/// Reads a secret file: text, without the newline at its end.
///
/// # Errors
/// [`FailureKind::Config`] if it is missing, not a file, too large, not text, or if others can read it.
pub fn read_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    refuse_if_others_read(path, 0o077)?;
    read(path)
}

/// Reads `$CREDENTIALS_DIRECTORY/NAME`, if the service manager gave one.
///
/// # Errors
/// As [`read_file`].
pub fn read_credential(name: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(folder) = env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = PathBuf::from(folder).join(name);
    if !path.exists() {
        return Ok(None);
    }
    // The service manager may grant access by an access list, which shows as a group permission.
    refuse_if_others_read(&path, 0o007)?;
    read(&path).map(Some)
}

/// Refuses a file that others than its owner can read or write.
///
/// # Errors
/// [`FailureKind::Config`], with the command that mends it.
pub fn refuse_if_others_read(path: &Path, others: u32) -> Result<(), Failure> {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !meta.is_file() {
        return Err(config(format!("{shown} is not a file")));
    }
    if meta.len() > LARGEST {
        return Err(config(format!("{shown} is too large for a secret")));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & others != 0 {
        return Err(config(format!(
            "{shown} holds a secret, and others can read or change it (mode {mode:04o}). Run: chmod 600 {shown}"
        )));
    }
    let ours = rustix::process::geteuid().as_raw();
    if meta.uid() != ours && meta.uid() != 0 && others == 0o077 {
        return Err(config(format!("{shown} holds a secret and belongs to another user (uid {})", meta.uid())));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| unreadable(path, &error))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| config(format!("{} is not text", path.display())))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    config(format!("the secret file {} can't be read: {error}", path.display()))
}

fn config(words: String) -> Failure {
    Failure::new(FailureKind::Config, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        fs::write(file.path(), content).expect("it can be written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("its owner can change its mode");
        file
    }

    #[test]
    fn secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let file = file(mode, b"secret\n");
            let error = read_file(file.path()).expect_err("others can read it");
            assert_eq!(error.kind, FailureKind::Config);
            let command = format!("chmod 600 {}", file.path().display());
            assert!(error.words.contains(&command), "{}", error.words);
            assert!(!error.words.contains("secret\n"), "{}", error.words);
        }
    }

    #[test]
    fn secret_of_its_owner_is_read_without_its_last_newline() {
        for (content, expected) in [(&b"pass word\n"[..], "pass word"), (b"x\r\n", "x"), (b"a\n\n", "a\n"), (b"", "")] {
            let read = read_file(file(0o600, content).path()).expect("only its owner can read it");
            assert_eq!(read.as_str(), expected);
        }
    }

    #[test]
    fn missing_secret_names_its_file() {
        let error = read_file(Path::new("/no/such/secret")).expect_err("it is not there");
        assert!(error.words.contains("/no/such/secret"));
    }
}
