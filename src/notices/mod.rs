//! Notices: messages that no person wrote, brought by a webhook, a pipe or a mail, and carried like every other.
//!
//! ```text
//! request → proof (is it from there?) → dialect (what does it say?) → template (how does it look?) → desk ─▶ journal
//! ```
//! A step that reads a request does no I/O and knows nothing of the journey.

mod account;
mod acknowledged;
pub mod answers;
mod apart;
mod brought;
mod calling;
mod connections;
mod crowd;
pub mod desk;
mod dialect;
pub mod dialects;
mod digest;
mod escalation;
pub mod fold;
mod following;
mod gather;
mod incidents;
mod intake;
mod keeping;
mod lookup;
pub mod mail;
pub mod markup;
#[cfg(test)]
mod fixture;
mod name;
mod notice;
mod people;
mod policy;
pub mod proof;
pub mod quiet;
mod remembering;
mod server;
pub mod silence;
mod source;
mod standing;
mod together;
mod vigil;
mod watch;
pub mod wording;

/// Named places where the recovery suite kills the process.
pub const FAILPOINTS: &[&str] = &[
    "notices::after-keep",
    "notices::before-digest",
    "notices::after-digest",
    "notices::before-escalation",
    "notices::after-escalation",
];

pub use account::Account;
pub use acknowledged::{Acknowledged, Who};
pub use apart::{built_in, look_at};
pub(crate) use brought::media;
pub use desk::{Desk, NotTaken};
pub use dialect::Dialect;
pub use following::Following;
pub use incidents::{Known, KnownAlert, Step, Told};
pub use intake::Intake;
pub use name::{ACCOUNT, LINKS, Origin, SourceName, account, in_words, is_operator, is_source, source_of};
pub use notice::{Alert, Attachment, Incident, Notice, Posted, Severity};
pub use people::Silenced;
pub use server::{Admission, Answers, Server};
pub use standing::Standing;
