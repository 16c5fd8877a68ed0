//! Per-message profiles (MSC4144): how a person from elsewhere appears under our one account.
//!
//! A profile is a name and nothing else: identity rests on the Matrix id of the sender, here and at the far side.

use ruma::html::{Children, Html, SanitizerConfig};
use sealbridge_contract::Author;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The key of a profile in an event's content.
pub(crate) const KEY: &str = "com.beeper.per_message_profile";
const MARK: &str = "<strong data-mx-profile-fallback>";
const LONGEST_NAME: usize = 80;
/// More tags than people write, and few enough that the parser's tree stays shallow.
const LINKS: [&str; 4] = ["http://", "https://", "mailto:", "matrix:"];
const MOST_TAGS: usize = 2_000;

/// A name as it may be shown: one line, without characters that reorder, hide or end it.
pub(crate) fn safe_name(name: &str) -> String {
    let mut safe = String::new();
    for c in name.chars().map(|c| if c.is_whitespace() { ' ' } else { c }) {
        let doubled = c == ' ' && safe.ends_with(' ');
        if !(c.is_control() || is_invisible(c) || doubled) {
            safe.push(c);
        }
        if safe.len() >= LONGEST_NAME {
            break;
        }
    }
    safe.trim().to_owned()
}

/// Characters that show nothing, or change the order of what stands beside them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' |
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' |
        '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The name under which an author appears.
pub(crate) fn shown_name(author: &Author) -> String {
    let name = author.name.as_ref().map(|name| safe_name(name.as_str())).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| safe_name(author.id.as_str()))
}

/// Adds an author's profile and its fallbacks to a content that has a `body`, and perhaps a `formatted_body`.
pub(crate) fn add(content: &mut Map<String, Value>, author: &Author) {
    let name = shown_name(author);
    let id = match author.id.as_str() {
        id if id.len() <= 255 => id.to_owned(),
        // A profile's id only tells two profiles apart.
        id => Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let body = content.get("body").and_then(Value::as_str).unwrap_or_default().to_owned();
    let html = content.get("formatted_body").and_then(Value::as_str).map_or_else(|| to_html(&body), str::to_owned);
    content.insert("body".into(), format!("{name}: {body}").into());
    content.insert("format".into(), "org.matrix.custom.html".into());
    content.insert("formatted_body".into(), format!("{MARK}{}: </strong>{html}", escape(&name)).into());
    content.insert(KEY.into(), json!({ "id": id, "displayname": name, "has_fallback": true }));
}

/// The name in a content's profile, after its fallbacks were taken out of the words.
pub(crate) fn strip(content: &Value, body: &mut String, html: &mut Option<String>) -> Option<String> {
    let profile = content.get(KEY)?;
    let name = profile.get("displayname").and_then(Value::as_str)?;
    if profile.get("has_fallback").and_then(Value::as_bool) == Some(true) {
        if let Some(rest) = body.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")) {
            *body = rest.to_owned();
        }
        if let Some(html) = html {
            strip_html(html);
        }
    }
    let name = safe_name(name);
    (!name.is_empty()).then_some(name)
}

/// Takes out every `<strong data-mx-profile-fallback>`. What is left is sanitised after this, so it need not be exact.
fn strip_html(html: &mut String) {
    while let Some(start) = html.find("<strong data-mx-profile-fallback") {
        let Some(length) = html[start..].find("</strong>") else { return };
        html.replace_range(start..start + length + "</strong>".len(), "");
    }
}

/// Matrix's HTML subset, or `None` if that is not what it is.
pub(crate) fn sanitize(html: &str) -> Option<String> {
    if html.matches('<').count() > MOST_TAGS {
        return None;
    }
    // Of other elements the words are kept; these have none. Pictures would be fetched from the sender's server.
    let config = SanitizerConfig::strict().remove_reply_fallback().remove_elements(["script", "style", "img"]);
    let parsed = Html::parse(html);
    parsed.sanitize_with(&config);
    check_links(parsed.children());
    let clean = parsed.to_string();
    (!clean.trim().is_empty()).then_some(clean)
}

/// The sanitiser looks at the address of a link only if that is its first attribute.
fn check_links(nodes: Children) {
    for node in nodes {
        if let Some(element) = node.as_element() {
            element.attrs.borrow_mut().retain(|attribute| {
                let address = attribute.value.trim_start().to_ascii_lowercase();
                &*attribute.name.local != "href" || LINKS.iter().any(|scheme| address.starts_with(scheme))
            });
        }
        check_links(node.children());
    }
}

/// Plain words as HTML.
pub(crate) fn to_html(words: &str) -> String {
    escape(words).replace('\n', "<br>")
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::PersonId;

    use super::*;

    fn author(id: &str, name: Option<&str>) -> Author {
        Author { id: PersonId::new(id), name: name.map(Into::into) }
    }

    #[test]
    fn name_can_neither_reorder_nor_break_what_follows() {
        for (name, safe) in [
            ("Ann", "Ann"),
            ("A\nn\0n", "A nn"),
            ("\u{202e}nnA\u{2066}\u{200b}", "nnA"),
            ("  a \u{a0}\t b ", "a b"),
            ("\u{200d}\u{feff}", ""),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        assert!(safe_name(&"ä".repeat(500)).len() <= LONGEST_NAME + 4);
        assert_eq!(shown_name(&author("@ann:x", Some("\u{200b}"))), "@ann:x");
    }

    #[test]
    fn profile_is_taken_out_as_it_was_put_in() {
        let mut content = Map::new();
        content.insert("body".into(), "a < b\nc".into());
        add(&mut content, &author("@ann:x", Some("Ann <script>")));
        let content = Value::Object(content);
        assert_eq!(content["body"], "Ann <script>: a < b\nc");
        let formatted = content["formatted_body"].as_str().expect("there is one");
        assert_eq!(formatted, format!("{MARK}Ann &lt;script&gt;: </strong>a &lt; b<br>c"));
        let (mut body, mut html) = ("Ann <script>: a < b\nc".to_owned(), Some(formatted.to_owned()));
        assert_eq!(strip(&content, &mut body, &mut html).as_deref(), Some("Ann <script>"));
        assert_eq!(body, "a < b\nc");
        assert_eq!(html.as_deref(), Some("a &lt; b<br>c"));
    }

    #[test]
    fn long_id_is_cut_to_what_a_profile_allows() {
        let mut content = Map::new();
        content.insert("body".into(), "x".into());
        add(&mut content, &author(&"i".repeat(300), None));
        assert_eq!(content[KEY]["id"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn html_keeps_only_what_is_harmless() {
        let clean = sanitize("<b>x</b><script>alert(1)</script><img src=\"https://evil.test/x\" onerror=y>")
            .expect("b is left");
        assert!(clean.contains("<b>x</b>"));
        assert!(!clean.contains("script>") && !clean.contains("evil") && !clean.contains("onerror"), "{clean}");
        let link = sanitize("<a target=_blank title=x href=javascript:alert(1)>a</a>").expect("the words are left");
        assert!(link.contains('a') && !link.contains("javascript"), "{link}");
        assert!(sanitize("<a href=https://b.test>b</a>").is_some_and(|link| link.contains("https://b.test")));
        assert_eq!(sanitize(&"<b>".repeat(10_000)), None);
        assert!(sanitize(&"<b>".repeat(MOST_TAGS)).is_none_or(|html| html.len() < 100_000));
        assert_eq!(sanitize("<mx-reply>quoted</mx-reply>"), None);
    }
}
