use std::time::Duration;

use super::*;
use crate::{
    Author, Body, ConversationId, DeliveryId, Kind, PersonId, RemoteId, Text, Timestamp,
    message::{
        Absence, Absent, Change, Dimensions, Edit, FileName, Form, Location, Media, MediaType, Mention, Poll, Quote,
        Reaction, Sort, Target, Thumbnail, Waveform,
    },
    spool::{SpoolId, Spooled},
};

fn ann() -> Author {
    Author { id: PersonId::new("@ann:x"), name: Some("Ann".into()) }
}

fn target() -> Target {
    Target { id: RemoteId::new("$e"), quote: Some(Box::new(Quote::new(Some("Ben"), "earlier \"words\"\n"))) }
}

fn body() -> Body {
    let mentions = vec![
        Mention { person: PersonId::new("@ben:x"), at: Some(0..3) },
        Mention { person: PersonId::new("@eve:x"), at: None },
    ];
    Body { html: Some("<b>Ben</b>\0".into()), mentions, ..Body::plain("Ben \0\u{202e}") }
}

fn media() -> Media {
    let spooled = |size| Spooled::new(SpoolId::random(), size, [7; 32], None);
    let dimensions = Some(Dimensions { width: 3, height: 4 });
    Media {
        dimensions,
        duration: Some(Duration::from_millis(1234)),
        waveform: Some(Waveform::new(&[1, 2, 3])),
        thumbnail: Some(Thumbnail { mime: MediaType::new("image/webp"), dimensions, content: spooled(9) }),
        caption: Some(body()),
        ..Media::new(Sort::Voice, FileName::new("cat \"1\".ogg"), MediaType::new("audio/ogg"), spooled(1 << 40))
    }
}

fn absent(caption: Option<Body>, why: Absence) -> Absent {
    Absent { name: FileName::new("cat.png"), mime: MediaType::new("image/png"), caption, why }
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind::Text(body()),
        Kind::Emote(body()),
        Kind::Notice(body()),
        Kind::Edit(Box::new(Edit { of: target(), form: Form::Emote, body: body() })),
        Kind::Redaction(target()),
        Kind::Reaction(Reaction::new(target(), ["👍", "❤️"])),
        Kind::Reaction(Reaction::new(target(), Vec::<String>::new())),
        Kind::File(Box::new(media())),
        Kind::File(Box::new(Media { caption: None, thumbnail: None, ..media() })),
        Kind::Absent(Box::new(absent(Some(body()), Absence::TooLarge { most: Some(7) }))),
        Kind::Absent(Box::new(absent(None, Absence::NotAsSaid))),
        Kind::Location(Location::new(1.5, -2.25, Some("here".into())).expect("it is a place")),
        Kind::Poll(Poll { question: "Tea?".into(), answers: vec!["yes".into(), "no".into()] }),
        Kind::Change(Change::Joined(ann())),
        Kind::Change(Change::Left(Author { id: PersonId::new("@eve:x"), name: None })),
        Kind::Change(Change::Renamed("The Hill".into())),
        Kind::Change(Change::Picture),
        Kind::Change(Change::Timer(Some(Duration::from_secs(60)))),
        Kind::Change(Change::Timer(None)),
        Kind::Unsupported { what: "a call" },
    ]
}

/// Everything in a message, words included: for comparing alone.
fn whole(message: &Message) -> String {
    let texts: Vec<&str> = message.texts().map(Text::as_str).collect();
    let people = match &message.kind {
        Kind::Change(Change::Joined(who) | Change::Left(who)) => {
            format!("{} {:?}", who.id.as_str(), who.name.as_ref().map(Text::as_str))
        }
        Kind::Location(location) => location.uri().as_str().to_owned(),
        _ => String::new(),
    };
    let name = message.author.name.as_ref().map(Text::as_str);
    format!("{message:?} {texts:?} {people} {} {name:?}", message.author.id.as_str())
}

#[test]
fn every_kind_comes_back_whole() {
    for kind in kinds() {
        let message = Message {
            reply_to: Some(target()),
            thread: Some(Target::new(RemoteId::new("$root"))),
            trail: crate::Trail::default().for_another(true),
            ..Message::of(ann(), Timestamp(5), kind)
        };
        let back = decode(encode(&message).expose()).expect("it is of our own form");
        assert_eq!(whole(&back), whole(&message));
    }
}

#[test]
fn what_the_first_version_wrote_is_read() {
    let old = r#"{"a":"@ann:x","n":"Ann","t":5,"k":"emote","p":"waves","h":"<b>waves</b>","r":"$q","l":true}"#;
    let message = decode(old.as_bytes()).expect("it is an old message");
    assert_eq!(message.body().map(|body| body.plain.as_str()), Some("waves"));
    assert!(matches!(message.kind, Kind::Emote(_)) && message.caveats.late);
    assert_eq!(message.reply_to.map(|target| target.id), Some(RemoteId::new("$q")));
    let old = r#"{"a":"@ann:x","t":5,"k":"unsupported","p":"an image"}"#;
    let message = decode(old.as_bytes()).expect("it is an old message");
    assert!(matches!(message.kind, Kind::Unsupported { what: "an image" }));
}

#[test]
fn first_version_can_read_what_it_knows_and_is_told_of_what_it_does_not() {
    let plain = encode(&Message::text(ann(), Timestamp(5), "hi"));
    assert!(!String::from_utf8_lossy(plain.expose()).contains("\"v\""));
    for kind in kinds().into_iter().filter(|kind| !matches!(kind, Kind::Unsupported { .. })) {
        let bytes = encode(&Message::of(ann(), Timestamp(5), kind));
        assert!(String::from_utf8_lossy(bytes.expose()).contains("\"v\":2"));
    }
}

#[test]
fn what_a_later_version_wrote_is_not_guessed_at() {
    for later in [
        r#"{"v":3,"a":"@a:x","t":5,"k":"text","p":"hi"}"#,
        r#"{"v":2,"a":"@a:x","t":5,"k":"hologram","p":"hi"}"#,
        r#"{"v":2,"a":"@a:x","t":5,"k":"edit","p":"hi"}"#,
        r#"{"v":2,"a":"@a:x","t":5,"k":"file","p":"hi"}"#,
    ] {
        assert!(decode(later.as_bytes()).is_none(), "{later}");
    }
}

#[test]
fn stretch_that_is_none_of_the_words_is_left_out() {
    for at in ["[18446744073709551615,0]", "[0,3]", "[1,2]"] {
        let written = format!(r#"{{"v":2,"a":"@a:x","t":5,"k":"text","p":"ä","c":[["@b:x",{at}]]}}"#);
        let message = decode(written.as_bytes()).expect("it is of our own form");
        let body = message.body().expect("it has words").after("somebody: ");
        assert_eq!(body.mentions.iter().map(|mention| mention.at.clone()).collect::<Vec<_>>(), [None], "{at}");
    }
}

#[test]
fn peer_is_told_the_names_that_it_knows() {
    let mut slip = crate::Slip::new(ConversationId::new("c"), DeliveryId::random(), Timestamp(0));
    slip.about = Some(RemoteId::new("theirs"));
    let message = Message { reply_to: Some(target()), ..Message::of(ann(), Timestamp(5), Kind::Redaction(target())) };
    let back = decode(encode_for(&message, &slip).expose()).expect("it is of our own form");
    assert_eq!(back.about().map(|target| target.id.as_str()), Some("theirs"));
    assert!(back.reply_to.is_none(), "what is not known there is not named");
}
