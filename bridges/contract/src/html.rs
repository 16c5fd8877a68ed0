//! Formatted words of strangers, made harmless: Matrix's HTML subset, without what would be fetched from somewhere.
//!
//! A parser repeats formatting that was never closed in every block after it, so that a small text can become a huge
//! tree. What could grow so is given up before it is parsed; the plain words are there in any case.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};

/// More than fits into a message anywhere.
const LONGEST: usize = 64 * 1024;
/// More levels than people write, and as many as Matrix allows.
const DEEPEST: usize = 100;
/// More tags than people write.
const MOST_TAGS: usize = 2_000;
/// The sum, over all tags, of the formatting that is open there: what a parser may have to repeat.
const MOST_REPEATED: usize = 30_000;

/// What people write is the same after the first.
const MOST_TURNS: usize = 4;

/// Elements that a parser opens again in the next block if they were not closed.
const FORMATTING: &[&str] =
    &["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];
/// Elements inside which a parser does nothing special, so that an end tag ends what it names.
const ORDINARY: &[&str] = &[
    "blockquote",
    "br",
    "del",
    "details",
    "div",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "mx-reply",
    "ol",
    "p",
    "pre",
    "span",
    "sub",
    "summary",
    "sup",
    "ul",
];
const TABLES: &[&str] = &["caption", "table", "tbody", "td", "th", "thead", "tr"];

static SUBSET: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let tags = ORDINARY.iter().chain(FORMATTING).chain(TABLES).copied().filter(|tag| *tag != "mx-reply");
    let colours = ["data-mx-color", "data-mx-bg-color"];
    let attributes = HashMap::from([
        ("a", HashSet::from(["href"])),
        ("code", HashSet::from(["class"])),
        ("font", HashSet::from(colours)),
        ("ol", HashSet::from(["start"])),
        ("span", HashSet::from(["data-mx-color", "data-mx-bg-color", "data-mx-spoiler"])),
    ]);
    let mut builder = Builder::default();
    builder
        .tags(tags.collect())
        .clean_content_tags(HashSet::from(["script", "style", "mx-reply"]))
        .generic_attributes(HashSet::new())
        .tag_attributes(attributes)
        .attribute_filter(|_, attribute, value| {
            (attribute != "class" || value.starts_with("language-")).then_some(Cow::Borrowed(value))
        })
        .url_schemes(HashSet::from(["http", "https", "mailto", "matrix"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(None);
    builder
});

/// The harmless part of formatted words. `None` if nothing is left, or if it is no text that a person wrote.
#[must_use]
pub fn harmless(html: &str) -> Option<String> {
    if html.len() > LONGEST || !is_bearable(html) {
        return None;
    }
    let clean = settled(html)?;
    let sound = !clean.trim().is_empty() && clean.len() <= 2 * html.len() + 1024 && depth(&clean) <= DEEPEST;
    sound.then_some(clean)
}

/// Cleans until cleaning changes nothing: whoever gets it parses it again, and sees the same tree that was seen here.
/// `None` if that does not come about soon, or if whoever gets it could not bear it.
fn settled(html: &str) -> Option<String> {
    let mut clean = once(html);
    for _ in 0..MOST_TURNS {
        if clean.len() > LONGEST || !is_bearable(&clean) {
            return None;
        }
        let again = once(&clean);
        if again == clean {
            return Some(clean);
        }
        clean = again;
    }
    None
}

fn once(html: &str) -> String {
    // A parser passes over a mark of byte order at the very beginning.
    SUBSET.clean(html).to_string().trim_start_matches('\u{feff}').to_owned()
}

/// Plain words as HTML.
#[must_use]
pub fn escape(words: &str) -> String {
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    escaped.replace('\n', "<br>")
}

/// Whether a parser's tree stays small.
fn is_bearable(html: &str) -> bool {
    let tags: Vec<Tag> = html.split('<').skip(1).take(MOST_TAGS + 1).map(Tag::read).collect();
    tags.len() <= MOST_TAGS && repeated(&tags) <= MOST_REPEATED
}

/// How often a parser may have to repeat formatting, at most.
fn repeated(tags: &[Tag]) -> usize {
    // In tables, comments and odd places a parser passes over end tags; then none is believed.
    let plain = tags.iter().all(|tag| tag.plain);
    let mut open: HashMap<&str, usize> = HashMap::new();
    let (mut now, mut sum) = (0_usize, 0_usize);
    for tag in tags.iter() {
        sum += now;
        if !FORMATTING.contains(&tag.name.as_str()) {
            continue;
        }
        let same = open.entry(&tag.name).or_default();
        if !tag.ends {
            *same += 1;
            now += 1;
        } else if plain && *same > 0 {
            *same -= 1;
            now -= 1;
        }
    }
    sum
}

/// What stands between one `<` and the next.
struct Tag {
    name: String,
    ends: bool,
    /// It is surely read by a parser as it is read here.
    plain: bool,
}

impl Tag {
    fn read(piece: &str) -> Self {
        let (ends, piece) = piece.strip_prefix('/').map_or((false, piece), |piece| (true, piece));
        let length = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(piece.len());
        let (name, rest) = piece.split_at(length);
        let name = name.to_ascii_lowercase();
        let known = FORMATTING.contains(&name.as_str()) || ORDINARY.contains(&name.as_str());
        let plain = known && rest.split_once('>').is_some_and(|(attributes, _)| are_plain(attributes));
        Self { name, ends, plain }
    }
}

/// Whether attributes are written as a serialiser writes them, so that no quotation hides the end of the tag.
fn are_plain(attributes: &str) -> bool {
    let pieces: Vec<_> = attributes.split('"').collect();
    let (last, before) = pieces.split_last().unwrap_or((&"", &[]));
    let names = |piece: &&str| {
        let name = piece.strip_suffix('=').unwrap_or_default();
        piece.starts_with(' ') && !name.contains(['=', '\'']) && name.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    pieces.len() % 2 == 1 && !last.contains(['=', '\'']) && before.iter().step_by(2).all(names)
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
            ("<mx-reply>quoted</mx-reply>", None),
            ("a<img src=x onerror=alert(1)>b", Some("ab")),
            ("<p onclick=x style=y>y</p>", Some("<p>y</p>")),
            ("a<br>b<hr>c", Some("a<br>b<hr>c")),
            ("<a href=\"https://b.test\">b</a>", Some("<a href=\"https://b.test\">b</a>")),
            ("<a target=_blank title=x href=\" jAvascript:alert(1)\">a</a>", Some("<a>a</a>")),
            ("<a href=\"//evil.test\">a</a>", Some("<a>a</a>")),
            ("<code class=\"language-rust\">x</code>", Some("<code class=\"language-rust\">x</code>")),
            ("</b>\u{feff}", None),
            ("<code class=\"evil\">x</code>", Some("<code>x</code>")),
            ("<span data-mx-spoiler=\"why\">x</span>", Some("<span data-mx-spoiler=\"why\">x</span>")),
        ] {
            assert_eq!(harmless(html).as_deref(), clean, "{html}");
        }
    }

    #[test]
    fn four_hundred_levels_are_harmless() {
        assert_eq!(harmless(&format!("{}x{}", "<b>".repeat(400), "</b>".repeat(400))), None);
        assert_eq!(harmless(&"<div>".repeat(400)), None);
        assert_eq!(harmless(&"<b>".repeat(100_000)), None);
        assert!(harmless(&"<b>x</b><br>".repeat(300)).is_some());
    }

    #[test]
    fn formatting_that_every_block_would_repeat_is_given_up_before_it_is_parsed() {
        let fonts = |end: &str| (0..990).map(|n| format!("<font color=\"#{n:06x}\">{end}")).collect::<String>();
        let blocks = "<p>y".repeat(1000);
        // Each hides an end tag from a parser: in a table, a comment, a quotation, raw text.
        let hidden = [
            "",
            "<table></font></table>",
            "<td></font>",
            "<!--</font>-->",
            "<p title='</font>'>",
            "<p title=a\" x=\"></font>\">",
            "<p x=='\"' y=\"'></font>\">",
            "<textarea></font></textarea>",
            "<svg><desc></font></svg>",
            "<select></font></select>",
        ];
        for hidden in hidden {
            let html = format!("<p>{}x{blocks}", fonts(hidden));
            assert!(!is_bearable(&html), "{hidden}");
            assert_eq!(harmless(&html), None, "{hidden}");
        }
    }

    #[test]
    fn whatever_is_kept_is_not_much_longer_than_what_came() {
        for levels in [10, 50, 90] {
            let fonts: String = (0..levels).map(|n| format!("<font color=\"#{n:06x}\">")).collect();
            let html = format!("<p>{fonts}x{}", "<p>y".repeat(200));
            assert!(harmless(&html).is_none_or(|clean| clean.len() <= 2 * html.len() + 1024), "{levels}");
        }
    }

    #[test]
    fn what_was_cleaned_can_be_cleaned_again() {
        // Each is closed by whoever cleans it, and has twice as many tags then.
        let cells = |many: usize| format!("<table><tbody><tr>{}", "<td>x".repeat(many));
        assert_eq!(harmless(&cells(1_500)), None);
        let clean = harmless(&cells(500)).expect("so many are not too many");
        assert_eq!(harmless(&clean), Some(clean));
        // What is taken out let a list stand where no parser puts one.
        let list = "<p><a href=\"https://a.test\">y<select><ol><li>z</ol>";
        assert_ne!(Some(once(list)), harmless(list));
        assert_eq!(harmless(list).and_then(|clean| harmless(&clean)), harmless(list));
    }

    #[test]
    fn long_texts_of_people_keep_their_formatting() {
        let list = "<li><strong>x</strong> <a href=\"https://a.test/?a=b&amp;c\">y</a> <code>z</code></li>".repeat(200);
        assert!(harmless(&format!("<ul>{list}</ul>")).is_some());
        let row = "<tr><td><b>x</b></td><td><a href=\"https://a.test\">y</a></td></tr>".repeat(40);
        assert!(harmless(&format!("<table><tbody>{row}</tbody></table>")).is_some());
    }
}
