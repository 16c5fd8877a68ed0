//! The verdict on a sender, whatever the library let pass.

use matrix_sdk_base::deserialized_responses::{DeviceLinkProblem, VerificationLevel, VerificationState};
use matrix_sdk_crypto::{EventError, MegolmError, TrustRequirement, vodozemac::megolm::DecryptionError};

use super::{DecryptError, Distrust, Position, SenderProof, SenderTrust};

pub(super) fn requirement(trust: SenderTrust) -> TrustRequirement {
    match trust {
        SenderTrust { unsigned_devices: true, .. } => TrustRequirement::Untrusted,
        SenderTrust { backup_keys: true, .. } => TrustRequirement::CrossSignedOrLegacy,
        SenderTrust { .. } => TrustRequirement::CrossSigned,
    }
}

/// The library lets any sender pass when unsigned devices may; the verdict is ours in every case.
pub(super) fn judge(
    state: &VerificationState,
    trust: SenderTrust,
    position: &Position,
) -> Result<SenderProof, DecryptError> {
    let level = match state {
        VerificationState::Verified => return Ok(SenderProof::Verified),
        VerificationState::Unverified(level) => level,
    };
    match level {
        VerificationLevel::UnverifiedIdentity => Ok(SenderProof::CrossSigned),
        VerificationLevel::UnsignedDevice if trust.unsigned_devices => Ok(SenderProof::UnsignedDevice),
        // Only keys from before sender data was kept get here under the stricter requirement.
        VerificationLevel::UnsignedDevice | VerificationLevel::None(_) if trust.backup_keys => {
            Ok(SenderProof::NotProven)
        }
        level => Err(distrust(level, position)),
    }
}

fn distrust(level: &VerificationLevel, position: &Position) -> DecryptError {
    let why = match level {
        VerificationLevel::MismatchedSender => return DecryptError::SpoofedSender { position: position.clone() },
        VerificationLevel::VerificationViolation => Distrust::IdentityChanged,
        VerificationLevel::UnsignedDevice | VerificationLevel::UnverifiedIdentity => Distrust::UnsignedDevice,
        VerificationLevel::None(DeviceLinkProblem::MissingDevice) => Distrust::UnknownDevice,
        VerificationLevel::None(DeviceLinkProblem::InsecureSource) => Distrust::NotProven,
    };
    DecryptError::NotTrusted { position: position.clone(), why, stale: false }
}

pub(super) fn failure(error: MegolmError, position: &Position) -> DecryptError {
    let position = position.clone();
    match error {
        MegolmError::MissingRoomKey(code) => {
            DecryptError::MissingKey { position, withheld: code.map(|code| code.as_str().to_owned()) }
        }
        MegolmError::Decryption(DecryptionError::UnknownMessageIndex(..)) => DecryptError::UnknownIndex { position },
        MegolmError::Decryption(_) => DecryptError::NotAuthentic,
        MegolmError::SenderIdentityNotTrusted(level) => distrust(&level, &position),
        MegolmError::MismatchedIdentityKeys(_) => DecryptError::MismatchedKeys,
        MegolmError::EventError(EventError::MismatchedRoom(..)) => DecryptError::OtherRoom,
        MegolmError::EventError(EventError::UnsupportedAlgorithm) => DecryptError::UnknownAlgorithm,
        MegolmError::Store(error) => DecryptError::Engine(error.into()),
        _ => DecryptError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(level: VerificationLevel, trust: SenderTrust) -> Option<SenderProof> {
        let position = Position { session_id: "s".to_owned(), message_index: 0 };
        judge(&VerificationState::Unverified(level), trust, &position).ok()
    }

    #[test]
    fn spoofed_and_changed_senders_are_refused_however_lenient_the_trust() {
        for unsigned_devices in [false, true] {
            for backup_keys in [false, true] {
                let trust = SenderTrust { unsigned_devices, backup_keys };
                assert_eq!(judged(VerificationLevel::MismatchedSender, trust), None);
                assert_eq!(judged(VerificationLevel::VerificationViolation, trust), None);
            }
        }
    }

    #[test]
    fn key_from_backup_is_never_proof_of_a_sender() {
        let backup = || VerificationLevel::None(DeviceLinkProblem::InsecureSource);
        assert_eq!(judged(backup(), SenderTrust::default()), None);
        let lenient = SenderTrust { backup_keys: true, ..SenderTrust::default() };
        assert_eq!(judged(backup(), lenient), Some(SenderProof::NotProven));
        let unsigned = SenderTrust { unsigned_devices: true, ..SenderTrust::default() };
        assert_eq!(judged(backup(), unsigned), None);
    }

    #[test]
    fn cross_signed_sender_needs_no_leniency() {
        let level = VerificationLevel::UnverifiedIdentity;
        assert_eq!(judged(level, SenderTrust::default()), Some(SenderProof::CrossSigned));
        let unsigned = VerificationLevel::UnsignedDevice;
        assert_eq!(judged(unsigned, SenderTrust::default()), None);
    }
}
