//! Logging in and comparing identities, step by step, so that terminal, room and web page render the same flow.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{PersonId, SecretBytes, Text};

/// What a surface shows or asks next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Something to read. The flow goes on by itself.
    Show(String),
    /// Somebody asks to compare identities, and this says so. Who it is decides whether it goes on.
    Asks(PersonId, String),
    /// Something is going on that takes a while.
    Progress(String),
    /// A question; the flow waits for an [`Answer`].
    Ask(Field),
    /// An invitation that somebody may follow.
    Invitation(Invitation),
    /// A secret that is shown this once and must be written down, such as a recovery key.
    Secret {
        /// The question that it could have been the answer to, if there is one: `password`.
        name: Option<&'static str>,
        /// What it is, and what it is for.
        label: String,
        /// The secret.
        value: Text,
    },
    /// Emoji to be compared with the other side's, by a person; the flow waits for [`Answer::Yes`] or [`Answer::No`].
    Compare(Vec<Emoji>),
    /// A code for the other side's client to scan. The flow goes on by itself; only [`Screen::Scannable`] gets one.
    Code(Code),
    /// A question about what is seen elsewhere; the flow waits for [`Answer::Yes`] or [`Answer::No`].
    Confirm(String),
    /// The next piece of a file that somebody sends, of no more than [`Answer::LARGEST_PIECE`] bytes; an empty one is its
    /// end. The flow waits for an [`Answer::Piece`]. Files are counted from zero.
    Piece(usize),
    /// Done, and how it ended.
    Done(String),
}

/// An invitation to a conversation. Whoever has it can join, so it is shown to the operator alone.
#[derive(Debug)]
pub struct Invitation {
    /// What one joins by it: `the group "Family"`.
    pub to: String,
    /// How one follows it, in a sentence.
    pub how: &'static str,
    /// The link.
    pub link: Text,
    /// The same as a picture made of letters, to be scanned from a screen.
    pub picture: Text,
}

/// What whoever compares identities has before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Screen {
    /// Words and emoji: a conversation, or a program that reads.
    #[default]
    Words,
    /// A screen that a camera can look at, and that keeps nothing.
    Scannable,
}

/// A code to be scanned. There is a secret in it, whose return says that this screen was seen: it is shown to whoever asked
/// for it, on that screen, and written nowhere.
#[derive(Debug)]
pub struct Code {
    /// What is to be done with it, in a sentence.
    pub how: &'static str,
    /// It, as [`code::drawn`](crate::code::drawn) draws it.
    pub picture: Text,
}

/// One emoji of a comparison (Matrix specification, "SAS method: emoji").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emoji {
    /// The picture.
    pub symbol: &'static str,
    /// Its name, for those who can't see it.
    pub name: &'static str,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key in an answers file: `password`.
    pub name: &'static str,
    /// In words for a person.
    pub label: String,
    /// Whether what is typed must not be shown.
    pub secret: bool,
}

/// What a person said.
#[derive(Debug)]
pub enum Answer {
    /// To [`Step::Ask`].
    Text(Text),
    /// They match; or: go on.
    Yes,
    /// They don't match; or: stop.
    No,
    /// To [`Step::Piece`].
    Piece(SecretBytes),
}

impl Answer {
    /// The largest piece of a file that is taken at once, in bytes.
    pub const LARGEST_PIECE: usize = 1 << 20;
}

/// Why a flow ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// A wrong password, token or recovery key.
    #[error("{0}")]
    Refused(String),
    /// The network can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The other side, or the person, stopped it.
    #[error("{0}")]
    Cancelled(String),
    /// The answer is not one that the question takes.
    #[error("{0}")]
    BadAnswer(String),
    /// Something that must hold does not.
    #[error("{0}")]
    Policy(String),
    /// The journal or the key store failed.
    #[error("{0}")]
    Failed(String),
}

/// A flow: it is asked for its next step until it says [`Step::Done`]. Nothing is ever confirmed without a person.
#[async_trait]
pub trait Flow: Send {
    /// The next step. `answer` is what a person said to the step before, if that step waited for one.
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError>;
}
