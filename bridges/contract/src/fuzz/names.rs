//! Names of people and files, addresses of places, marks: short things that strangers choose.

use zeroize::Zeroizing;

use crate::{
    AccountName, Author, DeliveryId, PersonId, Text, Trail,
    message::{FileName, Location, MediaType, Quote},
    names::{self, Tags},
};

/// Whether a character would end a line, hide something or turn what stands beside it.
fn is_trick(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' |
            '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn author(name: &str) -> Author {
    Author { id: PersonId::new("@ann:x"), name: Some(Text::new(name)) }
}

#[test]
fn person_names() {
    let tags = Tags::new(Zeroizing::new([7; 32]));
    sealbridge_fuzz::text_target("names", |input| {
        let line = names::one_line(input, 40);
        assert!(line.len() <= 40 && !line.contains(is_trick), "{line:?}");
        assert_eq!(names::one_line(&line, 40), line, "a line is one");

        let name = names::harmless(input);
        assert!(!name.contains(is_trick) && name.len() <= 80, "{name:?}");
        assert!(!name.contains(": ") && !name.ends_with(':'), "it speaks for another: {name:?}");
        assert!(!name.starts_with(['@', '#', '!', '/', '[', ' ']) && name.trim() == name, "it leads: {name:?}");
        assert_eq!(names::harmless(&name), name, "a harmless name is one");

        let shown = names::harmless(&names::via(input, input));
        assert!(names::own(input).is_empty() || shown.contains(" (via "), "whose account it is is hidden: {shown:?}");
        assert!(!names::own(input).contains("(via "), "it speaks for another");
        let said = tags.shown(&author(input), true);
        assert!(said.as_str().ends_with(')') && !said.as_str().contains(is_trick), "{:?}", said.as_str());
        assert_eq!(names::looks(&name), names::looks(input), "what is shown looks like what was meant");

        let words = names::without_tricks(input);
        assert_eq!(names::without_tricks(&words), words);
        let quote = Quote::new(None, input);
        assert!(quote.words.len() <= Quote::LONGEST + '…'.len_utf8() && !quote.words.as_str().contains('\n'));
    });
}

#[test]
fn file_names() {
    sealbridge_fuzz::text_target("file_names", |input| {
        let name = FileName::new(input);
        let name = name.as_str();
        assert!(!name.is_empty() && name.len() <= 128, "{name:?}");
        assert!(!name.contains(['/', '\\', '<', '>', ':', '"', '|', '?', '*']) && !name.contains(is_trick), "{name:?}");
        assert!(!name.starts_with(['.', ' ']) && !name.ends_with(['.', ' ']), "{name:?}");
        assert_eq!(FileName::new(name).as_str(), name, "a harmless name is one");
        let mime = MediaType::new(input);
        assert!(mime.as_str().is_ascii() && !mime.as_str().contains(char::is_whitespace));
        assert_eq!(MediaType::new(mime.as_str()), mime);
    });
}

#[test]
fn places() {
    sealbridge_fuzz::text_target("places", |input| {
        let Some(place) = Location::from_uri(input, None) else { return };
        let (latitude, longitude) = place.degrees();
        assert!((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude));
        let again = Location::from_uri(place.uri().as_str(), None).expect("what we write is a place");
        assert_eq!((again.uri(), again.degrees()), (place.uri(), place.degrees()));
    });
}

#[test]
fn ids_and_marks() {
    sealbridge_fuzz::text_target("marks", |input| {
        if let Ok(name) = AccountName::parse(input) {
            assert!(name.as_str() == input && !input.contains(['/', '.', '\0']));
        }
        if let Ok(id) = DeliveryId::parse(input) {
            assert_eq!(id.to_string(), input, "two texts are one id");
        }
        let trail = Trail::from_texts(input.lines());
        assert!(trail.hops() <= Trail::LONGEST + 1);
        if trail.hops() <= Trail::LONGEST {
            let texts = trail.to_texts();
            assert_eq!(Trail::from_texts(texts.iter().map(String::as_str)), trail);
        }
    });
}
