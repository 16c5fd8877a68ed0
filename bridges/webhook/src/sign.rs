//! Signing, as Standard Webhooks has it: a receiver knows by it who posted what, and that it is no repetition.

use std::{fmt, fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
/// A shorter secret could be guessed.
const SHORTEST: usize = 24;
const LONGEST: usize = 64;
/// No secret file is larger; what is larger is some other file.
const LARGEST: u64 = 4 * 1024;

/// What an endpoint and we know, and nobody else.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Reads the file, which only its owner may read.
    ///
    /// # Errors
    /// In words for the operator, with nothing of the secret.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let unreadable = |error| format!("the secret file {shown} can't be read: {error}");
        let meta = fs::metadata(file).map_err(unreadable)?;
        let mode = meta.permissions().mode() & 0o777;
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(format!("{shown} is not a file with a secret"));
        }
        if mode & 0o077 != 0 {
            return Err(format!(
                "{shown} holds a secret, and others can read or change it (mode {mode:04o}). Run: chmod 600 {shown}"
            ));
        }
        let text = Zeroizing::new(fs::read(file).map_err(unreadable)?);
        let secret = std::str::from_utf8(&text).ok().and_then(|text| Self::parse(text.trim_end()));
        secret.ok_or_else(|| {
            format!("{shown} does not hold `{PREFIX}` and 24 to 64 bytes in base64. Make one with: echo {PREFIX}$(openssl rand -base64 32)")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        (SHORTEST..=LONGEST).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The signature of a body that is posted as `id` at this time, in seconds since the epoch.
    pub(crate) fn sign(&self, id: &str, at: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), content).expect("it is written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("its mode is changed");
        file
    }

    #[test]
    fn signature_is_the_one_that_standard_webhooks_gives_as_its_example() {
        let secret = file(0o600, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        let secret = Secret::read(secret.path()).expect("a secret");
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let others = [
            secret.sign("msg_other", 1_614_265_330, br#"{"test": 2432232314}"#),
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_331, br#"{"test": 2432232314}"#),
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{}"),
        ];
        assert!(!others.contains(&signed));
    }

    #[test]
    fn signing_secret_that_is_weak_or_that_others_can_read_is_refused_and_never_shown() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (mode, content, reason) in [
            (0o640, good, "chmod 600"),
            (0o604, good, "chmod 600"),
            (0o600, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64"),
            (0o600, "whsec_c2hvcnQ=", "base64"),
            (0o600, "whsec_not base64 at all!", "base64"),
            (0o600, "", "base64"),
        ] {
            let file = file(mode, content);
            let error = Secret::read(file.path()).expect_err(content);
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("MfKQ9r8"), "the secret is in {error}");
        }
        assert!(Secret::read(Path::new("/nowhere/secret")).is_err());
    }
}
