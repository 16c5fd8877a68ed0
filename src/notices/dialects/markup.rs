//! Markdown and HTML of senders. What comes out as HTML is no less dangerous than what came in: whoever shows it makes it
//! harmless first.

use mail_parser::decoders::html;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Longer Markdown is shown as it is written.
const MOST_MARKDOWN: usize = 16 * 1024;

/// Markdown as HTML. Empty if nothing in it is formatted.
pub(crate) fn markdown(words: &str) -> String {
    if words.len() > MOST_MARKDOWN {
        return String::new();
    }
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let events: Vec<_> = Parser::new_ext(words, options).map(tame).collect();
    let formatted = events.iter().any(|event| {
        !matches!(
            event,
            Event::Text(_) | Event::HardBreak | Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph)
        )
    });
    if !formatted {
        return String::new();
    }
    let mut html = String::with_capacity(words.len() * 2);
    pulldown_cmark::html::push_html(&mut html, events.into_iter());
    html.trim_end().to_owned()
}

/// HTML within Markdown is shown as words, and a picture, which would have to be fetched, as a link to it. A line's end
/// ends a line, as senders mean it who write a log or a list of values.
fn tame(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(words) | Event::InlineHtml(words) => Event::Text(words),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        Event::SoftBreak => Event::HardBreak,
        Event::TaskListMarker(done) => Event::Text(if done { "☑ " } else { "☐ " }.into()),
        other => other,
    }
}

/// The words of HTML, for those who are shown no HTML.
pub(crate) fn html_to_text(html: &str) -> String {
    let mut lines = html.to_owned();
    // The library begins a line at `<br>` and `</p>` alone.
    for end in ["</div>", "</li>", "</tr>", "</h1>", "</h2>", "</h3>", "</h4>", "</h5>", "</h6>", "</blockquote>"] {
        lines = lines.replace(end, &format!("{end}<br>"));
    }
    // It forgets a gap between a tag and an entity, but not one that is written as an entity.
    for gap in ["> &", ">\n&", ">\r\n&", ">\t&"] {
        lines = lines.replace(gap, ">&#32;&");
    }
    let text = html::html_to_text(&lines);
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if !line.is_empty() || kept.last().is_some_and(|last| !last.is_empty()) {
            kept.push(line);
        }
    }
    kept.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_html_and_what_is_html_in_it_stays_words() {
        assert_eq!(markdown("**a** <b>c</b>"), "<p><strong>a</strong> &lt;b&gt;c&lt;/b&gt;</p>");
        assert_eq!(markdown("![x](https://a.test/p.png)"), "<p><a href=\"https://a.test/p.png\">x</a></p>");
        assert_eq!(markdown("- [x] a"), "<ul>\n<li>☑ a</li>\n</ul>");
        assert!(!markdown("<script>\nalert(1)\n</script>").contains("<script>"));
    }

    #[test]
    fn words_without_formatting_get_none() {
        for plain in ["plain", "two\n\nparagraphs", "two\nlines", "", &"*a* ".repeat(10_000)] {
            assert_eq!(markdown(plain), "");
        }
    }

    #[test]
    fn words_of_html_keep_their_lines() {
        let html = "<h1>A</h1><p>b &amp; c</p><ul><li>d</li><li>e</li></ul><script>f()</script>";
        assert_eq!(html_to_text(html), "A\nb & c\nd\ne");
        assert_eq!(
            html_to_text("if a &lt; b &amp;&amp; c &gt; d: <i>it&#39;s</i> &quot;so&quot; &eacute;"),
            "if a < b && c > d: it's \"so\" é"
        );
        assert_eq!(
            html_to_text("<b>a</b> &amp; <i>b</i> &lt;c&gt; <u>d</u>&amp;e &amp; <br> &amp;f"),
            "a & b <c> d&e &\n&f"
        );
    }
}
