//! What is kept for somebody to act on has a bound for each sender, and an end in time.

use std::time::Duration;

use sealbridge_contract::{
    PersonId,
    inbox::{Arrived, Resolution},
};

use super::{about::deletion, kit::*};
use crate::store::{FirstVerdict, JournalError, Limits};

fn long(sender: &str, name: &str) -> Arrived {
    Arrived::Message(incoming(name, message(sender, &"long ".repeat(200))))
}

pub(crate) async fn dead_letters_of_one_sender_take_a_share_and_leave_room_for_others(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 64_000, ..Limits::default() });
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Refuse("too long".into()))]);
    pair.arrive((0..40).map(|n| long("@eve", &format!("$eve{n}"))).collect()).await;
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Enqueue)]);
    let letters = pair.journal.dead_letters(0, 100).await.expect("the journal reads");
    assert_eq!(letters.len(), 40, "each has its line");
    assert!(letters.iter().all(|letter| letter.reason == "too long"));
    let kept = letters.iter().filter(|letter| letter.kept).count();
    assert!((2..=4).contains(&kept), "{kept} are kept whole");
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert!(counts.payload_bytes <= 4000, "{} bytes", counts.payload_bytes);
    let gone = letters.iter().find(|letter| !letter.kept).expect("most are not kept").number;
    assert!(matches!(pair.journal.retry(gone).await, Err(JournalError::NoSuch(_))), "there is nothing to send");

    // One that dies on the way counts the same, and others are not harmed.
    pair.arrive(vec![long("@eve", "$late"), long("@ann", "$ann")]).await;
    for pending in pair.head().await {
        pair.journal.bury(pending.number, "it was given up").await.expect("it is pending");
    }
    let letters = pair.journal.dead_letters(0, 100).await.expect("the journal reads");
    let late: Vec<_> = letters.iter().filter(|letter| letter.reason == "it was given up").collect();
    assert_eq!(late.iter().map(|letter| letter.kept).collect::<Vec<_>>(), [false, true]);

    // What an operator drops makes room again, over a restart too.
    let pair = pair.reopen();
    for letter in letters.iter().filter(|letter| letter.kept) {
        pair.journal.drop_letter(letter.number).await.expect("it is a dead letter");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
    pair.arrive(vec![long("@eve", "$again")]).await;
    pair.journal.bury(pair.only().await.number, "again").await.expect("it is pending");
    let letters = pair.journal.dead_letters(0, 100).await.expect("the journal reads");
    assert!(letters.last().is_some_and(|letter| letter.kept));
}

pub(crate) async fn events_that_cant_be_read_of_one_sender_take_a_share(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 16 * 400, ..Limits::default() });
    pair.arrive((0..20).map(|n| unreadable("@eve", &format!("$eve{n}"), true)).collect()).await;
    pair.arrive(vec![unreadable("@ann", "$ann", true), said("@bob", "$bob")]).await;
    assert_eq!(pair.lane().await, ["$bob"]);
    let account = &pair.a.account;
    let waiting = pair.journal.waiting(account, Default::default(), 0, 100).await.expect("the journal reads");
    let of = |who: &str| waiting.iter().filter(|event| event.sender.as_str() == who).count();
    assert!((3..=10).contains(&of("@eve")) && of("@ann") == 1, "{waiting:?}");
    let letters = pair.journal.dead_letters(0, 100).await.expect("the journal reads");
    assert_eq!(letters.len() + of("@eve"), 20, "each has its line");
    assert!(letters.iter().all(|letter| !letter.kept && letter.sender.as_deref() == Some("@eve")));
    for event in waiting {
        pair.journal.resolve(account, event.id, Resolution::NotForUs).await.expect("it waits");
    }
    pair.arrive(vec![unreadable("@eve", "$more", true)]).await;
    assert!(pair.waiting().await > 0, "there is room again");
}

pub(crate) async fn deletion_of_what_waits_gives_its_senders_share_back(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 16 * 400, ..Limits::default() });
    for number in 0..40 {
        let name = format!("$eve{number}");
        pair.arrive(vec![unreadable("@eve", &name, true)]).await;
        assert!(pair.waiting().await > 0, "{name} is kept");
        pair.arrive(vec![deletion(&format!("$d{number}"), &name)]).await;
    }
    assert!(pair.journal.dead_letters(0, 100).await.expect("the journal reads").is_empty());
}

pub(crate) async fn dead_letter_is_let_go_in_time_and_leaves_its_reason(engine: &dyn Engine) {
    let limits = Limits { dead_letters_for: Duration::from_secs(10 * 24 * 3600), ..Limits::default() };
    let pair = Pair::with(engine, limits);
    let never = Arrived::Refused { id: id("$3"), sender: PersonId::new("@eve"), reason: "forged".into() };
    pair.arrive(vec![said("@ann", "$1"), unreadable("@ann", "$2", false), never]).await;
    pair.journal.bury(pair.only().await.number, "it was given up").await.expect("it is pending");
    let refused = Resolution::Refused { reason: "the key never came".into() };
    pair.journal.resolve(&pair.a.account, pair.waiting().await, refused).await.expect("it waits");
    pair.clock.shift(9 * 24 * 3600 * 1000);
    pair.arrive(vec![said("@ann", "$4")]).await;
    assert_eq!(pair.journal.sweep().await.expect("the journal writes"), 0, "not yet");
    assert_eq!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").len(), 3);
    pair.clock.shift(2 * 24 * 3600 * 1000);
    while pair.journal.sweep().await.expect("the journal writes") > 0 {}
    assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty());
    assert_eq!(pair.lane().await, ["$4"], "what is on its way is not let go");
    pair.journal.settle(pair.only().await.number, &id("$there")).await.expect("it is pending");
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
    for (name, reason) in [("$1", "it was given up"), ("$2", "the key never came"), ("$3", "forged")] {
        let facts = pair.journal.why(&pair.a, &id(name)).await.expect("the journal reads");
        let told = facts
            .iter()
            .any(|fact| fact.state == "dropped" && fact.reason.as_ref().is_some_and(|r| r.contains(reason)));
        assert!(told, "{name}: {facts:?}");
    }
}
