//! The two forms in which a message can be read.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use crate::{
    Kind, Message, PersonId, RemoteId, Text, Timestamp, Trail, Verb,
    message::Caveats,
    names::{Named, Tags},
    portrait::{Album, Portrait},
    spool::{Pass, SpoolId, Spooled},
};

/// A message that we can read. Held by the journey's own steps; erased on drop; neither printed, serialised nor cloned.
///
/// Its words are out of reach here: only the gate lets them through, as [`Cleared`].
pub struct Cleartext(pub(crate) Box<Message>);

impl Cleartext {
    /// Takes what a transport decrypted, or what the bridge itself says.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self(Box::new(message))
    }

    /// Who said it.
    #[must_use]
    pub fn author(&self) -> &PersonId {
        &self.0.author.id
    }

    /// Whether the bridge itself says it.
    #[must_use]
    pub fn is_from_bridge(&self) -> bool {
        self.0.author.is_bridge()
    }

    /// When, by the network's word.
    #[must_use]
    pub fn sent_at(&self) -> Timestamp {
        self.0.sent_at
    }

    /// What it answers, by its name in the conversation where it was written.
    #[must_use]
    pub fn reply_to(&self) -> Option<&RemoteId> {
        self.0.reply_to.as_ref().map(|reply| &reply.id)
    }

    /// Whether it has a piece in it of what it answers.
    #[must_use]
    pub fn quotes(&self) -> bool {
        self.0.reply_to.as_ref().is_some_and(|reply| reply.quote.is_some())
    }

    /// Takes out the piece of what it answers.
    pub fn forget_quote(&mut self) {
        if let Some(reply) = &mut self.0.reply_to {
            reply.quote = None;
        }
    }

    /// The message that began its thread, by its name in the conversation where it was written.
    #[must_use]
    pub fn thread(&self) -> Option<&RemoteId> {
        self.0.thread.as_ref().map(|root| &root.id)
    }

    /// The earlier message that it changes, takes back or reacts to, by its name in the conversation where it was
    /// written.
    #[must_use]
    pub fn about(&self) -> Option<&RemoteId> {
        self.0.about().map(|target| &target.id)
    }

    /// The earlier message that it takes back: whatever is still kept of that must go.
    #[must_use]
    pub fn takes_back(&self) -> Option<&RemoteId> {
        matches!(self.0.kind, Kind::Redaction(_)).then(|| self.about()).flatten()
    }

    /// What it is.
    #[must_use]
    pub fn verb(&self) -> Verb {
        Verb::of(&self.0)
    }

    /// What lies in the spool for it.
    pub fn spooled(&self) -> impl Iterator<Item = SpoolId> {
        self.0.media().into_iter().flat_map(|media| media.spooled().map(|spooled| spooled.id))
    }

    /// How many bytes of files it has; none if it has no file.
    #[must_use]
    pub fn file_size(&self) -> Option<u64> {
        self.0.media().map(crate::message::Media::size)
    }

    /// Its author and what they appear as, as numbers.
    #[must_use]
    pub fn named(&self, tags: &Tags) -> Named {
        tags.named(&self.0.author)
    }

    /// Which bridges carried it.
    #[must_use]
    pub fn trail(&self) -> &Trail {
        &self.0.trail
    }

    /// What a reader must be told about how it came.
    #[must_use]
    pub fn caveats(&self) -> Caveats {
        self.0.caveats
    }

    /// The same message with these caveats.
    #[must_use]
    pub fn with_caveats(mut self, caveats: Caveats) -> Self {
        self.0.caveats = caveats;
        self
    }

    /// What is said to whoever listens to `word`: the rest of plain words that begin with it. Only ordinary words, said
    /// for the first time, are said to anybody: no edit, no caption, no action, no machine's words.
    #[must_use]
    pub fn said_to(&self, word: &str) -> Option<Text> {
        let Kind::Text(body) = &self.0.kind else { return None };
        let rest = body.plain.as_str().strip_prefix(word)?;
        (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| Text::new(rest.trim()))
    }

    /// How many bytes of words it has, plain and formatted together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.texts().map(Text::len).sum()
    }

    /// A hash of the last `tail` bytes of its plain words under a random key that the process forgets, to notice that
    /// the same words go round. `None` if it has fewer.
    #[must_use]
    pub fn tail_hash(&self, key: &RandomState, tail: usize) -> Option<u64> {
        let words = self.0.body()?.plain.as_str().as_bytes();
        Some(key.hash_one(&words[words.len().checked_sub(tail)?..]))
    }

    /// How many bytes of plain words it has.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.0.body().map_or(0, |body| body.plain.len())
    }
}

impl fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleartext(redacted)")
    }
}

/// A message that the gate let through, for the transport it was cleared for and for this one delivery. It borrows, so
/// it can't be queued.
pub struct Cleared<'a> {
    pub(crate) message: &'a Message,
    album: Option<Album<'a>>,
}

impl<'a> Cleared<'a> {
    pub(crate) fn new(message: &'a Message) -> Self {
        Self { message, album: None }
    }

    /// The same, with a place where the picture of its author can be looked up.
    #[must_use]
    pub fn with_album(self, album: Album<'a>) -> Self {
        Self { album: Some(album), ..self }
    }

    /// The message, to be encrypted for the network.
    #[must_use]
    pub fn message(&self) -> &Message {
        self.message
    }

    /// The picture of its author, if they have one.
    #[must_use]
    pub fn portrait(&self) -> Option<Portrait<'a>> {
        Some(Portrait::new(self.message.portrait.as_ref()?, self.album?))
    }

    /// Leave to read one of its files in the spool. `None` if it is none of this message.
    #[must_use]
    pub fn pass(&self, file: SpoolId) -> Option<Pass<'_>> {
        let mut files = self.message.media().into_iter().flat_map(|media| media.spooled());
        files.find(|spooled: &&Spooled| spooled.id == file).map(Pass)
    }
}

impl fmt::Debug for Cleared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleared(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Author, Body, Target,
        message::{Edit, Form},
    };

    #[test]
    fn only_ordinary_words_that_begin_with_it_are_said_to_a_listener() {
        let said = |kind| {
            let author = Author { id: PersonId::new("@a:x"), name: None };
            Cleartext::new(Message::of(author, Timestamp(0), kind))
                .said_to("!seal")
                .map(|rest| rest.as_str().to_owned())
        };
        let text = |words: &str| said(Kind::Text(Body::plain(words)));
        for (words, rest) in [("!seal", ""), ("!seal help", "help"), ("!seal\thelp  me ", "help  me")] {
            assert_eq!(text(words).as_deref(), Some(rest), "{words:?}");
        }
        for words in ["!sealed help", "say !seal help", " !seal help", "> !seal help", "!SEAL help", "! seal", ""] {
            assert_eq!(text(words), None, "{words:?}");
        }
        let body = || Body::plain("!seal help");
        let edit = Edit { of: Target::new(RemoteId::new("$e")), form: Form::Text, body: body() };
        for kind in [Kind::Notice(body()), Kind::Emote(body()), Kind::Edit(Box::new(edit))] {
            assert_eq!(said(kind), None);
        }
    }
}
