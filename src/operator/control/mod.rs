//! The control socket: how a command talks to the running service. One JSON frame a line, each with the version.
//!
//! Only the service's own user gets through: by the socket's mode, and by what the kernel says of the other end.

mod client;
#[cfg(test)]
mod fuzz;
mod server;

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{Answer, Invitation, SecretBytes, Step, Text, steps::Emoji};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

pub use client::{Called, call};
pub use server::{Server, permits};

use super::{Action, Failure, FailureKind, Outcome};

/// The version of the frames.
pub const VERSION: u32 = 1;
/// No frame is longer, so nobody can fill the memory.
const LONGEST: u64 = 16 * 1024 * 1024;
/// What Linux takes as a socket's path, its terminating zero left out.
const LONGEST_PATH: usize = 107;

/// From the command to the service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first frame.
    Perform(Action),
    /// To a step that waits.
    Answer(AnswerFrame),
}

/// What a person said.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFrame {
    /// Words.
    Text(String),
    /// Yes.
    Yes,
    /// No.
    No,
    /// A piece of a file, in base64.
    Piece(String),
}

/// From the service to the command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A step on the way.
    Step(StepFrame),
    /// The end.
    Done(Outcome),
    /// It was not done.
    Failed(Failure),
}

/// A step, as every surface that is not in this process gets it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepFrame {
    /// Something to read.
    Show {
        /// What.
        words: String,
    },
    /// Something that takes a while.
    Progress {
        /// What.
        words: String,
    },
    /// A question.
    Ask {
        /// Its key in an answers file.
        name: String,
        /// In words.
        label: String,
        /// Whether what is typed must not be shown.
        secret: bool,
    },
    /// An invitation that somebody may follow.
    Invitation {
        /// What one joins by it.
        to: String,
        /// How one follows it.
        how: String,
        /// The link.
        link: String,
        /// The same as a picture made of letters.
        picture: String,
    },
    /// A secret that is shown once.
    Secret {
        /// What it is.
        label: String,
        /// The secret.
        value: String,
    },
    /// A secret that is not shown, since nobody looks who is no program.
    Kept {
        /// What it is.
        label: String,
        /// The file that it is in.
        file: std::path::PathBuf,
    },
    /// Emoji to be compared.
    Compare {
        /// Which.
        emoji: Vec<EmojiFrame>,
    },
    /// A code for the other side's client to scan.
    Code {
        /// What is to be done with it.
        how: String,
        /// It, made of letters.
        picture: String,
    },
    /// A question about what is seen elsewhere.
    Confirm {
        /// Which.
        words: String,
    },
    /// The next piece of a file is wanted.
    Piece {
        /// Of which, counted from zero.
        file: usize,
    },
    /// The end of a flow.
    Done {
        /// How it ended.
        words: String,
    },
}

/// One emoji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmojiFrame {
    /// The picture.
    pub symbol: String,
    /// Its name.
    pub name: String,
}

impl StepFrame {
    /// Whether it waits for an answer.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Compare { .. } | Self::Confirm { .. } | Self::Piece { .. })
    }
}

impl From<Step> for StepFrame {
    fn from(step: Step) -> Self {
        match step {
            Step::Show(words) => Self::Show { words },
            Step::Progress(words) => Self::Progress { words },
            Step::Ask(field) => Self::Ask { name: field.name.to_owned(), label: field.label, secret: field.secret },
            Step::Invitation(invitation) => Self::from(&invitation),
            Step::Secret { label, value, .. } => Self::Secret { label, value: value.as_str().to_owned() },
            Step::Compare(emoji) => Self::Compare { emoji: emoji.iter().map(EmojiFrame::from).collect() },
            Step::Code(code) => Self::Code { how: code.how.to_owned(), picture: code.picture.as_str().to_owned() },
            Step::Confirm(words) => Self::Confirm { words },
            Step::Piece(file) => Self::Piece { file },
            Step::Done(words) => Self::Done { words },
            // The contract may grow a step before this surface can show it; saying so is better than to wait for ever.
            _ => Self::Show { words: "(a step that this version can't show)".into() },
        }
    }
}

impl From<&Invitation> for StepFrame {
    fn from(invitation: &Invitation) -> Self {
        Self::Invitation {
            to: invitation.to.clone(),
            how: invitation.how.to_owned(),
            link: invitation.link.as_str().to_owned(),
            picture: invitation.picture.as_str().to_owned(),
        }
    }
}

impl From<&Emoji> for EmojiFrame {
    fn from(emoji: &Emoji) -> Self {
        Self { symbol: emoji.symbol.to_owned(), name: emoji.name.to_owned() }
    }
}

impl From<AnswerFrame> for Answer {
    fn from(frame: AnswerFrame) -> Self {
        match frame {
            AnswerFrame::Text(words) => Self::Text(Text::new(words)),
            AnswerFrame::Yes => Self::Yes,
            AnswerFrame::No => Self::No,
            // What is no base64 is no piece; an end that comes too soon would be taken for the whole file.
            AnswerFrame::Piece(piece) => {
                STANDARD.decode(piece).map_or(Self::No, |piece| Self::Piece(SecretBytes::new(piece)))
            }
        }
    }
}

impl From<Answer> for AnswerFrame {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Text(words) => Self::Text(words.as_str().to_owned()),
            Answer::Yes => Self::Yes,
            Answer::No => Self::No,
            Answer::Piece(piece) => Self::Piece(STANDARD.encode(piece.expose())),
        }
    }
}

impl std::fmt::Debug for StepFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StepFrame(redacted)")
    }
}

impl std::fmt::Debug for AnswerFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerFrame(redacted)")
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    frame: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

async fn write_frame<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), frame: T) -> io::Result<()> {
    let mut line = Zeroizing::new(serde_json::to_vec(&Versioned { v: VERSION, frame })?);
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

/// The next frame; `None` when the other end has closed.
async fn read_frame<T: for<'de> Deserialize<'de>>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<T>, Failure> {
    let mut line = Zeroizing::new(Vec::new());
    let read = from.take(LONGEST).read_until(b'\n', &mut line).await;
    let read =
        read.map_err(|error| Failure::new(FailureKind::Unreachable, format!("the control socket failed: {error}")))?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(Failure::usage("a frame on the control socket was cut short or is too long"));
    }
    let version = serde_json::from_slice::<VersionOnly>(&line).map_err(|_| not_understood())?.v;
    if version != VERSION {
        return Err(Failure::usage(format!(
            "the other end of the control socket speaks version {version} and this one {VERSION}: run the command and the \
             service in the same version"
        )));
    }
    serde_json::from_slice::<Versioned<T>>(&line).map(|versioned| Some(versioned.frame)).map_err(|_| not_understood())
}

fn not_understood() -> Failure {
    Failure::usage(
        "what came over the control socket is not understood: run the command and the service in the same version",
    )
}

fn check_path(path: &Path) -> Result<(), Failure> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        return Err(Failure::new(
            FailureKind::Config,
            format!(
                "the control socket's path has {length} bytes, and the system takes {LONGEST_PATH} at most: set a shorter \
                 `service.control_socket` ({})",
                path.display()
            ),
        ));
    }
    Ok(())
}
