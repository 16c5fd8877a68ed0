//! Links: what becomes of their outbox when they change.

use sealbridge_contract::{
    gate::Hold,
    inbox::{Batch, Echo},
};

use super::kit::*;
use crate::store::{FirstVerdict, JournalError, Link, LinkEnd, Routed, Router as _};

pub(crate) async fn links_are_kept_and_removed_with_their_outbox(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let mut made = linking("l", &[&pair.a, &pair.b]);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    pair.journal.put_link(made.clone()).await.expect("there is room");
    made.paused = Some("a storm".into());
    pair.journal.put_link(made.clone()).await.expect("there is room");
    let other = Link { name: link("Ann & Bob ☃"), fixed: true, ..made.clone() };
    pair.journal.put_link(other.clone()).await.expect("there is room");
    let first = pair.head().await.remove(0);
    pair.journal.hold(first.number, Hold::Paused).await.expect("it is pending");
    let pair = pair.reopen();
    assert_eq!(pair.journal.links().await.expect("the journal reads"), [other.clone(), made]);
    pair.journal.remove_link(&link("l")).await.expect("it is there");
    assert_eq!(pair.journal.links().await.expect("the journal reads"), [other]);
    let again = pair.journal.remove_link(&link("l")).await;
    assert!(matches!(again, Err(JournalError::NoSuch(_))), "{again:?}");
    assert_eq!(pair.lane().await, Vec::<String>::new());
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(
        letters.iter().map(|l| (l.reason.as_str(), l.kept)).collect::<Vec<_>>(),
        [("its link was removed", true), ("its link was removed", true)]
    );
}

pub(crate) async fn replaced_end_takes_its_outbox_along_in_order(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let new = at("two", "!new");
    pair.journal.put_link(linking("l", &[&pair.a, &pair.b])).await.expect("there is room");
    pair.router.route_to(
        &pair.a,
        vec![
            routed(&pair.b, FirstVerdict::Enqueue),
            Routed { link: link("other"), ..routed(&pair.b, FirstVerdict::Enqueue) },
        ],
    );
    let said: Vec<_> = (0..5).map(|n| said("@ann", &format!("${n}"))).collect();
    pair.arrive(said).await;
    let head = pair.head().await;
    let of_link: Vec<_> = head.iter().filter(|p| p.link == Some(link("l"))).collect();
    pair.journal.settle(of_link[0].number, &id("$there")).await.expect("it is pending");
    pair.journal.hold(of_link[1].number, Hold::PeerKeyMissing).await.expect("it is pending");
    pair.journal.bury(of_link[2].number, "it was given up").await.expect("it is pending");
    assert!(pair.journal.say(&pair.b, notice("of the old place"), None).await.expect("there is room"));
    pair.journal.woken().await;

    let end = LinkEnd { at: new.clone(), since: START };
    let moved = pair.journal.replace_end(&link("l"), &pair.b, end).await.expect("it is an end");
    assert_eq!(moved, 4, "what was settled stays where it was");
    assert_eq!(pair.journal.woken().await, std::slice::from_ref(&new));
    assert_eq!(pair.router.links(), [linking("l", &[&pair.a, &new])]);
    let pair = pair.reopen();
    assert_eq!(pair.journal.links().await.expect("the journal reads"), [linking("l", &[&pair.a, &new])]);
    assert_eq!(pair.lane().await, ["$0", "$1", "$2", "$3", "$4", "of the old place"], "other links keep theirs");
    let there = async || {
        let head = pair.journal.head(&new, 0, 10).await.expect("the journal reads");
        head.iter().map(|pending| (words(&pending.message), pending.delivery)).collect::<Vec<_>>()
    };
    let expected = |names: &[usize]| names.iter().map(|n| (format!("${n}"), of_link[*n].delivery)).collect::<Vec<_>>();
    assert_eq!(there().await, expected(&[3, 4]));
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|l| (l.to.as_ref(), l.kept)).collect::<Vec<_>>(), [(Some(&new), true)]);
    pair.journal.retry(letters[0].number).await.expect("it is kept");
    pair.journal.resume(&link("l")).await.expect("it is there");
    assert_eq!(there().await, expected(&[1, 2, 3, 4]), "in their old order");
    let echo = Echo { conversation: new.conversation.clone(), delivery: of_link[1].delivery, id: id("$new1") };
    pair.journal.accept(&new.account, Batch { echoes: vec![echo], ..Batch::default() }).await.expect("there is room");
    assert_eq!(there().await, expected(&[2, 3, 4]), "it is known to be on its way there");
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert!(facts.iter().any(|f| f.to.as_ref() == Some(&new) && f.state == "delivered"), "{facts:?}");

    let end = || LinkEnd { at: at("two", "!newer"), since: START };
    for (name, old) in [("l", &pair.b), ("none", &new)] {
        let refused = pair.journal.replace_end(&link(name), old, end()).await;
        assert!(matches!(refused, Err(JournalError::NoSuch(_))), "{refused:?}");
    }
}

pub(crate) async fn message_that_another_link_carries_there_is_not_doubled(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let new = at("two", "!new");
    pair.journal.put_link(linking("l", &[&pair.a, &pair.b])).await.expect("there is room");
    let beside = Routed { link: link("other"), ..routed(&new, FirstVerdict::Enqueue) };
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Enqueue), beside]);
    pair.arrive(vec![said("@ann", "$1")]).await;
    let end = LinkEnd { at: new.clone(), since: START };
    assert_eq!(pair.journal.replace_end(&link("l"), &pair.b, end).await.expect("it is an end"), 0);
    assert_eq!(pair.journal.head(&new, 0, 10).await.expect("the journal reads").len(), 1);
    assert!(pair.lane().await.is_empty());
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters[0].reason, "another link carries it there");
}

pub(crate) async fn link_that_goes_on_keeps_the_order_while_more_arrives(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let on = linking("l", &[&pair.a, &pair.b]);
    let off = Link { paused: Some("a storm".into()), ..on.clone() };
    let arrive = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            pair.arrive(vec![said("@ann", &format!("${number:03}"))]).await;
        }
    };
    let turn = async || {
        pair.journal.put_link(off.clone()).await.expect("there is room");
        tokio::task::yield_now().await;
        pair.journal.resume(&on.name).await.expect("it is there");
    };
    for round in 0..20 {
        // While the link is paused and goes on, messages arrive in every commit before, with and after.
        tokio::join!(arrive(round * 10..round * 10 + 10), turn());
        assert_eq!(pair.journal.counts().await.expect("the journal reads").held, 0, "nothing stays behind");
    }
    assert_eq!(pair.lane().await, (0..200).map(|number| format!("${number:03}")).collect::<Vec<_>>());
    assert_eq!(pair.router.links(), [on]);
}

pub(crate) async fn attempt_that_ends_after_its_link_went_on_holds_nothing(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let on = linking("l", &[&pair.a, &pair.b]);
    pair.journal.put_link(Link { paused: Some("a storm".into()), ..on.clone() }).await.expect("there is room");
    pair.router.links_are(vec![on]);
    pair.arrive(vec![said("@ann", "$1")]).await;
    let number = pair.only().await.number;
    pair.journal.hold(number, Hold::Paused).await.expect("it is pending");
    assert_eq!(pair.lane().await, Vec::<String>::new(), "it is paused");
    pair.journal.resume(&link("l")).await.expect("it is there");
    pair.journal.hold(number, Hold::Paused).await.expect("harmless");
    assert_eq!(pair.lane().await, ["$1"], "nobody would release it");
}
