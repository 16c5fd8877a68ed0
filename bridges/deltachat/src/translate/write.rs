//! From our form to the engine's.

use sealbridge_contract::{
    Abilities, Author, Body, DeliveryError, Kind, Message, Text,
    message::{Media, Reaction, Sort},
};

use crate::engine::types::Outgoing;

/// What the engine takes away at the start of a message, together with the line after it.
const FORWARDED: &str = "---------- Forwarded message ----------";
/// Shows nothing, and keeps the engine from seeing [`FORWARDED`].
const WORD_JOINER: char = '\u{2060}';
/// The longest name that is shown.
const NAME: usize = 100;

/// What the engine is asked to do for a message.
#[derive(Debug)]
pub(crate) enum Written<'m> {
    /// It is said, with a file if it has one.
    Said(Outgoing, Option<&'m Media>),
    /// An earlier message gets these words.
    Edit(Text),
    /// An earlier message is taken back.
    TakeBack,
    /// A person reacts to an earlier message.
    React(&'m Reaction),
}

/// What the engine is asked to do for a message: as the datasheet says, and in no other way.
pub(crate) fn written<'m>(
    message: &'m Message,
    answers: Option<u32>,
    abilities: &Abilities,
) -> Result<Written<'m>, DeliveryError> {
    let empty = Body::default();
    let (body, media) = match &message.kind {
        Kind::Text(body) => (body, None),
        Kind::File(media) => (media.caption.as_ref().unwrap_or(&empty), Some(&**media)),
        Kind::Edit(edit) => (&edit.body, None),
        Kind::Redaction(_) => return Ok(Written::TakeBack),
        Kind::Reaction(reaction) => return Ok(Written::React(reaction)),
        // Everything else that can cross was made text before it came here.
        _ => return Err(DeliveryError::give_up("Delta Chat does not carry this kind of message")),
    };
    if body.plain.len() > abilities.most_bytes {
        return Err(DeliveryError::too_long(u64::try_from(abilities.most_bytes).ok()));
    }
    if media.is_none() && body.plain.as_str().trim().is_empty() {
        return Err(DeliveryError::give_up("it has no words"));
    }
    let text = safe(body.plain.as_str());
    if matches!(message.kind, Kind::Edit(_)) {
        return Ok(Written::Edit(text));
    }
    let name = (!message.author.is_bridge()).then(|| shown(&message.author));
    let outgoing = Outgoing {
        text,
        override_sender_name: name,
        quoted_message_id: answers,
        viewtype: media.map(viewtype),
        filename: media.map(file_name),
        file: None,
    };
    Ok(Written::Said(outgoing, media))
}

/// Words that the engine takes for nothing else.
fn safe(words: &str) -> Text {
    let mut text = String::with_capacity(words.len() + 8);
    if words.trim_start().starts_with(FORWARDED) {
        text.push(WORD_JOINER);
    }
    text.push_str(words);
    Text::new(text)
}

/// What the engine is told that a file is. It finds pictures and films by their names and shows them as what they are;
/// told that something is one, it would name it anew, and make a picture smaller.
fn viewtype(media: &Media) -> &'static str {
    match media.sort {
        Sort::Image | Sort::File => "File",
        Sort::Video if FILMS.contains(&ending(media.name.as_str())) => "File",
        Sort::Video => "Video",
        Sort::Audio => "Audio",
        Sort::Voice => "Voice",
        Sort::Sticker => "Sticker",
    }
}

/// Endings of films that the engine knows.
const FILMS: &[&str] = &["mp4", "webm", "mov", "avi"];

/// Endings for names that have none, since the engine tells by it what is in a file.
const ENDINGS: &[(&str, &str)] = &[
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
    ("video/quicktime", "mov"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/mp4", "m4a"),
    ("audio/aac", "aac"),
    ("audio/wav", "wav"),
    ("application/pdf", "pdf"),
];

/// The ending of a file's name, if it can't be anything else than that; nothing, if there is none.
pub(crate) fn ending(name: &str) -> &str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let safe = (1..=8).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if safe { ending } else { "" }
}

/// What a file is called, with an ending if that is known.
pub(crate) fn file_name(media: &Media) -> Text {
    let name = media.name.as_str();
    let known = ENDINGS.iter().find(|(mime, _)| *mime == media.mime.as_str());
    match known {
        Some((_, known)) if ending(name).is_empty() => Text::joined(&[name, ".", known]),
        _ => name.into(),
    }
}

/// The name under which a person of another network appears: on one line, in reading order, and not endless.
fn shown(author: &Author) -> Text {
    let name = author.name.as_ref().map_or("", Text::as_str);
    let direction = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let neutral: String = name.chars().filter(|c| !c.is_control() && !direction(*c)).take(NAME).collect();
    let neutral = neutral.trim();
    Text::new(if neutral.is_empty() { author.id.as_str() } else { neutral })
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{
        PersonId, SpoolId, Spooled, Timestamp,
        message::{FileName, MediaType},
    };

    use super::*;

    fn author(name: &str) -> Author {
        Author { id: PersonId::new("@ann:a.test"), name: Some(name.into()) }
    }

    fn sent(kind: Kind) -> Result<(String, Option<String>), String> {
        let message = Message { kind, ..Message::text(author("Ann"), Timestamp(0), "") };
        let own = |text: Text| text.as_str().to_owned();
        match written(&message, None, &crate::ABILITIES).map_err(|error| error.cause)? {
            Written::Said(outgoing, _) => Ok((own(outgoing.text), outgoing.override_sender_name.map(own))),
            other => Err(format!("it became {other:?}")),
        }
    }

    #[test]
    fn every_kind_goes_out_as_the_datasheet_says_or_not_at_all() {
        let name = Some("Ann".to_owned());
        assert_eq!(sent(Kind::Text(Body::plain("hi"))), Ok(("hi".to_owned(), name.clone())));
        assert!(sent(Kind::Unsupported { what: "a file" }).is_err());
        assert!(sent(Kind::Text(Body::plain(" \n"))).is_err());
        assert!(sent(Kind::Text(Body::plain("x".repeat(crate::ABILITIES.most_bytes + 1)))).is_err());
        let forwarded = format!("{FORWARDED}\nFrom: x\n\nbody");
        assert_eq!(sent(Kind::Text(Body::plain(forwarded.as_str()))), Ok((format!("{WORD_JOINER}{forwarded}"), name)));
    }

    #[test]
    fn name_is_one_line_in_reading_order_and_never_empty() {
        for (name, expected) in [
            ("Ann", "Ann"),
            ("Ann\n\u{202e}Bob\u{0}", "AnnBob"),
            (" \u{200f} ", "@ann:a.test"),
            (&"x".repeat(500), &"x".repeat(NAME)),
        ] {
            assert_eq!(shown(&author(name)).as_str(), expected);
        }
    }

    #[test]
    fn file_is_called_so_that_the_engine_knows_what_it_is() {
        let cases = [
            (Sort::Image, "cat", "image/png", ("File", "cat.png")),
            (Sort::Image, "cat.jpg", "image/png", ("File", "cat.jpg")),
            (Sort::Video, "film.mp4", "video/mp4", ("File", "film.mp4")),
            (Sort::Video, "film.x/y", "video/unknown", ("Video", "y")),
            (Sort::Voice, "voice", "audio/ogg", ("Voice", "voice.ogg")),
            (Sort::File, "../../x", "text/plain", ("File", "x")),
        ];
        for (sort, name, mime, expected) in cases {
            let content = Spooled::new(SpoolId::random(), 1, [0; 32], None);
            let media = Media::new(sort, FileName::new(name), MediaType::new(mime), content);
            assert_eq!((viewtype(&media), file_name(&media).as_str()), expected);
        }
        assert_eq!((ending("a.tar.gz"), ending("a.b c"), ending("a./x")), ("gz", "", ""));
    }
}
