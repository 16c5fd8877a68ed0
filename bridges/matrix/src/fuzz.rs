//! A fuzz target of what a homeserver and its people send; `tests/fuzz` says how it is run.

use std::time::Duration;

use ruma::{OwnedUserId, UserId};
use sealbridge_contract::{
    Body, Cleartext, ConversationId, DeliveryId, Destination, Kind, Message, Origin, Rule, SenderTrust, Slip, SpoolId,
    Spooled, Text, Timestamp, Verdict, gate::Encryption, html, judge, message::Absence,
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    config::Trust,
    event::Envelope,
    rooms::{Appearance, Change, Facts, Membership},
    translate::{self, Needs, Reader, Taken, Uploads},
};

fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).expect("it is a user id")
}

/// A file, as it was taken for whoever names one.
fn taken() -> Taken {
    let spooled = |byte| Spooled::new(SpoolId::from_bytes([byte; 16]), 7, [byte; 32], None);
    Taken { content: spooled(1), thumbnail: Some(spooled(2)) }
}

/// Looks at a message as only the gate lets one.
fn look(message: &Cleartext, at: impl FnOnce(&Message)) {
    let (to, origin) =
        (Destination::EndToEnd(Encryption::Pinned), Origin { sender: SenderTrust::Proven, said: message });
    if let Verdict::Speak(cleared) = judge(message, origin, &to, &Rule::default()) {
        at(cleared.message());
    }
}

fn reader<'a>(event: &'a Envelope, content: &'a Value, me: &'a UserId, looks: &'a Appearance) -> Reader<'a> {
    let Envelope { kind, sender, sent_at, .. } = event;
    Reader { kind, content, sender, me, looks, sent_at: *sent_at, sender_not_proven: false }
}

fn check_content(event: &Envelope, me: &UserId) {
    let looks = Appearance { name: Some("Ann".into()), picture: None };
    let reader = reader(event, &event.content, me, &looks);
    match reader.needs() {
        Needs::Original(of) => {
            assert!(event.content["m.new_content"].is_object() && (1..=255).contains(&of.as_str().len()));
        }
        Needs::Files(files) => assert!(!format!("{files:?}").contains("mxc"), "an address is shown"),
        Needs::Nothing | Needs::Reactions | Needs::NoFile(_) => {}
    }
    let _ = (translate::annotated(&event.content), translate::delivery(&event.content));
    for file in [None, Some(Ok(&taken())), Some(Err(Absence::NotAsSaid))] {
        if let Some(message) = reader.message(file) {
            look(&message, |message| check_message(message, event, me));
        }
    }
}

fn check_message(message: &Message, event: &Envelope, me: &UserId) {
    assert_eq!(message.author.id.as_str(), event.sender.as_str(), "somebody else is its author");
    let name = message.author.name.as_ref().map(Text::as_str).unwrap_or_default();
    assert!(name == "Ann" || name.ends_with(" (via Ann)"), "whose account it is is hidden: {name:?}");
    let relations = [message.about(), message.reply_to.as_ref(), message.thread.as_ref()];
    assert!(relations.into_iter().flatten().all(|target| (1..=255).contains(&target.id.as_str().len())));
    let Some(body) = message.body() else { return };
    if let Some(formatted) = body.html.as_ref().map(Text::as_str) {
        assert_eq!(html::harmless(formatted).as_deref(), Some(formatted), "formatting is not cleaned");
    }
    for mention in &body.mentions {
        assert!(mention.person.as_str() != me.as_str() && (mention.at.is_none() || body.stretch(mention).is_some()));
    }
    if matches!(message.kind, Kind::Text(_) | Kind::Emote(_) | Kind::Notice(_)) {
        check_written(message, body, event);
    }
}

/// Another bridge of ours reads what was meant out of what is written for it.
fn check_written(message: &Message, body: &Body, event: &Envelope) {
    let slip = Slip::new(ConversationId::new("!r:x"), DeliveryId::from_bytes([1; 16]), Timestamp(0));
    let Some((kind, content)) = translate::content(message, &slip, Uploads::default(), &|_| true) else { return };
    assert!(kind == "m.room.message" && content.get().len() < 46_000);
    let content: Value = serde_json::from_str(content.get()).expect("it is JSON");
    let (me, looks) = (user("@other:y"), Appearance { name: Some("Bridge".into()), picture: None });
    let envelope = Envelope { kind: kind.to_owned(), ..Envelope::read(&raw(event)).ok().expect("it was one") };
    let again = reader(&envelope, &content, &me, &looks).message(None).expect("it is a message");
    look(&again, |again| {
        let read = again.body().expect("it has words");
        assert_eq!(read.plain, body.plain, "{:?} is read as {:?}", body.plain.as_str(), read.plain.as_str());
        if content.get("formatted_body").is_some() && body.html.is_some() {
            assert_eq!(read.html.as_ref().map(Text::as_str), body.html.as_ref().map(Text::as_str));
        }
        let name = again.author.name.as_ref().map(Text::as_str).unwrap_or_default();
        assert!(name.ends_with(" (via Bridge)"), "{name:?}");
    });
}

/// A message of the same sender and time.
fn raw(event: &Envelope) -> Box<RawValue> {
    let raw = json!({ "event_id": "$e", "sender": event.sender, "type": "m.room.message", "origin_server_ts": event.sent_at.0 });
    serde_json::value::to_raw_value(&raw).expect("it is JSON")
}

/// Whatever is said of a room that was seen encrypted, it stays so.
fn check_room(event: &Envelope, me: &UserId) {
    let mut facts = Facts { membership: Membership::Joined, looked: true, ..Facts::default() };
    facts.apply_encryption(&json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
    let said = facts.apply(me, event);
    assert!(
        facts.pin.is_some() && !matches!(facts.encryption(), Encryption::Absent | Encryption::Unknown)
            || !facts.is_joined()
    );
    assert_eq!(said == Some(Change::Violated), facts.violated);
    let settings = facts.settings(Trust::CrossSigned);
    assert!(
        (20..=100).contains(&settings.rotation_messages)
            && settings.rotation_period <= Duration::from_secs(7 * 24 * 3600)
    );
    let people = &facts.people;
    assert!(
        people.joined.values().flatten().all(|name| !name.contains("(via ")),
        "somebody seems to speak for another"
    );
}

#[test]
fn events() {
    let me = user("@bot:x");
    sealbridge_fuzz::target("matrix_events", |input| {
        let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(input) else { return };
        let event = match Envelope::read(&raw) {
            Ok(event) => event,
            Err(malformed) => {
                assert!(malformed.id.is_none_or(|id| (1..=255).contains(&id.len())));
                return;
            }
        };
        assert!((1..=255).contains(&event.id.len()) && event.sent_at.0 >= 0);
        let _ = (event.is_join_of(&me, true), event.is_verification(), event.transaction());
        let _ = translate::state_change(&event, |_| None);
        check_room(&event, &me);
        check_content(&event, &me);
    });
}
