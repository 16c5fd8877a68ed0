//! The outbox.

use std::{collections::HashSet, time::Duration};

use sealbridge_contract::{
    DeliveryId,
    gate::Hold,
    inbox::{Batch, Echo},
};

use super::kit::*;
use crate::store::{FirstVerdict, Limits, Spoken};

pub(crate) async fn settled_message_leaves_only_a_line(engine: &dyn Engine) {
    let (a, b, c) = (at("one", "!a"), at("two", "!b"), at("one", "!c"));
    let journal = engine.open(TestRouter::linking(&[&a, &b, &c]), Limits::default(), Default::default());
    journal.accept(&a.account, batch(&a, vec![said("@ann", "$1")])).await.expect("there is room");
    let to_b = journal.head(&b, 0, 10).await.expect("the journal reads").remove(0);
    journal.settle(to_b.number, &id("$b1")).await.expect("it is pending");
    assert!(journal.counts().await.expect("the journal reads").payload_bytes > 0, "the other lane needs it still");
    let to_c = journal.head(&c, 0, 10).await.expect("the journal reads").remove(0);
    assert_eq!(words(&to_c.message), "$1");
    journal.settle(to_c.number, &id("$c1")).await.expect("it is pending");
    journal.settle(to_c.number, &id("$c1")).await.expect("twice is harmless");
    let counts = journal.counts().await.expect("the journal reads");
    assert_eq!((counts.payload_bytes, counts.queued, counts.settled), (0, 0, 2));
    assert!(journal.lanes().await.expect("the journal reads").is_empty());
}

pub(crate) async fn postponed_delivery_keeps_its_place_and_counts(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    let before = pair.head().await;
    let later = pair.clock.now().plus(Duration::from_secs(60));
    pair.journal.postpone(before[0].number, later, "it was busy").await.expect("it is pending");
    let pair = pair.reopen();
    let after = pair.head().await;
    assert_eq!(pair.lane().await, ["$1", "$2"]);
    assert_eq!((after[0].attempt, after[0].not_before), (1, later));
    assert_eq!((after[1].attempt, after[1].not_before.0), (0, 0));
    assert_eq!(after[0].delivery, before[0].delivery, "its id is the same at every attempt");
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert_eq!(facts[0].reason.as_deref(), Some("it was busy"));
}

pub(crate) async fn held_delivery_comes_back_to_its_old_place(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Hold(Hold::Paused))]);
    pair.arrive(vec![said("@ann", "$1")]).await;
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Enqueue)]);
    pair.arrive(vec![said("@ann", "$2"), said("@ann", "$3")]).await;
    assert_eq!(pair.lane().await, ["$2", "$3"]);
    let second = pair.head().await.remove(0);
    pair.journal.hold(second.number, Hold::PeerKeyMissing).await.expect("it is pending");
    assert_eq!(pair.lane().await, ["$3"]);
    assert_eq!(pair.journal.counts().await.expect("the journal reads").held, 2);
    assert_eq!(pair.journal.resume(&link("another")).await.expect("the journal writes"), 0);
    pair.journal.woken().await;
    assert_eq!(pair.journal.resume(&link("l")).await.expect("the journal writes"), 2);
    assert_eq!(pair.journal.woken().await, std::slice::from_ref(&pair.b));
    assert_eq!(pair.lane().await, ["$1", "$2", "$3"]);
}

pub(crate) async fn reply_names_its_counterpart_in_both_directions_and_beside(engine: &dyn Engine) {
    let (a, b, c) = (at("one", "!a"), at("two", "!b"), at("one", "!c"));
    let router = TestRouter::linking(&[&a, &b, &c]);
    let journal = engine.open(router.clone(), Limits::default(), Default::default());
    // Ann writes $a1 in a; it is called $b1 in b and $c1 in c.
    journal.accept(&a.account, batch(&a, vec![said("@ann", "$a1")])).await.expect("there is room");
    for (lane, name) in [(&b, "$b1"), (&c, "$c1")] {
        let pending = journal.head(lane, 0, 10).await.expect("the journal reads").remove(0);
        journal.settle(pending.number, &id(name)).await.expect("it is pending");
    }
    drop(journal);
    let journal = engine.open(router, Limits::default(), Default::default());
    let cases = [
        // The same direction: who answers $a1 in a answers $b1 in b and $c1 in c.
        (&a, "$a1", [(&b, Some("$b1")), (&c, Some("$c1"))]),
        // Back: who answers $b1 in b answers $a1 in a; and beside, $c1 in c.
        (&b, "$b1", [(&a, Some("$a1")), (&c, Some("$c1"))]),
        (&c, "$c1", [(&a, Some("$a1")), (&b, Some("$b1"))]),
        (&b, "$unknown", [(&a, None), (&c, None)]),
    ];
    for (number, (from, target, expected)) in cases.into_iter().enumerate() {
        let answer = reply("@bob", &format!("$reply{number}"), &id(target));
        journal.accept(&from.account, batch(from, vec![answer])).await.expect("there is room");
        for (lane, name) in expected {
            let pending = journal.head(lane, 0, 10).await.expect("the journal reads").remove(0);
            assert_eq!(pending.reply_to, name.map(id), "from {from} to {lane}");
            journal.settle(pending.number, &id(&format!("$done{number}{lane}"))).await.expect("it is pending");
        }
    }
}

pub(crate) async fn reply_waits_for_its_counterpart_in_the_same_answer(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2"), reply("@bob", "$3", &id("$1")), said("@ann", "$4")]).await;
    assert_eq!(pair.lane().await, ["$1", "$2"], "what $3 answers has no name there yet");
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id(&format!("there {}", words(&pending.message)))).await.expect("pending");
    }
    let rest = pair.head().await;
    assert_eq!(rest.iter().map(|p| words(&p.message)).collect::<Vec<_>>(), ["$3", "$4"]);
    assert_eq!(rest[0].reply_to, Some(id("there $1")));
}

pub(crate) async fn echo_settles_what_nobody_was_sure_of(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2"), said("@ann", "$3")]).await;
    let head = pair.head().await;
    let echo = |at: &sealbridge_contract::Address, delivery, name: &str| Batch {
        echoes: vec![Echo { conversation: at.conversation.clone(), delivery, id: id(name) }],
        ..Batch::default()
    };
    // Another account, and a delivery that is none of ours: nothing happens.
    pair.journal.accept(&pair.a.account, echo(&pair.a, head[0].delivery, "$x")).await.expect("harmless");
    pair.journal.accept(&pair.b.account, echo(&pair.b, DeliveryId::random(), "$x")).await.expect("harmless");
    assert_eq!(pair.lane().await.len(), 3);
    pair.journal.bury(head[1].number, "nobody knows").await.expect("it is pending");
    pair.journal.settle(head[2].number, &id("$b3")).await.expect("it is pending");
    for (pending, name) in head.iter().zip(["$b1", "$b2", "$other"]) {
        pair.journal.accept(&pair.b.account, echo(&pair.b, pending.delivery, name)).await.expect("harmless");
    }
    assert_eq!(pair.lane().await, Vec::<String>::new());
    assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty());
    for (sent, name) in [("$1", "$b1"), ("$2", "$b2"), ("$3", "$b3")] {
        let facts = pair.journal.why(&pair.a, &id(sent)).await.expect("the journal reads");
        assert_eq!((facts[0].state, facts[0].delivered_as.clone()), ("delivered", Some(id(name))));
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
}

pub(crate) async fn topic_is_said_once_for_ever(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let journal = &pair.journal;
    assert!(journal.say(&pair.b, notice("plain!"), Some("plaintext")).await.expect("there is room"));
    assert!(!journal.say(&pair.b, notice("plain!"), Some("plaintext")).await.expect("there is room"));
    assert!(journal.say(&pair.a, notice("plain!"), Some("plaintext")).await.expect("there is room"), "another place");
    assert_eq!(journal.said(&pair.b, "plaintext").await.expect("the journal reads"), Spoken::OnItsWay);
    assert_eq!(journal.said(&pair.b, "another").await.expect("the journal reads"), Spoken::Never);
    assert!(journal.say(&pair.b, notice("hello"), None).await.expect("there is room"));
    assert!(journal.say(&pair.b, notice("hello"), None).await.expect("there is room"));
    let pair = pair.reopen();
    assert!(!pair.journal.say(&pair.b, notice("plain!"), Some("plaintext")).await.expect("there is room"));
    assert_eq!(pair.lane().await, ["plain!", "hello", "hello"]);
    let first = pair.head().await.remove(0);
    assert_eq!((first.link, first.from), (None, None));
    assert_eq!(first.trust, sealbridge_contract::SenderTrust::Local);
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    assert_eq!(pair.journal.said(&pair.b, "plaintext").await.expect("the journal reads"), Spoken::Arrived);
    assert_eq!(pair.journal.said(&pair.a, "plaintext").await.expect("the journal reads"), Spoken::OnItsWay);
    let to_a = pair.journal.head(&pair.a, 0, 10).await.expect("the journal reads").remove(0);
    pair.journal.bury(to_a.number, "it is refused").await.expect("it is pending");
    assert_eq!(pair.journal.said(&pair.a, "plaintext").await.expect("the journal reads"), Spoken::Lost);
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.queued, counts.dead, counts.settled), (0, 1, 3));
}

pub(crate) async fn lanes_wake_when_something_is_new(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let journal = pair.journal.clone();
    let woken = tokio::spawn(async move { journal.woken().await });
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    let lanes = tokio::time::timeout(Duration::from_secs(10), woken).await.expect("it wakes").expect("no panic");
    assert_eq!(lanes, std::slice::from_ref(&pair.b));
    assert_eq!(pair.lane().await.len(), 2, "what woke it is committed");
    pair.journal.accept(&pair.b.account, batch(&pair.b, vec![said("@bob", "$3")])).await.expect("there is room");
    pair.arrive(vec![said("@ann", "$4")]).await;
    let lanes: HashSet<_> = pair.journal.woken().await.into_iter().collect();
    assert_eq!(lanes, HashSet::from([pair.a.clone(), pair.b.clone()]), "one wake for many");
}

pub(crate) async fn every_lane_that_has_something_is_listed(engine: &dyn Engine) {
    let from: Vec<_> = (0..40).map(|n| at("one", &format!("!from{n}"))).collect();
    let to: Vec<_> = (0..40).map(|n| at("two", &format!("!to{n}"))).collect();
    let router = TestRouter::linking(&[]);
    let journal = engine.open(router.clone(), Limits::default(), Default::default());
    for (from, to) in from.iter().zip(&to) {
        router.route_to(from, vec![routed(to, FirstVerdict::Enqueue)]);
        journal.accept(&from.account, batch(from, vec![said("@ann", "$1")])).await.expect("there is room");
    }
    let done = journal.head(&to[7], 0, 10).await.expect("the journal reads").remove(0);
    journal.settle(done.number, &id("$there")).await.expect("it is pending");
    let lanes: HashSet<_> = journal.lanes().await.expect("the journal reads").into_iter().collect();
    let expected: HashSet<_> = to.iter().filter(|lane| **lane != to[7]).cloned().collect();
    assert_eq!(lanes, expected);
    journal.accept(&from[3].account, batch(&from[3], vec![said("@ann", "$2")])).await.expect("there is room");
    let first = journal.head(&to[3], 0, 10).await.expect("the journal reads").remove(0);
    journal.postpone(first.number, first.enqueued_at, "it was busy").await.expect("it is pending");
    let reports = journal.lane_reports().await.expect("the journal reads");
    assert_eq!(reports.iter().map(|report| report.at.clone()).collect::<HashSet<_>>(), expected);
    let third = reports.iter().find(|report| report.at == to[3]).expect("it is listed");
    assert_eq!((third.queued, third.attempts, third.cause.as_deref()), (2, 1, Some("it was busy")));
    assert_eq!(third.since, first.enqueued_at);
}

pub(crate) async fn old_lines_are_forgotten_and_the_rest_stays(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    assert!(pair.journal.say(&pair.b, notice("words"), None).await.expect("there is room"));
    let head = pair.head().await;
    pair.journal.settle(head[0].number, &id("$b1")).await.expect("it is pending");
    pair.journal.settle(head[2].number, &id("$b3")).await.expect("it is pending");
    assert_eq!(pair.journal.sweep().await.expect("the journal writes"), 0, "not yet");
    pair.clock.shift(31 * 24 * 3600 * 1000);
    assert_eq!(pair.journal.sweep().await.expect("the journal writes"), 2);
    assert_eq!(pair.journal.sweep().await.expect("the journal writes"), 0);
    assert_eq!(pair.lane().await, ["$2"], "what is on its way is never forgotten");
    assert_eq!(pair.journal.counts().await.expect("the journal reads").settled, 0);
    assert!(pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads").is_empty());
}

pub(crate) async fn head_goes_on_after_a_number(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let all: Vec<_> = (0..10).map(|n| said("@ann", &format!("${n}"))).collect();
    pair.arrive(all).await;
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = pair.journal.head(&pair.b, after, 3).await.expect("the journal reads");
        let Some(last) = page.last() else { break };
        after = last.number;
        found.extend(page.iter().map(|p| words(&p.message)));
    }
    assert_eq!(found, (0..10).map(|n| format!("${n}")).collect::<Vec<_>>());
}
