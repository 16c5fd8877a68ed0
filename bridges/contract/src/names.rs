//! Names as they may be shown: harmless, told apart, and nobody else's.

use std::sync::LazyLock;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use unicode_security::confusable_detection::skeleton;
use zeroize::Zeroizing;

use crate::{Author, PersonId, Text};

/// So many letters has a tag.
const TAG: usize = 4;
/// A longer name is cut.
const LONGEST: usize = 80;
/// A longer id is cut: no network has one.
const LONGEST_ID: usize = 255;

/// Names that only the bridge or an operator may seem to have, by what they look like.
static RESERVED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = [
        "sealbridge",
        "bridge",
        "the bridge",
        "bridge bot",
        "bot",
        "admin",
        "admins",
        "administrator",
        "operator",
        "moderator",
        "mod",
        "system",
        "server",
        "notice",
        "support",
        "security",
        "root",
        "everyone",
        "all",
        "room",
        "here",
    ];
    names.into_iter().map(looks).collect()
});

/// One line of text, cut after `longest` bytes: no characters that end it, hide it, or turn what stands beside it.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::with_capacity(longest.min(text.len()));
    for c in text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }) {
        let doubled = c == ' ' && (line.ends_with(' ') || line.is_empty());
        if c.is_control() || doubled || is_invisible(c) && !is_part_of_emoji(c, line.chars().next_back()) {
            continue;
        }
        if line.len() + c.len_utf8() > longest {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
}

/// The first character that shows nothing or turns what stands beside it, and makes no emoji of those before it.
#[must_use]
pub fn hidden_in(text: &str) -> Option<char> {
    let mut before = None;
    text.chars().find(|c| {
        let hides = is_invisible(*c) && !is_part_of_emoji(*c, before);
        before = Some(*c);
        hides
    })
}

/// Text without characters that show nothing or turn what stands beside them; its lines stay.
#[must_use]
pub fn without_tricks(text: &str) -> String {
    text.chars().filter(|c| !turns(*c) && (!c.is_control() || matches!(c, '\n' | '\t'))).collect()
}

/// A name as it may be shown, or nothing if nothing of it may: one line that does not begin as an address, a command
/// or a mark of ours, and does not end as if something were said by somebody else.
#[must_use]
pub fn harmless(name: &str) -> String {
    let mut line = one_line(&name.replace('：', " "), LONGEST);
    // "Ann: yes" is a name and what somebody said.
    while line.contains(": ") {
        line = line.replace(": ", " ");
    }
    let begins = |c: char| c.is_whitespace() || "@#!$+/\\[](){}<>*&|~`:;,.-_=\"'＠﹫＃［＜〈".contains(c);
    let line = line.trim_start_matches(begins).trim_end_matches(|c: char| c.is_whitespace() || c == ':');
    one_line(line, LONGEST)
}

/// The name of somebody for whom an account speaks: what they are called, cut, and then whose account it is, so that
/// no length of the first hides the second.
#[must_use]
pub fn via(name: &str, account: &str) -> String {
    let short = |text: &str, longest: usize| {
        let line = one_line(text, LONGEST);
        if line.len() <= longest { line } else { one_line(&line, longest - '…'.len_utf8()) + "…" }
    };
    let name = harmless(&own(name));
    let name = if name.is_empty() { "somebody" } else { &name };
    format!("{} (via {})", short(name, 40), short(account, 32))
}

/// What an account calls itself: it does not look as if it spoke for somebody else.
#[must_use]
pub fn own(name: &str) -> String {
    let mut name = one_line(name, LONGEST);
    // Taken out once, what stood around it may be one.
    while name.contains("(via ") {
        name = name.replace("(via ", "via ");
    }
    name
}

/// What somebody or a conversation is called, as it stands inside a sentence of ours: without a mark that quotes, encloses
/// or ends anything, so that what is called so says nothing in our name.
#[must_use]
pub fn inside(name: &str) -> String {
    one_line(&own(name).replace(parts, " "), LONGEST)
}

/// An id, as it stands inside a sentence of ours: in one piece, whatever it is made of. Square brackets stay, since a
/// homeserver may be named by its address.
#[must_use]
pub fn id(id: &str) -> String {
    let is_odd = |c: char| c.is_whitespace() || parts(c) && !matches!(c, '[' | ']');
    one_line(id, LONGEST_ID).replace(is_odd, "_")
}

/// The name under which an author is told of inside a sentence.
#[must_use]
pub fn of(author: &Author) -> Text {
    let name = author.name.as_ref().map(|name| harmless(name.as_str())).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| one_line(author.id.as_str(), LONGEST)).into()
}

/// The same where it is said what changed: who reads it must not take what somebody calls themselves for what we know.
#[must_use]
pub(crate) fn told(author: &Author) -> Text {
    let name = author.name.as_ref().map(|name| harmless(&inside(name.as_str()))).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| id(author.id.as_str())).into()
}

/// What a name looks like: names that can be taken for each other have the same.
#[must_use]
pub(crate) fn looks(name: &str) -> String {
    let name = harmless(name);
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    let name = if letters.is_empty() { name } else { letters };
    // A capital I is an l to most eyes, and a small one is the same letter.
    let seen = skeleton(&name).collect::<String>().to_lowercase();
    skeleton(&seen).collect::<String>().replace('i', "l")
}

/// Whether a name looks like one that only the bridge or an operator may have.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&looks(name))
}

/// Somebody under a name, as numbers that tell nobody who and what without our key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// What the name looks like: the same for names that can be taken for each other.
    pub look: u64,
    /// Whose it is.
    pub person: u64,
}

/// Makes the short tags by which people of one name are told apart: always the same for the same person, and made under
/// a key of ours, so that nobody can choose an id to have another's tag.
pub struct Tags(Zeroizing<[u8; 32]>);

impl Tags {
    /// Takes the key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// A person's tag.
    #[must_use]
    pub fn of(&self, person: &PersonId) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
        let mac = self.mac("sealbridge name tag v1", person.as_str());
        mac[..TAG].iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
    }

    /// An author and what they appear as, as numbers: their name, or their id where they have none.
    #[must_use]
    pub fn named(&self, author: &Author) -> Named {
        let name = author.name.as_ref().map_or(author.id.as_str(), Text::as_str);
        let number = |label: &str, text: &str| {
            let mac = self.mac(label, text);
            u64::from_le_bytes(mac[..8].try_into().expect("eight bytes are eight bytes"))
        };
        Named {
            look: number("sealbridge name look v1", &looks(name)),
            person: number("sealbridge name person v1", author.id.as_str()),
        }
    }

    fn mac(&self, label: &str, text: &str) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.update(label.as_bytes());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The name under which an author appears: harmless, and with a tag where `namesake` says that somebody else there
    /// could be taken for them, where nobody but the bridge may be called so, or where it ends as a tag does.
    #[must_use]
    pub fn shown(&self, author: &Author, namesake: bool) -> Text {
        let name = of(author);
        let odd = |name: &Text| is_reserved(name.as_str()) || ends_like_a_tag(name.as_str());
        let tagged = namesake || author.name.as_ref().is_some_and(odd);
        if tagged { Text::joined(&[name.as_str(), " (", &self.of(&author.id), ")"]) } else { name }
    }
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tags(redacted)")
    }
}

/// Whether a name ends with something that could be taken for a tag of ours.
fn ends_like_a_tag(name: &str) -> bool {
    let seen = harmless(name);
    let inner = seen.trim_end_matches(|c: char| !c.is_alphanumeric());
    let tag = inner.chars().rev().take_while(|c| c.is_alphanumeric()).count();
    let before = inner.chars().rev().nth(tag);
    let closed = inner.len() < seen.len();
    closed && tag == TAG && before.is_some_and(|c| "([{<⟨〈（［｛❨❲".contains(c))
}

/// Marks that quote, enclose or part what is said, and what looks like one of them.
fn parts(c: char) -> bool {
    const MARKS: &str = "\"'`´()[]{}<>«»‹›;|";
    let is_mark = |c: char| {
        MARKS.contains(c)
            || matches!(c,
                '\u{2b9}'..='\u{2bf}' | '\u{2c8}' | '\u{2ca}' | '\u{2cb}' | '\u{2ee}' | '\u{2f4}' | '\u{2f6}' |
                '\u{37a}' | '\u{37e}' | '\u{384}' | '\u{55a}' | '\u{55d}' | '\u{5f3}' | '\u{5f4}' | '\u{60c}' |
                '\u{61b}' | '\u{7f4}' | '\u{7f5}' | '\u{f3a}'..='\u{f3d}' | '\u{169b}' | '\u{169c}' |
                '\u{1fbd}'..='\u{1fc1}' | '\u{1fef}' | '\u{1ffd}' | '\u{1ffe}' | '\u{2018}'..='\u{201f}' |
                '\u{2032}'..='\u{203a}' | '\u{2045}' | '\u{2046}' | '\u{204f}' | '\u{2057}' | '\u{207d}' | '\u{207e}' |
                '\u{208d}' | '\u{208e}' | '\u{2308}'..='\u{230b}' | '\u{2329}' | '\u{232a}' | '\u{239b}'..='\u{23b1}' |
                '\u{275b}'..='\u{2760}' | '\u{2768}'..='\u{2775}' | '\u{27c5}' | '\u{27c6}' |
                '\u{27e6}'..='\u{27ef}' | '\u{2983}'..='\u{2998}' | '\u{29d8}'..='\u{29db}' | '\u{29fc}' | '\u{29fd}' |
                '\u{2e00}'..='\u{2e0d}' | '\u{2e1c}' | '\u{2e1d}' | '\u{2e20}'..='\u{2e29}' | '\u{2e35}' | '\u{2e42}' |
                '\u{2e55}'..='\u{2e5c}' | '\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' |
                '\u{a78b}' | '\u{a78c}' | '\u{fd3e}' | '\u{fd3f}' | '\u{fe10}'..='\u{fe18}' | '\u{fe35}'..='\u{fe48}' |
                '\u{fe54}' | '\u{fe59}'..='\u{fe5e}' | '\u{fe64}' | '\u{fe65}' | '\u{ff02}' | '\u{ff07}'..='\u{ff09}' |
                '\u{ff1b}' | '\u{ff1c}' | '\u{ff1e}' | '\u{ff3b}' | '\u{ff3d}' | '\u{ff40}' | '\u{ff5b}' | '\u{ff5d}' |
                '\u{ff5f}'..='\u{ff64}' | '\u{1f676}'..='\u{1f678}')
    };
    let looks_like_one = || skeleton(c.encode_utf8(&mut [0; 4])).any(|seen| MARKS.contains(seen) && seen != '|');
    is_mark(c) || !c.is_ascii() && !c.is_alphanumeric() && looks_like_one()
}

/// Characters that change the order of what stands beside them.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters that show nothing, or change the order of what stands beside them.
fn is_invisible(c: char) -> bool {
    turns(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{16fe4}' | '\u{17b4}' | '\u{17b5}' |
            '\u{180b}'..='\u{180f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' |
            '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}' |
            '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffc}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character that shows nothing by itself makes an emoji of the one before it, or joins letters that are
/// joined so.
fn is_part_of_emoji(c: char, before: Option<char>) -> bool {
    let Some(before) = before else { return false };
    let emoji = |c: char| matches!(c, '\u{1f3fb}'..='\u{1f3ff}') || emojis::get(c.encode_utf8(&mut [0; 4])).is_some();
    match c {
        '\u{fe0e}' | '\u{fe0f}' => emoji(before),
        '\u{200d}' => emoji(before) || before == '\u{fe0f}' || matches!(before, '\u{900}'..='\u{dff}'),
        // The flags of England, Scotland and Wales.
        '\u{e0020}'..='\u{e007f}' => matches!(before, '\u{1f3f4}' | '\u{e0020}'..='\u{e007e}'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str) -> Author {
        Author { id: PersonId::new("@ann:x"), name: Some(name.into()) }
    }

    #[test]
    fn name_can_neither_lead_nor_turn_nor_speak() {
        for (name, safe) in [
            ("Ann", "Ann"),
            ("A\nn\0n", "A nn"),
            ("\u{202e}nnA\u{2066}\u{200b}", "nnA"),
            ("  a \u{a0}\t b ", "a b"),
            ("@admin:example.org", "admin:example.org"),
            ("＠admin:example.org", "admin:example.org"),
            ("[bridge] Ann", "bridge] Ann"),
            ("Ben: yes\nAnn", "Ben yes Ann"),
            ("Ben:: yes", "Ben yes"),
            ("：Ben:：yes", "Ben yes"),
            ("/me", "me"),
            ("Ann:", "Ann"),
            ("\u{200b}\u{feff}", ""),
            ("שלום", "שלום"),
            ("👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
        ] {
            assert_eq!(harmless(name), safe, "{name:?}");
        }
        assert!(harmless(&"ä".repeat(500)).len() <= LONGEST);
        assert_eq!(of(&author("\u{200b}")).as_str(), "@ann:x");
    }

    #[test]
    fn nothing_invisible_fills_a_name() {
        for blank in [
            "\u{fe0f}",
            "\u{fe00}",
            "\u{2800}",
            "\u{e0100}",
            "\u{e01ef}",
            "\u{3164}",
            "\u{200d}",
            "\u{180b}",
            "\u{e0061}",
        ] {
            assert_eq!(harmless(&format!("al{0}ice{0}", blank.repeat(25))), "alice", "{blank:?}");
            assert_eq!(looks(&format!("alice{blank}")), looks("alice"), "{blank:?}");
        }
        for emoji in ["❤️", "👩🏽‍💻", "🏳️‍🌈", "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}"]
        {
            assert_eq!(harmless(&format!("Ann {emoji}")), format!("Ann {emoji}"));
        }
        assert_eq!(harmless(&format!("Ann ❤{}", "\u{fe0f}".repeat(25))), "Ann ❤\u{fe0f}");
    }

    #[test]
    fn what_somebody_is_called_ends_no_sentence_of_ours() {
        for (name, said) in [
            ("Bob” (verified by comparison). It is “Bob", "Bob verified by comparison . It is Bob"),
            ("Bob\" (x) 'y' `z`", "Bob x y z"),
            ("«Bob» ‹x› „y‟ ‚z‛", "Bob x y z"),
            ("Bob〞【x】〔y〕「z」＂a＂（b）", "Bob x y z a b"),
            ("Bob❞ ❨x❩ ʺyˮ ″z‶ ״", "Bob x y z"),
            ("Bob; @eve:x", "Bob @eve:x"),
            ("Anna-Lena Ö. Șerban, 3 👩🏽‍💻 שלום 王", "Anna-Lena Ö. Șerban, 3 👩🏽‍💻 שלום 王"),
        ] {
            assert_eq!(inside(name), said, "{name:?}");
        }
        assert_eq!(id("@bob:[2001:db8::1]:8448"), "@bob:[2001:db8::1]:8448");
        assert_eq!(id("@bob:x (verified by comparison), “Bob"), "@bob:x__verified_by_comparison_,__Bob");
    }

    #[test]
    fn no_name_hides_for_whom_an_account_speaks() {
        for name in [
            "alice",
            &format!("alice{}", "\u{fe0f}".repeat(25)),
            &"ä".repeat(100),
            &format!("x{}", " \u{a0}".repeat(90)),
        ] {
            for account in ["Mallory", &"m".repeat(200), &"ü".repeat(200)] {
                let shown = harmless(&via(name, account));
                assert!(shown.contains(" (via ") && shown.ends_with(')'), "{shown}");
            }
        }
        assert_eq!(via("Bob", "Ann"), "Bob (via Ann)");
        let long = "@bob:example.org.and.then.another.example";
        assert!(via("Bob", long).ends_with("…)"), "what is cut is seen to be cut");
        assert_eq!(own("Bob (via Ann)"), "Bob via Ann)");
        assert_eq!(own("Bob ((via via Ann)"), "Bob via via Ann)");
        assert_eq!(via(": ", "Ann"), "somebody (via Ann)");
        assert_eq!(via("Bob (via Ann)", "Eve"), "Bob via Ann) (via Eve)");
    }

    #[test]
    fn nobody_writes_somebody_elses_tag_into_their_own_name() {
        let tags = Tags::new(Zeroizing::new([7; 32]));
        let author = |id: &str, name: &str| Author { id: PersonId::new(id), name: Some(name.into()) };
        let ann = tags.shown(&author("@ann:x", "ann"), true);
        let shown = |name: &str| tags.shown(&author("@mallory:x", name), false).as_str().to_owned();
        assert!(ann.as_str().starts_with("ann ("), "she has a tag");
        let copied = shown(ann.as_str());
        assert!(copied.starts_with(ann.as_str()) && copied.len() > ann.as_str().len(), "{copied}");
        for name in ["ann (abcd)", "ann (ABCD )", "ann [abcd]", "ann \u{ff08}abcd\u{ff09}", "ann (abcd)\u{200b}"] {
            assert_ne!(shown(name), harmless(name), "{name}");
        }
        for name in ["ann", "Ann (she/her)", "Ann (work)x", "Ann 1984", "Ann (Paris)"] {
            assert_eq!(shown(name), harmless(name), "{name}");
        }
    }

    #[test]
    fn nobody_passes_for_the_bridge() {
        let tags = Tags::new(Zeroizing::new([1; 32]));
        let tag = tags.of(&PersonId::new("@ann:x"));
        for name in
            ["Sealbridge", "sealbridge", "SеaIbridgе", "Sealbridge\u{200b}", "[Admin]", "Аdmin", "S e a l b r i d g e"]
        {
            let shown = tags.shown(&author(name), false);
            assert!(shown.as_str().ends_with(&format!("({tag})")), "{name} is shown as {}", shown.as_str());
        }
        assert_eq!(tags.shown(&author("Ann"), false).as_str(), "Ann");
    }

    #[test]
    fn two_of_one_name_are_told_apart_and_always_by_the_same_tag() {
        let tags = Tags::new(Zeroizing::new([1; 32]));
        let other = Author { id: PersonId::new("@ann:y"), name: Some("Ann".into()) };
        let (first, second) = (tags.shown(&author("Ann"), true), tags.shown(&other, true));
        assert_ne!(first, second);
        assert_eq!(first, tags.shown(&author("Ann"), true));
        assert_eq!(looks("Ann"), looks("ANN "));
        assert_eq!(looks("paypal"), looks("pаypаl"), "Latin and Cyrillic look the same");
        assert_ne!(looks("Ann"), looks("Ben"));
    }
}
