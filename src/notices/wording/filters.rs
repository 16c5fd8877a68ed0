//! What templates may do with values, besides what minijinja brings.

use minijinja::{Environment, Error, Value, value::Kwargs};
use sealbridge_contract::html::{escape, harmless};

use crate::notices::dialects::{markup, moment};

/// Our filters, with what each does.
pub const NAMES: &[(&str, &str)] = &[
    ("date", "a moment (RFC 3339, or seconds since 1970) as `2026-11-30 08:15 UTC`"),
    ("duration", "seconds as `2 h 5 min`"),
    ("until", "the time between two moments as `2 h 5 min`: `starts_at|until(ends_at)`"),
    ("truncate", "at most so many characters, with `…` behind them: `text|truncate(200)`"),
    ("line", "on one line"),
    ("breaks", "plain words in HTML, with their line ends"),
    ("markdown", "Markdown as HTML"),
    ("harmless", "HTML of the sender, reduced to what a room may be shown"),
];

/// Puts them into an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("date", |value: Value| whole_moment(&value).and_then(moment::shown).unwrap_or_default());
    environment.add_filter("duration", |value: Value| {
        let seconds = value.as_i64().or_else(|| f64::try_from(value).ok().map(|seconds| seconds as i64));
        seconds.map(duration).unwrap_or_default()
    });
    environment.add_filter("until", |from: Value, to: Value| {
        let between = |from: i64, to: i64| duration(to.saturating_sub(from) / 1000);
        whole_moment(&from).zip(whole_moment(&to)).map(|(from, to)| between(from, to)).unwrap_or_default()
    });
    environment.add_filter("truncate", truncate);
    environment.add_filter("line", |value: Value| crate::notices::dialects::one_line(&words(&value)));
    environment.add_filter("breaks", |value: Value| Value::from_safe_string(escape(&words(&value))));
    environment.add_filter("markdown", |value: Value| {
        let words = words(&value);
        let html = markup::markdown(&words);
        // What is not formatted has no HTML of its own.
        let html = if html.is_empty() { Some(escape(&words)) } else { harmless(&html) };
        Value::from_safe_string(html.unwrap_or_default())
    });
    environment
        .add_filter("harmless", |value: Value| Value::from_safe_string(harmless(&words(&value)).unwrap_or_default()));
}

fn words(value: &Value) -> String {
    if value.is_undefined() || value.is_none() { String::new() } else { value.to_string() }
}

fn truncate(value: Value, length: Option<usize>, kwargs: Kwargs) -> Result<String, Error> {
    // As Jinja's own filter calls it.
    let length = length.or(kwargs.get("length")?).unwrap_or(255);
    kwargs.assert_all_used()?;
    let words = words(&value);
    Ok(match words.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", words[..at].trim_end()),
        None => words,
    })
}

/// A moment in milliseconds since 1970: of RFC 3339, or of seconds since then.
fn whole_moment(value: &Value) -> Option<i64> {
    if let Some(words) = value.as_str() {
        return moment::parse(words);
    }
    let seconds = f64::try_from(value.clone()).ok().filter(|seconds| seconds.is_finite())?;
    Some((seconds * 1000.0) as i64)
}

/// Seconds as people say them, in their two largest units.
fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(count, unit)| *count > 0 || (*unit == "s" && seconds == 0));
    shown.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_read_them() {
        let at = |words: &str| whole_moment(&Value::from(words));
        assert_eq!(at("2023-11-14T22:13:20Z"), whole_moment(&Value::from(1_700_000_000)));
        assert_eq!(at("tomorrow"), None);
        for (seconds, words) in
            [(0, "0 s"), (59, "59 s"), (300, "5 min"), (7500, "2 h 5 min"), (86_400, "1 d"), (-5, "0 s")]
        {
            assert_eq!(duration(seconds), words);
        }
    }
}
