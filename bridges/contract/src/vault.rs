//! Our own encryption at rest: XChaCha20-Poly1305, one key per purpose, all derived from one root key.

use std::fmt;

use chacha20poly1305::{
    AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Cleartext, SecretBytes, wire};

/// The one key from which all others are derived. It never goes to disk, but locked by another of its kind.
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one from the system's randomness.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).expect("the system's random generator answers");
        Self(bytes)
    }

    /// Its bytes, for the one that writes the key file.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(redacted)")
    }
}

/// What is at rest: version, nonce, ciphertext and tag. Serialised by the journal alone; useless without the vault.
pub struct Locked(Vec<u8>);

impl Locked {
    /// How many bytes it takes on disk.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({} bytes)", self.0.len())
    }
}

/// Why something at rest does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Another key, another row, or a changed byte: authenticated encryption can't tell which.
    #[error("does not open with this key in this place")]
    DoesNotOpen,
    /// It opened, and what is inside was written by something else than this version.
    #[error("opened, but is not of a form that this version knows")]
    UnknownForm,
}

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Locks and unlocks for one purpose. Whoever holds it may read what is at rest, so only the journal does.
pub struct Vault {
    root: RootKey,
    cipher: XChaCha20Poly1305,
}

impl Vault {
    /// A vault whose payload key is derived from `root`.
    #[must_use]
    pub fn new(root: RootKey) -> Self {
        let key = derive(&root, "journal payload v1");
        let cipher = XChaCha20Poly1305::new(key.as_slice().into());
        Self { root, cipher }
    }

    /// A key for another purpose, such as a transport's own store. The same purpose gives the same key.
    #[must_use]
    pub fn key_for(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.root, purpose)
    }

    /// Locks bytes into their place: `place` names table, row and conversation, and the result opens nowhere else.
    #[must_use]
    pub fn lock(&self, place: &[u8], bytes: &[u8]) -> Locked {
        let mut out = Vec::with_capacity(1 + NONCE + bytes.len() + 16);
        out.push(VERSION);
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).expect("the system's random generator answers");
        out.extend_from_slice(&nonce);
        out.extend_from_slice(bytes);
        let tag = self
            .cipher
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), place, &mut out[1 + NONCE..])
            .expect("a message is far shorter than the cipher's limit of 256 GiB");
        out.extend_from_slice(&tag);
        Locked(out)
    }

    /// Opens what [`Vault::lock`] locked into the same place.
    ///
    /// # Errors
    /// [`VaultError::DoesNotOpen`] for another key, another place or a changed byte.
    pub fn unlock(&self, place: &[u8], locked: &Locked) -> Result<SecretBytes, VaultError> {
        let (version, rest) = locked.0.split_first().ok_or(VaultError::DoesNotOpen)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE).ok_or(VaultError::DoesNotOpen)?;
        if *version != VERSION {
            return Err(VaultError::DoesNotOpen);
        }
        let payload = Payload { msg: ciphertext, aad: place };
        let bytes = self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| VaultError::DoesNotOpen)?;
        Ok(SecretBytes::new(bytes))
    }

    /// Locks a message into its place.
    #[must_use]
    pub fn lock_message(&self, place: &[u8], message: &Cleartext) -> Locked {
        self.lock(place, wire::encode(&message.0).expose())
    }

    /// Opens a message from its place.
    ///
    /// # Errors
    /// [`VaultError::DoesNotOpen`], or [`VaultError::UnknownForm`] for a message that a newer version wrote.
    pub fn unlock_message(&self, place: &[u8], locked: &Locked) -> Result<Cleartext, VaultError> {
        let bytes = self.unlock(place, locked)?;
        wire::decode(bytes.expose()).map(Cleartext::new).ok_or(VaultError::UnknownForm)
    }

    /// The bytes of a row. Only the vault's holder can get them, and only to write them to its own database.
    #[must_use]
    pub fn to_row<'a>(&self, locked: &'a Locked) -> &'a [u8] {
        &locked.0
    }

    /// Takes the bytes of a row back.
    #[must_use]
    pub fn from_row(&self, bytes: Vec<u8>) -> Locked {
        Locked(bytes)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(redacted)")
    }
}

fn derive(root: &RootKey, purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(b"sealbridge"), root.0.as_slice())
        .expand(purpose.as_bytes(), key.as_mut())
        .expect("32 bytes are within what HKDF-SHA-256 gives");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Author, Message, PersonId, Timestamp};

    fn vault(byte: u8) -> Vault {
        Vault::new(RootKey::new([byte; 32]))
    }

    #[test]
    fn what_is_locked_opens_only_with_its_key_and_in_its_place() {
        let locked = vault(1).lock(b"row 1", b"words");
        assert_eq!(vault(1).unlock(b"row 1", &locked).map(|b| b.expose().to_vec()), Ok(b"words".to_vec()));
        assert_eq!(vault(2).unlock(b"row 1", &locked), Err(VaultError::DoesNotOpen));
        assert_eq!(vault(1).unlock(b"row 2", &locked), Err(VaultError::DoesNotOpen));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let vault = vault(1);
        let locked = vault.lock(b"row", b"words");
        for at in 0..locked.0.len() {
            let mut bytes = locked.0.clone();
            bytes[at] ^= 1;
            assert_eq!(vault.unlock(b"row", &Locked(bytes)), Err(VaultError::DoesNotOpen), "byte {at}");
        }
        for length in 0..locked.0.len() {
            assert_eq!(vault.unlock(b"row", &Locked(locked.0[..length].to_vec())), Err(VaultError::DoesNotOpen));
        }
    }

    #[test]
    fn purposes_have_different_keys_and_the_same_one_again() {
        let vault = vault(1);
        assert_eq!(*vault.key_for("a"), *vault.key_for("a"));
        assert_ne!(*vault.key_for("a"), *vault.key_for("b"));
    }

    #[test]
    fn message_comes_back_whole() {
        let author = Author { id: PersonId::new("@a:x"), name: Some("Ann".into()) };
        let message = Message::text(author, Timestamp(5), "words \0 \u{202e}");
        let vault = vault(1);
        let back = vault.unlock_message(b"r", &vault.lock_message(b"r", &Cleartext::new(message))).expect("opens");
        assert_eq!(back.0.body().map(|b| b.plain.as_str()), Some("words \0 \u{202e}"));
        assert_eq!(back.0.author.name.as_ref().map(crate::Text::as_str), Some("Ann"));
        assert_eq!(back.sent_at(), Timestamp(5));
    }
}
