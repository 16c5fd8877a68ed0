//! Message → content to be encrypted.

use ruma::UserId;
use sealbridge_contract::{Kind, Message, Slip, message::Form};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    DELIVERY, TRAIL,
    media::{self, Brought},
    place, words,
};
use crate::{engine::Attachment, profile};

/// The most bytes of plain and formatted words that surely fit into an event.
pub(crate) const MOST_BYTES: usize = 32 * 1024;
/// The most bytes of content. Homeservers take events of 65,536 bytes; ciphertext is a third longer than its content,
/// and what the homeserver adds has to fit too.
pub(crate) const MOST_PAYLOAD: usize = 45_000;

/// What was uploaded for a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uploads<'a> {
    pub(crate) files: Option<&'a Brought>,
    /// The picture of its author.
    pub(crate) portrait: Option<&'a Attachment>,
}

/// The type and the content of the event that carries `message`, or `None` if it is longer than an event can be.
pub(crate) fn content(
    message: &Message,
    slip: &Slip,
    uploads: Uploads<'_>,
    is_there: &dyn Fn(&UserId) -> bool,
) -> Option<(&'static str, Box<RawValue>)> {
    // Formatting repeats the words; without it there may be room.
    [true, false].into_iter().find_map(|formatted| {
        let writer = Writer { message, slip, uploads, is_there, formatted };
        let (kind, content) = writer.event();
        let content = serde_json::value::to_raw_value(&content).expect("a map of JSON values serialises");
        (content.get().len() <= MOST_PAYLOAD).then_some((kind, content))
    })
}

struct Writer<'a> {
    message: &'a Message,
    slip: &'a Slip,
    uploads: Uploads<'a>,
    is_there: &'a dyn Fn(&UserId) -> bool,
    formatted: bool,
}

impl Writer<'_> {
    fn event(&self) -> (&'static str, Map<String, Value>) {
        let (kind, said) = self.said();
        let mut content = match &self.message.kind {
            Kind::Edit(_) => around(said),
            _ => said,
        };
        if let Some(relation) = self.relation() {
            content.insert("m.relates_to".into(), relation);
        }
        content.insert(DELIVERY.into(), self.slip.delivery.to_string().into());
        if self.slip.trail.hops() > 0 {
            content.insert(TRAIL.into(), self.slip.trail.to_texts().into());
        }
        (kind, content)
    }

    /// What is said, in the name of its author.
    fn said(&self) -> (&'static str, Map<String, Value>) {
        let mut content = Map::new();
        let mut kind = "m.room.message";
        match (&self.message.kind, self.uploads.files) {
            (Kind::File(media), Some(brought)) => {
                match &media.caption {
                    Some(caption) => words::write(&mut content, caption, self.formatted),
                    None => drop(content.insert("body".into(), media.name.as_str().into())),
                }
                kind = media::write(&mut content, media, brought);
            }
            (Kind::Location(location), _) => place::write(&mut content, location),
            (Kind::Text(body), _) => self.words(&mut content, Form::Text, body),
            (Kind::Emote(body), _) => self.words(&mut content, Form::Emote, body),
            (Kind::Notice(body), _) => self.words(&mut content, Form::Notice, body),
            (Kind::Edit(edit), _) => self.words(&mut content, edit.form, &edit.body),
            (Kind::Unsupported { what }, _) => not_carried(&mut content, what),
            _ => not_carried(&mut content, "something"),
        }
        if !self.message.author.is_bridge() {
            profile::add(&mut content, &self.message.author, self.uploads.portrait, self.formatted);
        }
        content.insert("m.mentions".into(), words::called(self.message.body(), self.is_there));
        (kind, content)
    }

    fn words(&self, content: &mut Map<String, Value>, form: Form, body: &sealbridge_contract::Body) {
        let msgtype = match form {
            Form::Text => "m.text",
            Form::Emote => "m.emote",
            Form::Notice => "m.notice",
        };
        content.insert("msgtype".into(), msgtype.into());
        words::write(content, body, self.formatted);
    }

    /// The one thing that a homeserver can read of it: to which events it belongs.
    fn relation(&self) -> Option<Value> {
        let Slip { reply_to, thread, about, .. } = self.slip;
        if let (Kind::Edit(_), Some(of)) = (&self.message.kind, about) {
            return Some(json!({ "rel_type": "m.replace", "event_id": of.as_str() }));
        }
        let answer = |id: &str| json!({ "event_id": id });
        match (thread, reply_to) {
            (Some(root), Some(to)) => Some(json!({
                "rel_type": "m.thread", "event_id": root.as_str(), "is_falling_back": false,
                "m.in_reply_to": answer(to.as_str()),
            })),
            (Some(root), None) => Some(json!({
                "rel_type": "m.thread", "event_id": root.as_str(), "is_falling_back": true,
                "m.in_reply_to": answer(root.as_str()),
            })),
            (None, Some(to)) => Some(json!({ "m.in_reply_to": answer(to.as_str()) })),
            (None, None) => None,
        }
    }
}

/// What older programs show of an edit: a new message. Long words are not said twice.
fn around(said: Map<String, Value>) -> Map<String, Value> {
    const LONGEST: usize = 1000;
    let mut content = Map::new();
    let text = |key: &str| said.get(key).and_then(Value::as_str);
    let body = text("body").unwrap_or_default();
    let short = &body[..body.floor_char_boundary(LONGEST)];
    let cut = if short.len() < body.len() { "…" } else { "" };
    content.insert("body".into(), format!("* {short}{cut}").into());
    let html = text("formatted_body").filter(|html| html.len() <= LONGEST);
    if let Some(html) = html {
        content.insert("format".into(), "org.matrix.custom.html".into());
        content.insert("formatted_body".into(), format!("* {html}").into());
    }
    for key in ["msgtype", profile::KEY] {
        content.extend(said.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    // Nobody is called a second time.
    content.insert("m.mentions".into(), json!({}));
    content.insert("m.new_content".into(), said.into());
    content
}

fn not_carried(content: &mut Map<String, Value>, what: &str) {
    content.insert("msgtype".into(), "m.notice".into());
    content.insert("body".into(), format!("[{what}, which this bridge does not carry]").into());
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{
        Author, Body, ConversationId, DeliveryId, PersonId, RemoteId, Target, Timestamp, message::Edit,
    };

    use super::*;

    fn slip() -> Slip {
        Slip::new(ConversationId::new("!r:x"), DeliveryId::from_bytes([1; 16]), Timestamp(0))
    }

    fn ann(words: &str) -> Message {
        Message::text(Author { id: PersonId::new("@ann:x"), name: Some("Ann".into()) }, Timestamp(0), words)
    }

    fn written(message: &Message, slip: &Slip) -> Value {
        let (_, content) = content(message, slip, Uploads::default(), &|_| true).expect("it fits");
        serde_json::from_str(content.get()).expect("it is JSON")
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
    fn edit_names_its_message_and_repeats_no_long_words() {
        let slip = Slip { about: Some(RemoteId::new("$e")), ..slip() };
        let body = Body { html: Some("<b>x</b>".into()), ..Body::plain("x".repeat(2000)) };
        let edit = Edit { of: Target::new(RemoteId::new("far")), form: Form::Emote, body };
        let content = written(&Message { kind: Kind::Edit(Box::new(edit)), ..ann("") }, &slip);
        assert_eq!(content["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": "$e" }));
        assert!(content["body"].as_str().is_some_and(|body| body.starts_with("* Ann: xx") && body.len() < 1100));
        let new = &content["m.new_content"];
        assert_eq!(new["msgtype"], "m.emote");
        assert_eq!(new["body"].as_str().map(str::len), Some(2005));
        assert_eq!(new[profile::KEY]["displayname"], "Ann");
        assert!(new.get("m.relates_to").is_none() && content["m.mentions"] == json!({}));
    }

    #[test]
    fn thread_is_named_with_and_without_an_answer() {
        let slip = Slip { thread: Some(RemoteId::new("$t")), ..slip() };
        let content = written(&ann("a"), &slip);
        let relation = json!({ "rel_type": "m.thread", "event_id": "$t", "is_falling_back": true,
            "m.in_reply_to": { "event_id": "$t" } });
        assert_eq!(content["m.relates_to"], relation);
        let content = written(&ann("a"), &Slip { reply_to: Some(RemoteId::new("$a")), ..slip });
        assert_eq!(content["m.relates_to"]["is_falling_back"], false);
        assert_eq!(content["m.relates_to"]["m.in_reply_to"]["event_id"], "$a");
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
        let content_of =
            |words: &str| content(&ann(words), &slip(), Uploads::default(), &|_| true).map(|(_, content)| content);
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
