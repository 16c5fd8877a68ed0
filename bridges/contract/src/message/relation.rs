//! What is said about an earlier message.

use super::{Body, Form};
use crate::{RemoteId, Text};

/// An earlier message, by its name in the conversation where this one was written. What it is called elsewhere is the
/// journey's to find out.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub id: RemoteId,
    /// A piece of it, for readers to whom it can't be named, if the transport knows one.
    pub quote: Option<Box<Quote>>,
}

/// A piece of an earlier message.
#[derive(Debug)]
pub struct Quote {
    /// Who is said to have said it.
    pub author: Option<Text>,
    /// The words, perhaps cut.
    pub words: Text,
}

/// New words for an earlier message of the same author. Whether it is of the same author, the transport sees to.
#[derive(Debug)]
pub struct Edit {
    /// Which message. It stays named by its first name, however often it is edited.
    pub of: Target,
    /// In which way the words are said.
    pub form: Form,
    /// The whole of its new words; the new caption, if it is a file.
    pub body: Body,
}

/// Everything that one person reacts with to one message.
#[derive(Debug)]
pub struct Reaction {
    /// To which message.
    pub to: Target,
    /// All their emoji after the change, none twice; none at all if they took everything back.
    pub all: Vec<Text>,
}

impl Target {
    /// A message, without a piece of it.
    #[must_use]
    pub fn new(id: RemoteId) -> Self {
        Self { id, quote: None }
    }

    pub(crate) fn copy(&self) -> Self {
        Self { id: self.id.clone(), quote: self.quote.as_ref().map(|quote| Box::new(quote.copy())) }
    }
}

impl Quote {
    /// A longer piece is cut.
    pub const LONGEST: usize = 120;

    /// The first words of a message, on one line.
    #[must_use]
    pub fn new(author: Option<&str>, words: &str) -> Self {
        let mut short = crate::names::one_line(words, Self::LONGEST);
        if short.len() < words.trim().len() {
            short.push('…');
        }
        Self { author: author.map(Text::new), words: short.into() }
    }

    fn copy(&self) -> Self {
        Self { author: self.author.as_ref().map(Text::copy), words: self.words.copy() }
    }
}

impl Reaction {
    /// One person reacts to one message with as many emoji at most; the others are left out.
    pub const MOST: usize = 16;
    /// What is longer than this, in bytes, is no emoji.
    pub const LONGEST: usize = 64;

    /// A set of emoji: none twice, none empty, neither too many nor too long ones.
    pub fn new(to: Target, emoji: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut all: Vec<Text> = Vec::new();
        for emoji in emoji {
            let emoji = Text::new(emoji);
            let sound = !emoji.is_empty() && emoji.len() <= Self::LONGEST && !all.contains(&emoji);
            if sound && all.len() < Self::MOST {
                all.push(emoji);
            }
        }
        Self { to, all }
    }

    /// Whether every emoji is one of Unicode's own. Where reactions are in clear, nothing else may be said by one.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        self.all.iter().all(|emoji| is_standard(emoji.as_str()))
    }
}

/// Whether this is one emoji of Unicode's own list, with or without the selector that asks for a picture.
#[must_use]
pub fn is_standard(emoji: &str) -> bool {
    emojis::get(emoji).is_some() || emojis::get(emoji.trim_end_matches('\u{fe0f}')).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_of_emoji_is_bounded_and_has_none_twice() {
        let many = (0..100).map(|number| format!("e{number}"));
        assert_eq!(Reaction::new(Target::new(RemoteId::new("$e")), many).all.len(), Reaction::MOST);
        let odd = ["👍", "👍", "", &"x".repeat(65)];
        assert_eq!(Reaction::new(Target::new(RemoteId::new("$e")), odd).all.len(), 1);
    }

    #[test]
    fn only_emoji_of_unicode_are_standard() {
        for emoji in ["👍", "❤️", "❤", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽"] {
            assert!(is_standard(emoji), "{emoji}");
        }
        for words in ["", "yes", "👍👍", ":custom:", "mxc://x/y", "1", "👍\u{200b}secret"] {
            assert!(!is_standard(words), "{words}");
        }
    }

    #[test]
    fn quote_is_one_short_line() {
        let quote = Quote::new(Some("Ann"), &format!("one\ntwo {}", "x".repeat(500)));
        assert!(quote.words.as_str().starts_with("one two xx"));
        assert!(quote.words.as_str().ends_with('…'));
        assert!(quote.words.len() <= Quote::LONGEST + 3);
    }
}
