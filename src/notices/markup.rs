//! Words in their forms: Markdown, HTML and code, plain and formatted.

use sealbridge_contract::{
    Body,
    html::{escape, harmless},
};
use serde::{Deserialize, Serialize};

use super::dialects::markup::markdown;

/// How words are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Markup {
    /// As they are.
    #[default]
    Plain,
    /// Markdown (CommonMark, with tables and struck-out words).
    Markdown,
    /// HTML. Of it the part stays that Matrix shows.
    Html,
    /// Code, or what a program printed.
    Code,
}

/// Words, plain and formatted. What is written as HTML stays as far as it is harmless; nothing in it calls anybody.
#[must_use]
pub fn body(words: &str, markup: Markup) -> Body {
    let html = match markup {
        Markup::Plain => None,
        Markup::Markdown => harmless(&markdown(words)),
        Markup::Html => harmless(words),
        Markup::Code => harmless(&format!("<pre><code>{}</code></pre>", escape_code(words))),
    };
    let plain = match (markup, &html) {
        (Markup::Html, Some(html)) => plain_of(html),
        _ => words.to_owned(),
    };
    Body { html: html.map(Into::into), ..Body::plain(plain) }
}

/// In preformatted text a line break is one already.
fn escape_code(words: &str) -> String {
    escape(words).replace("<br>", "\n")
}

/// The words of harmless HTML, one line for each of its blocks.
fn plain_of(html: &str) -> String {
    let (mut plain, mut rest) = (String::new(), html);
    while let Some(start) = rest.find('<') {
        plain.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('>') else { break };
        let tag = rest[start + 1..start + end].trim_start_matches('/');
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if matches!(name, "br" | "p" | "div" | "li" | "tr" | "blockquote" | "pre" | "hr" | "ul" | "ol" | "table")
            || name.starts_with('h') && name.len() == 2
        {
            if !plain.is_empty() && !plain.ends_with('\n') {
                plain.push('\n');
            }
        } else if matches!(name, "td" | "th") && !plain.is_empty() && !plain.ends_with([' ', '\n']) {
            plain.push(' ');
        }
        rest = &rest[start + end + 1..];
    }
    plain.push_str(rest);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")];
    entities.iter().fold(plain, |plain, (entity, letter)| plain.replace(entity, letter)).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, markup: Markup, plain: &str, html: Option<&str>) {
        let body = body(words, markup);
        assert_eq!((body.plain.as_str(), body.html.as_ref().map(|html| html.as_str())), (plain, html), "{words}");
    }

    #[test]
    fn words_keep_what_they_say_in_every_form() {
        check("a <b> & c", Markup::Plain, "a <b> & c", None);
        check(
            "**bold** ~~out~~",
            Markup::Markdown,
            "**bold** ~~out~~",
            Some("<p><strong>bold</strong> <del>out</del></p>"),
        );
        check("<b>1</b> &lt; 2<br>three", Markup::Html, "1 < 2\nthree", Some("<b>1</b> &lt; 2<br>three"));
        check("if a < b:\n  c", Markup::Code, "if a < b:\n  c", Some("<pre><code>if a &lt; b:\n  c</code></pre>"));
        check(
            "<p>one</p><ul><li>two</li><li>three</li></ul>",
            Markup::Html,
            "one\ntwo\nthree",
            Some("<p>one</p><ul><li>two</li><li>three</li></ul>"),
        );
    }

    #[test]
    fn nothing_is_fetched_and_nothing_runs() {
        check(
            "![cat](https://x.example/cat.png)",
            Markup::Markdown,
            "![cat](https://x.example/cat.png)",
            Some("<p><a href=\"https://x.example/cat.png\">cat</a></p>"),
        );
        check("a <script>b</script>", Markup::Markdown, "a <script>b</script>", None);
        check("<img src=x onerror=y>z", Markup::Html, "z", Some("z"));
    }
}
