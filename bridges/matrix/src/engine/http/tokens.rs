//! Access and refresh tokens, and who makes them durable.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;

/// The tokens of one session.
#[derive(Clone)]
pub struct Tokens {
    pub access: SecretString,
    pub refresh: Option<SecretString>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Makes refreshed tokens durable.
///
/// They are used only after this returned `Ok`: the server revokes the old ones at their first use, so tokens that a
/// crash could lose would be a lost session.
#[async_trait]
pub trait TokenKeeper: Send + Sync {
    async fn keep(&self, tokens: &Tokens) -> Result<(), KeepFailed>;
}

/// The tokens could not be made durable.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the tokens could not be stored")]
pub struct KeepFailed;
