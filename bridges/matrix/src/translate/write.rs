//! Message → content to be encrypted.

use sealbridge_contract::{Body, Kind, Message, Slip, html};
use serde_json::{Map, Value, json, value::RawValue};

use super::{DELIVERY, TRAIL};
use crate::profile;

/// The most bytes of plain and formatted words that surely fit into an event.
pub(crate) const MOST_BYTES: usize = 32 * 1024;
/// The most bytes of content. Homeservers take events of 65,536 bytes; ciphertext is a third longer than its content,
/// and what the homeserver adds has to fit too.
pub(crate) const MOST_PAYLOAD: usize = 45_000;

/// The content of the event that carries `message`, or `None` if it is longer than an event can be.
pub(crate) fn content(message: &Message, slip: &Slip) -> Option<Box<RawValue>> {
    let full = build(message, slip, true);
    if full.get().len() <= MOST_PAYLOAD {
        return Some(full);
    }
    // Formatting repeats the words; without it there may be room.
    let plain = build(message, slip, false);
    (plain.get().len() <= MOST_PAYLOAD).then_some(plain)
}

fn build(message: &Message, slip: &Slip, formatted: bool) -> Box<RawValue> {
    let mut content = Map::new();
    match &message.kind {
        Kind::Text(body) => words(&mut content, "m.text", body, formatted),
        Kind::Emote(body) => words(&mut content, "m.emote", body, formatted),
        Kind::Notice(body) => words(&mut content, "m.notice", body, formatted),
        Kind::Unsupported { what } => not_carried(&mut content, what),
        _ => not_carried(&mut content, "something"),
    }
    caveats(&mut content, message);
    if !message.author.is_bridge() {
        profile::add(&mut content, &message.author, formatted);
    }
    // Present and empty: without it, clients look for names in the body and notify people.
    content.insert("m.mentions".into(), json!({}));
    if let Some(reply_to) = &slip.reply_to {
        content.insert("m.relates_to".into(), json!({ "m.in_reply_to": { "event_id": reply_to.as_str() } }));
    }
    content.insert(DELIVERY.into(), slip.delivery.to_string().into());
    if slip.trail.hops() > 0 {
        content.insert(TRAIL.into(), slip.trail.to_texts().into());
    }
    serde_json::value::to_raw_value(&content).expect("a map of JSON values serialises")
}

fn words(content: &mut Map<String, Value>, msgtype: &str, body: &Body, formatted: bool) {
    content.insert("msgtype".into(), msgtype.into());
    content.insert("body".into(), body.plain.as_str().into());
    let html = body.html.as_ref().filter(|_| formatted).and_then(|html| html::harmless(html.as_str()));
    if let Some(html) = html {
        content.insert("format".into(), "org.matrix.custom.html".into());
        content.insert("formatted_body".into(), html.into());
    }
}

fn not_carried(content: &mut Map<String, Value>, what: &str) {
    content.insert("msgtype".into(), "m.notice".into());
    content.insert("body".into(), format!("[{what}, which this bridge does not carry yet]").into());
}

fn caveats(content: &mut Map<String, Value>, message: &Message) {
    let mut said = String::new();
    if message.caveats.late {
        said.push_str("[late] ");
    }
    if message.caveats.sender_not_proven {
        said.push_str("[sender not proven] ");
    }
    if said.is_empty() {
        return;
    }
    for key in ["body", "formatted_body"] {
        if let Some(Value::String(words)) = content.get_mut(key) {
            words.insert_str(0, &said);
        }
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{Author, ConversationId, DeliveryId, PersonId, RemoteId, Timestamp, message::Caveats};

    use super::*;

    fn slip() -> Slip {
        Slip::new(ConversationId::new("!r:x"), DeliveryId::from_bytes([1; 16]), Timestamp(0))
    }

    fn ann(words: &str) -> Message {
        Message::text(Author { id: PersonId::new("@ann:x"), name: Some("Ann".into()) }, Timestamp(0), words)
    }

    fn written(message: &Message, slip: &Slip) -> Value {
        serde_json::from_str(content(message, slip).expect("it fits").get()).expect("it is JSON")
    }

    #[test]
    fn delivery_is_named_inside_and_nobody_is_notified() {
        let content = written(&ann("hi"), &slip());
        assert_eq!(content["m.mentions"], json!({}));
        assert_eq!(content[DELIVERY], slip().delivery.to_string());
        assert_eq!(content["body"], "Ann: hi");
        assert!(content.get("m.relates_to").is_none());
    }

    #[test]
    fn answer_names_its_target_and_nothing_else_in_clear() {
        let slip = Slip { reply_to: Some(RemoteId::new("$e")), ..slip() };
        let content = written(&ann("yes"), &slip);
        assert_eq!(content["m.relates_to"], json!({ "m.in_reply_to": { "event_id": "$e" } }));
    }

    #[test]
    fn caveats_are_said_in_words() {
        let caveats = Caveats { late: true, sender_not_proven: true };
        let content = written(&Message { caveats, ..ann("hi") }, &slip());
        assert_eq!(content["body"], "Ann: [late] [sender not proven] hi");
    }

    #[test]
    fn bridge_speaks_without_a_profile() {
        let content = written(&Message::notice(Timestamp(0), "linked"), &slip());
        assert_eq!(content["body"], "linked");
        assert_eq!(content["msgtype"], "m.notice");
        assert!(content.get(profile::KEY).is_none());
    }

    #[test]
    fn what_is_too_long_is_refused_and_formatting_goes_first() {
        let long = "x".repeat(MOST_PAYLOAD - 1_000);
        let content_of = |words: &str| content(&ann(words), &slip());
        let plain = content_of(&long).expect("it fits without formatting");
        assert!(!plain.get().contains("formatted_body"));
        assert!(content_of(&"x".repeat(60_000)).is_none());
        assert!(content_of(&"x".repeat(MOST_BYTES / 2)).expect("it fits").get().contains("formatted_body"));
    }

    #[test]
    fn odd_characters_cross_as_they_are() {
        let content = written(&ann("a\0b\u{202e}c"), &slip());
        assert_eq!(content["body"], "Ann: a\0b\u{202e}c");
    }
}
