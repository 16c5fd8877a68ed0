//! What comes in.

use std::time::Duration;

use sealbridge_contract::{
    DeliveryId, Sealed,
    inbox::{Arrived, Batch, Keep, Once, Parcel, StoreWrite},
};

use super::kit::*;
use crate::store::{FirstVerdict, JournalError, Limits};

pub(crate) async fn message_seen_twice_is_carried_once(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$1")]).await;
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    let pair = pair.reopen();
    pair.arrive(vec![said("@ann", "$2")]).await;
    assert_eq!(pair.lane().await, ["$1", "$2"]);
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    pair.arrive(vec![said("@ann", "$1")]).await;
    assert_eq!(pair.lane().await, Vec::<String>::new(), "a settled message is remembered too");
}

pub(crate) async fn message_goes_to_every_conversation_of_its_links(engine: &dyn Engine) {
    let (a, b, c) = (at("one", "!a"), at("two", "!b"), at("one", "!c"));
    let journal = engine.open(TestRouter::linking(&[&a, &b, &c]), Limits::default(), Default::default());
    journal.accept(&a.account, batch(&a, vec![said("@ann", "$1")])).await.expect("there is room");
    let mut deliveries = Vec::new();
    for lane in [&b, &c] {
        let head = journal.head(lane, 0, 10).await.expect("the journal reads");
        assert_eq!(head.iter().map(|p| words(&p.message)).collect::<Vec<_>>(), ["$1"]);
        assert_eq!(head[0].from, Some((a.clone(), id("$1"))));
        assert_eq!(head[0].link, Some(link("l")));
        deliveries.push(head[0].delivery);
    }
    assert_ne!(deliveries[0], deliveries[1], "each delivery has its own id");
    assert!(journal.head(&a, 0, 10).await.expect("the journal reads").is_empty(), "nothing goes back");
}

pub(crate) async fn replayed_value_under_another_name_is_a_dead_letter_for_ever(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let with_value = |name: &str, value: u8| {
        let mut incoming = incoming(name, message("@ann", name));
        incoming.once = Some(Once { series: vec![value; 40], index: 7 });
        Arrived::Message(incoming)
    };
    let numbered = |name: &str, index: u64| {
        let mut incoming = incoming(name, message("@ann", name));
        incoming.once = Some(Once { series: b"another".to_vec(), index });
        Arrived::Message(incoming)
    };
    pair.arrive(vec![numbered("$n0", 0), numbered("$n1", 1), numbered("$nlast", u64::MAX)]).await;
    assert_eq!(pair.lane().await, ["$n0", "$n1", "$nlast"], "each number of a series is another value");
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    pair.arrive(vec![with_value("$1", 1), with_value("$1", 1), with_value("$2", 2)]).await;
    pair.arrive(vec![with_value("$3", 1)]).await;
    assert_eq!(pair.lane().await, ["$1", "$2"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.len(), 1, "the same event again is no replay");
    assert_eq!((letters[0].name.as_str(), letters[0].reason.as_str()), ("$3", "replayed"));
    assert_eq!(letters[0].sender.as_deref(), Some("@ann"));
    // Long after the lines are gone, the values are remembered.
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    pair.clock.shift(40 * 24 * 3600 * 1000);
    while pair.journal.sweep().await.expect("the journal writes") > 0 {}
    let pair = pair.reopen();
    pair.arrive(vec![with_value("$4", 2), with_value("$2", 2)]).await;
    assert_eq!(pair.lane().await, Vec::<String>::new());
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["$4"]);
}

pub(crate) async fn what_was_said_before_there_was_a_link_is_no_news_afterwards(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let said = |name: &str, index: u64| {
        let mut incoming = incoming(name, message("@ann", name));
        incoming.once = Some(Once { series: b"session".to_vec(), index });
        Arrived::Message(incoming)
    };
    pair.router.unlink(&pair.a);
    pair.arrive(vec![said("$1", 1), said("$2", 2)]).await;
    let pair = pair.reopen();
    pair.router.link_since(&pair.a, START);
    pair.arrive(vec![said("$1", 1), said("$again", 2), said("$3", 3)]).await;
    assert_eq!(pair.lane().await, ["$3"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(
        letters.iter().map(|l| (l.name.as_str(), l.reason.as_str())).collect::<Vec<_>>(),
        [("$again", "replayed")]
    );
}

pub(crate) async fn conversation_that_is_not_linked_leaves_nothing(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let elsewhere = at("one", "!elsewhere");
    let arrivals = vec![said("@ann", "$1"), gap("t"), unreadable("@ann", "$2", true)];
    let mut all = batch(&elsewhere, arrivals);
    all.arrivals.extend(batch(&pair.a, vec![said("@ann", "$3")]).arrivals);
    pair.journal.accept(&elsewhere.account, all).await.expect("there is room");
    assert_eq!(pair.lane().await, ["$3"], "the linked one is not harmed");
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.gaps, counts.unreadable, counts.unrouted), (0, 0, 0));
    assert!(pair.journal.why(&elsewhere, &id("$1")).await.expect("the journal reads").is_empty());
}

pub(crate) async fn store_is_written_with_its_batch_or_not_at_all(engine: &dyn Engine) {
    let limits = Limits { payload_bytes: 2000, ..Limits::default() };
    let pair = Pair::with(engine, limits);
    let with_cursor = |words: &str, cursor: &str| {
        let mut batch = batch(&pair.a, vec![Arrived::Message(incoming(cursor, message("@ann", words)))]);
        batch.store.push(StoreWrite::put("cursor", cursor.as_bytes()));
        batch
    };
    pair.journal.accept(&pair.a.account, with_cursor("short", "1")).await.expect("there is room");
    let refused = pair.journal.accept(&pair.a.account, with_cursor(&"long".repeat(1000), "2")).await;
    assert!(matches!(refused, Err(JournalError::Full)), "{refused:?}");
    let cursor = pair.journal.read(&pair.a.account, "cursor").await.expect("the journal reads");
    assert_eq!(cursor.as_ref().map(secret), Some(b"1".as_slice()));
    assert_eq!(pair.lane().await, ["short"]);
}

pub(crate) async fn full_journal_takes_no_more_still_settles_and_goes_on_by_itself(engine: &dyn Engine) {
    let pair = Pair::with(engine, Limits { payload_bytes: 4000, ..Limits::default() });
    let mut accepted = 0;
    loop {
        assert!(accepted < 1000, "it takes more than its bound");
        let one = batch(&pair.a, vec![said("@ann", &format!("${accepted}"))]);
        match pair.journal.accept(&pair.a.account, one).await {
            Ok(()) => accepted += 1,
            Err(error) => break assert!(matches!(error, JournalError::Full), "{error:?}"),
        }
    }
    assert!(accepted > 5, "{accepted} messages fit");
    assert!(pair.journal.counts().await.expect("the journal reads").payload_bytes <= 4000);
    let all_but_messages = Batch { store: vec![StoreWrite::put("cursor", b"1".as_slice())], ..Batch::default() };
    pair.journal.accept(&pair.a.account, all_but_messages).await.expect("a cursor is no payload");
    assert!(pair.journal.say(&pair.b, notice("the journal is full"), None).await.expect("the operator is told"));
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, 0);
    pair.arrive(vec![said("@ann", &format!("${accepted}"))]).await;
    assert_eq!(pair.lane().await, [format!("${accepted}")]);
}

pub(crate) async fn parcel_is_opened_once_and_junk_is_a_dead_letter(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let (first, second) = (DeliveryId::random(), DeliveryId::random());
    let junk = Parcel { sealed: Sealed::received(vec![1; 100]), ..parcel(&pair.a, "#junk", first, "") };
    let parcels = vec![
        parcel(&pair.a, "#1", first, "one"),
        junk,
        parcel(&pair.a, "#1", first, "one"),
        // The peer tried again, and its carrier gave the same delivery another name.
        parcel(&pair.a, "#2", first, "one"),
        parcel(&pair.a, "#3", second, "two"),
    ];
    let cursor = vec![StoreWrite::put("uid", b"3".as_slice())];
    pair.journal.accept_sealed(&pair.a.account, parcels, cursor).await.expect("there is room");
    assert_eq!(pair.lane().await, ["one", "two"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|l| (l.name.as_str(), l.kept)).collect::<Vec<_>>(), [("#junk", false)]);
    let uid = pair.journal.read(&pair.a.account, "uid").await.expect("the journal reads");
    assert_eq!(uid.as_ref().map(secret), Some(b"3".as_slice()));
}

pub(crate) async fn failing_wish_does_not_fail_those_beside_it(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let wishes = (0..200).map(|number| {
        let journal = pair.journal.clone();
        let (a, name) = (pair.a.clone(), format!("${number}"));
        tokio::spawn(async move {
            if number % 2 == 0 {
                journal.accept(&a.account, batch(&a, vec![said("@ann", &name)])).await.map(|()| true)
            } else {
                journal.settle(1_000_000 + number, &id("$x")).await.map(|()| false)
            }
        })
    });
    let mut outcomes = Vec::new();
    for wish in wishes.collect::<Vec<_>>() {
        outcomes.push(wish.await.expect("no step panics"));
    }
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Ok(true))).count(), 100);
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Err(JournalError::NoSuch(_)))).count(), 100);
    assert_eq!(pair.lane().await.len(), 100);
}

pub(crate) async fn conversation_that_begins_beside_a_failing_wish_is_kept(engine: &dyn Engine) {
    let (pair, nowhere) = (Pair::new(engine), id("$x"));
    for round in 0..40 {
        let (from, to) = (at("one", &format!("!from{round}")), at("two", &format!("!to{round}")));
        pair.router.route_to(&from, vec![routed(&to, FirstVerdict::Enqueue)]);
        // The first keeps the writer busy, so that the others come in together.
        let busy = (0..50).map(|n| said("@ann", &format!("${round}-{n}"))).collect();
        let (busy, begins, fails) = tokio::join!(
            pair.journal.accept(&pair.a.account, batch(&pair.a, busy)),
            pair.journal.accept(&from.account, batch(&from, vec![said("@ann", "$1")])),
            pair.journal.settle(1_000_000, &nowhere),
        );
        busy.expect("there is room");
        begins.expect("there is room");
        assert!(matches!(fails, Err(JournalError::NoSuch(_))), "{fails:?}");
        let first = pair.journal.head(&to, 0, 10).await.expect("the journal reads").remove(0);
        pair.journal.settle(first.number, &id("$there")).await.expect("it is pending");
    }
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.payload_bytes, counts.settled), (0, 40 * 51), "nothing was counted twice");
}

pub(crate) async fn step_that_panics_fails_alone(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let bad = batch(&pair.a, vec![said("@ann", "$0"), said("@ann", "$panic")]);
    let (bad, good) = tokio::join!(
        pair.journal.accept(&pair.a.account, bad),
        pair.journal.accept(&pair.a.account, batch(&pair.a, vec![said("@ann", "$1")])),
    );
    assert!(matches!(bad, Err(JournalError::Failed(_))), "{bad:?}");
    good.expect("the other is not harmed");
    assert_eq!(pair.lane().await, ["$1"], "nothing of the failed batch was kept");
}

pub(crate) async fn what_was_accepted_is_there_after_a_drop_without_close(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), unreadable("@bob", "$2", true), gap("token"), said("@ann", "$3")]).await;
    let pair = pair.reopen();
    assert_eq!(pair.lane().await, ["$1"]);
    assert_eq!(pair.journal.lanes().await.expect("the journal reads"), std::slice::from_ref(&pair.b));
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    assert_eq!(
        gaps.iter().map(|g| (g.from.as_str(), g.until.as_deref())).collect::<Vec<_>>(),
        [("token", Some("until"))]
    );
    let waiting = pair.journal.waiting(&pair.a.account, Default::default(), 0, 10).await.expect("the journal reads");
    assert_eq!(waiting.iter().map(|w| secret(&w.raw)).collect::<Vec<_>>(), [b"raw $2"]);
    pair.journal.close().await;
    let closed = pair.journal.counts().await;
    assert!(matches!(closed, Err(JournalError::Closed)), "{closed:?}");
}

pub(crate) async fn stores_and_settings_are_apart(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let (one, two) = (account("one"), account("two"));
    let write = |key: &str, value: &str| StoreWrite::put(key, value.as_bytes());
    let all = vec![write("pin/a", "1"), write("pin/b", "2"), write("pinned", "3"), write("pin/c", "4")];
    pair.journal.write(&one, all).await.expect("there is room");
    pair.journal.write(&two, vec![write("pin/a", "other")]).await.expect("there is room");
    pair.journal.set("pin/a", b"setting".as_slice().into()).await.expect("there is room");
    let last = vec![StoreWrite::delete("pin/c"), write("pin/b", "5"), StoreWrite::delete("none")];
    pair.journal.write(&one, last).await.expect("there is room");
    let pair = pair.reopen();
    let pins = pair.journal.read_all(&one, "pin/").await.expect("the journal reads");
    let pins: Vec<_> = pins.iter().map(|(key, value)| (key.as_str(), secret(value))).collect();
    assert_eq!(pins, [("pin/a", b"1".as_slice()), ("pin/b", b"5".as_slice())]);
    let setting = pair.journal.setting("pin/a").await.expect("the journal reads");
    assert_eq!(setting.as_ref().map(secret), Some(b"setting".as_slice()));
    assert!(pair.journal.read(&two, "pin/b").await.expect("the journal reads").is_none());
    pair.journal.set("pin/d", b"setting".as_slice().into()).await.expect("there is room");
    let forgotten = pair.journal.forget_settings("pin/", ["pin/d".to_owned()].into()).await;
    assert_eq!(forgotten.expect("the journal writes"), 1);
    assert!(pair.journal.setting("pin/a").await.expect("the journal reads").is_none());
    assert!(pair.journal.setting("pin/d").await.expect("the journal reads").is_some());
    assert_eq!(pair.journal.read_all(&one, "pin/").await.expect("the journal reads").len(), 2);
}

pub(crate) async fn entries_that_are_too_old_or_too_many_are_forgotten(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let one = account("one");
    let write = async |keys: std::ops::Range<usize>| {
        let writes = keys.map(|key| StoreWrite::put(format!("tally/{key:04}"), b"1".as_slice()));
        pair.journal.write(&one, writes.collect()).await.expect("there is room");
        pair.clock.shift(1000);
    };
    let keys = async || {
        let all = pair.journal.read_all(&one, "").await.expect("the journal reads");
        all.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let prune = async |most: usize, within: u64| {
        let keep = Keep { most, within: Duration::from_secs(within) };
        while pair.journal.prune(&one, "tally/", keep).await.expect("the journal writes") > 0 {}
    };
    pair.journal.write(&one, vec![StoreWrite::put("session", b"1".as_slice())]).await.expect("there is room");
    write(0..1500).await;
    write(1500..1503).await;
    write(0..1).await;
    prune(3000, 3600).await;
    assert_eq!(keys().await.len(), 1504, "nothing is old and there are not too many");
    prune(4, 3600).await;
    assert_eq!(keys().await, ["session", "tally/0000", "tally/1500", "tally/1501", "tally/1502"]);
    pair.clock.shift(3_598_500);
    prune(4, 3600).await;
    assert_eq!(keys().await, ["session", "tally/0000"], "what was written again is young");
}
