//! Dead letters, and what is told of messages.

use sealbridge_contract::{
    PersonId, Timestamp,
    gate::Hold,
    inbox::{Arrived, Resolution},
};

use super::kit::*;
use crate::store::{FirstVerdict, JournalError, Swept};

pub(crate) async fn buried_delivery_can_be_retried_and_dropped(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2")]).await;
    let first = pair.head().await.remove(0);
    pair.journal.bury(first.number, "the network refused it").await.expect("it is pending");
    assert_eq!(pair.lane().await, ["$2"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    let letter = &letters[0];
    assert_eq!((letter.number, letter.name.clone()), (first.number, first.delivery.to_string()));
    assert_eq!((letter.from.as_ref(), letter.to.as_ref()), (Some(&pair.a), Some(&pair.b)));
    assert_eq!((letter.reason.as_str(), letter.sender.as_deref()), ("the network refused it", Some("@ann")));
    assert!(letter.kept);
    pair.journal.woken().await;
    pair.journal.retry(first.number).await.expect("it is kept");
    assert_eq!(pair.journal.woken().await, std::slice::from_ref(&pair.b));
    assert_eq!(pair.lane().await, ["$1", "$2"], "in its old place");
    assert_eq!(pair.head().await[0].delivery, first.delivery, "as the same delivery");
    pair.journal.bury(first.number, "again").await.expect("it is pending");
    pair.journal.drop_letter(first.number).await.expect("it is a dead letter");
    for gone in [pair.journal.retry(first.number).await, pair.journal.drop_letter(first.number).await] {
        assert!(matches!(gone, Err(JournalError::NoSuch(_))), "{gone:?}");
    }
    let second = pair.only().await;
    let pending = pair.journal.drop_letter(second.number).await;
    assert!(matches!(pending, Err(JournalError::NoSuch(_))), "what is on its way is no dead letter: {pending:?}");
    pair.journal.settle(second.number, &id("$b2")).await.expect("it is pending");
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.dead, counts.payload_bytes), (0, 0));
    pair.arrive(vec![said("@ann", "$1")]).await;
    assert_eq!(pair.lane().await, Vec::<String>::new(), "what was dropped does not come back");
}

pub(crate) async fn refused_message_is_kept_and_refused_event_is_a_line(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Refuse("not encrypted".into()))]);
    let never = Arrived::Refused { id: id("$2"), sender: PersonId::new("@eve"), reason: "forged".into() };
    pair.arrive(vec![said("@ann", "$1"), never]).await;
    let again = Arrived::Refused { id: id("$2"), sender: PersonId::new("@eve"), reason: "forged".into() };
    pair.arrive(vec![again]).await;
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(
        letters.iter().map(|l| (l.reason.as_str(), l.kept)).collect::<Vec<_>>(),
        [("not encrypted", true), ("forged", false)]
    );
    assert_eq!((letters[1].name.as_str(), letters[1].sender.as_deref()), ("$2", Some("@eve")));
    let retried = pair.journal.retry(letters[1].number).await;
    assert!(matches!(retried, Err(JournalError::NoSuch(_))), "{retried:?}");
    pair.journal.retry(letters[0].number).await.expect("it is kept");
    assert_eq!(pair.lane().await, ["$1"]);
    pair.journal.drop_letter(letters[1].number).await.expect("it is a dead letter");
    assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty());
}

pub(crate) async fn what_died_is_told_by_conversation_reason_and_hour(engine: &dyn Engine) {
    const HOUR: i64 = 3_600_000;
    let pair = Pair::new(engine);
    // The middle of an hour, so that the test does not run into the next.
    pair.clock.shift(HOUR / 2 - pair.clock.now().0 % HOUR);
    let start = pair.clock.now();
    let died = async |since| {
        let mut died = pair.journal.died_since(since).await.expect("the journal reads");
        died.sort_by(|one, other| (one.hour, &one.reason).cmp(&(other.hour, &other.reason)));
        assert!(died.iter().all(|died| died.from == pair.a && died.last.0 / HOUR == died.hour), "{died:?}");
        died.into_iter().map(|died| (died.hour - start.0 / HOUR, died.reason, died.count)).collect::<Vec<_>>()
    };
    assert_eq!(died(Timestamp(0)).await, []);
    let forged =
        |n| Arrived::Refused { id: id(&format!("$f{n}")), sender: PersonId::new("@eve"), reason: "forged".into() };
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Refuse("too long".into()))]);
    pair.arrive(vec![said("@ann", "$1"), forged(1), forged(2)]).await;
    pair.clock.shift(HOUR);
    pair.arrive(vec![forged(3), unreadable("@eve", "$waits", false)]).await;
    let gone = Resolution::Refused { reason: "no key".into() };
    pair.journal.resolve(&pair.a.account, pair.waiting().await, gone).await.expect("it waits");
    // Words of the bridge itself are told to nobody.
    assert!(pair.journal.say(&pair.b, notice("words"), None).await.expect("there is room"));
    pair.journal.bury(pair.only().await.number, "no").await.expect("it is pending");
    let kind = |hour, reason: &str, count| (hour, reason.to_owned(), count);
    let expected = [kind(0, "forged", 2), kind(0, "too long", 1), kind(1, "forged", 1), kind(1, "no key", 1)];
    assert_eq!(died(start).await, expected);
    assert_eq!(died(start.plus(std::time::Duration::from_secs(1800))).await, expected[2..]);
    assert_eq!(pair.journal.counts().await.expect("the journal reads").dead, 6);
}

pub(crate) async fn all_dead_letters_are_retried_or_dropped_a_bounded_number_a_call(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let refused = |n: usize| Arrived::Refused {
        id: id(&format!("$refused{n}")),
        sender: PersonId::new("@eve"),
        reason: "forged".into(),
    };
    pair.arrive((0..10).map(|n| said("@ann", &format!("$said{n}"))).collect()).await;
    for pending in pair.journal.head(&pair.b, 0, 10).await.expect("the journal reads") {
        pair.journal.bury(pending.number, "no").await.expect("it is pending");
    }
    pair.arrive((0..300).map(refused).collect()).await;
    pair.arrive(vec![unreadable("@eve", "$waits", false)]).await;
    let gone = Resolution::Refused { reason: "no".into() };
    pair.journal.resolve(&pair.a.account, pair.waiting().await, gone).await.expect("it waits");
    let dead = async || pair.journal.counts().await.expect("the journal reads").dead;
    assert_eq!(dead().await, 311);

    let first = pair.journal.retry_letters(i64::MIN).await.expect("the journal writes");
    assert!(first.done == 10 && first.left > 0 && first.left < 300, "one call does not do all: {first:?}");
    let go_on = first.go_on.expect("there are more");
    let rest = pair.journal.retry_letters(go_on).await.expect("the journal writes");
    assert_eq!((rest.done, first.left + rest.left), (1, 300), "{rest:?}");
    let none = pair.journal.retry_letters(rest.go_on.expect("it did something")).await.expect("the journal writes");
    assert_eq!(none, Swept::default());
    assert_eq!((pair.lane().await.len(), dead().await), (10, 300), "in their old places");
    pair.waiting().await;

    for pending in pair.journal.head(&pair.b, 0, 10).await.expect("the journal reads") {
        pair.journal.bury(pending.number, "no").await.expect("it is pending");
    }
    let (mut after, mut dropped) = (i64::MIN, 0);
    while let Some(go_on) = {
        let swept = pair.journal.drop_letters(after).await.expect("the journal writes");
        dropped += swept.done;
        swept.go_on
    } {
        after = go_on;
    }
    assert_eq!((dropped, dead().await), (310, 0));
    assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty());
}

pub(crate) async fn letters_come_oldest_first_in_pages(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    for number in 0..4 {
        let never = Arrived::Refused {
            id: id(&format!("$refused{number}")),
            sender: PersonId::new("@eve"),
            reason: format!("refused {number}"),
        };
        pair.arrive(vec![said("@ann", &format!("$said{number}")), never]).await;
        pair.arrive(vec![unreadable("@eve", &format!("$waits{number}"), false)]).await;
        let refused = Resolution::Refused { reason: format!("unreadable {number}") };
        pair.journal.resolve(&pair.a.account, pair.waiting().await, refused).await.expect("it waits");
        pair.journal.bury(pair.only().await.number, &format!("buried {number}")).await.expect("it is pending");
    }
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = pair.journal.dead_letters(after, 5).await.expect("the journal reads");
        let Some(last) = page.last() else { break };
        after = last.number;
        found.extend(page.into_iter().map(|letter| letter.reason));
    }
    let of = |n| [format!("buried {n}"), format!("refused {n}"), format!("unreadable {n}")];
    assert_eq!(found, (0..4).flat_map(of).collect::<Vec<_>>());
}

pub(crate) async fn why_tells_what_became_of_a_message(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    let verdicts = [
        FirstVerdict::Enqueue,
        FirstVerdict::Hold(Hold::EncryptionUnknown),
        FirstVerdict::Refuse("too long".into()),
        FirstVerdict::Echo,
    ];
    pair.router.route_to(&pair.a, verdicts.into_iter().map(|verdict| routed(&pair.b, verdict)).collect());
    pair.arrive(vec![said("@ann", "$1")]).await;
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert_eq!(facts.iter().map(|f| f.state).collect::<Vec<_>>(), ["queued", "held", "dead", "echo"]);
    assert_eq!(facts[1].reason, Some(Hold::EncryptionUnknown.to_string()));
    assert_eq!(facts[2].reason.as_deref(), Some("too long"));
    assert!(facts.iter().all(|f| f.to.as_ref() == Some(&pair.b) && f.link == Some(link("l"))));
    pair.journal.settle(pair.only().await.number, &id("$b1")).await.expect("it is pending");
    let facts = pair.journal.why(&pair.a, &id("$1")).await.expect("the journal reads");
    assert_eq!((facts[0].state, facts[0].delivered_as.clone()), ("delivered", Some(id("$b1"))));
    let ours = pair.journal.why(&pair.b, &id("$b1")).await.expect("the journal reads");
    assert_eq!(ours.iter().map(|f| f.state).collect::<Vec<_>>(), ["delivered"], "by its name there, too");
    // Only echoes: nothing is kept of the words.
    let before = pair.journal.counts().await.expect("the journal reads").payload_bytes;
    pair.router.route_to(&pair.a, vec![routed(&pair.b, FirstVerdict::Echo)]);
    pair.arrive(vec![said("@ann", "$2"), gap("t"), said("@ann", "$3")]).await;
    let facts = pair.journal.why(&pair.a, &id("$2")).await.expect("the journal reads");
    assert_eq!(facts.iter().map(|f| f.state).collect::<Vec<_>>(), ["echo"]);
    let facts = pair.journal.why(&pair.a, &id("$3")).await.expect("the journal reads");
    assert_eq!(facts.iter().map(|f| f.state).collect::<Vec<_>>(), ["waiting"]);
    assert!(pair.journal.counts().await.expect("the journal reads").payload_bytes > before);
    let gaps = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads");
    let closed = sealbridge_contract::inbox::Filling { gap: gaps[0].id, arrivals: vec![], next: None };
    pair.journal.fill(&pair.a.account, closed).await.expect("the gap is open");
    assert_eq!(pair.journal.counts().await.expect("the journal reads").payload_bytes, before);
    assert!(pair.journal.why(&pair.a, &id("$none")).await.expect("the journal reads").is_empty());
}

pub(crate) async fn counts_say_how_full_it_is(engine: &dyn Engine) {
    let pair = Pair::new(engine);
    assert_eq!(pair.journal.counts().await.expect("the journal reads"), Default::default());
    let before = pair.clock.now();
    pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2"), said("@ann", "$3"), said("@ann", "$4")]).await;
    pair.arrive(vec![unreadable("@bob", "$5", true), said("@bob", "$6"), gap("t"), said("@ann", "$7")]).await;
    let head = pair.head().await;
    pair.journal.settle(head[0].number, &id("$b1")).await.expect("it is pending");
    pair.journal.hold(head[1].number, Hold::Paused).await.expect("it is pending");
    pair.journal.bury(head[2].number, "no").await.expect("it is pending");
    let counts = pair.journal.counts().await.expect("the journal reads");
    assert_eq!((counts.queued, counts.held, counts.dead, counts.settled), (1, 1, 1, 1));
    assert_eq!((counts.unreadable, counts.gaps, counts.unrouted, counts.quarantined), (1, 1, 2, 0));
    assert!(counts.oldest.is_some_and(|oldest| oldest >= before && oldest <= pair.clock.now()));
    let same = pair.reopen().journal.counts().await.expect("the journal reads");
    assert_eq!(same, counts);
}
