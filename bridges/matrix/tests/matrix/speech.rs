//! What the person of the conformance kit says and hears, in the words of the kit.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::{
    DeliveryId, PersonId, RemoteId, Trail,
    conformance::{Details, How, Overheard, Sample, Say},
};
use sealbridge_lab::{
    Person,
    person::{Event, Message, Received, Text},
};
use serde_json::{Value, json};

/// Who said it, where a bridge speaks for others.
pub(crate) const PROFILE: &str = "com.beeper.per_message_profile";

/// Says it as clients do, and gives the name of the event.
pub(crate) async fn say(person: &Person, room: &str, say: Say) -> Result<RemoteId> {
    let marks = say.trail.to_texts();
    let about = || say.details.about.as_ref().map(RemoteId::as_str).unwrap_or_default();
    let msgtype = match say.how {
        How::Emote => "m.emote",
        How::Notice => "m.notice",
        _ => "m.text",
    };
    let event = match say.how {
        How::Text | How::Emote | How::Notice => {
            let text = Text {
                body: &say.words,
                formatted: say.html.as_deref(),
                msgtype: Some(msgtype),
                reply_to: say.reply_to.as_ref().map(RemoteId::as_str),
                extra: (!marks.is_empty()).then(|| json!({ "org.sealbridge.trail": marks })),
            };
            person.send_text(room, text).await?
        }
        How::Edit => {
            let content = json!({
                "msgtype": msgtype, "body": format!("* {}", say.words), "m.mentions": {},
                "m.new_content": { "msgtype": msgtype, "body": say.words, "m.mentions": {} },
                "m.relates_to": { "rel_type": "m.replace", "event_id": about() },
            });
            person.send_event(room, "m.room.message", content).await?
        }
        How::Redaction => person.redact(room, about()).await?,
        How::Reaction => react(person, room, about(), &say.details.emoji).await?,
        How::Location => {
            let place = say.details.place.as_deref().unwrap_or_default();
            let content = json!({
                "msgtype": "m.location", "body": format!("{} {place}", say.words), "geo_uri": place,
                "org.matrix.msc3488.location": { "uri": place, "description": say.words },
            });
            person.send_event(room, "m.room.message", content).await?
        }
        How::Poll => {
            let text = |words: &str| json!({ "org.matrix.msc1767.text": words });
            let answers: Vec<_> = say.details.answers.iter().map(|answer| text(answer)).collect();
            let poll = json!({ "question": text(&say.words), "answers": answers });
            let content = json!({ "org.matrix.msc3381.poll.start": poll });
            person.send_event(room, "org.matrix.msc3381.poll.start", content).await?
        }
        how => send_file(person, room, how, &say).await?,
    };
    Ok(RemoteId::new(event))
}

async fn react(person: &Person, room: &str, to: &str, emoji: &[String]) -> Result<String> {
    let mut last = Err(anyhow::anyhow!("no emoji was new"));
    for emoji in emoji {
        let relation = json!({ "rel_type": "m.annotation", "event_id": to, "key": emoji });
        match person.send_raw_plain(room, "m.reaction", json!({ "m.relates_to": relation })).await {
            Ok(event) => last = Ok(event),
            // A homeserver takes each emoji once.
            Err(error) if format!("{error:#}").contains("M_DUPLICATE_ANNOTATION") => {}
            Err(error) => return Err(error),
        }
    }
    last
}

async fn send_file(person: &Person, room: &str, how: How, say: &Say) -> Result<String> {
    let sample = say.details.file.as_ref().context("A file has a content")?;
    let (width, height) = sample.dimensions.unwrap_or_default();
    let msgtype = match how {
        How::Image => "m.image",
        How::Video => "m.video",
        How::Audio | How::Voice => "m.audio",
        _ => "m.file",
    };
    let mut extra = json!({ "body": say.words });
    if how == How::Voice {
        extra["org.matrix.msc3245.voice"] = json!({});
    }
    let file = json!({
        "room": room, "name": sample.name, "mimetype": sample.mime, "msgtype": msgtype,
        "data": STANDARD.encode(&sample.content), "extra": extra, "wrong_hash": sample.wrong_hash,
        "kind": if how == How::Sticker { "m.sticker" } else { "m.room.message" },
        "info": { "w": width, "h": height },
    });
    let sent = person.call("send_file", file).await?;
    sent["event_id"].as_str().map(str::to_owned).context("A sent file has a name")
}

/// Everything that others said so far, as a client that knows profiles shows it.
pub(crate) fn heard(received: Vec<Received>) -> Vec<Overheard> {
    let mut all: Vec<Overheard> = Vec::new();
    let mut reactions: Vec<(String, RemoteId, String)> = Vec::new();
    for one in received {
        match one {
            Received::Message(message) if !message.own && message.encrypted => all.push(overheard(message)),
            Received::Event(event) if event.own => {}
            Received::Event(event) if event.kind == "m.sticker" && event.encrypted => all.push(sticker(event)),
            Received::Event(event) if event.kind == "m.reaction" => {
                let relation = &event.content["m.relates_to"];
                let target = RemoteId::new(relation["event_id"].as_str().unwrap_or_default());
                let key = relation["key"].as_str().unwrap_or_default().to_owned();
                reactions.push((event.event_id.clone(), target.clone(), key));
                show(&mut all, &reactions, &target, &event.event_id);
            }
            Received::Event(event) if event.kind == "m.room.redaction" => {
                let redacts = event.redacts.clone().unwrap_or_default();
                if let Some(at) = reactions.iter().position(|(id, ..)| *id == redacts) {
                    let (_, target, _) = reactions.remove(at);
                    show(&mut all, &reactions, &target, &event.event_id);
                } else {
                    let details = Details { about: Some(RemoteId::new(redacts)), ..Details::default() };
                    all.push(Overheard { how: How::Redaction, details, ..nothing(&event.event_id) });
                }
            }
            _ => {}
        }
    }
    all
}

/// Under a message stand all of its reactions together.
fn show(all: &mut Vec<Overheard>, reactions: &[(String, RemoteId, String)], target: &RemoteId, last: &str) {
    let emoji = reactions.iter().filter(|(_, to, _)| to == target).map(|(_, _, emoji)| emoji.clone()).collect();
    let details = Details { about: Some(target.clone()), emoji, ..Details::default() };
    let shown = Overheard { how: How::Reaction, details, ..nothing(last) };
    let same = |one: &&mut Overheard| one.how == How::Reaction && one.details.about.as_ref() == Some(target);
    match all.iter_mut().find(same) {
        Some(before) => *before = shown,
        None => all.push(shown),
    }
}

fn nothing(id: &str) -> Overheard {
    Overheard {
        id: RemoteId::new(id),
        delivery: None,
        author: None,
        words: String::new(),
        html: None,
        how: How::Text,
        reply_to: None,
        trail: Trail::default(),
        details: Details::default(),
    }
}

fn sticker(event: Event) -> Overheard {
    Overheard { how: How::Sticker, ..said(&event.event_id, &event.content, &event.content) }
}

fn overheard(message: Message) -> Overheard {
    let whole = &message.content;
    let relation = &whole["m.relates_to"];
    if relation["rel_type"] == "m.replace" {
        let mut heard = said(&message.event_id, whole, &whole["m.new_content"]);
        heard.how = How::Edit;
        heard.details.about = relation["event_id"].as_str().map(RemoteId::new);
        return heard;
    }
    said(&message.event_id, whole, whole)
}

fn said(id: &str, whole: &Value, content: &Value) -> Overheard {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let author = text(&content[PROFILE]["displayname"]);
    // What a client that knows profiles shows: the name by itself, and the words without it.
    let (mut words, mut html) = (text(&content["body"]).unwrap_or_default(), text(&content["formatted_body"]));
    if let Some(author) = &author {
        words = words.strip_prefix(&format!("{author}: ")).map_or(words.clone(), outdented);
        html = html.and_then(|html| html.split_once("</strong>").map(|(_, rest)| rest.to_owned()));
    }
    let (how, file) = file(content);
    if file.is_some() && content["filename"] == words.as_str() {
        words = String::new();
    }
    let relation = &whole["m.relates_to"];
    let place = text(&content["geo_uri"]);
    if place.is_some() {
        words = text(&content["org.matrix.msc3488.location"]["description"]).unwrap_or_default();
    }
    let strings = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let marks = strings(&whole["org.sealbridge.trail"]);
    let called = strings(&content["m.mentions"]["user_ids"]);
    let answered = &relation["m.in_reply_to"]["event_id"];
    Overheard {
        delivery: whole["org.sealbridge.delivery"].as_str().and_then(|id| DeliveryId::parse(id).ok()),
        author,
        words,
        html,
        how: if place.is_some() { How::Location } else { how },
        reply_to: (relation["is_falling_back"] != true).then(|| answered.as_str().map(RemoteId::new)).flatten(),
        trail: Trail::from_texts(marks.iter().filter_map(Value::as_str)),
        details: Details {
            thread: (relation["rel_type"] == "m.thread")
                .then(|| relation["event_id"].as_str().map(RemoteId::new))
                .flatten(),
            calls: called.iter().filter_map(Value::as_str).map(PersonId::new).collect(),
            place,
            file,
            ..Details::default()
        },
        ..nothing(id)
    }
}

/// What kind of file it is, and the file, but for its content.
fn file(content: &Value) -> (How, Option<Sample>) {
    let how = match content["msgtype"].as_str().unwrap_or_default() {
        "m.emote" => How::Emote,
        "m.notice" => How::Notice,
        "m.image" => How::Image,
        "m.video" => How::Video,
        "m.audio" if content.get("org.matrix.msc3245.voice").is_some() => How::Voice,
        "m.audio" => How::Audio,
        "m.file" => How::File,
        _ => How::Text,
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pixels = |key: &str| content["info"][key].as_u64().and_then(|pixels| u32::try_from(pixels).ok());
    let sample = content["file"].is_object().then(|| Sample {
        name: text(&content["filename"]),
        mime: text(&content["info"]["mimetype"]),
        dimensions: pixels("w").zip(pixels("h")),
        milliseconds: content["info"]["duration"].as_u64(),
        ..Sample::default()
    });
    (how, sample)
}

/// Words without the two spaces that begin each further line in the plain form.
fn outdented(words: &str) -> String {
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines: Vec<_> = words.split_inclusive(ends).collect();
    let rest = lines.iter().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.iter().take(1).copied().chain(rest).collect()
}

/// The content of an event that was received.
pub(crate) fn content<'a>(received: &'a [Received], id: &RemoteId) -> Option<&'a Value> {
    received.iter().find_map(|one| match one {
        Received::Message(message) if message.event_id == id.as_str() => Some(&message.content),
        Received::Event(event) if event.event_id == id.as_str() => Some(&event.content),
        _ => None,
    })
}
