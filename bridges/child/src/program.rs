//! What to run, in what surroundings, and within which bounds.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// A child to be.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary: a path, or a name to be looked for in `PATH`.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment: these, and of ours only [`Program::INHERITED`].
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Its bounds.
    pub limits: Limits,
}

/// Bounds of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest line that is read, in bytes.
    pub line: usize,
    /// How long an answer may take, unless a question says otherwise.
    pub answer: Duration,
    /// How many notifications may wait to be taken.
    pub notifications: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 16 << 20, answer: Duration::from_secs(60), notifications: 256 }
    }
}

impl Program {
    /// The variables of ours that a child sees. Tokens and keys that stand in others are none of its business.
    pub const INHERITED: &'static [&'static str] = &["PATH", "TMPDIR", "TZ"];

    /// A binary without arguments, with the usual bounds.
    pub fn new(binary: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            limits: Limits::default(),
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With one more variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}
