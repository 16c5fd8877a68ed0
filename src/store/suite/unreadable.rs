//! Events that can't be read yet.

use sealbridge_contract::{
    PersonId, Timestamp,
    inbox::{Arrived, Filling, Resolution, WaitingFor},
};

use super::kit::*;

async fn resolve(pair: &Pair<'_>, resolution: Resolution) {
    let number = pair.waiting().await;
    pair.journal.resolve(&pair.a.account, number, resolution).await.expect("it waits");
}

fn readable(name: &str) -> Resolution {
    Resolution::Readable(incoming(name, message("@ann", name)))
}

async fn late(pair: &Pair<'_>) -> Vec<(String, bool)> {
    pair.head().await.iter().map(|p| (words(&p.message), p.message.caveats().late)).collect()
}

pub(crate) async fn later_messages_of_the_sender_wait_and_others_do_not(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), unreadable("@ann", "$2", true), said("@ann", "$3"), said("@bob", "$4")]).await;
    assert_eq!(pair.lane().await, ["$1", "$4"]);
    let next = pair.journal.expire().await.expect("the journal writes").expect("something waits");
    assert!(next <= pair.clock.now().plus(pair.limits.hold_sender_for));
    assert_eq!(pair.lane().await, ["$1", "$4"], "half a minute is not over");
    pair.clock.shift(31_000);
    let next = pair.journal.expire().await.expect("the journal writes").expect("something waits");
    assert!(next > pair.clock.now().plus(pair.limits.hold_sender_for), "the next is that it is given up");
    assert_eq!(pair.lane().await, ["$1", "$4", "$3"]);
}

pub(crate) async fn key_that_comes_in_time_keeps_the_place(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2"), said("@bob", "$3"), said("@ann", "$4")]).await;
    let pair = pair.reopen();
    resolve(&pair, readable("$1")).await;
    assert_eq!(
        late(&pair).await,
        ["$3", "$1", "$2", "$4"].map(|name| (name.to_owned(), false)),
        "the sender's own are in order, and none is late"
    );
    assert_eq!(pair.journal.counts().await.expect("the journal reads").unreadable, 0);
}

pub(crate) async fn key_that_comes_late_marks_the_message_late(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    pair.clock.shift(31_000);
    pair.journal.expire().await.expect("the journal writes");
    resolve(&pair, readable("$1")).await;
    assert_eq!(late(&pair).await, [("$2".to_owned(), false), ("$1".to_owned(), true)]);
}

pub(crate) async fn hold_that_is_over_never_lets_a_new_message_overtake(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    pair.clock.shift(31_000);
    // Nobody called `expire` yet.
    pair.arrive(vec![said("@ann", "$3")]).await;
    assert_eq!(pair.lane().await, ["$2", "$3"]);
}

pub(crate) async fn event_refused_on_trust_holds_nobody(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", false), said("@ann", "$2")]).await;
    assert_eq!(pair.lane().await, ["$2"]);
    resolve(&pair, readable("$1")).await;
    assert_eq!(late(&pair).await, [("$2".to_owned(), false), ("$1".to_owned(), true)]);
}

pub(crate) async fn event_that_still_waits_may_stop_holding(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    let still = |holds_sender| Resolution::Still { hint: "trust".into(), reason: "not signed".into(), holds_sender };
    for _ in 0..2 {
        resolve(&pair, still(true)).await;
        assert_eq!(pair.lane().await, Vec::<String>::new());
    }
    resolve(&pair, still(false)).await;
    assert_eq!(pair.lane().await, ["$2"]);
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert_eq!((facts[0].state, facts[0].reason.as_deref()), ("unreadable", Some("not signed")));
    resolve(&pair, still(true)).await;
    pair.arrive(vec![said("@ann", "$3")]).await;
    assert_eq!(pair.lane().await, ["$2", "$3"], "what was passed once holds no more");
}

pub(crate) async fn event_that_is_not_for_us_frees_what_waited(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    resolve(&pair, Resolution::NotForUs).await;
    assert_eq!(pair.lane().await, ["$2"]);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$1")]).await;
    assert_eq!(pair.lane().await, ["$2"], "it is remembered");
    pair.arrive(vec![unreadable("@ann", "$3", true), said("@ann", "$4")]).await;
    resolve(&pair, Resolution::Refused { reason: "forged".into() }).await;
    assert_eq!(pair.lane().await, ["$2", "$4"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|l| (l.name.as_str(), l.reason.as_str())).collect::<Vec<_>>(), [("$3", "forged")]);
}

pub(crate) async fn clock_that_is_moved_by_a_day_gives_up_nothing_and_holds_nobody_longer(engine: &dyn Engine) {
    const DAY: i64 = 24 * 3_600_000;
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    assert!(pair.lane().await.is_empty(), "it holds");
    pair.clock.shift(-DAY);
    let next = pair.journal.expire().await.expect("the journal writes").expect("something waits");
    assert!(next > pair.clock.now().plus(pair.limits.unreadable_for), "it is given up no sooner than it was");
    assert_eq!(pair.lane().await, ["$2"], "nobody is held for a day");
    pair.clock.shift(2 * DAY);
    pair.journal.expire().await.expect("the journal writes");
    assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty(), "nothing is given up");
    resolve(&pair, readable("$1")).await;
    pair.arrive(vec![unreadable("@bob", "$3", true), said("@bob", "$4")]).await;
    assert_eq!(pair.lane().await, ["$2", "$1"], "it holds");
    pair.clock.shift(-DAY);
    // Nobody looks: somebody says something new.
    pair.arrive(vec![said("@bob", "$5")]).await;
    assert_eq!(pair.lane().await, ["$2", "$1", "$4", "$5"]);
}

pub(crate) async fn event_past_its_time_is_a_dead_letter_that_can_be_retried(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true)]).await;
    let number = pair.waiting().await;
    let next = pair.journal.expire().await.expect("the journal writes").expect("it waits");
    pair.clock.shift(31_000);
    pair.journal.expire().await.expect("the journal writes");
    pair.clock.shift(7 * 24 * 3600 * 1000);
    assert!(next < pair.clock.now());
    assert_eq!(pair.journal.expire().await.expect("the journal writes"), None);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.number, letter.name.as_str(), letter.kept), (number, "$1", true));
    assert_eq!((letter.reason.as_str(), letter.sender.as_deref()), ("its key is missing", Some("@ann")));
    assert_eq!(letter.from.as_ref(), Some(&pair.a));
    let pair = pair.reopen();
    pair.journal.retry(number).await.expect("it is kept");
    pair.journal.expire().await.expect("the journal writes");
    assert_eq!(pair.waiting().await, number, "it waits anew");
    resolve(&pair, readable("$1")).await;
    assert_eq!(pair.lane().await, ["$1"]);
}

pub(crate) async fn event_that_comes_again_readable_is_read(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![unreadable("@ann", "$1", true), said("@ann", "$2")]).await;
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$3")]).await;
    assert_eq!(pair.lane().await, ["$1", "$2", "$3"]);
    assert_eq!(pair.journal.counts().await.expect("the journal reads").unreadable, 0);
}

pub(crate) async fn waiting_events_are_found_by_what_they_wait_for(engine: &dyn Engine) {
    let (a, c, b) = (at("one", "!a"), at("one", "!c"), at("two", "!b"));
    let router = TestRouter::linking(&[&a, &b]);
    router.route_to(&c, vec![routed(&b, crate::store::FirstVerdict::Enqueue)]);
    let journal = engine.open(router, Default::default(), Default::default());
    let events = vec![unreadable("@ann", "$1", true), unreadable("@bob", "$2", true), unreadable("@ann", "$3", true)];
    journal.accept(&a.account, batch(&a, events)).await.expect("there is room");
    journal.accept(&c.account, batch(&c, vec![unreadable("@ann", "$4", true)])).await.expect("there is room");
    journal.accept(&b.account, batch(&b, vec![unreadable("@ann", "$5", true)])).await.expect("there is room");
    let filter = |conversation: Option<&str>, hint: Option<&str>, sender: Option<&str>| WaitingFor {
        conversation: conversation.map(sealbridge_contract::ConversationId::new),
        hint: hint.map(str::to_owned),
        sender: sender.map(PersonId::new),
    };
    let cases = [
        (filter(None, None, None), vec!["raw $1", "raw $2", "raw $3", "raw $4"]),
        (filter(Some("!a"), None, Some("@ann")), vec!["raw $1", "raw $3"]),
        (filter(None, Some("key of $2"), None), vec!["raw $2"]),
        (filter(Some("!c"), None, None), vec!["raw $4"]),
        (filter(Some("!c"), Some("key of $1"), None), vec![]),
    ];
    for (filter, expected) in cases {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = journal.waiting(&a.account, filter.clone(), after, 2).await.expect("the journal reads");
            let Some(last) = page.last() else { break };
            after = last.id;
            found.extend(page.iter().map(|w| String::from_utf8_lossy(secret(&w.raw)).into_owned()));
        }
        assert_eq!(found, expected, "{filter:?}");
    }
}

pub(crate) async fn late_event_read_from_a_gap_that_was_before_the_link_does_not_cross(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.router.link_since(&pair.a, START);
    pair.arrive(vec![gap("t"), said("@ann", "$3")]).await;
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    let arrivals: Vec<Arrived> = vec![unreadable("@ann", "$2", true)];
    let filling = Filling { gap: gaps[0].id, arrivals, next: None };
    pair.journal.fill(&pair.a.account, filling).await.expect("the gap is open");
    assert_eq!(pair.lane().await, Vec::<String>::new(), "the event holds its sender");
    let mut old = message("@ann", "old");
    old.sent_at = Timestamp(START.0 - 1);
    resolve(&pair, Resolution::Readable(incoming("$2", old))).await;
    assert_eq!(pair.lane().await, ["$3"]);
}
