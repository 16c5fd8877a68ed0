//! Templates as they stand in a file: TOML, with a template in each of its fields.

use serde::Deserialize;

use crate::notices::Dialect;

/// A template has at most so many bytes.
pub(super) const MOST_TEMPLATE: usize = 16 * 1024;

/// A file of templates.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The words of a notice, or of an incident as it stands, plain.
    pub plain: Option<String>,
    /// The same as HTML.
    pub html: Option<String>,
    /// The words of what changed in an incident, plain.
    pub change_plain: Option<String>,
    /// The same as HTML.
    pub change_html: Option<String>,
    /// How much a notice matters: `low`, `info`, `warning` or `critical`. Where it says nothing, it is as it was read.
    pub severity: Option<String>,
    /// What a notice is called, so that the same one twice is said once.
    pub id: Option<String>,
}

/// What is wrong with a file of templates. It may show the template's own words, which are the operator's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Faulty {
    /// It is no TOML, or has fields that are unknown.
    #[error("{0}")]
    Form(String),
    /// It has neither `plain` nor `html`.
    #[error("a template has `plain`, or `html`, or both")]
    Nothing,
    /// A template in it is longer than 16 KiB.
    #[error("`{field}` is longer than 16 KiB")]
    TooLong {
        /// Which field.
        field: &'static str,
    },
    /// There is no memory to read it with.
    #[error("there is no memory to read a template with")]
    NoMemory,
    /// A template in it can't be read.
    #[error("{0}")]
    Template(String),
    /// It names notices of what goes on.
    #[error(
        "`id` is not offered for {dialect}, which tells of one thing by several requests: of those with the same `id` but for the first none would be taken"
    )]
    Named {
        /// Whose.
        dialect: Dialect,
    },
    /// A template in it would show what a sender wrote without escaping it.
    #[error("`{field}`: {what} is not offered, since what senders write is always escaped; see the filter `harmless`")]
    Unescaped {
        /// Which field.
        field: &'static str,
        /// What in it.
        what: &'static str,
    },
}

impl File {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, Faulty> {
        let file: Self = toml::from_str(text).map_err(|error| Faulty::Form(error.to_string()))?;
        if file.plain.is_none() && file.html.is_none() {
            return Err(Faulty::Nothing);
        }
        for (field, template) in file.templates() {
            if template.len() > MOST_TEMPLATE {
                return Err(Faulty::TooLong { field });
            }
            if tags(template).any(|tag| tag.starts_with("autoescape")) {
                return Err(Faulty::Unescaped { field, what: "`autoescape`" });
            }
        }
        Ok(file)
    }

    /// All templates in it, with the names of their fields.
    pub(super) fn templates(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("plain", &self.plain),
            ("html", &self.html),
            ("change_plain", &self.change_plain),
            ("change_html", &self.change_html),
            ("severity", &self.severity),
            ("id", &self.id),
        ];
        all.into_iter().filter_map(|(field, template)| Some((field, template.as_deref()?)))
    }
}

/// What stands in the tags of a template, from their first word on.
fn tags(template: &str) -> impl Iterator<Item = &str> {
    template.split("{%").skip(1).map(|tag| tag.trim_start_matches(['-', '+']).trim_start())
}
