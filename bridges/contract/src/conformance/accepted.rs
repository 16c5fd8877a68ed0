//! What was accepted, as a case looks at it.

use std::fmt;

use super::{Details, How, MemorySpool, details};
use crate::{
    ConversationId, Kind, PersonId, PictureId, RemoteId, Text, Timestamp, Trail,
    inbox::{Incoming, Once},
    message::Absence,
};

/// A message that was accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Accepted {
    /// Where.
    pub conversation: ConversationId,
    /// The network's name for it.
    pub id: RemoteId,
    /// Who.
    pub author: PersonId,
    /// What they call themselves.
    pub name: Option<String>,
    /// What.
    pub words: Words,
    /// The same, formatted.
    pub html: Option<Words>,
    /// In which way, or `None` for what is told of, or came without its file.
    pub how: Option<How>,
    /// What is told of it in words of ours: which kind of thing it is that is not carried, or what its author changed
    /// about the conversation.
    pub told: Option<Words>,
    /// Why it came without its file, if it did.
    pub absence: Option<Absence>,
    /// When, by the network's word.
    pub sent_at: Timestamp,
    /// What it answers.
    pub reply_to: Option<RemoteId>,
    /// Which bridges carried it.
    pub trail: Trail,
    /// Its value that no two messages share.
    pub once: Option<Once>,
    /// Which picture its author has.
    pub portrait: Option<PictureId>,
    /// Whatever else there is.
    pub details: Details,
}

/// Words that can be compared and not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(pub String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Words(redacted)")
    }
}

impl Accepted {
    pub(super) fn of(conversation: &ConversationId, incoming: &Incoming, spool: &MemorySpool) -> Self {
        let message = &incoming.message.0;
        let own = |text: &Text| Words(text.as_str().to_owned());
        Self {
            conversation: conversation.clone(),
            id: incoming.id.clone(),
            author: message.author.id.clone(),
            name: message.author.name.as_ref().map(|name| name.as_str().to_owned()),
            words: Words(details::words(message).to_owned()),
            html: message.body().and_then(|body| body.html.as_ref()).map(own),
            how: How::of(&message.kind),
            told: match &message.kind {
                Kind::Unsupported { what } => Some(Words((*what).to_owned())),
                Kind::Change(change) => Some(own(&change.readable(&message.author))),
                _ => None,
            },
            absence: match &message.kind {
                Kind::Absent(absent) => Some(absent.why),
                _ => None,
            },
            sent_at: message.sent_at,
            reply_to: message.reply_to.as_ref().map(|reply| reply.id.clone()),
            trail: message.trail.clone(),
            once: incoming.once.clone(),
            portrait: message.portrait.clone(),
            details: Details::of(message, spool),
        }
    }
}
