//! What senders post, read: a dialect a file. No step here does I/O, fetches anything that a sender names, or calls
//! anybody whom a sender names.
//!
//! What is read becomes a [`Notice`]: its `values` are a [`saying::Saying`], the same for all dialects, and the sender's
//! own body beside it, for templates of the operator's own.

mod alerts;
mod apprise;
mod cloudevents;
mod discord;
mod fields;
mod forge;
mod gitea;
mod github;
mod gitlab;
mod gotify;
mod hookshot;
mod mail;
pub(super) mod markup;
pub(super) mod moment;
mod mrkdwn;
mod ntfy;
pub(super) mod ping;
mod raw;
mod request;
mod saying;
mod slack;
mod slack_blocks;
mod standard;
mod uptime_kuma;
mod xml;

use http::StatusCode;

use super::{Dialect, Notice, Posted};

/// As many notices are read of one request at most.
pub const MOST_NOTICES: usize = 100;
/// As many files are taken with one notice at most.
pub const MOST_ATTACHMENTS: usize = 16;
/// As long may a body be that is read as a tree (JSON, a form, XML), in bytes. Files in it are not counted where the
/// dialect has some.
pub const MOST_TREE: usize = 4 << 20;
/// As many bytes of text are taken of one field at most. More than that fits into no message.
pub const MOST_TEXT: usize = 32 * 1024;

/// Why nothing is read of a request. The reasons are words of ours, and no word of a sender is ever in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not in the form of its dialect.
    #[error("{0}")]
    Unreadable(&'static str),
    /// It is no JSON.
    #[error("the body is no JSON: line {line}, column {column}")]
    NoJson {
        /// The line where that is seen.
        line: usize,
        /// The column there.
        column: usize,
    },
    /// There is nothing at this path.
    #[error("{0}")]
    NotHere(&'static str),
    /// It is asked for in a way that is not offered.
    #[error("only {0} is understood here")]
    Method(&'static str),
    /// It is more than is taken at once.
    #[error("{0}")]
    TooMuch(&'static str),
    /// Its body is of a type that is not read here.
    #[error("{0}")]
    Type(&'static str),
    /// It can be read, and makes no sense, or asks for what is not offered.
    #[error("{0}")]
    Senseless(&'static str),
}

impl Refused {
    /// How HTTP calls it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unreadable(_) | Self::NoJson { .. } => StatusCode::BAD_REQUEST,
            Self::NotHere(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMuch(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Type(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Senseless(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

/// Reads what a sender posted. Of a request that is well and says nothing, like a forge's `ping`, there is no notice.
///
/// # Errors
/// [`Refused`].
pub fn read(dialect: Dialect, posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    let mut notices = match dialect {
        Dialect::Alertmanager => alerts::alertmanager(posted),
        Dialect::Grafana => alerts::grafana(posted),
        Dialect::Hookshot => hookshot::read(posted),
        Dialect::Ntfy => ntfy::read(posted),
        Dialect::Slack => slack::read(posted),
        Dialect::Discord => discord::read(posted),
        Dialect::Gotify => gotify::read(posted),
        Dialect::Apprise => apprise::read(posted),
        Dialect::Github => github::read(posted),
        Dialect::Gitlab => gitlab::read(posted),
        Dialect::Gitea => gitea::read(posted),
        Dialect::StandardWebhooks => standard::read(posted),
        Dialect::Cloudevents => cloudevents::read(posted),
        Dialect::UptimeKuma => uptime_kuma::read(posted),
        Dialect::Raw => raw::read(posted),
        Dialect::Mail => mail::read(posted.body),
        Dialect::Ping => ping::read(posted),
    }?;
    if notices.len() > MOST_NOTICES {
        return Err(Refused::TooMuch("more than 100 notices in one request"));
    }
    for notice in &mut notices {
        if notice.attachments.len() > MOST_ATTACHMENTS {
            return Err(Refused::TooMuch("more than 16 files with one notice"));
        }
        // What its sender calls it may stand in a header of an answer and in the journal's names.
        notice.id = notice.id.take().and_then(|id| fields::name(&id));
        notice.instead_of = notice.instead_of.take().and_then(|id| fields::name(&id));
    }
    Ok(notices)
}

pub(super) use fields::{name, one_line};
pub use mail::read as read_mail;
pub(super) use ntfy::{is_published, repeated as ntfy_message};
pub(super) use raw::named as severity;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
