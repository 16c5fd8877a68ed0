//! The folder that stands for a server.

use std::{fs, path::Path, sync::Arc};

use sealbridge_contract::{
    Clock, ConversationId, DeliveryId, Fatal, Intake, PersonId,
    conformance::{MemoryIntake, MemorySpool},
    inbox::AccountStore,
};
use sealbridge_loopback::{Deduplicates, DiskPeer, Settings, connect};

use crate::{
    account::{Account, until},
    harness::{account, context},
};

async fn start(folder: &Path, deduplication: Deduplicates) -> Account {
    let conversations = vec!["room".to_owned()];
    let bridge = Account::new(Settings { conversations, deduplication, ..Settings::directory(folder) }).await;
    bridge.speaks_in(&room()).await;
    bridge
}

fn room() -> ConversationId {
    ConversationId::new("room")
}

fn heard(folder: &Path) -> Vec<String> {
    let peer = DiskPeer::open(folder, &account()).expect("it opens");
    peer.heard().expect("it can be read").into_iter().map(|line| line.words).collect()
}

#[tokio::test]
async fn delivery_known_from_before_is_not_written_again() {
    let folder = tempfile::tempdir().expect("there is room");
    let delivery = DeliveryId::random();
    for _ in 0..2 {
        let bridge = start(folder.path(), Deduplicates::Always).await;
        bridge.deliver_as(delivery, &room(), "once").await.expect("it is delivered");
        bridge.deliver_as(delivery, &room(), "once").await.expect("it is delivered");
    }
    assert_eq!(heard(folder.path()), ["once"]);
    let bridge = start(folder.path(), Deduplicates::Never).await;
    bridge.deliver_as(delivery, &room(), "once").await.expect("it is delivered");
    assert_eq!(heard(folder.path()), ["once", "once"], "a network that never remembers shows it again");
}

#[tokio::test]
async fn line_that_a_kill_cut_short_is_cut_off_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().expect("there is room");
    {
        let bridge = start(folder.path(), Deduplicates::Always).await;
        bridge.deliver(&room(), "whole").await.expect("it is delivered");
    }
    let file = folder.path().join("heard-work.jsonl");
    let whole = fs::read(&file).expect("it is there");
    fs::write(&file, [&whole, &whole[..whole.len() / 2]].concat()).expect("there is room");
    let bridge = start(folder.path(), Deduplicates::Always).await;
    bridge.deliver(&room(), "next").await.expect("it is delivered");
    assert_eq!(heard(folder.path()), ["whole", "next"]);
}

#[tokio::test]
async fn line_is_read_only_when_it_has_its_end() {
    let folder = tempfile::tempdir().expect("there is room");
    let mut peer = DiskPeer::open(folder.path(), &account()).expect("it opens");
    peer.say("room", "ben@disk", "first").expect("there is room");
    let file = folder.path().join("said-work.jsonl");
    let whole = fs::read_to_string(&file).expect("it is there");
    let second = whole.replace("first", "second").replace("/1", "/2");
    let (half, rest) = second.split_at(second.len() / 2);
    fs::write(&file, format!("{whole}{half}")).expect("there is room");
    let bridge = start(folder.path(), Deduplicates::Always).await;
    until("the first is accepted", || bridge.intake.accepted().len() == 1).await;
    fs::write(&file, format!("{whole}{half}{rest}")).expect("there is room");
    until("the second is accepted", || bridge.intake.accepted().len() == 2).await;
    let words: Vec<_> = bridge.intake.accepted().into_iter().map(|message| message.words.0).collect();
    assert_eq!(words, ["first", "second"]);
}

#[tokio::test]
async fn folder_in_clear_needs_a_word_of_the_operator() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().display();
    let spoken = "i_know_this_is_not_encrypted_on_disk = true";
    let cases = [
        (format!("directory = '{path}'"), "is for tests"),
        (format!("directory = '{path}'\nhub = 'a'\n{spoken}"), "exclude each other"),
        (String::new(), "one of"),
        (format!("directory = '{path}'\nbatch = 0\n{spoken}"), "`batch`"),
    ];
    for (text, expected) in cases {
        let settings: Settings = toml::from_str(&text).expect("it has the right form");
        let intake: Arc<dyn Intake> = Arc::new(MemoryIntake::default());
        let store = AccountStore::new(account(), intake);
        let context =
            context(&account(), folder.path().to_owned(), store, Arc::new(MemorySpool::default()), Clock::system());
        match connect(context, settings).await {
            Err(Fatal::Policy(words)) => assert!(words.contains(expected), "{words}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing was written");
    let misspelt = toml::from_str::<Settings>("directry = '/tmp'").expect_err("it is misspelt");
    assert!(misspelt.message().contains("unknown field `directry`"), "{}", misspelt.message());
}

#[tokio::test]
async fn direct_conversation_is_there_after_a_death_before_the_journal_had_it() {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let (intake, ben) = (Arc::new(MemoryIntake::default()), PersonId::new("ben@disk"));
    intake.be_full(u32::MAX);
    let first = Account::start(Settings::directory(folder.path()), &account(), &intake).await;
    let opened = first.transport.open_direct(&ben).await.expect("it is opened");
    drop(first);
    intake.be_full(0);
    let second = Account::start(Settings::directory(folder.path()), &account(), &intake).await;
    second.speaks_in(&opened).await;
    assert_eq!(second.transport.open_direct(&ben).await.expect("it is there"), opened);
}
