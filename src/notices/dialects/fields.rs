//! Fields of JSON whose types nobody vouches for, and words of senders brought into shape.

use sealbridge_contract::names;
use serde_json::{Map, Value};

use super::MOST_TEXT;

/// A title, a name or a value has at most so many characters.
const MOST_LINE: usize = 300;
/// What a sender calls its notice has at most so many characters.
const MOST_NAME: usize = 200;

/// A field's words, or a number or truth value as words. Empty if it is absent or something else.
pub(super) fn text(value: &Value, path: &str) -> String {
    at(value, path).map(words).unwrap_or_default()
}

/// The same on one line.
pub(super) fn line(value: &Value, path: &str) -> String {
    one_line(&text(value, path))
}

/// A field further in: `repository.full_name`.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// The elements of a list. None if it is no list.
pub(super) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The keys and values of an object. None if it is no object.
pub(super) fn object<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, path).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// A whole number, also one that is written as words.
pub(super) fn number(value: &Value, path: &str) -> Option<i64> {
    match at(value, path)? {
        // A number with a fraction is cut to what it is at least.
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(words) => words.trim().parse().ok(),
        _ => None,
    }
}

/// A simple value as words.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::String(words) => bounded(words),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// Words without what is no text, in lines that end as ours do, and no more of them than fits into a message.
pub(super) fn bounded(words: &str) -> String {
    let end = words.char_indices().map(|(at, _)| at).find(|at| *at >= MOST_TEXT).unwrap_or(words.len());
    let kept = words[..end].replace("\r\n", "\n").replace('\r', "\n");
    let mut kept: String = kept.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    if end < words.len() {
        kept.push('…');
    }
    kept
}

/// Words on one line, and not too many, without what turns those that stand beside them.
pub(in crate::notices) fn one_line(words: &str) -> String {
    let words = words.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = names::without_tricks(&words.collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(MOST_LINE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// What comes next of words: no more than `most` bytes, and no further than to the end of the line. Looking for an end
/// there and no further takes no longer the more begins there are without one.
pub(super) fn ahead(words: &str, most: usize) -> &str {
    words[..words.floor_char_boundary(most)].split('\n').next().unwrap_or_default()
}

/// The first line that says something.
pub(super) fn first_line(words: &str) -> String {
    one_line(words.trim().lines().next().unwrap_or_default())
}

/// What a sender calls something, if it is a name: visible ASCII and not too long.
pub(in crate::notices) fn name(words: &str) -> Option<String> {
    let fits = !words.is_empty() && words.len() <= MOST_NAME && words.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| words.to_owned())
}

/// An address that may be shown as a link. Other words that stand in its place are no link.
pub(super) fn link(words: &str) -> Option<String> {
    let url = url::Url::parse(words.trim()).ok()?;
    let shown = matches!(url.scheme(), "http" | "https" | "mailto") && words.len() <= 2048;
    shown.then(|| String::from(url))
}

/// The address in a field.
pub(super) fn link_at(value: &Value, path: &str) -> String {
    at(value, path).and_then(Value::as_str).and_then(link).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_a_sender_is_one_line_and_bounded() {
        assert_eq!(one_line(" a\r\nb\u{85}c\0d\te "), "a b c d e");
        assert_eq!(one_line("CI\u{202e}nimda\u{2066} \u{200f}x"), "CInimda x");
        assert_eq!(one_line(&"ä".repeat(1000)).chars().count(), MOST_LINE + 1);
        let much = bounded(&"ä\r\n".repeat(MOST_TEXT));
        assert!(much.len() <= MOST_TEXT + 4 && much.starts_with("ä\nä") && much.ends_with('…'));
    }

    #[test]
    fn what_comes_next_is_looked_at_no_further_than_asked_for() {
        for (words, most, near) in
            [("abc", 5, "abc"), ("abc", 2, "ab"), ("aöc", 2, "a"), ("a\nbc", 5, "a"), ("\na", 5, ""), ("", 5, "")]
        {
            assert_eq!(ahead(words, most), near, "{words:?}");
        }
    }

    #[test]
    fn only_addresses_of_the_web_and_of_mail_become_links() {
        for bad in ["javascript:alert(1)", "alertmanager:9093", "localhost:3000/x", "/x", "", "data:text/html,x"] {
            assert_eq!(link(bad), None, "{bad}");
        }
        assert_eq!(link("https://a.test/ö\"><b>").as_deref(), Some("https://a.test/%C3%B6%22%3E%3Cb%3E"));
    }

    #[test]
    fn name_that_could_not_stand_in_a_header_is_none() {
        for bad in ["", "a b", "a\r\nb", "ä", &"x".repeat(201)] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        assert_eq!(name("msg_2.a-B").as_deref(), Some("msg_2.a-B"));
    }
}
