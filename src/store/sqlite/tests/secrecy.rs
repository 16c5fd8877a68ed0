//! No words are in any file in clear, and erased words are in none at all.

use std::fs;

use rusqlite::Connection;
use sealbridge_contract::{
    inbox::{Arrived, StoreWrite, Unreadable},
    {PersonId, SecretBytes},
};

use super::*;

fn found_in(folder: &Path, what: &[u8]) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("it can be read").map(|file| file.expect("it can be read").path());
    files
        .filter(|path| {
            let bytes = fs::read(path).expect("it can be read");
            bytes.windows(what.len()).any(|window| window == what)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_is_in_no_file() {
    const CANARY: &str = "canary-7f3a91";
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    let event = Unreadable {
        id: id("$raw"),
        sender: PersonId::new("@bob"),
        raw: SecretBytes::new(CANARY.repeat(3).into_bytes()),
        hint: "session".into(),
        reason: "its key is missing".into(),
        holds_sender: true,
    };
    let long = incoming("$long", message("@ann", &CANARY.repeat(2000)));
    let arrivals = vec![Arrived::Message(incoming("$name-in-clear", message("@ann", CANARY))), Arrived::Message(long)];
    pair.arrive(arrivals).await;
    pair.arrive(vec![Arrived::Unreadable(event), gap(CANARY)]).await;
    pair.arrive(vec![Arrived::Message(incoming("$waits", message("@ann", CANARY)))]).await;
    pair.journal.write(&pair.a.account, vec![StoreWrite::put("session", CANARY.as_bytes())]).await.expect("room");
    pair.journal.set("recovery", CANARY.as_bytes().into()).await.expect("there is room");
    pair.journal.say(&pair.b, notice(CANARY), Some("topic")).await.expect("there is room");
    let check = |when| {
        // Names are in clear, so that the search is seen to find what is there.
        assert!(!found_in(&folder.journal(), b"$name-in-clear").is_empty(), "{when}");
        assert_eq!(found_in(&folder.journal(), CANARY.as_bytes()), Vec::<PathBuf>::new(), "{when}");
    };
    check("while it runs");
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    check("after delivery");
    pair.journal.close().await;
    check("after it closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled_words_are_overwritten_and_not_only_forgotten() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    pair.arrive(vec![said("@ann", "$1"), Arrived::Message(incoming("$2", message("@ann", &"long".repeat(5000))))])
        .await;
    let reader = Connection::open(folder.file()).expect("it is a database");
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let mut statement = reader.prepare("SELECT payload FROM received").expect("there is such a column");
    for payload in statement.query_map([], |row| row.get(0)).expect("it can be read") {
        payloads.push(payload.expect("it can be read"));
    }
    drop(statement);
    drop(reader);
    assert_eq!(payloads.len(), 2);
    // A row may go over several pages; any part of it is searched for.
    let parts: Vec<&[u8]> = payloads.iter().flat_map(|payload| payload.chunks_exact(64)).collect();
    assert!(parts.iter().filter(|part| !found_in(&folder.journal(), part).is_empty()).count() > parts.len() / 2);
    for pending in pair.head().await {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it is pending");
    }
    pair.journal.close().await;
    for part in parts {
        assert_eq!(found_in(&folder.journal(), part), Vec::<PathBuf>::new());
    }
}
