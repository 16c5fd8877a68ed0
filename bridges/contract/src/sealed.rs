//! Encrypted for a far peer: the only form that somebody else's server may carry.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Cleartext, DeliveryId, Slip, wire};

/// A message encrypted for a far peer, together with the delivery it is. Anyone may carry, log or keep it.
///
/// This first form rests on a key that both peers were given out of band. It has no forward secrecy: whoever gets the
/// key later can read what was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes what came in from a carrier. Never for what goes out: only the gate's verdict seals.
    #[must_use]
    pub fn received(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to carry.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The key shared with a far peer.
pub struct PeerKey {
    cipher: XChaCha20Poly1305,
    nonces: Zeroizing<[u8; 32]>,
}

const NONCE: usize = 24;
const CONTEXT: &[u8] = b"sealbridge sealed v1";

impl PeerKey {
    /// Takes 32 random bytes that the peer has too.
    ///
    /// # Panics
    /// Never: both derived keys are of a length that HKDF gives.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        let derived = Hkdf::<Sha256>::new(Some(CONTEXT), key.as_slice());
        let expand = |purpose: &[u8]| {
            let mut out = Zeroizing::new([0; 32]);
            derived.expand(purpose, out.as_mut()).expect("32 bytes are within what HKDF-SHA-256 gives");
            out
        };
        Self { cipher: XChaCha20Poly1305::new(expand(b"cipher").as_slice().into()), nonces: expand(b"nonces") }
    }

    /// Opens what the peer sealed.
    #[must_use]
    pub fn open(&self, sealed: &Sealed) -> Option<(DeliveryId, Cleartext)> {
        let (nonce, ciphertext) = sealed.0.split_at_checked(NONCE)?;
        let payload = Payload { msg: ciphertext, aad: CONTEXT };
        let bytes = Zeroizing::new(self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?);
        let (delivery, message) = bytes.split_at_checked(16)?;
        let message = wire::decode(message)?;
        // A peer has no files in our spool to speak of; what it says of one would name somebody else's.
        let sound = message.media().is_none();
        sound.then_some((DeliveryId::from_bytes(delivery.try_into().ok()?), Cleartext::new(message)))
    }

    fn seal(&self, slip: &Slip, message: &crate::Message) -> Sealed {
        let mut bytes = Zeroizing::new(slip.delivery.as_bytes().to_vec());
        bytes.extend_from_slice(wire::encode_for(message, slip).expose());
        // The nonce is a keyed digest of what it encrypts: another attempt at the same delivery gives the same bytes,
        // and no two different messages ever share a nonce.
        let mut digest =
            <Hmac<Sha256> as Mac>::new_from_slice(self.nonces.as_slice()).expect("HMAC takes a key of any length");
        digest.update(&bytes);
        let digest = digest.finalize().into_bytes();
        let nonce = &digest[..NONCE];
        let payload = Payload { msg: &bytes, aad: CONTEXT };
        let ciphertext = self
            .cipher
            .encrypt(XNonce::from_slice(nonce), payload)
            .expect("a message is far shorter than the cipher's limit of 256 GiB");
        Sealed([nonce, &ciphertext].concat())
    }
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerKey(redacted)")
    }
}

/// The gate's leave to seal one message for one peer.
#[derive(Debug)]
pub struct Sealing<'a> {
    pub(crate) message: &'a Cleartext,
    pub(crate) peer: &'a PeerKey,
}

impl Sealing<'_> {
    /// Encrypts it for the peer, as the delivery on the slip, with the slip's trail and in answer to what the slip says:
    /// the peer knows no names of the conversation where it was written. The same slip gives the same bytes.
    #[must_use]
    pub fn seal(self, slip: &Slip) -> Sealed {
        self.peer.seal(slip, &self.message.0)
    }
}
