//! Words, plain and perhaps formatted.

use std::ops::Range;

use crate::{PersonId, Text, html::escape};

/// Words, plain and perhaps formatted.
#[derive(Debug, Default)]
pub struct Body {
    /// Plain text; never empty of meaning, since some networks carry only this.
    pub plain: Text,
    /// The same in Matrix's HTML subset, already sanitised by the transport that received it.
    pub html: Option<Text>,
    /// Who is called in it.
    pub mentions: Vec<Mention>,
}

/// Somebody who is called by name. No transport reads that everybody is called, so that is never carried; the operator's
/// own config may say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Who, as the network proves them where it was written.
    pub person: PersonId,
    /// Which stretch of the plain words calls them, in bytes; `None` if no words do. Read it with [`Body::stretch`].
    pub at: Option<Range<usize>>,
}

/// The ways to say words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Ordinary words.
    #[default]
    Text,
    /// An action: "/me waves".
    Emote,
    /// Words of a machine.
    Notice,
}

impl Mention {
    /// Everybody. No network has a person of this name.
    pub const EVERYBODY: &str = "@room";

    /// Whether everybody is called.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.person.as_str() == Self::EVERYBODY
    }
}

impl Body {
    /// As many people are called in one message at most.
    pub const MOST_MENTIONS: usize = 50;

    /// Plain words.
    pub fn plain(words: impl Into<Text>) -> Self {
        Self { plain: words.into(), html: None, mentions: Vec::new() }
    }

    /// The words that call somebody. `None` if there are none, or if the stretch is none of this text.
    #[must_use]
    pub fn stretch(&self, mention: &Mention) -> Option<&str> {
        self.plain.as_str().get(mention.at.clone()?)
    }

    /// The same words after `before`, which is plain; in the formatted form too.
    pub(crate) fn after(&self, before: &str) -> Self {
        let moved = |at: &Range<usize>| at.start + before.len()..at.end + before.len();
        let mentions = self.mentions.iter();
        Self {
            plain: Text::joined(&[before, self.plain.as_str()]),
            html: self.html.as_ref().map(|html| Text::joined(&[&escape(before), html.as_str()])),
            mentions: mentions.map(|m| Mention { person: m.person.clone(), at: m.at.as_ref().map(moved) }).collect(),
        }
    }

    pub(crate) fn copy(&self) -> Self {
        self.after("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretch_that_is_none_of_the_text_calls_nobody() {
        let body = Body::plain("ä, hello");
        let at = |range: Option<Range<usize>>| Mention { person: PersonId::new("@a:x"), at: range };
        assert_eq!(body.stretch(&at(Some(0..2))), Some("ä"));
        for wrong in [Some(1..2), Some(0..100), Some(usize::MAX..usize::MAX), None] {
            assert_eq!(body.stretch(&at(wrong)), None);
        }
    }

    #[test]
    fn words_put_in_front_move_what_is_called() {
        let mentions = vec![Mention { person: PersonId::new("@b:x"), at: Some(0..3) }];
        let body = Body { html: Some("<b>Ben</b>".into()), mentions, ..Body::plain("Ben!") };
        let after = body.after("a < ");
        assert_eq!(after.stretch(&after.mentions[0]), Some("Ben"));
        assert_eq!(after.html.as_ref().map(Text::as_str), Some("a &lt; <b>Ben</b>"));
    }
}
