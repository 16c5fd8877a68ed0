//! Slack's own markup, `mrkdwn`: read once, into plain words and HTML.

use super::{fields, saying::Words};

/// Reads it. Whom it calls is not called: a name is left where it says one, and a plain word where it calls everybody.
pub(super) fn read(words: &str) -> Words {
    let source = fields::bounded(words);
    let mut out = Out::default();
    let mut rest = source.as_str();
    while !rest.is_empty() {
        rest = out.step(rest);
    }
    out.close_all();
    let html = if out.formatted { out.html } else { String::new() };
    Words { plain: out.plain, html }
}

/// An end of formatting or of a link is looked for so far, in bytes.
const AHEAD: usize = 1024;
/// The signs of formatting, and their elements.
const SIGNS: [(char, &str); 3] = [('*', "strong"), ('_', "em"), ('~', "del")];

#[derive(Default)]
struct Out {
    plain: String,
    html: String,
    formatted: bool,
    /// Which signs are open, in order.
    open: Vec<(char, &'static str)>,
}

impl Out {
    /// Takes what comes next, and says what is left.
    fn step<'a>(&mut self, rest: &'a str) -> &'a str {
        if let Some(left) = self.code(rest) {
            return left;
        }
        let mut chars = rest.chars();
        let Some(next) = chars.next() else { return "" };
        let after = chars.as_str();
        if next == '<'
            && let Some((inside, _)) = fields::ahead(after, AHEAD).split_once('>')
        {
            self.angle(inside);
            return &after[inside.len() + 1..];
        }
        if next == '['
            && let Some((label, url, left)) = markdown_link(after)
        {
            self.link(url, Some(label));
            return left;
        }
        if let Some((entity, left)) = entity(rest) {
            self.character(entity);
            return left;
        }
        if self.is_doubled(rest) {
            return after;
        }
        if next == ':'
            && let Some((emoji, left)) = emoji(after)
        {
            self.words(emoji);
            return left;
        }
        if let Some(sign) = SIGNS.iter().find(|(sign, _)| *sign == next)
            && self.sign(*sign, after)
        {
            return after;
        }
        if next == '\n' {
            self.close_all();
        }
        self.character(next);
        after
    }

    /// Code, which is taken as it stands.
    fn code<'a>(&mut self, rest: &'a str) -> Option<&'a str> {
        let (fence, element) = if rest.starts_with("```") { ("```", "pre") } else { ("`", "code") };
        let inside = rest.strip_prefix(fence)?;
        let (code, left) = inside.split_once(fence)?;
        if code.is_empty() || (element == "code" && code.contains('\n')) {
            return None;
        }
        let code = unescaped(code);
        self.formatted = true;
        self.plain.push_str(fence);
        self.plain.push_str(&code);
        self.plain.push_str(fence);
        let shown = if element == "pre" { code.trim_matches('\n') } else { &code };
        // Within `<pre>` a line's end is one.
        let shown = sealbridge_contract::html::escape(shown).replace("<br>", "\n");
        self.html.push_str(&format!("<{element}>{shown}</{element}>"));
        Some(left)
    }

    /// Whether these are the two stars of Markdown, which those write who take Slack's webhooks for Mattermost's.
    fn is_doubled(&self, rest: &str) -> bool {
        let Some(after) = rest.strip_prefix("**") else { return false };
        let line = fields::ahead(after, AHEAD);
        let opens = line.contains("**") && !line.starts_with(|c: char| c.is_whitespace() || c == '*');
        opens || self.open.iter().any(|(sign, _)| *sign == '*')
    }

    /// Opens or closes formatting. A sign within a word, or one that is never closed on its line, is a character.
    fn sign(&mut self, (sign, element): (char, &'static str), after: &str) -> bool {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == sign) {
            if after.starts_with(char::is_alphanumeric) || self.plain.ends_with(char::is_whitespace) {
                return false;
            }
            for (_, element) in self.open.drain(at..).rev() {
                self.html.push_str(&format!("</{element}>"));
            }
            return true;
        }
        let line = fields::ahead(after, AHEAD);
        let begins = !self.plain.ends_with(char::is_alphanumeric)
            && !after.starts_with(|c: char| c.is_whitespace() || c == sign);
        let closes = line.match_indices(sign).any(|(at, _)| {
            at > 0 && !line[..at].ends_with(char::is_whitespace) && !line[at + 1..].starts_with(char::is_alphanumeric)
        });
        if begins && closes {
            self.open.push((sign, element));
            self.html.push_str(&format!("<{element}>"));
            self.formatted = true;
        }
        begins && closes
    }

    /// What stands between `<` and `>`: a link, or somebody or something that is called.
    fn angle(&mut self, inside: &str) {
        let (what, label) = inside.split_once('|').map_or((inside, None), |(what, label)| (what, Some(label)));
        let label = label.map(unescaped);
        match what.chars().next() {
            // `<@U1|ann>`, `<#C1|general>`
            Some('@' | '#') => self.words(label.as_deref().unwrap_or(&what[1..])),
            // `<!channel>`, `<!subteam^S1|@oncall>`, `<!date^1392734382^…|fallback>`
            Some('!') => {
                let called = what[1..].split('^').next().unwrap_or_default();
                self.words(label.as_deref().unwrap_or(called).trim_start_matches('@'));
            }
            _ => self.link(&unescaped(what), label.as_deref()),
        }
    }

    fn link(&mut self, url: &str, label: Option<&str>) {
        let Some(address) = fields::link(url) else {
            return self.words(label.unwrap_or(url));
        };
        let label = label.unwrap_or(url);
        let shown = sealbridge_contract::html::escape(label);
        self.html.push_str(&format!("<a href=\"{}\">{shown}</a>", sealbridge_contract::html::escape(&address)));
        self.plain.push_str(label);
        if label != url {
            self.plain.push_str(&format!(" ({url})"));
            self.formatted = true;
        }
    }

    fn words(&mut self, words: &str) {
        words.chars().for_each(|c| self.character(c));
    }

    fn character(&mut self, c: char) {
        self.plain.push(c);
        self.html.push_str(&sealbridge_contract::html::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn close_all(&mut self) {
        for (_, element) in self.open.drain(..).rev() {
            self.html.push_str(&format!("</{element}>"));
        }
    }
}

/// The three characters that Slack has its senders escape.
const ENTITIES: [(&str, char); 3] = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];

fn entity(rest: &str) -> Option<(char, &str)> {
    ENTITIES.iter().find_map(|(name, c)| Some((*c, rest.strip_prefix(name)?)))
}

/// A link as Mattermost's senders write it, in Markdown: `label](https://…)`.
fn markdown_link(after: &str) -> Option<(&str, &str, &str)> {
    let (label, rest) = fields::ahead(after, AHEAD).split_once("](")?;
    let (url, _) = rest.split_once(')')?;
    let is_one = !label.is_empty() && !label.contains(['[', '<']) && url.starts_with("http");
    (is_one && fields::link(url).is_some()).then(|| (label, url, &after[label.len() + 2 + url.len() + 1..]))
}

/// An emoji by its name: `warning:`.
fn emoji(after: &str) -> Option<(&'static str, &str)> {
    let (name, _) = fields::ahead(after, 60).split_once(':')?;
    let left = &after[name.len() + 1..];
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte));
    is_name.then(|| Some((emojis::get_by_shortcode(name)?.as_str(), left)))?
}

fn unescaped(words: &str) -> String {
    words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, plain: &str, html: &str) {
        let words = read(source);
        assert_eq!((words.plain.as_str(), words.html.as_str()), (plain, html), "{source}");
    }

    #[test]
    fn slacks_markup_is_read_into_words_and_html() {
        check("a *b* _c_ ~d~", "a b c d", "a <strong>b</strong> <em>c</em> <del>d</del>");
        check("*_x_*", "x", "<strong><em>x</em></strong>");
        check("`a<b`", "`a<b`", "<code>a&lt;b</code>");
        check("```\na\nb```", "```\na\nb```", "<pre>a\nb</pre>");
        check("<https://a.test|here>", "here (https://a.test)", "<a href=\"https://a.test/\">here</a>");
        check("**a** b **c d**", "a b c d", "<strong>a</strong> b <strong>c d</strong>");
        check(":warning: 12:30:00 :nothing_such:", "⚠️ 12:30:00 :nothing_such:", "");
        check("[a](https://b.test)", "a (https://b.test)", "<a href=\"https://b.test/\">a</a>");
        check("a &lt;b&gt; &amp;lt;", "a <b> &lt;", "");
    }

    #[test]
    fn signs_that_format_nothing_are_characters() {
        for same in [
            "2 * 3 * 4",
            "snake_case_name",
            "a*b*c",
            "*never closed",
            "~",
            "** **",
            "`",
            "a\n*b\nc*",
            "[x](y)",
            "[x] (z)",
        ] {
            check(same, same, "");
        }
    }

    #[test]
    fn end_that_is_too_far_away_ends_nothing() {
        let far = "x".repeat(AHEAD);
        for (begin, end) in [("*", "*"), ("<https://a.test|", ">"), ("[", "](https://a.test)")] {
            let words = read(&format!("{begin}{far}{end}"));
            assert_eq!((words.plain, words.html.as_str()), (format!("{begin}{far}{end}"), ""));
        }
    }

    #[test]
    fn nobody_is_called_by_slacks_markup() {
        check(
            "<!channel> <!here|@here> <@U024BE7LH> <@U1|ann> <#C1|general>",
            "channel here U024BE7LH ann general",
            "",
        );
        check("<!subteam^S1|@oncall> <!date^1^{date}|Tuesday>", "oncall Tuesday", "");
        check("<javascript:alert(1)|x>", "x", "");
    }
}
