//! What a person with Delta Chat sees.

use std::path::PathBuf;

use serde::Deserialize;

/// A message as the person sees it now.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Its number on the person's device.
    pub number: u32,
    pub chat: u32,
    /// Its mail id.
    pub id: String,
    pub text: String,
    /// Whether they wrote it themselves.
    pub own: bool,
    /// Whether it was deleted, and is not seen any more.
    pub gone: bool,
    /// Whether it is the engine's own word about a chat, and which.
    pub info: bool,
    pub system: String,
    /// Under which other name it appears.
    pub name: Option<String>,
    /// What its sender calls themselves.
    pub sender: String,
    pub padlock: bool,
    pub bot: bool,
    pub edited: bool,
    pub forwarded: bool,
    /// The mail id of what it answers.
    pub answers: Option<String>,
    /// The engine's word for what it is: `Image`.
    pub view: String,
    /// Whether all of it is there.
    pub whole: bool,
    /// Where its file lies, what that is called, and its type.
    pub file: Option<PathBuf>,
    pub file_name: Option<String>,
    pub mime: Option<String>,
    pub width: u32,
    pub height: u32,
    pub milliseconds: u64,
    /// Latitude and longitude.
    pub place: Option<(f64, f64)>,
    /// When it appeared, in seconds since the epoch.
    pub at: f64,
}

/// What a message became when it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct Sent {
    pub number: u32,
    pub id: String,
    /// When the engine was asked to send it, in seconds since the epoch.
    pub begun: f64,
}

/// Something that was done to an earlier message.
#[derive(Debug, Clone, Deserialize)]
pub struct Deed {
    pub what: What,
    /// The mail id of that message.
    pub of: String,
    pub chat: u32,
    /// Whether the person did it themselves.
    pub own: bool,
    /// How often the same was done to it by the same before, this time included.
    #[serde(default)]
    pub count: u32,
    /// The new words.
    #[serde(default)]
    pub text: String,
    /// Everything that they react with now.
    #[serde(default)]
    pub emoji: Vec<String>,
    /// When it was seen, in seconds since the epoch.
    pub at: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Edit,
    Reaction,
    Deletion,
}
