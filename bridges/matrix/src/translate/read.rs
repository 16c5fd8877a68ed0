//! Decrypted content → message.

use std::time::Duration;

use ruma::UserId;
use sealbridge_contract::{
    Author, Body, Cleartext, DeliveryId, Kind, Message, PersonId, RemoteId, Target, Text, Timestamp, Trail,
    message::{Caveats, Change, Edit, Form},
    names,
};
use serde_json::Value;

use super::{
    DELIVERY, TRAIL,
    media::{self, Files, Taken},
    place,
    words::{self, event_id},
};
use crate::event::Envelope;

/// One decrypted event, to be read as a message.
pub(crate) struct Reader<'a> {
    pub(crate) kind: &'a str,
    pub(crate) content: &'a Value,
    pub(crate) sender: &'a UserId,
    /// Our own account there.
    pub(crate) me: &'a UserId,
    /// What the sender calls themselves in the room.
    pub(crate) name: Option<&'a str>,
    pub(crate) sent_at: Timestamp,
    pub(crate) sender_not_proven: bool,
}

/// What must be fetched before an event can be read as a message.
#[derive(Debug)]
pub(crate) enum Needs {
    Nothing,
    /// Its files.
    Files(Box<Files>),
    /// The message that it changes: only its own sender may.
    Original(RemoteId),
    /// What its sender reacted with before.
    Reactions,
}

impl Reader<'_> {
    /// What must be fetched first. `Err`: it will never be carried, and why.
    pub(crate) fn needs(&self) -> Result<Needs, &'static str> {
        if self.kind == "m.reaction" {
            return Ok(Needs::Reactions);
        }
        if !matches!(self.kind, "m.room.message" | "m.sticker") {
            return Ok(Needs::Nothing);
        }
        if let Some(original) = replaced(self.content) {
            return Ok(Needs::Original(original));
        }
        match media::sort(self.kind, self.content) {
            Some(_) => media::files(self.content).map(|files| Needs::Files(Box::new(files))),
            None => Ok(Needs::Nothing),
        }
    }

    /// The message, or `None` for what says nothing by itself. `taken`: its files, if it has some.
    pub(crate) fn message(&self, taken: Option<&Taken>) -> Option<Cleartext> {
        let mut name = self.name.map(names::own).filter(|name| !name.is_empty());
        let kind = match self.kind {
            "m.room.message" | "m.sticker" => self.said(&mut name, taken),
            "m.poll.start" | "org.matrix.msc3381.poll.start" => {
                place::poll(self.content).map_or(Kind::Unsupported { what: "a poll" }, Kind::Poll)
            }
            "m.location" => place::location(self.content, "").map_or(UNKNOWN_PLACE, Kind::Location),
            kind if says_nothing(kind) => return None,
            "m.call.invite" => Kind::Unsupported { what: "a call" },
            _ => Kind::Unsupported { what: "something" },
        };
        let caveats = Caveats { sender_not_proven: self.sender_not_proven, ..Caveats::default() };
        let (reply_to, thread) = (words::answered(self.content), self.thread());
        Some(Cleartext::new(Message {
            reply_to,
            thread,
            trail: self.trail(),
            caveats,
            ..Message::of(self.author(name), self.sent_at, kind)
        }))
    }

    /// Something that is told of the sender and has no content of its own.
    pub(crate) fn telling(&self, kind: Kind) -> Cleartext {
        let name = self.name.map(names::own).filter(|name| !name.is_empty());
        Cleartext::new(Message::of(self.author(name), self.sent_at, kind))
    }

    fn author(&self, name: Option<String>) -> Author {
        Author { id: PersonId::new(self.sender.as_str()), name: name.map(Text::new) }
    }

    fn said(&self, name: &mut Option<String>, taken: Option<&Taken>) -> Kind {
        // New words stand in a content of their own; around them is what older programs show.
        let edited = replaced(self.content);
        let content = match &edited {
            Some(_) => self.content.get("m.new_content").unwrap_or(self.content),
            None => self.content,
        };
        let (body, profile) = words::read(content, self.me);
        let profile = profile.or_else(|| words::read(self.content, self.me).1);
        if let Some(profile) = profile {
            let account = name.take().unwrap_or_else(|| self.sender.to_string());
            *name = Some(names::via(&profile, &account));
        }
        let form = words::form(content);
        if let Some(of) = edited {
            return Kind::Edit(Box::new(Edit { of: Target::new(of), form, body }));
        }
        if let Some(sort) = media::sort(self.kind, content) {
            let unread = Kind::Unsupported { what: "a file" };
            return taken.map_or(unread, |taken| Kind::File(Box::new(media::read(sort, content, body, taken))));
        }
        match content.get("msgtype").and_then(Value::as_str) {
            Some("m.location") => place::location(content, body.plain.as_str()).map_or(UNKNOWN_PLACE, Kind::Location),
            // An unknown kind of message has to have words for those who don't know it.
            Some(_) if content.get("body").is_some_and(Value::is_string) => words_of(form, body),
            _ => Kind::Unsupported { what: "something" },
        }
    }

    fn thread(&self) -> Option<Target> {
        let relation = self.content.get("m.relates_to")?;
        (relation.get("rel_type")?.as_str()? == "m.thread").then(|| event_id(relation).map(Target::new))?
    }

    fn trail(&self) -> Trail {
        let texts = self.content.get(TRAIL).and_then(Value::as_array);
        Trail::from_texts(texts.into_iter().flatten().filter_map(Value::as_str))
    }
}

const UNKNOWN_PLACE: Kind = Kind::Unsupported { what: "a location" };

fn words_of(form: Form, body: Body) -> Kind {
    match form {
        Form::Text => Kind::Text(body),
        Form::Emote => Kind::Emote(body),
        Form::Notice => Kind::Notice(body),
    }
}

/// Which delivery of ours a decrypted content is, by its own word.
pub(crate) fn delivery(content: &Value) -> Option<DeliveryId> {
    DeliveryId::parse(content.get(DELIVERY)?.as_str()?).ok()
}

/// The message that a content changes.
pub(crate) fn replaced(content: &Value) -> Option<RemoteId> {
    let relation = content.get("m.relates_to")?;
    (relation.get("rel_type")?.as_str()? == "m.replace").then(|| event_id(relation))?
}

/// The message that a content reacts to, and the emoji.
pub(crate) fn annotated(content: &Value) -> Option<(RemoteId, &str)> {
    let relation = content.get("m.relates_to")?;
    let key = relation.get("key")?.as_str()?;
    (relation.get("rel_type")?.as_str()? == "m.annotation").then(|| event_id(relation).map(|id| (id, key)))?
}

/// What a state event changes about the room, in the eyes of the people in it.
pub(crate) fn state_change(event: &Envelope, name_of: impl Fn(&UserId) -> Option<String>) -> Option<Change> {
    let text = |key: &str| event.content.get(key).and_then(Value::as_str);
    match (event.kind.as_str(), event.state_key.as_deref()?) {
        ("m.room.member", user) => {
            let user = UserId::parse(user).ok()?;
            let before = event.unsigned.get("prev_content");
            let before = before.and_then(|content| content.get("membership")).and_then(Value::as_str);
            let name = name_of(&user).or_else(|| text("displayname").map(names::own));
            let who = Author { id: PersonId::new(user.as_str()), name: name.map(Text::new) };
            match (before, text("membership")?) {
                (before, "join") if before != Some("join") => Some(Change::Joined(who)),
                (Some("join"), "leave" | "ban") => Some(Change::Left(who)),
                _ => None,
            }
        }
        ("m.room.name", "") => text("name").map(|name| Change::Renamed(Text::new(name))),
        ("m.room.avatar", "") => Some(Change::Picture),
        ("m.room.retention", "") => {
            let after = event.content.get("max_lifetime").and_then(Value::as_u64);
            Some(Change::Timer(after.map(Duration::from_millis)))
        }
        _ => None,
    }
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
            | "m.beacon"
            | "org.matrix.msc3672.beacon"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a content is: its kind and words, and the name of its author.
    fn read(kind: &str, content: &Value) -> Option<(String, Option<String>)> {
        let (sender, me) = (UserId::parse("@ann:x").expect("it is a user id"), UserId::parse("@bot:x"));
        let reader = Reader {
            kind,
            content,
            sender: &sender,
            me: &me.expect("it is a user id"),
            name: Some("Ann"),
            sent_at: Timestamp(1),
            sender_not_proven: false,
        };
        // Only the gate shows a message's words, so the test looks through it.
        use sealbridge_contract::{Destination, Origin, Rule, SenderTrust, Verdict, gate::Encryption, judge};
        let message = reader.message(None)?;
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
            Kind::Edit(edit) => format!("edit of {} {}", edit.of.id.as_str(), edit.body.plain.as_str()),
            Kind::Location(location) => location.uri().as_str().to_owned(),
            Kind::Poll(poll) => poll.readable().as_str().to_owned(),
            Kind::Unsupported { what } => (*what).to_owned(),
            _ => "unknown".to_owned(),
        };
        let thread = message.thread.as_ref().map(|root| format!(" in {}", root.id.as_str())).unwrap_or_default();
        Some((format!("{words}{thread}"), name))
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
            (json!({"msgtype": "com.example.new", "body": "words"}), "text words"),
            (json!({"msgtype": "m.location", "body": "Here", "geo_uri": "geo:1,2"}), "geo:1,2"),
            (json!({"msgtype": "m.location", "body": "Here", "geo_uri": "geo:1"}), "a location"),
            (json!({"msgtype": 7, "body": []}), "something"),
            (json!({}), "something"),
            (json!(null), "something"),
            (
                json!({"msgtype": "m.text", "body": "> <@b:x> q\n>\n> r\n\nanswer",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$e"}}}),
                "text answer",
            ),
            (json!({"msgtype": "m.text", "body": "> quoted by hand"}), "text > quoted by hand"),
            (
                json!({"msgtype": "m.text", "body": "* new", "m.new_content": {"msgtype": "m.text", "body": "new"},
                "m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}}),
                "edit of $e new",
            ),
            (
                json!({"msgtype": "m.text", "body": "x",
                "m.relates_to": {"rel_type": "m.thread", "event_id": "$t", "is_falling_back": true,
                    "m.in_reply_to": {"event_id": "$last"}}}),
                "text x in $t",
            ),
        ];
        for (content, expected) in cases {
            assert_eq!(words("m.room.message", &content).as_deref(), Some(expected), "{content}");
        }
        assert_eq!(words("m.poll.start", &json!({})).as_deref(), Some("a poll"));
        assert_eq!(words("m.call.invite", &json!({})).as_deref(), Some("a call"));
        for nothing in ["m.call.candidates", "m.poll.response", "org.matrix.msc3381.poll.end"] {
            assert_eq!(words(nothing, &json!({})), None);
        }
    }

    #[test]
    fn file_that_is_not_encrypted_is_refused() {
        let (sender, name) = (UserId::parse("@ann:x").expect("it is a user id"), Some("Ann"));
        let needs = |content: &Value| {
            let (kind, sent_at) = ("m.room.message", Timestamp(1));
            let me = &sender;
            Reader { kind, content, sender: &sender, me, name, sent_at, sender_not_proven: false }.needs().err()
        };
        let plain = json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"});
        assert_eq!(needs(&plain), Some("its file is not encrypted, though the room is"));
        let elsewhere = json!({"msgtype": "m.image", "body": "cat.png", "file": {"url": "https://evil.test/x"}});
        assert_eq!(needs(&elsewhere), Some("how its file is encrypted is not known"));
    }

    #[test]
    fn profile_names_but_never_hides_who_sent_it() {
        let content = json!({"msgtype": "m.text", "body": "Bob: hi",
            "com.beeper.per_message_profile": {"id": "b", "displayname": "Bob", "has_fallback": true}});
        let read = read("m.room.message", &content).expect("it is a message");
        assert_eq!(read, ("text hi".to_owned(), Some("Bob (via Ann)".to_owned())));
    }
}
