//! What actions do to the journal, and what doctor makes of what it sees.

use std::sync::Arc;

use sealbridge::{
    flow::LaneState,
    operator::{Action, Actor, Failure, FailureKind, Outcome, Progress, admin, host::Host, perform},
    store::{Link, LinkEnd, LinkName},
};
use sealbridge_contract::{
    AccountName, Address, Cleartext, ConversationId, Message, PersonId, RemoteId, Timestamp,
    gate::Hold,
    inbox::{Arrival, Arrived, Batch},
};
use serde_json::json;

use super::control::PlayedHost;

async fn done(host: &Arc<PlayedHost>, action: Action) -> Result<Outcome, Failure> {
    let host: Arc<dyn Host> = Arc::clone(host) as Arc<dyn Host>;
    match perform(host, Actor::Init, action).next(None).await? {
        Progress::Done(outcome) => Ok(outcome),
        Progress::Step(step) => panic!("an action that is done at once has no steps: {step:?}"),
    }
}

fn account() -> AccountName {
    AccountName::parse("a").expect("it is a name")
}

fn address(conversation: &str) -> Address {
    Address { account: account(), conversation: ConversationId::new(conversation) }
}

fn name(name: &str) -> LinkName {
    LinkName::parse(name).expect("it is a name")
}

/// A link as the config declares it.
async fn fixed_link(host: &PlayedHost) {
    let end = |conversation| LinkEnd { at: address(conversation), since: Timestamp(0) };
    let link = Link { name: name("fixed"), ends: vec![end("x"), end("y")], paused: None, fixed: true, tripped: None };
    host.journal().put_link(link).await.expect("the journal takes it");
}

#[tokio::test]
async fn link_of_the_config_can_be_paused_and_not_removed_or_replaced() {
    let host = PlayedHost::new();
    fixed_link(&host).await;
    let refused = done(&host, Action::RemoveLink { name: name("fixed") }).await.expect_err("it is in the config");
    assert_eq!(refused.kind, FailureKind::Refused);
    let replace = Action::ReplaceEnd { name: name("fixed"), old: address("x"), new: address("z") };
    assert_eq!(done(&host, replace).await.expect_err("it is in the config").kind, FailureKind::Refused);
    let paused = done(&host, Action::PauseLink { name: name("fixed") }).await.expect("it may be paused");
    assert_eq!(paused.lines[0]["paused"], "paused by the operator");
    let links = host.journal().links().await.expect("the journal answers");
    assert_eq!(links[0].paused.as_deref(), Some("paused by the operator"));
    // A pause that somebody else made keeps its reason.
    let tripped = Link { paused: Some("circuit breaker".into()), ..links[0].clone() };
    host.journal().put_link(tripped).await.expect("the journal takes it");
    let paused = done(&host, Action::PauseLink { name: name("fixed") }).await.expect("it may be paused");
    assert_eq!(paused.lines[0]["paused"], "circuit breaker");
}

#[tokio::test]
async fn dead_letter_is_listed_shown_and_dropped_without_its_content() {
    let host = PlayedHost::new();
    let what = Arrived::Refused {
        id: RemoteId::new("$event"),
        sender: PersonId::new("@ann:x"),
        reason: "nobody vouches for its sender".into(),
    };
    fixed_link(&host).await;
    let batch = Batch { arrivals: vec![Arrival { conversation: ConversationId::new("x"), what }], ..Batch::default() };
    host.journal().accept(&account(), batch).await.expect("the journal takes it");
    let listed = done(&host, Action::ListDeadLetters).await.expect("the journal answers");
    let mut line = listed.lines.first().cloned().unwrap_or_else(|| panic!("it is not listed: {listed:?}"));
    let number = line["number"].as_i64().expect("it has a number");
    line["number"] = json!(0);
    line["since"] = json!(0);
    let expected = json!({
        "number": 0, "name": "$event", "from": "a/x", "to": null, "sender": "@ann:x",
        "reason": "nobody vouches for its sender", "since": 0, "kept": false,
    });
    assert_eq!(line, expected);
    assert!(listed.words.contains("a/x") && listed.words.contains("nobody vouches"), "{}", listed.words);

    let retried = done(&host, Action::RetryDeadLetter { number }).await.expect_err("its content was never here");
    assert_eq!(retried.kind, FailureKind::Refused);
    let dropped = done(&host, Action::DropDeadLetter { number }).await.expect("it is there");
    assert_eq!(dropped.lines, [json!({ "number": number, "dropped": true })]);
    let gone = done(&host, Action::ShowDeadLetter { number }).await.expect_err("it is gone");
    assert!(gone.words.contains("dead-letters list"), "{}", gone.words);
}

/// The bridge's own words on their way to a conversation.
async fn say(host: &PlayedHost, to: &Address) {
    let words = Cleartext::new(Message::notice(host.clock().now(), "words"));
    host.journal().say(to, words, None).await.expect("there is room");
}

#[tokio::test]
async fn status_says_what_each_conversation_waits_for() {
    let host = PlayedHost::new();
    let (held, busy, refused) = (address("held"), address("busy"), address("refused"));
    for to in [&held, &held, &busy, &refused] {
        say(&host, to).await;
    }
    host.set_lane(&held, LaneState::Waits(Hold::AccountNotRunning));
    host.set_lane(&busy, LaneState::Busy);
    host.set_lane(&refused, LaneState::Retries("come again".into()));
    let journal = host.journal();
    let number = journal.head(&refused, 0, 1).await.expect("the journal reads")[0].number;
    journal.postpone(number, Timestamp(0), "come again").await.expect("it is pending");
    let status = done(&host, Action::Status).await.expect("the journal answers");
    let lanes = status.lines[0]["lanes"].as_array().expect("a list").clone();
    let of = |at: &str| lanes.iter().find(|lane| lane["at"] == at).cloned().expect("it is listed");
    assert_eq!(lanes.len(), 3, "{lanes:?}");
    assert_eq!((&of("a/held")["queued"], &of("a/held")["state"]), (&json!(2), &json!("waits")));
    assert_eq!(of("a/busy")["state"], "busy");
    let retries = of("a/refused");
    assert_eq!(
        (&retries["attempts"], &retries["cause"], &retries["state"]),
        (&1.into(), &"come again".into(), &"retries".into())
    );
    let waits = format!("a/held: 2 queued, the first 0 s ago: {}", Hold::AccountNotRunning);
    for words in [waits.as_str(), "a/refused: 1 queued, the first 0 s ago, tried 1 times: come again"] {
        assert!(status.words.contains(words), "{words:?} is not in {}", status.words);
    }
}

#[tokio::test]
async fn name_that_would_steer_the_terminal_is_shown_as_numbers() {
    let host = PlayedHost::new();
    let odd = "!x\u{1b}[2J\u{202e}\nfake:x";
    let link = Link {
        name: name("odd"),
        ends: [odd, "y"].map(|at| LinkEnd { at: address(at), since: Timestamp(0) }).into(),
        paused: None,
        fixed: false,
        tripped: None,
    };
    host.journal().put_link(link).await.expect("the journal takes it");
    let what = Arrived::Refused {
        id: RemoteId::new("$event"),
        sender: PersonId::new("@ann\u{9b}31m:x"),
        reason: "no\rgood".into(),
    };
    let batch = Batch { arrivals: vec![Arrival { conversation: ConversationId::new(odd), what }], ..Batch::default() };
    host.journal().accept(&account(), batch).await.expect("the journal takes it");
    say(&host, &address(odd)).await;
    for action in [Action::ListLinks, Action::ListDeadLetters, Action::Status, Action::Doctor] {
        let outcome = done(&host, action.clone()).await.expect("the journal answers");
        let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!outcome.words.contains(steers), "{action:?}: {:?}", outcome.words);
        assert!(outcome.words.contains("\\u{1b}[2J\\u{202e}\\u{a}fake:x"), "{action:?}: {:?}", outcome.words);
    }
}

#[tokio::test]
async fn doctor_passes_on_what_a_transport_finds_and_ends_badly_for_what_is_grave() {
    let host = PlayedHost::new();
    fixed_link(&host).await;
    let outcome = done(&host, Action::Doctor).await.expect("it looks");
    let of = |topic: &str| {
        let found = outcome.lines.iter().find(|line| line["topic"] == topic);
        found.unwrap_or_else(|| panic!("{topic} is not among {:?}", outcome.lines)).clone()
    };
    let expected = json!({ "topic": "account a: limits", "state": "bad", "words": "Ten a minute, and no more." });
    assert_eq!(of("account a: limits"), expected);
    assert_eq!(of("account a")["state"], "ok");
    assert_eq!(of("link fixed")["state"], "bad", "we are in neither conversation");
    assert_eq!(of("admin room")["state"], "warn");
    assert_eq!(outcome.found, Some(FailureKind::Other));
    assert!(outcome.words.contains("BAD"), "{}", outcome.words);
}

#[tokio::test]
async fn account_that_stopped_ends_the_doctor_with_its_own_kind_and_accuses_no_conversation() {
    let host = PlayedHost::new();
    fixed_link(&host).await;
    host.stop(Failure::new(FailureKind::Auth, "the session is not known any more"));
    let outcome = done(&host, Action::Doctor).await.expect("it looks");
    assert_eq!(outcome.found, Some(FailureKind::Auth));
    assert!(outcome.words.contains("the session is not known any more"), "{}", outcome.words);
    assert!(
        outcome.words.contains("waits for its account") && !outcome.words.contains("invite us"),
        "{}",
        outcome.words
    );
}

#[tokio::test]
async fn admin_room_is_kept() {
    let host = PlayedHost::new();
    let journal = host.journal();
    assert_eq!(admin::room(&*journal).await.expect("the journal answers"), None);
    admin::set_room(&*journal, &address("!admin:x")).await.expect("the journal takes it");
    assert_eq!(admin::room(&*journal).await.expect("the journal answers"), Some(address("!admin:x")));
}

#[tokio::test]
async fn link_and_message_are_told_of_without_what_other_conversations_are_called() {
    let host = PlayedHost::new();
    fixed_link(&host).await;
    let what = Arrived::Refused {
        id: RemoteId::new("$event"),
        sender: PersonId::new("@ann:x"),
        reason: "nobody vouches for its sender".into(),
    };
    let batch = Batch { arrivals: vec![Arrival { conversation: ConversationId::new("x"), what }], ..Batch::default() };
    host.journal().accept(&account(), batch).await.expect("the journal takes it");
    let (here, other) = (address("x"), address("elsewhere"));
    for to in [&here, &other] {
        say(&host, to).await;
    }
    host.set_lane(&here, LaneState::Waits(Hold::AccountNotRunning));
    let shown = done(&host, Action::ShowLink { name: name("fixed") }).await.expect("the journal answers");
    let number = shown.lines[0]["dead_letters"][0].as_i64().expect("it is one of this link");
    let waits = format!("1 messages wait, the first for 0s: {}", Hold::AccountNotRunning);
    for words in ["`fixed` is on", waits.as_str(), &format!("Dead letters: {number}.")] {
        assert!(shown.words.contains(words), "{words:?} is not in {}", shown.words);
    }
    assert!(!format!("{shown:?}").contains("a/"), "{shown:?}");
    let unknown = done(&host, Action::ShowLink { name: name("fixxed") }).await.expect_err("there is none");
    assert!(unknown.words.contains("did you mean `fixed`?"), "{}", unknown.words);

    let why = |at: &Address, message: &str, by: Option<&str>| Action::Why {
        at: at.clone(),
        message: RemoteId::new(message),
        by: by.map(PersonId::new),
        brief: true,
    };
    let told = done(&host, why(&here, "$event", None)).await.expect("it is known");
    assert!(told.words.contains("Not carried") && told.words.contains("nobody vouches"), "{}", told.words);
    for (at, message) in [(&here, "$other"), (&other, "$event")] {
        assert_eq!(done(&host, why(at, message, None)).await.expect_err("it is not known").kind, FailureKind::Usage);
    }
    let theirs = done(&host, why(&here, "$event", Some("@ben:x"))).await.expect_err("it is not Ben's");
    assert_eq!(theirs.kind, FailureKind::Refused);
    let elsewhere = done(&host, Action::RetryHere { at: other, number }).await.expect_err("it is another's");
    assert!(elsewhere.words.contains("of this conversation"), "{}", elsewhere.words);
    let here = done(&host, Action::RetryHere { at: here, number }).await.expect_err("its content was never here");
    assert!(here.words.contains("content"), "{}", here.words);
}
