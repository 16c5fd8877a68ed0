//! A fuzz target of what people say to the bridge in a conversation; `tests/fuzz` says how it is run.

use sealbridge_contract::{Author, Cleartext, Message, PersonId, RemoteId, SenderTrust, Timestamp, inbox::Incoming};

use super::{
    permit::Place,
    words::{Ask, Needs, Scene, find},
};
use crate::{
    config::parse_address,
    flow::commands::{WORD, hear},
    operator::{Action, Place as Of},
    store::LinkName,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn said(words: &str) -> Incoming {
    let message = Cleartext::new(Message::text(Author { id: PersonId::new("@ann:x"), name: None }, NOW, words));
    let (id, identity) = (RemoteId::new("$e"), Some("key".into()));
    Incoming { id, message, trust: SenderTrust::Proven, identity, once: None }
}

/// Whether an action that was asked for before others is about their link alone.
fn stays_here(action: &Action, here: &LinkName) -> bool {
    match action {
        Action::PauseLink { name }
        | Action::ResumeLink { name }
        | Action::RemoveLink { name }
        | Action::ShowLink { name } => name == here,
        Action::Audience { of, from } | Action::Approve { of, from, .. } => {
            matches!(of, Of::Link(name) if name == here) && from.is_some()
        }
        Action::Why { at, brief, .. } => at.to_string() == "a/!here" && *brief,
        Action::RetryHere { at, .. }
        | Action::RetryMessage { at, .. }
        | Action::Silence { at, .. }
        | Action::Acknowledge { at, .. } => at.to_string() == "a/!here",
        _ => false,
    }
}

#[test]
fn chat_words() {
    let (at, by) = (parse_address("a/!here").expect("it is an address"), PersonId::new("@ann:x"));
    let here = LinkName::parse("here").expect("it is a name");
    let places = [Place::Linked(vec![here.clone()]), Place::Direct, Place::Elsewhere];
    let replies = [None, Some(RemoteId::new("$alert"))];
    sealbridge_fuzz::text_target("chat_words", |input| {
        let whole = format!("{WORD} {input}");
        assert!(hear(&said(input), false, NOW).is_none() || input.starts_with(WORD), "it was said to somebody else");
        let heard = hear(&said(&whole), false, NOW).expect("it is said to the bridge");
        let Some(words) = heard.doubt.is_none().then(|| heard.words.as_str().to_owned()) else {
            assert!(heard.words.is_empty(), "of what is in doubt a word is kept");
            return;
        };
        assert!(words.len() <= 1000 && !words.contains(char::is_control) && input.contains(&words), "{words:?}");
        let word = match find(&words) {
            Ok(word) => word,
            Err(answer) => return assert!(answer.contains("`!seal help`"), "{answer:?}"),
        };
        for (place, reply_to, is_admin) in
            places.iter().flat_map(|place| replies.iter().flat_map(move |r| [(place, r, true), (place, r, false)]))
        {
            let scene = Scene { at: &at, by: &by, reply_to: reply_to.as_ref(), place, is_admin };
            let actions = match word.read(&scene, &words) {
                Err(answer) => {
                    assert!(!answer.is_empty(), "it does not say why");
                    continue;
                }
                Ok(Ask::Do(actions)) => actions,
                Ok(Ask::Compare(action)) => {
                    assert!(*place == Place::Direct, "emoji would be compared before others");
                    vec![action]
                }
                Ok(Ask::Help | Ask::Judge(_) | Ask::Instead(..)) => continue,
            };
            for action in actions {
                if matches!(place, Place::Linked(_)) && word.needs != Needs::AdminAlone {
                    assert!(stays_here(&action, &here), "it reaches beyond this conversation: {action:?}");
                }
                if let (Action::Why { by: asker, .. }, false) = (&action, is_admin) {
                    assert_eq!(asker.as_ref(), Some(&by), "somebody else's message is told of");
                }
                let sent = serde_json::to_string(&action).expect("an action is JSON");
                assert_eq!(serde_json::from_str::<Action>(&sent).ok(), Some(action), "it would be done otherwise");
            }
        }
    });
}
