//! The lines of the two files: what people say, and what they hear.

use std::fmt;

use sealbridge_contract::{ConversationId, PersonId, RemoteId, SenderTrust, Text, Timestamp, Trail, inbox::Once};
use serde::{Deserialize, Serialize};

use crate::hub::{Bytes, Content, Event, How, More, Readable, What};

/// One line of `said-<account>.jsonl`: what a person says. Only the first four are needed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidLine {
    /// What the network calls it. The same name twice is the same message.
    pub id: String,
    /// Where.
    pub conversation: String,
    /// Who.
    pub sender: String,
    /// What.
    pub words: String,
    /// What they call themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The same words, formatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// `emote`, `notice`, `edit`, `image` and so on, or what it is that can't be carried; ordinary words if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Whatever else there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
    /// The marks of bridges that carried it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// When, in milliseconds since the epoch.
    #[serde(default)]
    pub at: i64,
    /// For a carrier: the bytes, instead of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parcel: Option<Vec<u8>>,
    /// The key without which it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_key: Option<String>,
    /// Not a message: this key arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brings_key: Option<String>,
    /// How sure we are of the sender; proven if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<SenderTrust>,
    /// A value that no two messages share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
}

/// One line of `heard-<account>.jsonl`: what the bridge brought.
#[derive(Clone, Serialize, Deserialize)]
pub struct HeardLine {
    /// Which delivery.
    pub delivery: String,
    /// What the network calls it.
    pub id: String,
    /// Where.
    pub conversation: String,
    /// Under which name it appears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its words.
    #[serde(default)]
    pub words: String,
    /// The same, formatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// As in [`SaidLine`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Whatever else there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
    /// The marks of the bridges that carried it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// For a carrier: the bytes, instead of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parcel: Option<Vec<u8>>,
}

impl SaidLine {
    /// Words of a person.
    #[must_use]
    pub fn words(id: &str, conversation: &str, sender: &str, words: &str) -> Self {
        Self {
            id: id.to_owned(),
            conversation: conversation.to_owned(),
            sender: sender.to_owned(),
            words: words.to_owned(),
            name: None,
            html: None,
            how: None,
            reply_to: None,
            more: None,
            marks: Vec::new(),
            at: 0,
            parcel: None,
            needs_key: None,
            brings_key: None,
            trust: None,
            once: None,
        }
    }

    pub(crate) fn of(event: &Event) -> Self {
        let (id, sender) = (event.id.as_str(), event.sender.as_str());
        let line = Self { at: event.at.0, ..Self::words(id, event.conversation.as_str(), sender, "") };
        let What::Said { content, readable, trust, once, .. } = &event.what else { return line };
        let own = |text: &Text| text.as_str().to_owned();
        Self {
            words: own(&content.plain),
            name: content.name.as_ref().map(own),
            html: content.html.as_ref().map(own),
            how: content.how.name(),
            reply_to: content.reply_to.as_ref().map(|id| id.as_str().to_owned()),
            more: more_of(&content.more),
            marks: content.trail.to_texts(),
            needs_key: match readable {
                Readable::Now => None,
                Readable::WithKey(key) => Some(key.clone()),
                Readable::Untrusted => Some(format!("trust:{sender}")),
            },
            trust: Some(*trust),
            once: once.clone(),
            ..line
        }
    }

    /// What it waits for.
    pub(crate) fn hint(&self) -> String {
        self.needs_key.clone().unwrap_or_default()
    }

    pub(crate) fn into_event(self) -> Event {
        let what = match (self.brings_key, self.parcel) {
            (Some(key), _) => What::Key(key),
            (None, Some(bytes)) => What::Parcel(Bytes(bytes)),
            (None, None) => What::Said {
                content: Content {
                    how: How::of(self.how.as_deref()),
                    plain: self.words.into(),
                    html: self.html.map(Text::new),
                    name: self.name.map(Text::new),
                    reply_to: self.reply_to.map(RemoteId::new),
                    trail: Trail::from_texts(self.marks.iter().map(String::as_str)),
                    more: Box::new(self.more.unwrap_or_default()),
                },
                encrypted: true,
                readable: self.needs_key.map_or(Readable::Now, Readable::WithKey),
                trust: self.trust.unwrap_or(SenderTrust::Proven),
                once: self.once.clone(),
            },
        };
        Event {
            id: RemoteId::new(self.id),
            conversation: ConversationId::new(self.conversation),
            sender: PersonId::new(self.sender),
            at: Timestamp(self.at),
            what,
        }
    }
}

/// What is written of it; nothing where there is nothing.
pub(super) fn more_of(more: &More) -> Option<More> {
    (*more != More::default()).then(|| more.clone())
}

impl fmt::Debug for SaidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaidLine").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for HeardLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeardLine").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}
