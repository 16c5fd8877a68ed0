//! The network itself: what it keeps, what it forgets, and how it fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sealbridge_contract::{
    AccountName, Answer, Clock, DeliveryError, DeliveryId, Fate, FlowError, Screen, Step, conformance::MemoryIntake,
    gate::Encryption,
};
use sealbridge_loopback::{Deduplicates, Fault, LoopbackHub, Saying, Says, Settings};

use crate::{
    account::{Account, SOON, until},
    harness::account,
};

fn name(text: &str) -> AccountName {
    AccountName::parse(text).expect("it is a name")
}

#[tokio::test]
async fn two_hubs_are_two_networks() {
    let (left, right) = (LoopbackHub::fresh("left"), LoopbackHub::fresh("right"));
    let [here, there] = [&left, &right].map(|hub| hub.conversation("room", Says::Encrypted));
    let (ann, ben) = (left.person("ann"), right.person("ben"));
    ann.join(&here);
    ben.join(&there);
    [&left, &right].into_iter().for_each(|hub| hub.join(&account(), &here));
    let bridge = [Account::new(left.settings()).await, Account::new(right.settings()).await];
    bridge[0].speaks_in(&here).await;
    bridge[0].deliver(&here, "left alone").await.expect("it is delivered");
    let heard = ann.hears(1, SOON).await;
    assert_eq!(heard.iter().map(|heard| heard.words.as_str()).collect::<Vec<_>>(), ["left alone"]);
    assert!(ben.heard().is_empty());
}

#[tokio::test]
async fn account_hears_what_another_account_brings_but_not_itself() {
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Encrypted);
    let both = [name("one"), name("two")];
    both.iter().for_each(|account| hub.join(account, &room));
    let intakes = [(); 2].map(|()| Arc::new(MemoryIntake::default()));
    let one = Account::start(hub.settings(), &both[0], &intakes[0]).await;
    let two = Account::start(hub.settings(), &both[1], &intakes[1]).await;
    one.speaks_in(&room).await;
    one.deliver(&room, "words").await.expect("it is delivered");
    until("the other account has it", || two.intake.accepted().len() == 1).await;
    let message = two.intake.accepted().remove(0);
    assert_eq!(message.author, hub.person_id(one.name.as_str()));
    assert_eq!(message.name.as_deref(), Some("Ann"));
    until("it comes back as an echo", || one.intake.echoes().len() == 1).await;
    assert!(one.intake.accepted().is_empty() && two.intake.echoes().is_empty());
}

#[tokio::test]
async fn fault_in_one_conversation_leaves_the_others_alone() {
    let hub = LoopbackHub::fresh("net");
    let [slow, quick] = ["slow", "quick"].map(|room| hub.conversation(room, Says::Encrypted));
    [&slow, &quick].into_iter().for_each(|room| hub.join(&account(), room));
    let account = Account::new(Settings { timeout_ms: 50, ..hub.settings() }).await;
    account.speaks_in(&quick).await;
    let faults = hub.faults(&account.name);
    for fault in [Fault::Hang, Fault::HangAfterAccepting, Fault::LoseAnswer] {
        faults.next_in(&slow, fault, 1);
        let (slow, quick) = tokio::join!(account.deliver(&slow, "a"), account.deliver(&quick, "b"));
        assert_eq!(slow.expect_err("nobody knows").fate, Fate::Unknown, "{fault:?}");
        quick.expect("the other goes on");
    }
    account.deliver(&slow, "c").await.expect("the faults are used up");
}

#[tokio::test]
async fn rate_is_kept_and_says_when_to_come_again() {
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Encrypted);
    hub.join(&account(), &room);
    let bridge = Account::new(Settings { rate_per_second: 20.0, burst: 2, ..hub.settings() }).await;
    bridge.speaks_in(&room).await;
    let (mut taken, mut told) = (0, 0);
    let began = Instant::now();
    while taken < 12 {
        match bridge.deliver(&room, "words").await {
            Ok(_) => taken += 1,
            Err(DeliveryError { fate: Fate::Retry(Some(wait)), .. }) => {
                told += 1;
                tokio::time::sleep(wait).await;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // Two at once, and the other ten at twenty a second.
    assert!(began.elapsed() >= Duration::from_millis(490), "after {:?}", began.elapsed());
    assert!((10..=20).contains(&told), "it was told {told} times to wait");
}

#[tokio::test]
async fn network_that_remembers_for_a_while_shows_it_again_afterwards() {
    let clock = Clock::system();
    let hub = LoopbackHub::named_with_clock("a while", clock.clone());
    let room = hub.conversation("room", Says::Encrypted);
    hub.join(&account(), &room);
    let ann = hub.person("ann");
    ann.join(&room);
    let settings =
        Settings { deduplication: Deduplicates::ForAWhile, remembers_seconds: 60, ..Settings::hub(hub.name()) };
    let account = Account::new(settings).await;
    account.speaks_in(&room).await;
    let delivery = DeliveryId::random();
    for (later, heard) in [(0, 1), (59_000, 1), (5_000, 2)] {
        clock.shift(later);
        account.deliver_as(delivery, &room, "words").await.expect("it is delivered");
        assert_eq!(ann.heard().len(), heard, "after {later} ms more");
    }
}

#[tokio::test]
async fn conversation_left_or_replaced_is_not_spoken_to() {
    let hub = LoopbackHub::fresh("net");
    let [left, replaced] = ["left", "replaced"].map(|room| hub.conversation(room, Says::Encrypted));
    [&left, &replaced].into_iter().for_each(|room| hub.join(&account(), room));
    let account = Account::new(hub.settings()).await;
    account.speaks_in(&replaced).await;
    hub.kick(&account.name, &left);
    hub.replace(&replaced);
    let now = |room| account.transport.encryption(room);
    until("it is seen", || now(&left) == Encryption::Left && now(&replaced) == Encryption::Replaced).await;
    hub.join(&account.name, &left);
    account.speaks_in(&left).await;
}

#[tokio::test]
async fn conversation_that_says_nothing_waits_and_its_emptied_encryption_is_a_violation() {
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Nothing);
    hub.join(&account(), &room);
    let account = Account::new(hub.settings()).await;
    until("it is connected", || !account.transport.conversations().is_empty()).await;
    assert_eq!(account.transport.encryption(&room), Encryption::Unknown);
    hub.set_encryption(&room, Says::Encrypted);
    account.speaks_in(&room).await;
    hub.set_encryption(&room, Says::Nothing);
    until("it is violated", || account.transport.encryption(&room) == Encryption::Violated).await;
    hub.set_encryption(&room, Says::Encrypted);
    let ann = hub.person("ann");
    ann.say(&room, "after it");
    until("what came after is seen", || account.intake.accepted().len() == 1).await;
    assert_eq!(account.transport.encryption(&room), Encryption::Violated, "only a person decides");
}

#[tokio::test]
async fn identity_is_compared_by_a_person_and_what_waited_for_it_crosses() {
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Encrypted);
    hub.join(&account(), &room);
    let [ann, ben] = ["ann", "ben"].map(|name| hub.person(name));
    let account = Account::new(hub.settings()).await;
    account.speaks_in(&room).await;
    let waits = ann.say_this(&room, Saying::words("unsigned").untrusted());
    let goes_on = ben.say(&room, "holds up nobody");
    until("the other is accepted", || account.intake.accepted().len() == 1).await;
    assert_eq!((account.intake.accepted()[0].id.clone(), account.intake.still_waiting()), (goes_on, 1));

    let flow = || account.transport.comparison(Some(ann.id()), Screen::Words).expect("the network has such a thing");
    for no in [Some(Answer::No), None] {
        let mut flow = flow();
        assert!(matches!(flow.next(None).await, Ok(Step::Show(_))));
        assert!(matches!(flow.next(None).await, Ok(Step::Compare(emoji)) if emoji.len() == 7));
        assert!(matches!(flow.next(no).await, Err(FlowError::Cancelled(_))), "only a person's yes is a yes");
        assert!(matches!(flow.next(Some(Answer::Yes)).await, Err(FlowError::Cancelled(_))), "it is over");
    }
    assert_eq!(account.intake.still_waiting(), 1);

    let mut flow = account.transport.comparison(None, Screen::Words).expect("the network has such a thing");
    ann.ask_to_compare(&account.name);
    assert!(matches!(flow.next(None).await, Ok(Step::Asks(who, _)) if who == *ann.id()));
    assert!(matches!(flow.next(None).await, Ok(Step::Compare(_))));
    assert!(matches!(flow.next(Some(Answer::Yes)).await, Ok(Step::Done(_))));
    until("what waited crosses", || account.intake.accepted().iter().any(|message| message.id == waits)).await;
    let next = ann.say_this(&room, Saying::words("verified").untrusted());
    until("the next crosses at once", || account.intake.accepted().iter().any(|message| message.id == next)).await;
}

#[tokio::test]
async fn full_journal_does_not_delay_what_forbids_speaking() {
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Encrypted);
    hub.join(&account(), &room);
    let account = Account::new(hub.settings()).await;
    account.speaks_in(&room).await;
    account.intake.be_full(u32::MAX);
    hub.set_encryption(&room, Says::Plain);
    until("it is violated", || account.transport.encryption(&room) == Encryption::Violated).await;
    assert!(account.intake.incidents().is_empty());
    account.intake.be_full(0);
    until("the operator is told", || account.intake.incidents().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hub_forgets_what_was_fetched_and_is_no_bottleneck() {
    const MANY: usize = 20_000;
    let hub = LoopbackHub::fresh("net");
    let room = hub.conversation("room", Says::Encrypted);
    hub.join(&account(), &room);
    let ann = hub.person("ann");
    let account = Account::new(hub.settings()).await;
    account.speaks_in(&room).await;
    let began = Instant::now();
    for number in 0..MANY {
        ann.say(&room, "words of a usual length, as people say them");
        account.deliver(&room, "and an answer of about the same").await.expect("it is delivered");
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("all arrived", || account.intake.accepted().len() == MANY).await;
    until("nothing is kept", || hub.waiting_for(&account.name) == 0).await;
    let each = began.elapsed() / u32::try_from(2 * MANY).expect("it is a small number");
    assert!(each < Duration::from_millis(1), "a message takes {each:?}");
    assert!(ann.heard().is_empty(), "who is not in a conversation hears nothing");
}
