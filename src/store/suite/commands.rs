//! What is said to the bridge itself: taken once, answered once, carried nowhere.

use sealbridge_contract::{
    Arrival, Arrived, Batch, Body, Cleartext, Kind, Message, PersonId, Target,
    inbox::{Filling, Incoming, Once, Resolution},
    message::{Edit, Form, Reaction},
};

use super::kit::*;
use crate::store::{Command, Doubt, JournalError};

fn command(name: &str) -> Arrived {
    Arrived::Message(incoming(name, message("@ann", "!seal pause")))
}

async fn waiting(pair: &Pair<'_>) -> Vec<Command> {
    pair.journal.commands(10).await.expect("the journal reads")
}

async fn ids(pair: &Pair<'_>) -> Vec<String> {
    waiting(pair).await.into_iter().map(|command| command.id.as_str().to_owned()).collect()
}

pub(crate) async fn command_is_taken_once_and_carried_nowhere(engine: &dyn Engine) {
    let mut pair = Pair::new(engine);
    for _ in 0..2 {
        pair.arrive(vec![said("@ann", "$1"), command("$2"), said("@ann", "$3")]).await;
        assert_eq!(pair.lane().await, ["$1", "$3"]);
        assert_eq!(ids(&pair).await, ["$2"]);
        pair = pair.reopen();
    }
    let taken = waiting(&pair).await.remove(0);
    assert_eq!((&taken.at, taken.said.words.as_str(), taken.begun), (&pair.a, "pause", false));
    pair.journal.finish(taken.number, None, None).await.expect("it is there");
    pair.arrive(vec![command("$2")]).await;
    assert!(ids(&pair).await.is_empty(), "what is done with is not taken again");
    let again = pair.journal.finish(taken.number, None, None).await;
    assert!(matches!(again, Err(JournalError::NoSuch(_))), "{again:?}");
}

pub(crate) async fn command_that_was_begun_is_found_begun_and_begun_by_nobody_else(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![command("$1")]).await;
    let number = waiting(&pair).await[0].number;
    pair.journal.begin(number).await.expect("it waits");
    let pair = pair.reopen();
    let found = waiting(&pair).await;
    assert!(found.len() == 1 && found[0].begun, "{found:?}");
    let again = pair.journal.begin(number).await;
    assert!(matches!(again, Err(JournalError::NoSuch(_))), "{again:?}");
}

pub(crate) async fn answer_is_enqueued_with_the_end_of_its_command_and_names_what_it_answers(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![command("$1"), command("$2")]).await;
    let answer = || {
        let reply_to = Some(Target::new(id("$1")));
        Cleartext::new(Message { reply_to, ..Message::notice(START, "done") })
    };
    for (command, said) in waiting(&pair).await.into_iter().zip([true, false]) {
        let spoke = pair.journal.finish(command.number, Some(answer()), Some("topic")).await;
        assert_eq!(spoke.expect("it is there"), said, "the same topic is said once");
    }
    let pair = pair.reopen();
    let head = pair.journal.head(&pair.a, 0, 10).await.expect("the journal reads");
    assert_eq!(head.len(), 1);
    assert_eq!((words(&head[0].message).as_str(), head[0].reply_to.clone()), ("done", Some(id("$1"))));
    assert!(ids(&pair).await.is_empty());
}

pub(crate) async fn replayed_command_is_not_taken_and_where_nothing_is_linked_neither(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let numbered = |name: &str| {
        let once = Some(Once { series: b"series".to_vec(), index: 7 });
        Arrived::Message(Incoming { once, ..incoming(name, message("@ann", "!seal pause")) })
    };
    let elsewhere = at("one", "!direct");
    let arrive = async |what: Arrived| {
        let arrivals = vec![Arrival { conversation: elsewhere.conversation.clone(), what }];
        let batch = Batch { arrivals, ..Batch::default() };
        pair.journal.accept(&elsewhere.account, batch).await.expect("there is room");
    };
    arrive(numbered("$1")).await;
    arrive(numbered("$again")).await;
    arrive(numbered("$1")).await;
    pair.arrive(vec![numbered("$there")]).await;
    let taken = waiting(&pair).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!((taken[0].id.clone(), taken[0].at.clone()), (id("$1"), elsewhere));
}

pub(crate) async fn what_is_done_to_a_command_changes_nothing_and_crosses_nowhere(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![command("$1")]).await;
    let target = || Target::new(id("$1"));
    for (name, kind) in [
        ("$edit", Kind::Edit(Box::new(Edit { of: target(), form: Form::Text, body: Body::plain("!seal unlink") }))),
        ("$reaction", Kind::Reaction(Reaction::new(target(), ["👍"]))),
        ("$redaction", Kind::Redaction(target())),
    ] {
        pair.arrive(vec![Arrived::Message(incoming(name, Message { kind, ..message("@ann", "") }))]).await;
    }
    assert!(pair.lane().await.is_empty(), "nobody there knows what it is about");
    let taken = waiting(&pair).await;
    assert_eq!((taken.len(), taken[0].said.words.as_str()), (1, "pause"));
}

pub(crate) async fn history_is_told_apart_and_a_key_that_comes_in_time_makes_a_command(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$late", true), gap("from")]).await;
    let resolution = Resolution::Readable(incoming("$late", message("@ann", "!seal pause")));
    pair.journal.resolve(&pair.a.account, pair.waiting().await, resolution).await.expect("it waits");
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    let filling = Filling { gap: gaps[0].id, arrivals: vec![command("$old")], next: None };
    pair.journal.fill(&pair.a.account, filling).await.expect("it is open");
    let taken: Vec<_> = waiting(&pair).await.into_iter().map(|c| (c.id.as_str().to_owned(), c.said.doubt)).collect();
    assert_eq!(taken, [("$late".to_owned(), None), ("$old".to_owned(), Some(Doubt::History))]);
    assert!(pair.lane().await.is_empty());
}

pub(crate) async fn key_that_comes_late_makes_a_command_of_an_admins_where_nothing_is_linked(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let elsewhere = at("one", "!direct");
    let events = ["@admin", "@admin", "@ann"].iter().zip(["$command", "$words", "$stranger"]);
    let arrivals = events.map(|(who, name)| unreadable(who, name, true)).collect();
    pair.journal.accept(&elsewhere.account, batch(&elsewhere, arrivals)).await.expect("there is room");
    let kept = pair.journal.waiting(&elsewhere.account, Default::default(), 0, 10).await.expect("the journal reads");
    assert_eq!(kept.len(), 2, "of nobody else anything is kept");
    for (waiting, (name, words)) in kept.iter().zip([("$command", "!seal pause"), ("$words", "hello")]) {
        let resolution = Resolution::Readable(incoming(name, message("@admin", words)));
        pair.journal.resolve(&elsewhere.account, waiting.id, resolution).await.expect("it waits");
    }
    assert_eq!(ids(&pair).await, ["$command"]);
    for command in waiting(&pair).await {
        pair.journal.finish(command.number, None, None).await.expect("it is there");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0, "and nothing of the words");
}

pub(crate) async fn flood_of_commands_is_bounded_in_each_conversation_and_old_ones_are_forgotten(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive((0..100).map(|n| command(&format!("${n}"))).collect()).await;
    let taken = pair.journal.commands(1000).await.expect("the journal reads");
    assert!(taken.len() == 8 && pair.lane().await.is_empty(), "{}", taken.len());
    for command in taken {
        pair.journal.finish(command.number, None, None).await.expect("it is there");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
    pair.clock.shift(31 * 24 * 3_600_000);
    let forgotten = pair.journal.sweep().await.expect("the journal writes");
    assert!(forgotten >= 108, "lines and commands: {forgotten}");
}

pub(crate) async fn author_of_a_message_is_known_and_nobody_else_is_taken_for_them(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1")]).await;
    for (who, name, expected) in [("@ann", "$1", true), ("@ben", "$1", false), ("@ann", "$2", false)] {
        let wrote = pair.journal.wrote(&PersonId::new(who), &pair.a, &id(name)).await;
        assert_eq!(wrote.expect("the journal reads"), expected, "{who} {name}");
    }
}
