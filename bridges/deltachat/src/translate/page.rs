//! The pages that the engine makes of long messages.

use sealbridge_contract::Text;

/// How the engine ends words that it cut.
pub(super) const CUT: &str = "[...]";

/// The words of a page that the engine made of a long message. `None` if the page has anything but words in it.
pub(crate) fn words_of(page: &str) -> Option<Text> {
    let (_, body) = page.split_once("<body")?;
    let (_, body) = body.split_once('>')?;
    let (body, _) = body.rsplit_once("</body>")?;
    let body = body.strip_prefix('\n').unwrap_or(body);
    let mut words = zeroize::Zeroizing::new(String::with_capacity(body.len()));
    let mut rest = body;
    while let Some(at) = rest.find(['<', '&', '\n']) {
        words.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\n') {
            // Lines end with an element; those of the page itself mean nothing.
            rest = after;
            continue;
        }
        let end = rest.find(if rest.starts_with('<') { '>' } else { ';' })? + 1;
        match &rest[..end] {
            "<br/>" | "<br>" => words.push('\n'),
            "</a>" => {}
            link if link.starts_with("<a ") => {}
            "&amp;" => words.push('&'),
            "&lt;" => words.push('<'),
            "&gt;" => words.push('>'),
            "&quot;" => words.push('"'),
            "&#39;" | "&apos;" => words.push('\''),
            "&nbsp;" => words.push(' '),
            _ => return None,
        }
        rest = &rest[end..];
    }
    words.push_str(rest);
    Some(Text::new(words.trim_end()))
}

/// Whether a page goes on with what is shown of its message, so that nobody reads other words here than there.
pub(crate) fn goes_on(shown: &Text, whole: &Text) -> bool {
    let mut whole = letters(whole.as_str());
    let mut shown = letters(shown.as_str().strip_suffix(CUT).unwrap_or(shown.as_str())).peekable();
    shown.peek().is_some() && shown.all(|c| whole.next() == Some(c))
}

/// Without what is between words: the engine may break lines elsewhere.
fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_come_back_out_of_the_page_or_the_page_is_refused() {
        let page =
            |body: &str| format!("<!DOCTYPE html>\n<html><head>\n</head><body dir=\"auto\">\n{body}\n</body></html>\n");
        let cases = [
            ("one<br/>\n<br/>\n&lt;b&gt; &amp;amp; &quot;two&quot;<br/>", Some("one\n\n<b> &amp; \"two\"")),
            (
                "see <a href=\"https://a.test/?x&amp;y\">https://a.test/?x&amp;y</a><br/>",
                Some("see https://a.test/?x&y"),
            ),
            ("<img src=x>", None),
            ("&bogus;", None),
            ("<script", None),
        ];
        for (body, expected) in cases {
            assert_eq!(words_of(&page(body)).as_ref().map(Text::as_str), expected, "{body}");
        }
        assert!(words_of("no page").is_none());
    }
}
