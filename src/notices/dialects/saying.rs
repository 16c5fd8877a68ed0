//! What a notice says, in the one form that every dialect is read into and every template sees.

use serde::Serialize;
use serde_json::Value;

use super::{fields, markup};
use crate::notices::{Attachment, Notice, Severity};

/// As many characters are shown of what is written in full elsewhere.
const EXCERPT: usize = 1_500;

/// What a notice says. A part of which there is nothing is there for templates all the same, and empty.
#[derive(Debug, Default, Serialize)]
pub(super) struct Saying {
    /// What it is about, on one line.
    pub title: String,
    /// Where the title leads.
    pub url: String,
    /// The words, plain.
    pub text: String,
    /// The same as HTML, if they are formatted.
    pub html: String,
    /// Who says it, if the sender names somebody.
    pub author: String,
    /// In which state something is: a word for it, and whether it is well.
    pub state: Option<State>,
    /// Names with values.
    pub fields: Vec<Field>,
    /// Parts with a title of their own: embeds, attachments in Slack's sense.
    pub sections: Vec<Section>,
    /// A list of things: commits, changes.
    pub items: Vec<Item>,
    /// Where one may look.
    pub links: Vec<Link>,
    /// Words by which it is sorted.
    pub tags: Vec<String>,
    /// What small print says.
    pub footer: String,
    /// What the sender calls the kind of event.
    pub event: String,
    /// The sender's whole body, as JSON or as the fields of a form.
    pub body: Value,
}

/// A state.
#[derive(Debug, Serialize)]
pub(super) struct State {
    pub word: String,
    pub good: bool,
}

/// A name with a value.
#[derive(Debug, Serialize)]
pub(super) struct Field {
    pub name: String,
    pub value: String,
    pub html: String,
}

/// A part with a title of its own.
#[derive(Debug, Default, Serialize)]
pub(super) struct Section {
    pub before: String,
    pub author: String,
    pub title: String,
    pub url: String,
    pub text: String,
    pub html: String,
    /// `#rrggbb`.
    pub colour: String,
    pub fields: Vec<Field>,
    pub links: Vec<Link>,
    pub footer: String,
}

/// One of a list.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub label: String,
    pub url: String,
    pub text: String,
}

/// Where one may look.
#[derive(Debug, Serialize)]
pub(super) struct Link {
    pub label: String,
    pub url: String,
}

/// Words that are plain, and perhaps formatted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub plain: String,
    /// Empty if there is no formatting.
    pub html: String,
}

impl Words {
    /// Words without formatting.
    pub(super) fn plain(words: &str) -> Self {
        Self { plain: fields::bounded(words), html: String::new() }
    }

    /// Markdown. The plain form is what was written, which is made to be read so.
    pub(super) fn markdown(words: &str) -> Self {
        let plain = fields::bounded(words);
        let html = markup::markdown(&plain);
        Self { plain, html }
    }

    /// The beginning of Markdown that people wrote in full elsewhere, without what they were told by its template.
    pub(super) fn excerpt(words: &str) -> Self {
        let mut kept = String::new();
        let mut rest = words;
        while let Some((before, comment)) = rest.split_once("<!--") {
            kept.push_str(before);
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        }
        kept.push_str(rest);
        let kept = kept.trim();
        match kept.char_indices().nth(EXCERPT) {
            None => Self::markdown(kept),
            // Cut between lines if there is one near.
            Some((at, _)) => {
                let end = kept[..at].rfind('\n').filter(|end| *end > at / 2).unwrap_or(at);
                Self::markdown(&format!("{}\n\n…", kept[..end].trim_end()))
            }
        }
    }

    /// HTML of a sender. It is not harmless yet: the template's filter makes it so.
    pub(super) fn html(html: &str) -> Self {
        let html = fields::bounded(html);
        Self { plain: markup::html_to_text(&html), html }
    }
}

impl Saying {
    /// Takes words as what it says.
    pub(super) fn say(&mut self, words: Words) {
        self.text = words.plain;
        self.html = words.html;
    }

    /// Adds a name with a value, if there is a value.
    pub(super) fn field(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.fields.push(Field { name: name.to_owned(), value, html: String::new() });
        }
    }

    /// Adds a place to look at, if it is an address.
    pub(super) fn link(&mut self, label: &str, url: &str) {
        self.links.extend(Link::to(label, url));
    }

    /// Whether there is nothing that could be shown.
    pub(super) fn is_empty(&self) -> bool {
        self.title.is_empty()
            // HTML of which no words are left shows nothing, either.
            && self.text.trim().is_empty()
            && self.fields.is_empty()
            && self.sections.is_empty()
            && self.items.is_empty()
            && self.links.is_empty()
    }

    /// As a notice.
    pub(super) fn notice(self, severity: Severity) -> Notice {
        // A struct of texts, lists and JSON can't fail to become JSON.
        Notice::new(serde_json::to_value(self).unwrap_or_default(), severity)
    }

    /// The same with files.
    pub(super) fn notice_with(self, severity: Severity, attachments: Vec<Attachment>) -> Notice {
        Notice { attachments, ..self.notice(severity) }
    }
}

impl Section {
    /// The same, unless there is nothing in it that could be shown.
    pub(super) fn if_any(self) -> Option<Self> {
        let words = [&self.before, &self.author, &self.title, &self.text, &self.footer];
        let shows = words.iter().any(|words| !words.trim().is_empty())
            || !self.url.is_empty()
            || !self.fields.is_empty()
            || !self.links.is_empty();
        shows.then_some(self)
    }
}

impl Link {
    /// A place to look at, if it is an address.
    pub(super) fn to(label: &str, url: &str) -> Option<Self> {
        let url = fields::link(url)?;
        let label = fields::one_line(label);
        Some(Self { label: if label.is_empty() { "Link".to_owned() } else { label }, url })
    }
}

impl State {
    pub(super) fn well(word: &str) -> Option<Self> {
        Some(Self { word: word.to_owned(), good: true })
    }

    pub(super) fn unwell(word: &str) -> Option<Self> {
        Some(Self { word: word.to_owned(), good: false })
    }
}
