//! The forms in which a text may lie in a file.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A byte sequence that gives a canary away, and the name of its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needle {
    pub(super) encoding: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Every form of the canary, each byte sequence once.
pub(super) fn needles(canary: &str) -> Vec<Needle> {
    let mut needles: Vec<Needle> = Vec::new();
    let mut add = |encoding, bytes: Vec<u8>| {
        let new = !bytes.is_empty() && needles.iter().all(|needle| needle.bytes != bytes);
        if new {
            needles.push(Needle { encoding, bytes });
        }
    };
    let raw = canary.as_bytes();
    add("raw", raw.to_vec());
    add("lower case", canary.to_lowercase().into_bytes());
    for (encoding, text) in [
        ("JSON", json(canary, false)),
        ("JSON, ASCII only", json(canary, true)),
        ("JSON, all escaped", json_all(canary)),
        ("HTML", html(canary)),
        ("HTML, decimal", html_numbers(canary, false)),
        ("HTML, hexadecimal", html_numbers(canary, true)),
        ("percent", percent(raw, false, "%20")),
        ("percent, form", percent(raw, false, "+")),
        ("percent, all", percent(raw, true, "%20")),
        ("quoted-printable", quoted_printable(raw, false)),
        ("quoted-printable, all", quoted_printable(raw, true)),
        ("hex", hex(raw)),
    ] {
        add(encoding, text.clone().into_bytes());
        // Hexadecimal digits come in both cases, the text between them in one.
        add(encoding, lower_escapes(&text).into_bytes());
    }
    add("hex", hex(raw).to_uppercase().into_bytes());
    for text in [canary.to_owned(), canary.to_lowercase()] {
        let units: Vec<u16> = text.encode_utf16().collect();
        let little = units.iter().flat_map(|unit| unit.to_le_bytes());
        add("UTF-16 LE", little.collect());
        let big = units.iter().flat_map(|unit| unit.to_be_bytes());
        add("UTF-16 BE", big.collect());
    }
    for lead in 0..3 {
        add("base64", base64_within(raw, lead, &STANDARD_NO_PAD));
        add("base64, URL-safe", base64_within(raw, lead, &URL_SAFE_NO_PAD));
    }
    needles
}

/// Every form of a key, which is bytes and no text, each byte sequence once.
pub(super) fn needles_of_bytes(key: &[u8]) -> Vec<Needle> {
    let mut needles = vec![Needle { encoding: "raw", bytes: key.to_vec() }];
    let numbers: Vec<_> = key.iter().map(u8::to_string).collect();
    for (encoding, text) in [
        ("hex", hex(key)),
        ("hex", hex(key).to_uppercase()),
        ("percent, all", percent(key, true, "%20")),
        ("percent, all", lower_escapes(&percent(key, true, "%20"))),
        ("quoted-printable, all", quoted_printable(key, true)),
        ("quoted-printable, all", lower_escapes(&quoted_printable(key, true))),
        // As serde and `Debug` write bytes.
        ("numbers", numbers.join(",")),
        ("numbers", numbers.join(", ")),
    ] {
        needles.push(Needle { encoding, bytes: text.into_bytes() });
    }
    for lead in 0..3 {
        needles.push(Needle { encoding: "base64", bytes: base64_within(key, lead, &STANDARD_NO_PAD) });
        needles.push(Needle { encoding: "base64, URL-safe", bytes: base64_within(key, lead, &URL_SAFE_NO_PAD) });
    }
    needles
}

/// The characters that are the same whatever stands around the text, when `lead` bytes (modulo 3)
/// come before it.
fn base64_within(raw: &[u8], lead: usize, engine: &impl Engine) -> Vec<u8> {
    let mut padded = vec![0; lead];
    padded.extend_from_slice(raw);
    let encoded = engine.encode(&padded).into_bytes();
    // A character holds six bits; only those with all their bits from the text are certain.
    let first = (lead * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    encoded.get(first..end).unwrap_or_default().to_vec()
}

fn json(text: &str, ascii: bool) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other < ' ' || (ascii && !other.is_ascii()) => out.push_str(&units(other)),
            other => out.push(other),
        }
    }
    out
}

fn json_all(text: &str) -> String {
    text.chars().map(units).collect()
}

fn units(character: char) -> String {
    let mut buffer = [0; 2];
    let units = character.encode_utf16(&mut buffer).iter();
    units.map(|unit| format!("\\u{unit:04X}")).collect()
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn html_numbers(text: &str, hexadecimal: bool) -> String {
    let number = |character: char| {
        let code = u32::from(character);
        if hexadecimal { format!("&#x{code:X};") } else { format!("&#{code};") }
    };
    text.chars().map(number).collect()
}

fn percent(raw: &[u8], all: bool, space: &str) -> String {
    let mut out = String::new();
    for byte in raw {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        if *byte == b' ' && !all {
            out.push_str(space);
        } else if plain && !all {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Without soft line breaks; the search takes those out of what it reads.
fn quoted_printable(raw: &[u8], all: bool) -> String {
    let mut out = String::new();
    for byte in raw {
        let plain = (b' '..=b'~').contains(byte) && *byte != b'=';
        if plain && !all {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
    }
    out
}

fn hex(raw: &[u8]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same text with the hexadecimal digits of its escapes in lower case.
fn lower_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut left = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if left > 0 && character.is_ascii_hexdigit() {
            out.push(character.to_ascii_lowercase());
            left -= 1;
            continue;
        }
        left = match (character, characters.peek()) {
            ('%' | '=', _) => 2,
            ('u', _) if out.ends_with('\\') => 4,
            ('x', _) if out.ends_with("&#") => 6,
            _ => 0,
        };
        out.push(character);
    }
    out
}
