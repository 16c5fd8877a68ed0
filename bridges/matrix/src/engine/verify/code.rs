//! Verification by a code that we show and the other side scans. We have no camera, so we scan none.
//!
//! In the code are the master keys of both sides as we know them, and a secret. A client that scans it compares the keys
//! with those that it knows, and gives the secret back: so whoever does has seen our screen. That its keys were the same is
//! known on its own screen alone, so a person has to say what is seen there.

use matrix_sdk_crypto::{QrVerification, Verification as Method, VerificationRequestState};
use ruma::events::key::verification::VerificationMethod;
use sealbridge_contract::SecretBytes;
use tracing::instrument;

use super::{super::error::contained, EngineError, InRoomStep, Verification, VerifyError};

impl Verification {
    /// Makes the code that the other side may scan: what is in it. `None` if something was begun already, if either side
    /// can't do its part, or if one has no identity. The other side may begin with emoji all the same.
    #[instrument(skip_all)]
    pub async fn show_code(&self) -> Result<Option<SecretBytes>, VerifyError> {
        let turn = self.engine.turn().await?;
        if !self.request.is_ready() || !self.is_scanned_there() {
            return Ok(None);
        }
        let code = contained(self.request.generate_qr_code()).await?.map_err(EngineError::from)?;
        drop(turn);
        Ok(code.and_then(|code| code.to_bytes().ok()).map(SecretBytes::new))
    }

    /// A person has seen that the other side's client says that the scan was good.
    pub async fn confirm_scan(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        let turn = self.engine.turn().await?;
        // There is something to confirm only after the code's secret came back.
        let step = self.code().and_then(|code| code.confirm_scanning()).ok_or(VerifyError::NotNow)?;
        drop(turn);
        self.carry_out(Some(step)).await
    }

    /// Whether the other side said that it can scan, and then say so.
    fn is_scanned_there(&self) -> bool {
        let theirs = self.request.their_supported_methods().unwrap_or_default();
        theirs.contains(&VerificationMethod::QrCodeScanV1) && theirs.contains(&VerificationMethod::ReciprocateV1)
    }

    fn code(&self) -> Option<QrVerification> {
        match self.request.state() {
            VerificationRequestState::Transitioned { verification: Method::QrV1(code), .. } => Some(*code),
            _ => None,
        }
    }
}
