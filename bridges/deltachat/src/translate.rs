//! The engine's form to ours and back. Pure: no call here waits, asks or keeps.

use sealbridge_contract::{
    Abilities, Arrived, Author, Body, Cleartext, DeliveryError, Kind, Message, PersonId, RemoteId, SenderTrust, Text,
    Timestamp, inbox::Incoming, message::Target,
};

use crate::engine::types::{self, Outgoing};

/// What the engine takes away at the start of a message, together with the line after it.
const FORWARDED: &str = "---------- Forwarded message ----------";
/// Shows nothing, and keeps the engine from seeing [`FORWARDED`].
const WORD_JOINER: char = '\u{2060}';
/// The longest name that is shown.
const NAME: usize = 100;

/// A message, with what had to be asked about it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) message: types::Message,
    pub(crate) id: RemoteId,
    /// Who wrote it, as their key proves it.
    pub(crate) author: Option<PersonId>,
    /// Whether its chat is one where everything is encrypted.
    pub(crate) encrypted: bool,
    /// The name of the message that it answers.
    pub(crate) answers: Option<RemoteId>,
    /// All of its words, if the message itself has only the first of them.
    pub(crate) whole: Option<Text>,
}

/// Why a message is refused that came in clear into a conversation that is encrypted.
pub(crate) const IN_CLEAR: &str = "it came without end-to-end encryption into an encrypted chat";

/// What a message is to the inbox.
pub(crate) fn arrived(read: Read) -> Arrived {
    let Read { message, id, author, encrypted, answers, whole } = read;
    let nobody = || PersonId::new(format!("contact {}", message.from_id));
    let refused = |id, sender, reason: &str| Arrived::Refused { id, sender, reason: reason.to_owned() };
    if !encrypted {
        return refused(id, author.unwrap_or_else(nobody), "the chat is not encrypted");
    }
    if !message.show_padlock {
        return refused(id, author.unwrap_or_else(nobody), IN_CLEAR);
    }
    let Some(author) = author else {
        return refused(id, nobody(), "nobody can tell whose key signed it");
    };
    let name = message.override_sender_name.unwrap_or(message.sender.auth_name);
    let name = if name.is_empty() { message.sender.display_name } else { name };
    let body = Body::plain(whole.unwrap_or(message.text));
    let kind = match message.view_type.as_str() {
        // Its sender says that it is a machine, which no bot may answer.
        "Text" if message.is_bot => Kind::Notice(body),
        "Text" => Kind::Text(body),
        "Image" | "Gif" => Kind::Unsupported { what: "an image" },
        "Video" => Kind::Unsupported { what: "a video" },
        "Audio" | "Voice" => Kind::Unsupported { what: "a voice or audio message" },
        "Sticker" => Kind::Unsupported { what: "a sticker" },
        "File" | "Vcard" | "Webxdc" => Kind::Unsupported { what: "a file" },
        _ => Kind::Unsupported { what: "something" },
    };
    let author = Author { id: author, name: (!name.is_empty()).then_some(name) };
    let sent_at = Timestamp(message.timestamp.saturating_mul(1000));
    let reply_to = answers.map(Target::new);
    let message = Message { reply_to, ..Message::of(author, sent_at, kind) };
    Arrived::Message(Incoming { id, message: Cleartext::new(message), trust: SenderTrust::Proven, once: None })
}

/// Whether the engine shows only the first words of a message.
pub(crate) fn is_cut(message: &types::Message) -> bool {
    message.has_html && message.text.as_str().ends_with("[...]")
}

/// What the engine is given for a message: as the datasheet says, and in no other way.
pub(crate) fn outgoing(
    message: &Message,
    answers: Option<u32>,
    abilities: &Abilities,
) -> Result<Outgoing, DeliveryError> {
    let cannot = || DeliveryError::give_up("Delta Chat does not carry this kind of message");
    // Everything else that can cross was made text before it came here.
    let Kind::Text(body) = &message.kind else { return Err(cannot()) };
    let words = body.plain.as_str();
    if words.len() > abilities.most_bytes {
        return Err(DeliveryError::give_up("it is longer than Delta Chat carries"));
    }
    if words.trim().is_empty() {
        return Err(DeliveryError::give_up("it has no words"));
    }
    let mut text = String::with_capacity(words.len() + 8);
    if words.trim_start().starts_with(FORWARDED) {
        text.push(WORD_JOINER);
    }
    text.push_str(words);
    let name = (!message.author.is_bridge()).then(|| shown(&message.author));
    Ok(Outgoing { text: Text::new(text), override_sender_name: name, quoted_message_id: answers })
}

/// The name under which a person of another network appears: on one line, in reading order, and not endless.
fn shown(author: &Author) -> Text {
    let name = author.name.as_ref().map_or("", Text::as_str);
    let direction = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let neutral: String = name.chars().filter(|c| !c.is_control() && !direction(*c)).take(NAME).collect();
    let neutral = neutral.trim();
    Text::new(if neutral.is_empty() { author.id.as_str() } else { neutral })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str) -> Author {
        Author { id: PersonId::new("@ann:a.test"), name: Some(name.into()) }
    }

    fn sent(kind: Kind) -> Result<(String, Option<String>), String> {
        let message = Message { kind, ..Message::text(author("Ann"), Timestamp(0), "") };
        let own = |text: Text| text.as_str().to_owned();
        let outgoing = outgoing(&message, None, &crate::ABILITIES).map_err(|error| error.cause)?;
        Ok((own(outgoing.text), outgoing.override_sender_name.map(own)))
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
