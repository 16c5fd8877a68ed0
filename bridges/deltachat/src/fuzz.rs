//! Fuzz targets of what the engine says of mail that strangers wrote; `tests/fuzz` says how they are run.

use std::collections::HashMap;

use sealbridge_contract::{
    Arrived, PersonId, RemoteId,
    message::{Absence, Change},
};
use serde::de::DeserializeOwned;

use crate::{
    engine::types::{Chat, Contact, Event, Loaded, Message, MessageInfo, Place},
    files, ids,
    translate::{self, About, Read},
};

const ME: &str = "6939F96BE29E044F5E79489225DD86D68975DBDE";

fn parse<T: DeserializeOwned>(input: &[u8]) -> Option<T> {
    serde_json::from_slice(input).ok()
}

fn read(message: Message, encrypted: bool, author: Option<&str>, about: About) -> (bool, Arrived) {
    let (padlock, author) = (message.show_padlock, author.map(PersonId::new));
    let (id, answers, whole, name) = (RemoteId::new("mail@x"), None, None, None);
    let proven = author.is_some();
    (
        padlock && encrypted && proven,
        translate::arrived(Read { message, id, author, name, encrypted, answers, whole, about }),
    )
}

/// Only what is encrypted, and proven to be of somebody, ever crosses.
fn check_message(input: &[u8]) {
    for (encrypted, author) in [(true, Some("KEY")), (false, Some("KEY")), (true, None)] {
        let abouts: [fn() -> About; 4] = [
            || About::Words,
            || About::Change(Change::Picture),
            || About::Place(1e300, f64::NAN),
            || About::NoFile(Absence::NotFetched),
        ];
        for about in abouts {
            let Some(message) = parse::<Message>(input) else { return };
            let _ = (translate::is_cut(&message), message.sort(), files::picture_id(&message.sender));
            let lost = matches!(about(), About::NoFile(_));
            let (may_cross, arrived) = read(message, encrypted, author, about());
            match arrived {
                Arrived::Message(incoming) => {
                    assert!(may_cross, "it must not cross");
                    assert!(!lost || incoming.message.file_size().is_none(), "a file that never came crosses");
                    assert!(incoming.message.author().as_str() == "KEY" && !incoming.message.is_from_bridge());
                }
                Arrived::Refused { sender, .. } => assert!(!may_cross && !sender.as_str().is_empty()),
                _ => panic!("a message is neither"),
            }
        }
    }
}

#[test]
fn what_the_engine_says() {
    sealbridge_fuzz::target("deltachat_json", |input| {
        check_message(input);
        if let Some(all) = parse::<HashMap<u32, Loaded>>(input) {
            assert!(!format!("{all:?}").contains("canary"), "words are shown");
        }
        let _ = (parse::<Vec<Event>>(input), parse::<MessageInfo>(input), parse::<Place>(input));
        if let Some(contact) = parse::<Contact>(input) {
            assert!(translate::name_of(None, &contact).is_none_or(|name| !name.is_empty()));
        }
        if let Some(chat) = parse::<Chat>(input) {
            assert!(!chat.is_our_group() || chat.is_encrypted, "a group in clear is one of ours");
        }
    });
}

/// A page as the engine makes it of words.
fn page_of(words: &str) -> String {
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    format!(
        "<!DOCTYPE html>\n<html><head>\n</head><body dir=\"auto\">\n{}\n</body></html>\n",
        escaped.replace('\n', "<br/>\n")
    )
}

#[test]
fn pages_and_fingerprints() {
    let me = PersonId::new(ME);
    sealbridge_fuzz::text_target("deltachat_pages", |input| {
        let _ = translate::words_of(input);
        let words = translate::words_of(&page_of(input)).expect("it has only words in it");
        assert_eq!(words.as_str(), input.trim_end(), "long words come back as others");
        let is_key = |person: &PersonId| {
            [40, 64].contains(&person.as_str().len()) && person.as_str().bytes().all(|b| b.is_ascii_hexdigit())
        };
        assert!(ids::other(input, &me).is_none_or(|other| is_key(&other) && other != me));
        assert!(ids::invited_by(input).is_none_or(|inviter| is_key(&inviter)));
        if let Some(chat) = ids::chat(&sealbridge_contract::ConversationId::new(input), &me) {
            assert_eq!(ids::chat(&ids::conversation(chat, &me), &me), Some(chat));
        }
    });
}
