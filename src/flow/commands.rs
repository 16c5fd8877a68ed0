//! What is said to the bridge itself, told apart from what people say to each other. Decides in the moment of the commit
//! by what is known only then; who may have what done, and doing it, is the operator's side.

use std::time::Duration;

use sealbridge_contract::{SenderTrust, Text, Timestamp, inbox::Incoming};

use crate::store::{Doubt, Said};

/// What calls the bridge, at the beginning of a message.
pub const WORD: &str = "!seal";
/// What is further away from our clock than this is not done, only answered: a server may have kept it back.
pub const FRESH: Duration = Duration::from_secs(300);
/// What is longer, in bytes, is none of our commands.
const LONGEST: usize = 1000;

/// What a message says to the bridge itself, and whether there is a doubt about it. `None`: it says nothing to it.
#[must_use]
pub fn hear(incoming: &Incoming, history: bool, now: Timestamp) -> Option<Said> {
    let message = &incoming.message;
    let words = message.said_to(WORD)?;
    let doubt = doubt(incoming, &words, history, now);
    let words = if doubt.is_some() { Text::default() } else { words };
    let (by, identity) = (message.author().clone(), incoming.identity.clone());
    Some(Said { words, by, identity, reply_to: message.reply_to().cloned(), doubt })
}

fn doubt(incoming: &Incoming, words: &Text, history: bool, now: Timestamp) -> Option<Doubt> {
    let message = &incoming.message;
    let lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    Some(match () {
        () if incoming.trust != SenderTrust::Proven || message.caveats().sender_not_proven => Doubt::NotProven,
        () if !message.trail().is_first_hand() => Doubt::Relayed,
        () if history => Doubt::History,
        () if message.caveats().late || is_stale(message.sent_at(), now) => Doubt::Late,
        () if words.len() > LONGEST || words.as_str().contains(lines) => Doubt::NotOneLine,
        () => return None,
    })
}

/// Whether a moment is so far away from now, on either side, that what was said then is not done now.
#[must_use]
pub fn is_stale(said_at: Timestamp, now: Timestamp) -> bool {
    now.since(said_at) > FRESH || said_at.since(now) > FRESH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealbridge_contract::{
        Author, Body, Cleartext, DeliveryId, Kind, Message, PersonId, RemoteId, Trail,
        message::{Caveats, Edit, Form, Reaction, Target},
        trail::Mark,
    };

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn text(words: &str) -> Message {
        Message::text(Author { id: PersonId::new("@ann:x"), name: None }, NOW, words)
    }

    fn incoming(message: Message) -> Incoming {
        let (id, message) = (RemoteId::new("$e"), Cleartext::new(message));
        Incoming { id, message, trust: SenderTrust::Proven, identity: Some("key".into()), once: None }
    }

    fn doubt_of(incoming: &Incoming, history: bool) -> Option<Doubt> {
        let said = hear(incoming, history, NOW).expect("it is said to the bridge");
        assert!(said.doubt.is_none() || said.words.is_empty(), "of what is in doubt no word is kept");
        said.doubt
    }

    #[test]
    fn whatever_is_doubtful_is_heard_and_never_done() {
        let plain = || incoming(text("!seal unlink"));
        assert_eq!(doubt_of(&plain(), false), None);
        assert_eq!(doubt_of(&plain(), true), Some(Doubt::History));
        for trust in [SenderTrust::Unsigned, SenderTrust::NotProven, SenderTrust::ServerSays, SenderTrust::Local] {
            assert_eq!(doubt_of(&Incoming { trust, ..plain() }, false), Some(Doubt::NotProven), "{trust:?}");
        }
        let mark = Mark { delivery: DeliveryId::random(), tag: [0; 16] };
        for trail in [Trail::default().with(mark), Trail::default().for_another(true)] {
            assert_eq!(doubt_of(&incoming(Message { trail, ..text("!seal unlink") }), false), Some(Doubt::Relayed));
        }
        let caveats = Caveats { late: true, ..Caveats::default() };
        assert_eq!(doubt_of(&incoming(Message { caveats, ..text("!seal unlink") }), false), Some(Doubt::Late));
        let minutes = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000);
        for (sent_at, expected) in
            [(minutes(-6), Some(Doubt::Late)), (minutes(6), Some(Doubt::Late)), (minutes(-4), None), (minutes(4), None)]
        {
            assert_eq!(doubt_of(&incoming(Message { sent_at, ..text("!seal unlink") }), false), expected);
        }
        let long = format!("!seal {}", "x".repeat(2000));
        for words in ["!seal help\n!seal unlink", "!seal a\rb", "!seal a\u{2028}b", long.as_str()] {
            assert_eq!(doubt_of(&incoming(text(words)), false), Some(Doubt::NotOneLine), "{words:?}");
        }
    }

    #[test]
    fn what_is_no_message_of_its_own_says_nothing_to_the_bridge() {
        let (body, to) = (|| Body::plain("!seal unlink"), || Target::new(RemoteId::new("$e")));
        let edit = Edit { of: to(), form: Form::Text, body: body() };
        for kind in [
            Kind::Emote(body()),
            Kind::Notice(body()),
            Kind::Edit(Box::new(edit)),
            Kind::Reaction(Reaction::new(to(), ["!seal unlink"])),
            Kind::Redaction(to()),
        ] {
            let heard = hear(&incoming(Message { kind, ..text("") }), false, NOW);
            assert!(heard.is_none(), "{heard:?}");
        }
    }

    proptest! {
        #[test]
        fn ordinary_words_stay_ordinary(words in "\\PC{0,60}") {
            prop_assume!(!words.starts_with(WORD));
            prop_assert!(hear(&incoming(text(&words)), false, NOW).is_none());
        }

        #[test]
        fn what_is_done_is_one_line_of_what_was_said(words in "(?s).{0,60}") {
            let said = format!("{WORD} {words}");
            if let Some(heard) = hear(&incoming(text(&said)), false, NOW) && heard.doubt.is_none() {
                let ends_line = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}'];
                let one_line = !heard.words.as_str().contains(ends_line);
                prop_assert!(one_line && said.contains(heard.words.as_str()));
            }
        }
    }
}
