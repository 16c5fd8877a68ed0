//! Decrypted content → message.

use ruma::UserId;
use sealbridge_contract::{
    Author, Body, Cleartext, Kind, Message, PersonId, PictureId, RemoteId, Target, Text, Timestamp, Trail,
    message::{Absence, Caveats, Edit, Form},
    names,
};
use serde_json::Value;

use super::{
    TRAIL,
    media::{self, Files, Taken},
    place,
    relation::{referred, replaced},
    words::{self, event_id},
};
use crate::{profile, rooms::Appearance};

/// One decrypted event, to be read as a message.
pub(crate) struct Reader<'a> {
    pub(crate) kind: &'a str,
    pub(crate) content: &'a Value,
    pub(crate) sender: &'a UserId,
    /// Our own account there.
    pub(crate) me: &'a UserId,
    /// How the sender appears in the room.
    pub(crate) looks: &'a Appearance,
    pub(crate) sent_at: Timestamp,
    pub(crate) sender_not_proven: bool,
}

/// What must be fetched before an event can be read as a message.
#[derive(Debug)]
pub(crate) enum Needs {
    Nothing,
    /// Its files.
    Files(Box<Files>),
    /// Nothing: its file never will be here.
    NoFile(Absence),
    /// The message that it changes: only its own sender may.
    Original(RemoteId),
    /// What its sender reacted with before.
    Reactions,
}

impl Reader<'_> {
    /// What must be fetched first.
    pub(crate) fn needs(&self) -> Needs {
        if self.kind == "m.reaction" {
            return Needs::Reactions;
        }
        if !matches!(self.kind, "m.room.message" | "m.sticker") && !is_poll(self.kind) {
            return Needs::Nothing;
        }
        if let Some(original) = replaced(self.content) {
            return Needs::Original(original);
        }
        match media::sort(self.kind, self.content) {
            Some(_) => match media::files(self.content) {
                Ok(files) => Needs::Files(Box::new(files)),
                Err(why) => Needs::NoFile(why),
            },
            None => Needs::Nothing,
        }
    }

    /// The message, or `None` for what says nothing by itself. `file`: what became of its files, if it has some.
    pub(crate) fn message(&self, file: Option<Result<&Taken, Absence>>) -> Option<Cleartext> {
        let mut looks = self.looks();
        let kind = match self.kind {
            "m.room.message" | "m.sticker" => self.said(&mut looks, file),
            kind if is_poll(kind) => self.poll(),
            "m.poll.end" | "org.matrix.msc3381.poll.end" => Kind::Notice(Body::plain(place::end_of_poll(self.content))),
            "m.location" => place::location(self.content, "").map_or(UNKNOWN_PLACE, Kind::Location),
            "m.beacon" | "org.matrix.msc3672.beacon" => place::live(self.content).map_or(UNKNOWN_PLACE, Kind::Location),
            kind if says_nothing(kind) => return None,
            "m.call.invite" => Kind::Unsupported { what: "a call" },
            _ => Kind::Unsupported { what: "something" },
        };
        let caveats = Caveats { sender_not_proven: self.sender_not_proven, ..Caveats::default() };
        let ended = || self.kind.ends_with("poll.end").then(|| referred(self.content)).flatten().map(Target::new);
        let (reply_to, thread) = (words::answered(self.content).or_else(ended), self.thread());
        Some(Cleartext::new(Message { reply_to, thread, trail: self.trail(), caveats, ..self.by(looks, kind) }))
    }

    /// Which sharing of a live place it belongs to, if it is one step of that.
    pub(crate) fn live(&self) -> Option<RemoteId> {
        matches!(self.kind, "m.beacon" | "org.matrix.msc3672.beacon").then(|| referred(self.content))?
    }

    /// Something that is told of the sender and has no content of its own.
    pub(crate) fn telling(&self, kind: Kind) -> Cleartext {
        Cleartext::new(self.by(self.looks(), kind))
    }

    fn looks(&self) -> Appearance {
        let name = self.looks.name.as_deref().map(names::own).filter(|name| !name.is_empty());
        Appearance { name, picture: self.looks.picture.clone() }
    }

    fn by(&self, looks: Appearance, kind: Kind) -> Message {
        let author = Author { id: PersonId::new(self.sender.as_str()), name: looks.name.map(Text::new) };
        let portrait = looks.picture.and_then(|picture| PictureId::new(picture.as_str()));
        Message { portrait, ..Message::of(author, self.sent_at, kind) }
    }

    /// A poll, or the new words of one. It crosses as words, so its edit does, too.
    fn poll(&self) -> Kind {
        let Some(of) = replaced(self.content) else {
            return place::poll(self.content).map_or(Kind::Unsupported { what: "a poll" }, Kind::Poll);
        };
        let new = self.content.get("m.new_content").and_then(place::poll);
        new.map_or(Kind::Unsupported { what: "an edit" }, |poll| {
            let body = Body::plain(poll.readable());
            Kind::Edit(Box::new(Edit { of: Target::new(of), form: Form::Text, body }))
        })
    }

    fn said(&self, looks: &mut Appearance, file: Option<Result<&Taken, Absence>>) -> Kind {
        // New words stand in a content of their own; around them is what older programs show.
        let edited = replaced(self.content);
        let new = edited.as_ref().and_then(|_| self.content.get("m.new_content"));
        let content = new.unwrap_or(self.content);
        let (body, profile) = words::read(content, self.me);
        let profile = profile.or_else(|| words::read(self.content, self.me).1);
        if let Some(profile) = profile {
            let account = looks.name.take().unwrap_or_else(|| self.sender.to_string());
            // The picture that a message names for somebody else is not fetched, and the account's own is not theirs.
            *looks = Appearance { name: Some(names::via(&profile, &account)), picture: None };
        }
        let form = words::form(content);
        if let Some(of) = edited {
            return Kind::Edit(Box::new(Edit { of: Target::new(of), form, body }));
        }
        if let Some(sort) = media::sort(self.kind, content) {
            return match file {
                Some(Ok(taken)) => Kind::File(Box::new(media::read(sort, content, body, taken))),
                Some(Err(why)) => Kind::Absent(Box::new(media::absent(content, body, why))),
                None => Kind::Unsupported { what: "a file" },
            };
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
        let marks = Trail::from_texts(texts.into_iter().flatten().filter_map(Value::as_str));
        marks.for_another(profile::is_anothers(self.content))
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

fn is_poll(kind: &str) -> bool {
    matches!(kind, "m.poll.start" | "org.matrix.msc3381.poll.start")
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
            | "org.matrix.msc3381.poll.response"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a content is: its kind and words, and the name of its author.
    fn read(kind: &str, content: &Value) -> Option<(String, Option<String>)> {
        let (sender, me) = (UserId::parse("@ann:x").expect("it is a user id"), UserId::parse("@bot:x"));
        let looks = Appearance { name: Some("Ann".into()), picture: Some("mxc://x/ann".into()) };
        let reader = Reader {
            kind,
            content,
            sender: &sender,
            me: &me.expect("it is a user id"),
            looks: &looks,
            sent_at: Timestamp(1),
            sender_not_proven: false,
        };
        // Only the gate shows a message's words, so the test looks through it.
        use sealbridge_contract::{Destination, Origin, Rule, SenderTrust, Verdict, gate::Encryption, judge};
        let message = reader.message(None)?;
        let to = Destination::EndToEnd(Encryption::Pinned);
        let Verdict::Speak(cleared) =
            judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &Rule::default())
        else {
            panic!("the gate lets it through");
        };
        let message = cleared.message();
        let name = message.author.name.as_ref().map(|name| name.as_str().to_owned());
        let via = name.as_ref().is_some_and(|name| name.contains("(via "));
        assert_eq!(message.portrait.is_none(), via, "only who speaks for themselves has the account's picture");
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
        let poll = |question: &str| {
            json!({"org.matrix.msc3381.poll.start": {
            "question": {"org.matrix.msc1767.text": question}, "answers": [{"org.matrix.msc1767.text": "Yes"}]}})
        };
        let mut edited =
            json!({"m.new_content": poll("Coffee?"), "m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}});
        let words_of_edit = "edit of $e 📊 Coffee?\n1. Yes";
        assert_eq!(words("org.matrix.msc3381.poll.start", &edited).as_deref(), Some(words_of_edit));
        assert_eq!(words("m.poll.start", &edited).as_deref(), Some(words_of_edit));
        edited["m.new_content"] = json!({});
        assert_eq!(words("m.poll.start", &edited).as_deref(), Some("an edit"));
        let end = json!({"m.relates_to": {"rel_type": "m.reference", "event_id": "$p"}, "org.matrix.msc3381.poll.end": {},
            "org.matrix.msc1767.text": "The poll has ended. Top answer: Yes"});
        let ended = "notice 📊 ended a poll: The poll has ended. Top answer: Yes";
        assert_eq!(words("org.matrix.msc3381.poll.end", &end).as_deref(), Some(ended));
        assert_eq!(words("m.poll.end", &json!({})).as_deref(), Some("notice 📊 ended a poll"));
        let live = json!({"m.relates_to": {"rel_type": "m.reference", "event_id": "$b"},
            "org.matrix.msc3488.location": {"uri": "geo:1,2", "description": "on my way"}});
        for kind in ["m.beacon", "org.matrix.msc3672.beacon"] {
            assert_eq!(words(kind, &live).as_deref(), Some("geo:1,2"));
            assert_eq!(words(kind, &json!({})).as_deref(), Some("a location"));
        }
        for nothing in ["m.call.candidates", "m.poll.response", "org.matrix.msc3381.poll.response"] {
            assert_eq!(words(nothing, &json!({})), None);
        }
    }

    #[test]
    fn new_words_of_a_poll_wait_until_it_is_known_whose_it_is() {
        let (sender, looks) = (UserId::parse("@ann:x").expect("it is a user id"), &Appearance::default());
        let content = &json!({"m.new_content": {"m.poll": {}},
            "m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}});
        for kind in ["m.poll.start", "org.matrix.msc3381.poll.start"] {
            let (me, sent_at) = (&sender, Timestamp(1));
            let reader = Reader { kind, content, sender: &sender, me, looks, sent_at, sender_not_proven: false };
            assert!(matches!(reader.needs(), Needs::Original(of) if of.as_str() == "$e"), "{kind}");
        }
    }

    #[test]
    fn file_that_is_not_encrypted_is_not_fetched() {
        let (sender, looks) = (UserId::parse("@ann:x").expect("it is a user id"), &Appearance::default());
        let needs = |content: &Value| {
            let (kind, sent_at) = ("m.room.message", Timestamp(1));
            let me = &sender;
            match (Reader { kind, content, sender: &sender, me, looks, sent_at, sender_not_proven: false }).needs() {
                Needs::NoFile(why) => Some(why),
                _ => None,
            }
        };
        let plain = json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"});
        assert_eq!(needs(&plain), Some(Absence::NotEncrypted));
        let elsewhere = json!({"msgtype": "m.image", "body": "cat.png", "file": {"url": "https://evil.test/x"}});
        assert_eq!(needs(&elsewhere), Some(Absence::NotUnderstood));
    }

    #[test]
    fn what_is_shown_as_anothers_or_came_through_a_puppet_is_not_first_hand() {
        let (sender, looks) = (UserId::parse("@ann:x").expect("it is a user id"), &Appearance::default());
        let is_first_hand = |extra: &str, value: Value| {
            let mut content = json!({"msgtype": "m.text", "body": "hi"});
            content[extra] = value;
            let (kind, me, sent_at, content) = ("m.room.message", &sender, Timestamp(1), &content);
            let reader = Reader { kind, content, sender: &sender, me, looks, sent_at, sender_not_proven: false };
            reader.message(None).expect("it is a message").trail().is_first_hand()
        };
        assert!(is_first_hand("org.example.other", json!(1)));
        for key in ["com.beeper.per_message_profile", "m.per_message_profile", "fi.mau.double_puppet_source"] {
            for value in [json!({"id": "b"}), json!({}), json!("x"), json!(null)] {
                assert!(!is_first_hand(key, value.clone()), "{key}: {value}");
            }
        }
    }

    #[test]
    fn profile_names_but_never_hides_who_sent_it() {
        let content = json!({"msgtype": "m.text", "body": "Bob: hi",
            "com.beeper.per_message_profile": {"id": "b", "displayname": "Bob", "has_fallback": true}});
        let read = read("m.room.message", &content).expect("it is a message");
        assert_eq!(read, ("text hi".to_owned(), Some("Bob (via Ann)".to_owned())));
    }
}
