//! What is posted, as JSON. Pure. `docs/outgoing.md` says what each field is; a field that says nothing is left out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{
    Author, Body, DeliveryError, Kind, Media, Message, RemoteId, SecretBytes, Slip, Text,
    message::{Form, Sort},
};
use serde::Serialize;
use zeroize::Zeroizing;

/// Raised when a receiver has to be changed.
const VERSION: u8 = 1;
/// The most bytes of words.
pub(crate) const MOST_WORDS: usize = 256 * 1024;
/// The most bytes of a file, which is inside of the document.
pub(crate) const MOST_FILE: u64 = 4 << 20;

#[derive(Serialize)]
struct Document<'a> {
    version: u8,
    id: &'a str,
    endpoint: &'a str,
    sent_at: i64,
    author: Person<'a>,
    #[serde(skip_serializing_if = "is_false")]
    late: bool,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emoji: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
}

#[derive(Serialize)]
struct Person<'a> {
    id: &'a str,
    name: &'a str,
    trust: &'static str,
}

#[derive(Serialize)]
struct File<'a> {
    sort: &'static str,
    name: &'a str,
    mime: &'a str,
    size: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
    content: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The id of a delivery, by which the receiver knows it again and by which later messages name it.
pub(crate) fn id(slip: &Slip) -> RemoteId {
    RemoteId::new(format!("msg_{}", slip.delivery))
}

/// Writes the document. `content`: of its file, if it has one.
///
/// # Errors
/// It can't be posted, as it is or ever.
pub(crate) fn write(
    message: &Message,
    slip: &Slip,
    content: Option<&SecretBytes>,
) -> Result<Zeroizing<Vec<u8>>, DeliveryError> {
    let kind = kind(message).ok_or_else(|| DeliveryError::give_up("this kind of message is not posted"))?;
    if message.about().is_some() && slip.about.is_none() {
        return Err(DeliveryError::give_up("it does not say what it is about"));
    }
    let place = match &message.kind {
        Kind::Location(location) => Some(location.uri()),
        _ => None,
    };
    let packed = content.map(|content| Zeroizing::new(STANDARD.encode(content.expose())));
    let file = match (message.media(), &packed) {
        (Some(media), Some(packed)) => Some(file(media, packed)),
        (Some(_), None) => return Err(DeliveryError::retry("its file is not there")),
        (None, _) => None,
    };
    let text = words(message);
    if text.is_some_and(|text| text.len() > MOST_WORDS) {
        return Err(DeliveryError::too_long(u64::try_from(MOST_WORDS).ok()));
    }
    let id = id(slip);
    let document = Document {
        version: VERSION,
        id: id.as_str(),
        endpoint: slip.to.as_str(),
        sent_at: message.sent_at.0,
        author: person(message),
        late: message.caveats.late,
        kind,
        text: text.map(Text::as_str),
        html: message.body().and_then(|body| body.html.as_ref()).map(Text::as_str),
        form: form(message),
        about: slip.about.as_ref().map(RemoteId::as_str),
        reply_to: slip.reply_to.as_ref().map(RemoteId::as_str),
        thread: slip.thread.as_ref().map(RemoteId::as_str),
        emoji: match &message.kind {
            Kind::Reaction(reaction) => Some(reaction.all.iter().map(Text::as_str).collect()),
            _ => None,
        },
        answers: match &message.kind {
            Kind::Poll(poll) => Some(poll.answers.iter().map(Text::as_str).collect()),
            _ => None,
        },
        place: place.as_ref().map(Text::as_str),
        file,
    };
    let json = serde_json::to_vec(&document).map(Zeroizing::new);
    json.map_err(|_| DeliveryError::give_up("it can't be written as JSON"))
}

/// What is posted instead where the endpoint must not read it: the document, encrypted.
#[derive(Serialize)]
struct Envelope<'a> {
    version: u8,
    age: &'a str,
}

/// Puts what is encrypted into a document of its own.
///
/// # Errors
/// It can't be posted.
pub(crate) fn envelope(sealed: &str) -> Result<Vec<u8>, DeliveryError> {
    serde_json::to_vec(&Envelope { version: VERSION, age: sealed })
        .map_err(|_| DeliveryError::give_up("it can't be written as JSON"))
}

fn kind(message: &Message) -> Option<&'static str> {
    Some(match &message.kind {
        Kind::Text(_) => "text",
        Kind::Emote(_) => "emote",
        Kind::Notice(_) => "notice",
        Kind::Edit(_) => "edit",
        Kind::Redaction(_) => "redaction",
        Kind::Reaction(_) => "reaction",
        Kind::File(_) => "file",
        Kind::Location(_) => "location",
        Kind::Poll(_) => "poll",
        // The rest is put into words before it comes here.
        _ => return None,
    })
}

fn words(message: &Message) -> Option<&Text> {
    match &message.kind {
        Kind::Poll(poll) => Some(&poll.question),
        Kind::Location(location) => location.description.as_ref(),
        _ => message.body().map(|Body { plain, .. }| plain),
    }
}

fn form(message: &Message) -> Option<&'static str> {
    let Kind::Edit(edit) = &message.kind else { return None };
    Some(match edit.form {
        Form::Text => "text",
        Form::Emote => "emote",
        Form::Notice => "notice",
    })
}

fn person(message: &Message) -> Person<'_> {
    let Author { id, name } = &message.author;
    let trust = match (message.author.is_bridge(), message.caveats.sender_not_proven) {
        (true, _) => "bridge",
        (false, true) => "not-proven",
        (false, false) => "network",
    };
    Person { id: id.as_str(), name: name.as_ref().map_or(id.as_str(), Text::as_str), trust }
}

fn file<'a>(media: &'a Media, content: &'a str) -> File<'a> {
    let sort = match media.sort {
        Sort::Image => "image",
        Sort::Video => "video",
        Sort::Audio => "audio",
        Sort::Voice => "voice",
        Sort::File => "file",
        Sort::Sticker => "sticker",
    };
    File {
        sort,
        name: media.name.as_str(),
        mime: media.mime.as_str(),
        size: media.content.size,
        sha256: media.content.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        width: media.dimensions.map(|dimensions| dimensions.width),
        height: media.dimensions.map(|dimensions| dimensions.height),
        milliseconds: media.duration.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
        content,
    }
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{
        ConversationId, DeliveryId, PersonId, Target, Timestamp,
        message::{Edit, Reaction},
    };
    use serde_json::{Value, json};

    use super::*;

    fn slip() -> Slip {
        let delivery = DeliveryId::from_bytes([7; 16]);
        Slip {
            about: Some(RemoteId::new("msg_first")),
            reply_to: Some(RemoteId::new("msg_before")),
            ..Slip::new(ConversationId::new("ops"), delivery, Timestamp(0))
        }
    }

    fn posted(kind: Kind, change: impl FnOnce(&mut Message)) -> Value {
        let author = Author { id: PersonId::new("@ann:example.org"), name: Some("Ann".into()) };
        let mut message = Message::of(author, Timestamp(1_700_000_000_123), kind);
        change(&mut message);
        let document = write(&message, &slip(), None).expect("it is written");
        serde_json::from_slice(&document).expect("JSON")
    }

    #[test]
    fn document_says_who_said_what_when_and_about_what() {
        let edit = Edit { of: Target::new(RemoteId::new("$x")), form: Form::Emote, body: Body::plain("\"new\"\n") };
        assert_eq!(
            posted(Kind::Edit(Box::new(edit)), |_| {}),
            json!({
                "version": 1, "id": format!("msg_{}", DeliveryId::from_bytes([7; 16])), "endpoint": "ops",
                "sent_at": 1_700_000_000_123_i64, "kind": "edit", "form": "emote", "text": "\"new\"\n",
                "author": { "id": "@ann:example.org", "name": "Ann", "trust": "network" },
                "about": "msg_first", "reply_to": "msg_before",
            })
        );
        let reaction = Kind::Reaction(Reaction::new(Target::new(RemoteId::new("$x")), ["👍"]));
        let reacted = posted(reaction, |message| message.caveats.sender_not_proven = true);
        assert_eq!((&reacted["emoji"], &reacted["author"]["trust"]), (&json!(["👍"]), &json!("not-proven")));
        let own = Message::notice(Timestamp(0), "hello");
        let own: Value = serde_json::from_slice(&write(&own, &slip(), None).expect("written")).expect("JSON");
        assert_eq!((&own["author"]["trust"], &own["kind"]), (&json!("bridge"), &json!("notice")));
    }

    #[test]
    fn what_is_about_nothing_known_or_of_no_known_kind_is_not_posted() {
        let author = || Author { id: PersonId::new("@ann:example.org"), name: None };
        let redaction = Message::of(author(), Timestamp(0), Kind::Redaction(Target::new(RemoteId::new("$x"))));
        assert!(write(&redaction, &Slip { about: None, ..slip() }, None).is_err());
        let unknown = Message::of(author(), Timestamp(0), Kind::Unsupported { what: "a call" });
        assert!(write(&unknown, &slip(), None).is_err());
    }
}
