//! Order, and gaps.

use sealbridge_contract::{
    Timestamp,
    inbox::{Arrived, Filling},
};

use super::kit::*;
use crate::store::JournalError;

/// Fills the oldest open gap of account one.
async fn fill(pair: &Pair<'_>, arrivals: Vec<Arrived>, next: Option<&str>) {
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    fill_gap(pair, gaps[0].id, arrivals, next).await;
}

async fn fill_gap(pair: &Pair<'_>, gap: i64, arrivals: Vec<Arrived>, next: Option<&str>) {
    let filling = Filling { gap, arrivals, next: next.map(str::to_owned) };
    pair.journal.fill(&pair.a.account, filling).await.expect("the gap is open");
}

pub(crate) async fn message_behind_a_gap_waits_until_it_is_filled(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), gap("t1"), said("@ann", "$6")]).await;
    pair.arrive(vec![said("@bob", "$7")]).await;
    assert_eq!(pair.lane().await, ["$1"]);
    fill(&pair, vec![said("@ann", "$5"), said("@bob", "$4")], Some("t2")).await;
    assert_eq!(pair.lane().await, ["$1"], "not before it is closed");
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    assert_eq!((gaps[0].from.as_str(), gaps[0].until.as_deref()), ("t2", Some("until")));
    // It overlaps with what is known at both ends.
    fill(&pair, vec![said("@bob", "$4"), said("@ann", "$3"), said("@ann", "$2"), said("@ann", "$1")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2", "$3", "$4", "$5", "$6", "$7"]);
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.gaps, counts.unrouted), (0, 0));
    let gone = pair.journal.fill(&pair.a.account, Filling { gap: gaps[0].id, arrivals: vec![], next: None }).await;
    assert!(matches!(gone, Err(JournalError::NoSuch(_))), "{gone:?}");
    pair.arrive(vec![said("@bob", "$8")]).await;
    assert_eq!(pair.lane().await.last().map(String::as_str), Some("$8"));
}

pub(crate) async fn gap_within_a_gap_keeps_the_order(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), gap("outer"), said("@ann", "$6")]).await;
    fill(&pair, vec![said("@ann", "$5"), gap("inner"), said("@ann", "$2")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2"], "what lies before the inner gap need not wait");
    fill(&pair, vec![said("@ann", "$4"), said("@ann", "$3")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2", "$3", "$4", "$5", "$6"]);
}

pub(crate) async fn two_gaps_open_in_any_order(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![gap("first"), said("@ann", "$2"), gap("second"), said("@ann", "$4")]).await;
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    assert_eq!(gaps.iter().map(|g| g.from.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    fill_gap(&pair, gaps[1].id, vec![said("@ann", "$3")], None).await;
    assert_eq!(pair.lane().await, Vec::<String>::new());
    fill_gap(&pair, gaps[0].id, vec![said("@ann", "$1")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2", "$3", "$4"]);
}

pub(crate) async fn filling_goes_on_where_it_was_after_a_restart(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![gap("t1"), said("@ann", "$5")]).await;
    fill(&pair, vec![said("@ann", "$4"), said("@ann", "$3")], Some("t2")).await;
    let pair = pair.reopen();
    // The last piece may be read again.
    fill(&pair, vec![said("@ann", "$4"), said("@ann", "$3")], Some("t2")).await;
    pair.arrive(vec![said("@ann", "$6")]).await;
    fill(&pair, vec![said("@ann", "$2"), said("@ann", "$1")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2", "$3", "$4", "$5", "$6"]);
}

pub(crate) async fn message_written_before_the_link_does_not_cross_when_a_gap_is_filled(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.router.link_since(&pair.a, START);
    pair.arrive(vec![gap("t"), said("@ann", "$3")]).await;
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    assert_eq!(gaps[0].not_before, START);
    let mut old = message("@ann", "old");
    old.sent_at = Timestamp(START.0 - 1);
    fill(&pair, vec![said("@ann", "$2"), Arrived::Message(incoming("$1", old))], None).await;
    assert_eq!(pair.lane().await, ["$2", "$3"]);
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert_eq!(facts.iter().map(|f| f.state).collect::<Vec<_>>(), ["dropped"]);
}

pub(crate) async fn long_gap_is_routed_in_order_while_more_arrives(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let names: Vec<String> = (0..3000).map(|n| format!("${n:05}")).collect();
    pair.arrive(vec![gap("t"), said("@ann", &names[2400])]).await;
    for (piece, from) in names[..2400].rchunks(400).zip((0..6).rev()) {
        let arrivals = piece.iter().rev().map(|name| said("@ann", name)).collect();
        fill(&pair, arrivals, (from > 0).then_some("more")).await;
    }
    for name in &names[2401..] {
        pair.arrive(vec![said("@ann", name)]).await;
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while pair.journal.counts().await.expect("the journal reads").unrouted > 0 {
        assert!(std::time::Instant::now() < deadline, "everything that can be routed is routed, unasked");
        tokio::task::yield_now().await;
    }
    assert_eq!(pair.lane().await, names);
}

pub(crate) async fn gap_offered_twice_is_one(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    for _ in 0..2 {
        pair.arrive(vec![gap("t"), said("@ann", "$2")]).await;
    }
    assert_eq!(pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads").len(), 1);
    fill(&pair, vec![said("@ann", "$1")], None).await;
    assert_eq!(pair.lane().await, ["$1", "$2"]);
}

pub(crate) async fn waiting_message_of_a_conversation_that_is_not_linked_any_more_is_let_go_in_time(
    engine: &dyn Engine,
) {
    let pair = Pair::new(engine);
    pair.arrive(vec![gap("t"), said("@ann", "$2")]).await;
    pair.router.unlink(&pair.a);
    assert!(pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads").is_empty());
    pair.journal.expire().await.expect("the journal writes");
    assert_eq!(pair.journal.counts().await.expect("the journal reads").unrouted, 1, "it may be linked again");
    pair.clock.shift(8 * 24 * 3600 * 1000);
    pair.journal.expire().await.expect("the journal writes");
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.unrouted, counts.payload_bytes), (0, 0));
}
