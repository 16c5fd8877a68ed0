//! Notices put into words, plain and as HTML, by templates: ours for each dialect, or one of the operator's own.
//!
//! Whatever a template does, a notice is said: one that fails, or says nothing, is replaced by a plain summary, and the
//! reason is told. What a sender wrote is escaped in HTML, the whole is made harmless, and nobody is called by it. A
//! template's work and its output have limits.

mod calm;
mod context;
mod filters;
mod mark;
mod own;
mod template;

use sealbridge_contract::Timestamp;
use serde_json::Value;

use super::{Acknowledged, Alert, Notice, Severity};

pub use filters::NAMES as FILTERS;
pub use own::Faulty;
pub use template::Template;

/// Plain words have at most so many bytes. With formatting and what else an event carries they fit into one.
pub const MOST_PLAIN: usize = 12 * 1024;
/// HTML has at most so many. Longer than that, the plain words stand alone.
pub const MOST_HTML: usize = 24 * 1024;

/// What a room is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The words. Never empty.
    pub plain: String,
    /// The same, formatted, in Matrix's subset. `None` if there is nothing to format.
    pub html: Option<String>,
}

/// Words, and what went wrong with their template, if something did.
#[derive(Debug)]
pub struct Worded {
    /// What a room is shown.
    pub words: Words,
    /// Why these are not the template's words.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a template, told without a word of a sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

/// How an incident stands: all of its alerts, and what people did about it.
#[derive(Debug)]
pub struct Course<'a> {
    /// The values of the last notice of it.
    pub values: &'a Value,
    /// Each alert that was told of, as it is now.
    pub alerts: &'a [Alert],
    /// Who said that they see to it, and when.
    pub acknowledged: Option<&'a Acknowledged>,
    /// Until when nothing more is told of it.
    pub silenced_until: Option<Timestamp>,
}

/// What is told of notices that are said together.
#[derive(Debug)]
pub struct Digest<'a> {
    /// How many there are of each severity of which there are some, from the highest.
    pub counts: Vec<(Severity, u32)>,
    /// Lines of words of theirs, and how often each came.
    pub lines: Vec<(&'a str, u32)>,
    /// How many are in no line.
    pub more: u32,
    /// When the first came.
    pub since: Timestamp,
    /// How many incidents of those that began among them go on.
    pub go_on: usize,
    /// How many of these are over.
    pub over: usize,
    /// What is said of them in the place of that they were gathered.
    pub head: Option<&'a str>,
}

/// Puts what is said together into words, by a template of [`Template::of_digests`].
#[must_use]
pub fn digest(template: &Template, digest: &Digest<'_>) -> Worded {
    let count: u32 = digest.counts.iter().map(|(_, count)| count).sum();
    finish(template.render(context::digest(digest, count)), || format!("{count} notices"))
}

/// Puts a notice into words. One of an incident is worded as the incident's first message.
#[must_use]
pub fn word(template: &Template, notice: &Notice) -> Worded {
    if let Some(incident) = &notice.incident {
        let course =
            Course { values: &notice.values, alerts: &incident.alerts, acknowledged: None, silenced_until: None };
        return root(template, &course);
    }
    let context = context::notice(notice);
    finish(template.render(context), || summary(notice))
}

/// The words of an incident's root message, as it stands now. With nothing firing any more it is green.
#[must_use]
pub fn root(template: &Template, course: &Course<'_>) -> Worded {
    let context = context::incident(course);
    finish(template.render(context), || course_summary(course, course.alerts.iter()))
}

/// The words of what changed in an incident, which answer its root message: some alert came, ended or came back.
#[must_use]
pub fn change(template: &Template, course: &Course<'_>, changed: &[&Alert]) -> Worded {
    let context = context::change(course, changed);
    finish(template.render_change(context), || course_summary(course, changed.iter().copied()))
}

fn finish(rendered: Result<Words, Trouble>, summary: impl FnOnce() -> String) -> Worded {
    let (words, trouble) = match rendered {
        Ok(words) => (words, None),
        Err(trouble) => (Words { plain: summary(), html: None }, Some(trouble)),
    };
    let mut plain = fitting(calm::plain(&tidy(&words.plain)));
    if plain.is_empty() {
        "A notice without words".clone_into(&mut plain);
    }
    let html = words.html.and_then(|html| sealbridge_contract::html::harmless(html.trim()));
    let html = html.map(|html| calm::html(&html)).filter(|html| html.len() <= MOST_HTML && is_formatted(html));
    Worded { words: Words { plain, html }, trouble }
}

/// Whether HTML has more to show than paragraphs and lines, which the plain words have, too.
fn is_formatted(html: &str) -> bool {
    html.split('<').skip(1).any(|tag| !["p>", "/p>", "br>"].iter().any(|plain| tag.starts_with(plain)))
}

/// Not more than one empty line in a row, and none at the ends.
fn tidy(words: &str) -> String {
    let mut tidy = String::with_capacity(words.len());
    let mut empty = 0;
    for line in words.trim().lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy
}

fn fitting(mut words: String) -> String {
    if words.len() > MOST_PLAIN {
        let end = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= MOST_PLAIN - 40).last().unwrap_or(0);
        words.truncate(end);
        words.push_str("…\n(the rest is too long)");
    }
    words
}

/// The words of a notice without a template.
fn summary(notice: &Notice) -> String {
    let text = |key: &str| notice.values.get(key).and_then(Value::as_str).unwrap_or_default();
    let mark = mark::of(&notice.values, notice.severity);
    let mark = mark.map(|mark| format!("{} {}: ", mark.emoji, mark.word)).unwrap_or_default();
    let named = if text("title").is_empty() { text("name") } else { text("title") };
    format!("{mark}{named}\n{}\n{}", text("text"), text("url"))
}

fn course_summary<'a>(course: &Course<'_>, alerts: impl Iterator<Item = &'a Alert>) -> String {
    let line = |alert: &Alert| {
        let text = |key: &str| alert.values.get(key).and_then(Value::as_str).unwrap_or_default();
        let mark = mark::of_alert(alert);
        format!("{} {}: {} {}\n", mark.emoji, mark.word, text("name"), text("summary"))
    };
    let title = course.values.get("title").and_then(Value::as_str).unwrap_or_default();
    format!("{title}\n{}", alerts.take(20).map(line).collect::<String>())
}

/// How much it matters, as templates and the config write it.
pub(super) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod senders;
#[cfg(test)]
mod tests;
