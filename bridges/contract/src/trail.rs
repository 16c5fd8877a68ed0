//! Loop protection: marks inside the ciphertext, which only the bridge that made them can recognise.
//!
//! A bridge that meets its own mark stops the message. A mark is bound to its delivery by a key that never leaves the
//! bridge, so nobody can make one to suppress what somebody else says; whoever copies a mark into a message of their
//! own silences only that message.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::DeliveryId;

/// One bridge's mark on one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The delivery that carried it.
    pub delivery: DeliveryId,
    /// HMAC-SHA-256 of the delivery id under the bridge's mark key, cut to 16 bytes.
    pub tag: [u8; 16],
}

/// The marks of the bridges that carried a message, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    marks: Vec<Mark>,
    /// Its sender shows it as somebody else's.
    for_another: bool,
}

impl Trail {
    /// As many marks as are read or written; a longer trail counts as one over this.
    pub const LONGEST: usize = 16;

    /// How many bridges carried it, by its own word.
    #[must_use]
    pub fn hops(&self) -> usize {
        self.marks.len()
    }

    /// The marks, oldest first.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The same trail with one more mark.
    #[must_use]
    pub fn with(&self, mark: Mark) -> Self {
        let mut marks = self.marks.clone();
        marks.push(mark);
        Self { marks, ..*self }
    }

    /// The same for a message that its sender shows as somebody else's, as a bridge does that leaves no mark.
    #[must_use]
    pub fn for_another(self, shown: bool) -> Self {
        Self { for_another: shown, ..self }
    }

    /// Whether its sender shows it as somebody else's.
    #[must_use]
    pub fn is_for_another(&self) -> bool {
        self.for_another
    }

    /// Whether its sender wrote it themself, as far as a message tells: it has no mark, and shows nobody else.
    #[must_use]
    pub fn is_first_hand(&self) -> bool {
        self.marks.is_empty() && !self.for_another
    }

    /// Its text form: each mark in URL-safe base64.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        let join = |m: &Mark| URL_SAFE_NO_PAD.encode([m.delivery.as_bytes().as_slice(), &m.tag].concat());
        self.marks.iter().take(Self::LONGEST).map(join).collect()
    }

    /// Reads the text form. What is not a mark is passed over: a stranger's nonsense must not stop a message.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (delivery, tag) = bytes.split_at_checked(16)?;
            Some(Mark { delivery: DeliveryId::from_bytes(delivery.try_into().ok()?), tag: tag.try_into().ok()? })
        };
        Self { marks: texts.into_iter().take(Self::LONGEST + 1).filter_map(parse).collect(), for_another: false }
    }
}

/// The key that makes and recognises our marks.
pub struct MarkKey(Zeroizing<[u8; 32]>);

impl MarkKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    fn mac(&self, delivery: DeliveryId) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.update(b"sealbridge mark v1");
        mac.update(delivery.as_bytes());
        mac
    }

    /// Our mark on `delivery`.
    #[must_use]
    pub fn mark(&self, delivery: DeliveryId) -> Mark {
        let full = self.mac(delivery).finalize().into_bytes();
        let mut tag = [0; 16];
        tag.copy_from_slice(&full[..16]);
        Mark { delivery, tag }
    }

    /// Whether we made this mark. Constant time.
    #[must_use]
    pub fn made(&self, mark: &Mark) -> bool {
        self.mac(mark.delivery).verify_truncated_left(&mark.tag).is_ok()
    }
}

impl std::fmt::Debug for MarkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MarkKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_maker_recognises_a_mark() {
        let ours = MarkKey::new(Zeroizing::new([1; 32]));
        let theirs = MarkKey::new(Zeroizing::new([2; 32]));
        let mark = ours.mark(DeliveryId::random());
        assert!(ours.made(&mark));
        assert!(!theirs.made(&mark));
        assert!(!ours.made(&Mark { delivery: DeliveryId::random(), ..mark }));
    }

    #[test]
    fn what_was_carried_or_is_shown_as_somebody_elses_is_not_first_hand() {
        let mark = MarkKey::new(Zeroizing::new([1; 32])).mark(DeliveryId::random());
        assert!(Trail::default().is_first_hand());
        assert!(!Trail::default().with(mark).is_first_hand());
        assert!(!Trail::default().for_another(true).is_first_hand());
        assert!(Trail::default().for_another(true).with(mark).is_for_another(), "another mark does not hide it");
    }

    #[test]
    fn nonsense_in_a_trail_is_passed_over_and_its_length_is_bounded() {
        let key = MarkKey::new(Zeroizing::new([1; 32]));
        let trail = Trail::default().with(key.mark(DeliveryId::random()));
        let mut texts = trail.to_texts();
        texts.insert(0, "not base64 ☃".into());
        assert_eq!(Trail::from_texts(texts.iter().map(String::as_str)), trail);
        let many = vec![texts[1].as_str(); 1000];
        assert_eq!(Trail::from_texts(many).hops(), Trail::LONGEST + 1);
    }
}
