//! Formatted words of strangers, made harmless.

use std::{collections::HashSet, sync::LazyLock};

use ammonia::Builder;

/// More levels than people write, and few enough that no reader's program minds.
const DEEPEST: usize = 100;
/// More tags than people write.
const MOST_TAGS: usize = 2_000;

/// Matrix's HTML subset, without what would be fetched from somewhere.
static SUBSET: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let tags = [
        "del",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "p",
        "a",
        "ul",
        "ol",
        "sup",
        "sub",
        "li",
        "b",
        "i",
        "u",
        "strong",
        "em",
        "s",
        "code",
        "hr",
        "br",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "caption",
        "pre",
        "span",
        "details",
        "summary",
    ];
    let mut builder = Builder::default();
    builder.tags(HashSet::from(tags)).url_schemes(HashSet::from(["http", "https", "mailto", "matrix"]));
    builder
});

/// The harmless part of formatted words. `None` if nothing is left, or if it is no text that a person wrote; the plain
/// words are there in any case.
pub(crate) fn harmless(html: &str) -> Option<String> {
    if html.matches('<').count() > MOST_TAGS {
        return None;
    }
    let clean = SUBSET.clean(html).to_string();
    let sound = !clean.trim().is_empty() && depth(&clean) <= DEEPEST;
    sound.then_some(clean)
}

/// How deep the tags of cleaned words are nested.
fn depth(clean: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    for tag in clean.split('<').skip(1) {
        let single =
            ["br", "hr"].iter().any(|name| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '>'])));
        if tag.starts_with('/') {
            now = now.saturating_sub(1);
        } else if !single {
            now += 1;
            deepest = deepest.max(now);
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_subset_is_left() {
        for (html, clean) in [
            ("<b>x</b>", Some("<b>x</b>")),
            ("<script>alert(1)</script>", None),
            ("a<img src=x onerror=alert(1)>b", Some("ab")),
            ("<p onclick=x>y</p>", Some("<p>y</p>")),
            ("a<br>b<hr>c", Some("a<br>b<hr>c")),
        ] {
            assert_eq!(harmless(html).as_deref(), clean, "{html}");
        }
        assert!(harmless("<a href='javascript:alert(1)'>x</a>").is_some_and(|html| !html.contains("javascript")));
    }

    #[test]
    fn four_hundred_levels_are_harmless() {
        assert_eq!(harmless(&format!("{}x{}", "<b>".repeat(400), "</b>".repeat(400))), None);
        assert_eq!(harmless(&"<div>".repeat(400)), None);
        assert_eq!(harmless(&"<b>".repeat(100_000)), None);
        assert!(harmless(&"<b>x</b><br>".repeat(300)).is_some());
    }
}
