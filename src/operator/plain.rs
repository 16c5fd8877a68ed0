//! Text of others on a terminal: what would steer it, hide, or turn the writing round is shown as its number.

use std::borrow::Cow;

/// One field of somebody else's: no line of it may look like a line of ours.
#[must_use]
pub(super) fn field(text: &str) -> Cow<'_, str> {
    escape(text, steers)
}

/// Lines of ours that have such fields in them.
#[must_use]
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && steers(c))
}

/// JSON on one line: whatever steers can only be inside a text, where it is written as JSON writes it.
#[must_use]
pub(super) fn json(line: &str) -> Cow<'_, str> {
    if !line.contains(steers) {
        return line.into();
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if steers(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|half| out.push_str(&format!("\\u{half:04x}")));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Lines that are longer than `width` columns are folded at spaces. What has none, such as an address, stays whole.
#[must_use]
pub(super) fn folded(text: &str, width: usize) -> Cow<'_, str> {
    if text.lines().all(|line| textwrap::core::display_width(line) <= width) {
        return text.into();
    }
    let fold = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let below = " ".repeat(indent + 2);
        let options = textwrap::Options::new(width).subsequent_indent(&below).break_words(false);
        textwrap::fill(line, options.word_splitter(textwrap::WordSplitter::NoHyphenation))
    };
    let mut folded = text.lines().map(fold).collect::<Vec<_>>().join("\n");
    if text.ends_with('\n') {
        folded.push('\n');
    }
    folded.into()
}

fn escape(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Control characters, those that set the direction of writing, line separators, and those that nobody sees.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_as_its_number() {
        let cases = [
            ("@ann:example.org", "@ann:example.org"),
            ("Zoë ☃ 漢字", "Zoë ☃ 漢字"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("a\nb\r\0\u{9b}31m", "a\\u{a}b\\u{d}\\u{0}\\u{9b}31m"),
            ("ze\u{200b}ro", "ze\\u{200b}ro"),
        ];
        for (text, expected) in cases {
            assert_eq!(field(text), expected);
        }
        assert_eq!(lines("one\ntwo\u{7}\n"), "one\ntwo\\u{7}\n");
    }

    #[test]
    fn long_lines_are_folded_and_addresses_stay_whole() {
        let address = format!("a/!{}:example.org", "x".repeat(90));
        let picture = "█".repeat(60);
        let text = format!("{} end\n  {}\n{picture}\n{address} follows", "word ".repeat(20), "漢字 ".repeat(30));
        let shown = folded(&text, 80);
        for line in shown.lines() {
            let fits = textwrap::core::display_width(line) <= 80 || line.trim() == address;
            assert!(fits, "{line}");
        }
        assert!(shown.contains(&format!("\n{picture}\n")) && shown.contains("\n    漢字"), "{shown}");
        assert_eq!(shown.split_whitespace().collect::<String>(), text.split_whitespace().collect::<String>());
        assert_eq!(folded("short\n", 80), "short\n");
    }

    #[test]
    fn json_says_the_same_without_what_steers() {
        for name in ["Zoë ☃", "a\u{1b}[2J\u{202e}b\n", "tag \u{e0041}\u{9b}31m"] {
            let written = serde_json::json!({ "name": name }).to_string();
            let line = json(&written);
            assert!(!line.contains(steers), "{line}");
            let read: serde_json::Value = serde_json::from_str(&line).expect("it is still JSON");
            assert_eq!(read["name"], name);
        }
    }
}
