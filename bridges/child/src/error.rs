//! Why a request was not answered, and why a child ended. Never words of what was said.

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The child said no.
    #[error("the engine refused `{method}` ({refusal})")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// It did not answer in time. Whether it did what it was asked is not known.
    #[error("the engine did not answer `{method}` within {within:?}")]
    Late {
        /// What was asked.
        method: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// It ended before it answered. Whether it did what it was asked is not known.
    #[error("{0}")]
    Ended(Ended),
    /// It answered something of another form than was expected.
    #[error("the engine's answer to `{method}` is not of a form that this version knows")]
    Form {
        /// What was asked.
        method: &'static str,
    },
    /// What was to be asked can't be written as JSON. It was not asked.
    #[error("the question `{method}` can't be written as JSON")]
    Question {
        /// What was to be asked.
        method: &'static str,
    },
}

/// What a child said when it said no. Its message may hold words of a person, so that it is neither printed nor logged.
#[derive(Clone)]
pub struct Refusal {
    /// The JSON-RPC error code.
    pub code: i64,
    message: Zeroizing<String>,
}

impl Refusal {
    pub(crate) fn new(code: i64, message: String) -> Self {
        Self { code, message: Zeroizing::new(message) }
    }

    /// Its message, to be looked at and not to be shown.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}", self.code)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({}, redacted)", self.code)
    }
}

/// Why a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// By itself, with this exit code.
    #[error("the engine ended by itself, with exit code {0}")]
    Exited(i32),
    /// By a signal that was not ours, such as the kernel's when memory is short.
    #[error("the engine was ended by signal {0}")]
    Signal(i32),
    /// We killed it, since nobody needs it any more.
    #[error("the engine was stopped")]
    Stopped,
    /// We killed it: it wrote a line that is longer than the limit.
    #[error("the engine wrote a line that is longer than is read, and was stopped")]
    LineTooLong,
    /// We killed it: it wrote a line that is no JSON-RPC.
    #[error("the engine wrote something that is no JSON-RPC, and was stopped")]
    Garbage,
    /// We killed it: it closed its output, or its output broke off in mid-line.
    #[error("the engine closed its output, and was stopped")]
    Closed,
    /// The operating system does not say.
    #[error("the engine ended, and nobody can say why")]
    Unknown,
}
