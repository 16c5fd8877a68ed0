//! One file for each command of `cargo lab`.

pub(crate) mod backlog;
pub(crate) mod bench;
pub(crate) mod canaries;
pub(crate) mod chaos;
pub(crate) mod demo;
pub(crate) mod fuzz;
pub(crate) mod outage;
pub(crate) mod test;
pub(crate) mod up;

use std::io::Write;

/// What else is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Show {
    /// Delta Chat, on phones and a mail server.
    Deltachat,
    /// Alerts of a real Alertmanager in an encrypted room.
    Notifications,
}

impl Show {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deltachat => "deltachat",
            Self::Notifications => "notifications",
        }
    }
}

/// A line for the person at the terminal.
pub(crate) fn say(line: &str) {
    // With nobody left to read there is nothing to do about it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "lab: {line}");
}
