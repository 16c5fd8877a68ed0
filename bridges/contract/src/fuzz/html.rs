//! Formatted words.

use crate::html::{escape, harmless};

const ELEMENTS: &[&str] = &[
    "a",
    "b",
    "big",
    "blockquote",
    "br",
    "caption",
    "code",
    "del",
    "details",
    "div",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "li",
    "nobr",
    "ol",
    "p",
    "pre",
    "s",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
];

/// Whether an attribute may be there with this value, as a reader gets it.
fn is_allowed(element: &str, attribute: &str, value: &str) -> bool {
    let value = value.replace("&amp;", "&");
    match (element, attribute) {
        ("a", "href") => ["http:", "https:", "mailto:", "matrix:"].iter().any(|scheme| starts(&value, scheme)),
        ("code", "class") => value.starts_with("language-"),
        ("ol", "start") | ("span", "data-mx-spoiler") => true,
        ("font" | "span", "data-mx-color" | "data-mx-bg-color") => true,
        _ => false,
    }
}

/// As a browser reads a scheme: whatever its case, and without what it passes over in an address.
fn starts(value: &str, scheme: &str) -> bool {
    let value = value.trim_start_matches(|c: char| c <= ' ').replace(['\t', '\n', '\r'], "");
    value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Reads cleaned words strictly, as they are serialised, and says how deep they are nested.
fn read(clean: &str) -> Result<usize, String> {
    let (mut rest, mut open) = (clean, Vec::new());
    let mut deepest = 0;
    while let Some((words, tag)) = rest.split_once('<') {
        if words.contains('>') {
            return Err(format!("an end of a tag stands in words: {words:?}"));
        }
        let ends = tag.starts_with('/');
        let tag = tag.strip_prefix('/').unwrap_or(tag);
        let (name, mut after) = tag.split_at(tag.find(['>', ' ', '/', '<', '"']).unwrap_or(tag.len()));
        if !ELEMENTS.contains(&name) {
            return Err(format!("an element {name:?}"));
        }
        while let Some(attribute) = after.strip_prefix(' ') {
            let (key, value) = attribute.split_once("=\"").ok_or("an attribute without a value")?;
            let (value, more) = value.split_once('"').ok_or("a value without an end")?;
            if ends || !is_allowed(name, key, value) {
                return Err(format!("an attribute {key}={value:?} of {name}"));
            }
            after = more;
        }
        rest = after.strip_prefix('>').ok_or_else(|| format!("a tag {name} without an end"))?;
        if ends {
            if open.pop() != Some(name) {
                return Err(format!("{name} ends what is not open"));
            }
        } else if !["br", "hr"].contains(&name) {
            open.push(name);
            deepest = deepest.max(open.len());
        }
    }
    if open.is_empty() && !rest.contains('>') { Ok(deepest) } else { Err(format!("{open:?} stays open")) }
}

#[test]
fn formatted_words() {
    sealbridge_fuzz::text_target("html", |input| {
        let escaped = escape(input);
        assert!(!escaped.replace("<br>", "").contains(['<', '>', '"', '\n']), "something stays in force: {escaped:?}");
        let back = escaped.replace("<br>", "\n").replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<");
        assert_eq!(back.replace("&amp;", "&"), input, "the words are others");

        let Some(clean) = harmless(input) else { return };
        let deepest = read(&clean).unwrap_or_else(|what| panic!("{what} is left in {clean:?}"));
        assert!(deepest <= 100, "it is {deepest} deep");
        assert!(clean.len() <= 2 * input.len() + 1024, "it grew");
        assert_eq!(harmless(&clean).as_deref(), Some(clean.as_str()), "cleaned twice it is another");
    });
}
