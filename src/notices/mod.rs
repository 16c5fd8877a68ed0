//! Notices: messages that no person wrote, brought by a webhook, a pipe or a mail, and carried like every other.
//!
//! ```text
//! request → proof (is it from there?) → dialect (what does it say?) → template (how does it look?) → desk ─▶ journal
//! ```
//! A step that reads a request does no I/O and knows nothing of the journey.

mod account;
pub mod desk;
mod dialect;
mod following;
mod name;
mod notice;
mod standing;

use sealbridge_contract::{Author, Text};

pub use account::Account;
pub use desk::{Desk, NotTaken};
pub use dialect::Dialect;
pub use following::Following;
pub use name::{ACCOUNT, LINKS, SourceName, account, is_source};
pub use notice::{Alert, Attachment, Incident, Notice, Posted, Severity};
pub use standing::Standing;

/// The author of what a source brings, under the name that its operator gave it.
#[must_use]
pub fn author(source: &SourceName, name: Option<&str>) -> Author {
    Author { id: source.person(), name: Some(Text::new(name.unwrap_or(source.as_str()))) }
}
