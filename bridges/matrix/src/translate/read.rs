//! Decrypted content → message.

use ruma::UserId;
use sealbridge_contract::{
    Author, Body, Cleartext, DeliveryId, Kind, Message, PersonId, RemoteId, Target, Text, Timestamp, Trail, html,
    message::Caveats, names,
};
use serde_json::Value;

use super::{DELIVERY, TRAIL};
use crate::profile;

/// One decrypted event, to be read as a message.
pub(crate) struct Reader<'a> {
    pub(crate) kind: &'a str,
    pub(crate) content: &'a Value,
    pub(crate) sender: &'a UserId,
    /// What the sender calls themselves in the room.
    pub(crate) name: Option<&'a str>,
    pub(crate) sent_at: Timestamp,
    pub(crate) sender_not_proven: bool,
}

impl Reader<'_> {
    /// The message, or `None` for what says nothing by itself.
    pub(crate) fn message(&self) -> Option<Cleartext> {
        let mut name = self.name.map(names::own).filter(|name| !name.is_empty());
        let kind = match self.kind {
            "m.room.message" => self.room_message(&mut name),
            "m.sticker" => Kind::Unsupported { what: "a sticker" },
            "m.poll.start" | "org.matrix.msc3381.poll.start" => Kind::Unsupported { what: "a poll" },
            "m.reaction" => Kind::Unsupported { what: "a reaction" },
            kind if says_nothing(kind) => return None,
            _ => Kind::Unsupported { what: "something" },
        };
        let author = Author { id: PersonId::new(self.sender.as_str()), name: name.map(Text::new) };
        let caveats = Caveats { sender_not_proven: self.sender_not_proven, ..Caveats::default() };
        let (reply_to, trail) = (self.reply_to(), self.trail());
        Some(Cleartext::new(Message { author, sent_at: self.sent_at, kind, reply_to, thread: None, trail, caveats }))
    }

    fn room_message(&self, name: &mut Option<String>) -> Kind {
        let what = match self.text("msgtype") {
            Some("m.text" | "m.emote" | "m.notice") => None,
            Some("m.image") => Some("an image"),
            Some("m.video") => Some("a video"),
            Some("m.audio") => Some("a voice or audio message"),
            Some("m.file") => Some("a file"),
            Some("m.location") => Some("a location"),
            // An unknown kind of message has to have words for those who don't know it.
            Some(_) if self.text("body").is_some() => None,
            _ => Some("something"),
        };
        let mut body = self.text("body").unwrap_or_default().to_owned();
        let formatted = self.text("format") == Some("org.matrix.custom.html");
        let mut html = self.text("formatted_body").filter(|_| formatted).map(str::to_owned);
        if let Some(profile) = profile::strip(self.content, &mut body, &mut html) {
            let account = name.take().unwrap_or_else(|| self.sender.to_string());
            *name = Some(names::via(&profile, &account));
        }
        if let Some(what) = what {
            return Kind::Unsupported { what };
        }
        if self.reply_to().is_some() {
            body = without_quote(&body).to_owned();
        }
        let html = html.as_deref().and_then(html::harmless).map(Text::new);
        let body = Body { html, ..Body::plain(body) };
        match self.text("msgtype") {
            Some("m.emote") => Kind::Emote(body),
            Some("m.notice") => Kind::Notice(body),
            _ => Kind::Text(body),
        }
    }

    fn reply_to(&self) -> Option<Target> {
        let relation = self.content.get("m.relates_to")?;
        // In a thread, clients name the last message for those that know no threads; nobody meant to answer it.
        if relation.get("is_falling_back").and_then(Value::as_bool) == Some(true) {
            return None;
        }
        let id = relation.get("m.in_reply_to")?.get("event_id")?.as_str()?;
        (id.len() <= 255).then(|| Target::new(RemoteId::new(id)))
    }

    fn trail(&self) -> Trail {
        let texts = self.content.get(TRAIL).and_then(Value::as_array);
        Trail::from_texts(texts.into_iter().flatten().filter_map(Value::as_str))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.content.get(key).and_then(Value::as_str)
    }
}

/// Which delivery of ours a decrypted content is, by its own word.
pub(crate) fn delivery(content: &Value) -> Option<DeliveryId> {
    DeliveryId::parse(content.get(DELIVERY)?.as_str()?).ok()
}

/// Steps of calls and polls that mean nothing to a reader.
fn says_nothing(kind: &str) -> bool {
    matches!(
        kind,
        "m.room.redaction"
            | "m.call.candidates"
            | "m.call.answer"
            | "m.call.select_answer"
            | "m.call.negotiate"
            | "m.call.hangup"
            | "m.call.reject"
            | "m.poll.response"
            | "m.poll.end"
            | "org.matrix.msc3381.poll.response"
            | "org.matrix.msc3381.poll.end"
    )
}

/// The words of an answer without the quotation that older clients put before them.
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> ") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        match rest.split_once('\n') {
            Some((_, after)) => rest = after,
            None => return body,
        }
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: &str, content: &Value) -> Option<(String, Option<String>)> {
        let sender = UserId::parse("@ann:x").expect("it is a user id");
        let reader = Reader {
            kind,
            content,
            sender: &sender,
            name: Some("Ann"),
            sent_at: Timestamp(1),
            sender_not_proven: false,
        };
        // Only the gate shows a message's words, so the test looks through it.
        use sealbridge_contract::{Destination, Origin, Rule, SenderTrust, Verdict, gate::Encryption, judge};
        let message = reader.message()?;
        let to = Destination::EndToEnd(Encryption::Pinned);
        let Verdict::Speak(cleared) = judge(&message, Origin { sender: SenderTrust::Proven }, &to, &Rule::default())
        else {
            panic!("the gate lets it through");
        };
        let message = cleared.message();
        let name = message.author.name.as_ref().map(|name| name.as_str().to_owned());
        let words = match &message.kind {
            Kind::Text(body) => format!("text {}", body.plain.as_str()),
            Kind::Emote(body) => format!("emote {}", body.plain.as_str()),
            Kind::Notice(body) => format!("notice {}", body.plain.as_str()),
            Kind::Unsupported { what } => (*what).to_owned(),
            _ => "unknown".to_owned(),
        };
        Some((words, name))
    }

    fn words(kind: &str, content: &Value) -> Option<String> {
        read(kind, content).map(|(words, _)| words)
    }

    #[test]
    fn each_kind_is_read_as_what_it_is() {
        let cases = [
            (json!({"msgtype": "m.text", "body": "hi"}), "text hi"),
            (json!({"msgtype": "m.emote", "body": "waves"}), "emote waves"),
            (json!({"msgtype": "m.notice", "body": "beep"}), "notice beep"),
            (json!({"msgtype": "m.image", "body": "cat.png"}), "an image"),
            (json!({"msgtype": "com.example.new", "body": "words"}), "text words"),
            (json!({"msgtype": 7, "body": []}), "something"),
            (json!({}), "something"),
            (json!(null), "something"),
            (
                json!({"msgtype": "m.text", "body": "> <@b:x> q\n>\n> r\n\nanswer",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$e"}}}),
                "text answer",
            ),
            (json!({"msgtype": "m.text", "body": "> quoted by hand"}), "text > quoted by hand"),
        ];
        for (content, expected) in cases {
            assert_eq!(words("m.room.message", &content).as_deref(), Some(expected), "{content}");
        }
        assert_eq!(words("m.sticker", &json!({})).as_deref(), Some("a sticker"));
        assert_eq!(words("m.call.candidates", &json!({})), None);
    }

    #[test]
    fn profile_names_but_never_hides_who_sent_it() {
        let content = json!({"msgtype": "m.text", "body": "Bob: hi",
            "com.beeper.per_message_profile": {"id": "b", "displayname": "Bob", "has_fallback": true}});
        let read = read("m.room.message", &content).expect("it is a message");
        assert_eq!(read, ("text hi".to_owned(), Some("Bob (via Ann)".to_owned())));
    }
}
