//! Calls taken out of words: whoever sends a notice calls nobody by it, in none of the ways in which clients of Matrix,
//! Slack or Discord call people. The words stay.

/// What calls everybody.
const EVERYBODY: [&str; 4] = ["room", "here", "channel", "everyone"];
/// What leads to a person or a room and is shown as one, by whichever client turns addresses into links.
const LEADS: [(&str, &str); 2] = [("matrix.to/#/", "matrix.to #/"), ("matrix:u/", "matrix u/")];

/// Plain words that call nobody.
pub(super) fn plain(words: &str) -> String {
    let mut calm = String::with_capacity(words.len());
    let mut rest = words;
    while let Some((before, after)) = rest.split_once('@') {
        calm.push_str(before);
        if calls(before, after) {
            // One more before it would call in its place.
            calm.truncate(calm.trim_end_matches('@').len());
        } else {
            calm.push('@');
        }
        rest = after;
    }
    calm.push_str(rest);
    for (lead, harmless) in LEADS {
        calm = replaced(&calm, lead, harmless);
    }
    calm
}

/// Whether an `@` between these calls everybody.
fn calls(before: &str, after: &str) -> bool {
    let names = |word: &&&str| after.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let word = EVERYBODY.iter().find(names);
    let ends = |word: &&str| !after[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    !before.ends_with(char::is_alphanumeric) && word.is_some_and(ends)
}

/// Replaced whatever its case.
fn replaced(words: &str, what: &str, with: &str) -> String {
    let lower = words.to_ascii_lowercase();
    let mut out = String::with_capacity(words.len());
    let mut from = 0;
    for (at, _) in lower.match_indices(what) {
        out.push_str(&words[from..at]);
        out.push_str(with);
        from = at + what.len();
    }
    out.push_str(&words[from..]);
    out
}

/// HTML that calls nobody. It is harmless already, so tags and words are told apart as they are written.
pub(super) fn html(clean: &str) -> String {
    let mut calm = String::with_capacity(clean.len());
    let mut rest = clean;
    while let Some((words, tag)) = rest.split_once('<') {
        calm.push_str(&plain(words));
        let (tag, after) = tag.split_once('>').unwrap_or((tag, ""));
        if leads_to_somebody(tag) {
            calm.push_str("<a>");
        } else {
            calm.push('<');
            calm.push_str(tag);
            calm.push('>');
        }
        rest = after;
    }
    calm.push_str(&plain(rest));
    calm
}

/// Whether a tag is a link that clients show as a person or a room.
fn leads_to_somebody(tag: &str) -> bool {
    let Some(address) = tag.strip_prefix("a href=\"") else { return false };
    let address = address.trim_start().replace(['\t', '\n', '\r'], "").to_ascii_lowercase();
    let host = address.split_once("//").map(|(_, rest)| rest.split(['/', '?', '#', '"']).next().unwrap_or_default());
    let host = host.map(|host| host.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default());
    address.starts_with("matrix:") || host.is_some_and(|host| host.trim_end_matches('.') == "matrix.to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_sender_call_nobody() {
        for (words, calm) in [
            ("@room down", "room down"),
            ("(@Here) @channel, @everyone!", "(Here) channel, everyone!"),
            ("ops@room.example @roommate @here_1", "ops@room.example @roommate @here_1"),
            ("@@room @@@here", "room here"),
            ("https://matrix.to/#/@a:b.test MATRIX.TO/#/!r:b", "https://matrix.to #/@a:b.test matrix.to #/!r:b"),
        ] {
            assert_eq!(plain(words), calm, "{words}");
            assert_eq!(plain(calm), calm, "{calm}");
        }
    }

    #[test]
    fn links_that_are_shown_as_people_are_links_no_more() {
        for pill in [
            "<a href=\"https://matrix.to/#/@a:b\">x</a>",
            "<a href=\"https://matrix.to/?y#/%40a:b\">x</a>",
            "<a href=\"HTTPS://user@MATRIX.to.:443/#/@a:b\">x</a>",
            "<a href=\"matrix:u/a:b\">x</a>",
        ] {
            assert_eq!(html(pill), "<a>x</a>", "{pill}");
        }
        let kept = "<p>a <a href=\"https://x.test/@room?matrix.to\">room</a> &lt;b&gt;</p>";
        assert_eq!(html(kept), kept);
        assert_eq!(html("<b>@room</b>"), "<b>room</b>");
    }
}
