//! The form of a message inside our own encryption. Private: nothing outside can serialise a message.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    Author, Body, Kind, Message, PersonId, RemoteId, ReplyTo, SecretBytes, Text, Timestamp, Trail, message::Caveats,
};

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(rename = "a", borrow)]
    author: Cow<'a, str>,
    #[serde(rename = "n", borrow, skip_serializing_if = "Option::is_none", default)]
    name: Option<Cow<'a, str>>,
    #[serde(rename = "t")]
    sent_at: i64,
    #[serde(rename = "k")]
    kind: WireKind,
    #[serde(rename = "p", borrow, default)]
    plain: Cow<'a, str>,
    #[serde(rename = "h", borrow, skip_serializing_if = "Option::is_none", default)]
    html: Option<Cow<'a, str>>,
    #[serde(rename = "r", borrow, skip_serializing_if = "Option::is_none", default)]
    reply_to: Option<Cow<'a, str>>,
    #[serde(rename = "m", skip_serializing_if = "Vec::is_empty", default)]
    marks: Vec<String>,
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    sender_not_proven: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireKind {
    Text,
    Emote,
    Notice,
    Unsupported,
}

/// The words from which [`Kind::Unsupported`] is made again: a stored name must become one of our own.
const UNSUPPORTED: &[&str] = Kind::UNSUPPORTED;

pub(crate) fn encode(message: &Message, trail: &Trail, reply_to: Option<&RemoteId>) -> SecretBytes {
    let (kind, plain, html) = match &message.kind {
        Kind::Text(b) => (WireKind::Text, b.plain.as_str(), b.html.as_ref()),
        Kind::Emote(b) => (WireKind::Emote, b.plain.as_str(), b.html.as_ref()),
        Kind::Notice(b) => (WireKind::Notice, b.plain.as_str(), b.html.as_ref()),
        Kind::Unsupported { what } => (WireKind::Unsupported, *what, None),
    };
    let wire = Wire {
        author: message.author.id.as_str().into(),
        name: message.author.name.as_ref().map(|n| n.as_str().into()),
        sent_at: message.sent_at.0,
        kind,
        plain: plain.into(),
        html: html.map(|h| h.as_str().into()),
        reply_to: reply_to.map(|id| id.as_str().into()),
        marks: trail.to_texts(),
        late: message.caveats.late,
        sender_not_proven: message.caveats.sender_not_proven,
    };
    // Room for the whole, so that no half-grown copy of the words is left behind unerased.
    let mut out = Vec::with_capacity(256 + 2 * (wire.plain.len() + wire.html.as_ref().map_or(0, |h| h.len())));
    serde_json::to_writer(&mut out, &wire).expect("a message has only texts and numbers");
    SecretBytes::new(out)
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let wire: Wire<'_> = serde_json::from_slice(bytes).ok()?;
    let body = || Body { plain: Text::new(wire.plain.as_ref()), html: wire.html.as_deref().map(Text::new) };
    let kind = match wire.kind {
        WireKind::Text => Kind::Text(body()),
        WireKind::Emote => Kind::Emote(body()),
        WireKind::Notice => Kind::Notice(body()),
        WireKind::Unsupported => {
            let what = UNSUPPORTED.iter().find(|known| **known == wire.plain).copied();
            Kind::Unsupported { what: what.unwrap_or("something") }
        }
    };
    Some(Message {
        author: Author { id: PersonId::new(wire.author), name: wire.name.as_deref().map(Text::new) },
        sent_at: Timestamp(wire.sent_at),
        kind,
        reply_to: wire.reply_to.map(|id| ReplyTo { id: RemoteId::new(id) }),
        trail: Trail::from_texts(wire.marks.iter().map(String::as_str)),
        caveats: Caveats { late: wire.late, sender_not_proven: wire.sender_not_proven },
    })
}
