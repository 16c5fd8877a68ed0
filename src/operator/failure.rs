//! Why something that an operator asked for was not done, and the exit code that says so.

use sealbridge_contract::{DeliveryError, Fatal, Fate, FlowError};
use serde::{Deserialize, Serialize};

use crate::{
    config::Problems,
    store::{JournalError, OpenError},
};

/// Why something was not done. Its words are for a person and say what to do; they never hold a secret or a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    /// Which kind of trouble.
    pub kind: FailureKind,
    /// In words for a person.
    pub words: String,
}

/// The kinds of trouble, each with an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// None of the others.
    Other,
    /// The command or an answer is not one that is understood.
    Usage,
    /// The config, or a file that it names.
    Config,
    /// A password, token or session is not accepted.
    Auth,
    /// A network, or the running service, can't be reached.
    Unreachable,
    /// What must hold does not, so it is not done.
    Refused,
    /// It is kept, and goes on by itself.
    Kept,
    /// It may work later.
    Temporary,
}

impl FailureKind {
    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Auth => 4,
            Self::Unreachable => 5,
            Self::Refused => 6,
            Self::Kept => 7,
            // EX_TEMPFAIL of sysexits.h.
            Self::Temporary => 75,
        }
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }

    /// None of the other kinds.
    pub fn other(words: impl Into<String>) -> Self {
        Self::new(FailureKind::Other, words)
    }

    /// Refused by policy.
    pub fn refused(words: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, words)
    }

    /// Not understood.
    pub fn usage(words: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, words)
    }

    /// The same, with what was being done put in front.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.words = format!("{what}: {}", self.words);
        self
    }
}

impl From<FlowError> for Failure {
    fn from(error: FlowError) -> Self {
        let kind = match error {
            FlowError::Refused(_) => FailureKind::Auth,
            FlowError::Unreachable(_) => FailureKind::Unreachable,
            FlowError::BadAnswer(_) => FailureKind::Usage,
            FlowError::Policy(_) => FailureKind::Refused,
            FlowError::Cancelled(_) | FlowError::Failed(_) => FailureKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Fatal> for Failure {
    fn from(error: Fatal) -> Self {
        let kind = match error {
            Fatal::Auth(_) => FailureKind::Auth,
            Fatal::Policy(_) | Fatal::RolledBack(_) => FailureKind::Refused,
            Fatal::Journal | Fatal::Broken(_) => FailureKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DeliveryError> for Failure {
    fn from(error: DeliveryError) -> Self {
        let kind = match error.fate {
            Fate::Retry(_) | Fate::Unknown => FailureKind::Temporary,
            Fate::GiveUp | Fate::OtherForm | Fate::WithoutFile(_) | Fate::TooLong { .. } => FailureKind::Refused,
        };
        Self::new(kind, error.cause)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let kind = if matches!(error, JournalError::Full | JournalError::ShareTaken) {
            FailureKind::Temporary
        } else {
            FailureKind::Other
        };
        Self::new(kind, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let kind = match error {
            OpenError::InUse => FailureKind::Temporary,
            // What must hold of it does not, though its files are in order.
            OpenError::Older { .. } | OpenError::Uncounted => FailureKind::Refused,
            // Of the files that the config names or that lie in its state folder, one is not in order.
            OpenError::WrongKey | OpenError::Newer { .. } | OpenError::Damaged(_) | OpenError::Unusable(_) => {
                FailureKind::Config
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(FailureKind::Config, problems.to_string())
    }
}
