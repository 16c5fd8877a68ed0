//! What is kept for somebody to act on has a bound for each sender, and an end in time.

use std::time::Duration;

use sealbridge_contract::{
    Address, PersonId, SecretBytes,
    inbox::{Arrived, Resolution, StoreWrite},
};

use super::{about::deletion, kit::*};
use crate::store::{FirstVerdict, JournalError, Limits, Share};

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

pub(crate) async fn dead_letters_beside_a_delivery_that_arrives_take_a_share(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 64_000, ..Limits::default() });
    let [job] = sources(&pair);
    let there = Address { account: pair.b.account.clone(), conversation: at("x", "elsewhere").conversation };
    let refused = FirstVerdict::Refuse("too long".into());
    pair.router.route_to(&job, vec![routed(&there, refused), routed(&pair.b, FirstVerdict::Enqueue)]);
    for number in 0..40 {
        let name = format!("$job{number}");
        pair.journal.accept(&job.account, batch(&job, vec![long("@job", &name)])).await.expect("it has a share");
        pair.journal.settle(pair.only().await.number, &id(&format!("$there{number}"))).await.expect("it is pending");
        assert_eq!(share(&pair, &job).await, None, "a dead letter has a bound of its own");
    }
    let letters = pair.journal.dead_letters(0, 100).await.expect("the journal reads");
    let kept = letters.iter().filter(|letter| letter.kept).count();
    assert!(letters.len() == 40 && (2..=4).contains(&kept), "{kept} of {} are kept whole", letters.len());
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert!(counts.payload_bytes <= 4000, "{} bytes", counts.payload_bytes);
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

/// What a program says into lane b, one message after the other, until nothing more is taken of it. Says how many were.
async fn flood(pair: &Pair<'_>, source: &Address, turn: usize) -> usize {
    for number in 0..10_000 {
        let said = batch(source, vec![long("@job", &format!("{source} {turn} {number}"))]);
        match pair.journal.accept(&source.account, said).await {
            Ok(()) => {}
            Err(JournalError::ShareTaken) => return number,
            Err(error) => panic!("after {number}: {error}"),
        }
    }
    panic!("it is never told that it is too much");
}

/// Sources of a bounded account, each of which speaks in lane b.
fn sources<const MANY: usize>(pair: &Pair<'_>) -> [Address; MANY] {
    std::array::from_fn(|number| {
        let source = at("programs", &format!("source-{number}"));
        pair.router.route_to(&source, vec![routed(&pair.b, FirstVerdict::Enqueue)]);
        source
    })
}

async fn share(pair: &Pair<'_>, source: &Address) -> Option<Share> {
    let shares = pair.journal.shares().await.expect("the journal reads");
    shares.into_iter().find(|share| share.at == *source)
}

pub(crate) async fn source_whose_words_cant_be_delivered_takes_a_share_and_leaves_room_for_others(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 256_000, ..Limits::default() });
    let [job, calm] = sources(&pair);
    let taken = flood(&pair, &job, 0).await as u64;
    let held = share(&pair, &job).await.expect("it has something waiting");
    assert!(held.is_taken && held.messages == taken && held.messages > Limits::LEAST_SHARE, "{held:?}");
    let used = pair.journal.counts().await.expect("the journal reads").payload_bytes;
    assert!(held.bytes == used && (64_000..68_000).contains(&used), "{used} bytes");
    // Nothing of the batch is kept, its name neither.
    let mut refused = batch(&job, vec![long("@job", "one more")]);
    refused.store = vec![StoreWrite::put("name", SecretBytes::new(vec![1]))];
    assert!(matches!(pair.journal.accept(&job.account, refused).await, Err(JournalError::ShareTaken)));
    assert!(pair.journal.read(&job.account, "name").await.expect("the journal reads").is_none());
    // Neither another source nor people notice.
    pair.journal.accept(&calm.account, batch(&calm, vec![said("@calm", "$calm")])).await.expect("it has a share");
    pair.arrive((0..50).map(|number| said("@ann", &format!("$ann{number}"))).collect()).await;
    assert_eq!(pair.head().await.len() as u64, taken + 51);
}

pub(crate) async fn sources_that_all_flood_take_less_each_and_leave_room_for_a_calm_one_and_for_people(
    engine: &dyn Engine,
) {
    let pair = Pair::with(engine, Limits { payload_bytes: 1 << 20, ..Limits::default() });
    let [calm, flooding @ ..] = sources::<9>(&pair);
    // By turns, as they would.
    for turn in 0..3 {
        for source in &flooding {
            flood(&pair, source, turn).await;
        }
    }
    let used = pair.journal.counts().await.expect("the journal reads").payload_bytes;
    assert!(used < (1 << 20) / 10 * 8, "{used} bytes");
    pair.journal.accept(&calm.account, batch(&calm, vec![long("@calm", "$calm")])).await.expect("it has a share");
    pair.arrive((0..50).map(|number| long("@ann", &format!("$ann{number}"))).collect()).await;
}

pub(crate) async fn share_comes_back_with_what_is_delivered_deleted_or_dead_over_a_restart_too(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 256_000, ..Limits::default() });
    let [job] = sources(&pair);
    flood(&pair, &job, 0).await;
    let pair = pair.reopen();
    let before = share(&pair, &job).await.expect("it has something waiting");
    assert!(before.is_taken, "{before:?}");
    // A deletion makes room, and is taken where nothing else is.
    let first = format!("{job} 0 0");
    pair.journal.accept(&job.account, batch(&job, vec![deletion("$deletion", &first)])).await.expect("it makes room");
    let after = share(&pair, &job).await.expect("it has something waiting");
    assert!(after.bytes < before.bytes, "{before:?} {after:?}");
    for (number, pending) in pair.head().await.into_iter().enumerate() {
        match number % 4 {
            0 => pair.journal.bury(pending.number, "it was given up").await.expect("it is pending"),
            1 => pair.journal.leave_out(pending.number, "it is known there").await.expect("it is pending"),
            _ => pair.journal.settle(pending.number, &id(&format!("$there{number}"))).await.expect("it is pending"),
        }
    }
    assert_eq!(share(&pair, &job).await, None, "a dead letter has a bound of its own");
    for letter in pair.journal.dead_letters(0, 100).await.expect("the journal reads") {
        pair.journal.drop_letter(letter.number).await.expect("it is a dead letter");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
    assert_eq!(share(&pair, &job).await, None);
    flood(&pair, &job, 1).await;
}
