//! Per-message profiles (MSC4144): how a person from elsewhere appears under our one account.
//!
//! A profile is a name and a picture and nothing else: identity rests on the Matrix id of the sender, here and at the far side.

use sealbridge_contract::{Author, html, names};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::Attachment;

/// The key of a profile in an event's content.
pub(crate) const KEY: &str = "com.beeper.per_message_profile";
/// The name it will have once MSC4144 is part of the specification.
const STABLE_KEY: &str = "m.per_message_profile";
/// What bridges write into what they say with a person's own account for what that person said elsewhere.
const PUPPET: &str = "fi.mau.double_puppet_source";
const MARK: &str = "<strong data-mx-profile-fallback>";
/// What begins each further line, so that none of them looks like the first line of somebody else.
const INDENT: &str = "  ";

/// Adds an author's profile and its fallbacks to a content that has a `body`, and perhaps a `formatted_body`.
///
/// The picture lies encrypted in our homeserver's media store; an address in clear, which MSC4144 has too, is never named.
pub(crate) fn add(content: &mut Map<String, Value>, author: &Author, portrait: Option<&Attachment>, formatted: bool) {
    let name = names::of(author);
    let name = name.as_str();
    let id = match author.id.as_str() {
        id if id.len() <= 255 => id.to_owned(),
        // A profile's id only tells two profiles apart.
        id => Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let body = content.get("body").and_then(Value::as_str).unwrap_or_default().to_owned();
    let html = content.get("formatted_body").and_then(Value::as_str).map_or_else(|| html::escape(&body), str::to_owned);
    content.insert("body".into(), format!("{name}: {}", indented(&body)).into());
    if formatted {
        content.insert("format".into(), "org.matrix.custom.html".into());
        content.insert("formatted_body".into(), format!("{MARK}{}: </strong>{html}", html::escape(name)).into());
    }
    let mut profile = json!({ "id": id, "displayname": name, "has_fallback": true });
    if let Some(portrait) = portrait {
        profile["avatar_file"] = json!(portrait);
    }
    content.insert(KEY.into(), profile);
}

/// Whether a content is shown as somebody else's than its sender's, however little its profile says, or was put in by a
/// bridge that speaks with its sender's own account.
pub(crate) fn is_anothers(content: &Value) -> bool {
    [KEY, STABLE_KEY, PUPPET].iter().any(|key| content.get(key).is_some())
}

/// The name in a content's profile, after its fallbacks were taken out of the words.
pub(crate) fn strip(content: &Value, body: &mut String, html: &mut Option<String>) -> Option<String> {
    let profile = content.get(KEY)?;
    let name = profile.get("displayname").and_then(Value::as_str)?;
    if profile.get("has_fallback").and_then(Value::as_bool) == Some(true) {
        if let Some(rest) = body.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")) {
            *body = outdented(rest);
        }
        if let Some(html) = html {
            strip_html(html);
        }
    }
    let name = names::own(name);
    (!name.is_empty()).then_some(name)
}

/// Takes out every `<strong data-mx-profile-fallback>`. What is left is sanitised after this, so it need not be exact.
fn strip_html(html: &mut String) {
    while let Some(start) = html.find("<strong data-mx-profile-fallback") {
        let Some(length) = html[start..].find("</strong>") else { return };
        html.replace_range(start..start + length + "</strong>".len(), "");
    }
}

/// Everything that some program may show as the end of a line.
fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn indented(words: &str) -> String {
    let lines: Vec<_> = words.split_inclusive(ends_line).collect();
    let last = if words.ends_with(ends_line) { INDENT } else { "" };
    lines.join(INDENT) + last
}

/// The other way round. Lines that are not all indented were written by a program that does not indent.
fn outdented(words: &str) -> String {
    let (first, rest) = words.split_at(
        words.find(ends_line).map_or(words.len(), |at| at + words[at..].chars().next().map_or(0, char::len_utf8)),
    );
    let lines: Vec<_> = rest.split_inclusive(ends_line).collect();
    if lines.iter().any(|line| !line.starts_with(INDENT)) {
        return words.to_owned();
    }
    lines.iter().fold(first.to_owned(), |said, line| said + &line[INDENT.len()..])
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::PersonId;

    use super::*;

    fn author(id: &str, name: Option<&str>) -> Author {
        Author { id: PersonId::new(id), name: name.map(Into::into) }
    }

    fn with_profile(body: &str, name: &str) -> Value {
        let mut content = Map::new();
        content.insert("body".into(), body.into());
        add(&mut content, &author("@ann:x", Some(name)), None, true);
        Value::Object(content)
    }

    #[test]
    fn profile_is_taken_out_as_it_was_put_in() {
        let content = with_profile("a < b\nc", "Ann <script>");
        assert_eq!(content["body"], "Ann <script>: a < b\n  c");
        let formatted = content["formatted_body"].as_str().expect("there is one");
        assert_eq!(formatted, format!("{MARK}Ann &lt;script&gt;: </strong>a &lt; b<br>c"));
        let (mut body, mut html) = ("Ann <script>: a < b\n  c".to_owned(), Some(formatted.to_owned()));
        assert_eq!(strip(&content, &mut body, &mut html).as_deref(), Some("Ann <script>"));
        assert_eq!(body, "a < b\nc");
        assert_eq!(html.as_deref(), Some("a &lt; b<br>c"));
    }

    #[test]
    fn no_further_line_looks_like_another_speaker() {
        for words in ["hi\n\nalice: I say so", "hi\ralice: yes", "hi\u{2028}alice: yes", "\nalice: yes\n", "\r\n\r\na"]
        {
            let content = with_profile(words, "Mallory");
            let body = content["body"].as_str().expect("it is text").to_owned();
            for line in body.split(ends_line).skip(1) {
                assert!(line.starts_with(INDENT), "{body:?}");
            }
            let mut read = body;
            strip(&content, &mut read, &mut None);
            assert_eq!(read, words);
        }
        let (mut body, content) = ("Bob: a\nb".to_owned(), with_profile("a\nb", "Bob"));
        strip(&content, &mut body, &mut None);
        assert_eq!(body, "a\nb", "lines of a program that does not indent stay as they are");
    }

    #[test]
    fn long_id_is_cut_to_what_a_profile_allows() {
        let mut content = Map::new();
        content.insert("body".into(), "x".into());
        add(&mut content, &author(&"i".repeat(300), None), None, true);
        assert_eq!(content[KEY]["id"].as_str().map(str::len), Some(64));
    }
}
