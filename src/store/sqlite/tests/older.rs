//! An older copy of the journal's file is told by the count beside it, and nothing else is taken for one.

use std::fs;

use super::*;

const BOTH: [&str; 2] = ["journal.db", "journal.count"];

async fn with_messages(folder: &Folder, names: &[&str]) {
    let pair = Pair::new(folder);
    for name in names {
        pair.arrive(vec![said("@ann", name)]).await;
    }
    pair.journal.close().await;
}

fn keep(folder: &Folder, files: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let path = |name: &&str| folder.journal().join(name);
    files.iter().map(path).map(|path| (path.clone(), fs::read(path).expect("it is there"))).collect()
}

fn put_back(kept: &[(PathBuf, Vec<u8>)]) {
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("it can be written"));
}

#[tokio::test]
async fn older_copy_of_the_file_is_refused_and_the_newer_one_opens_again() {
    let folder = Folder::new();
    with_messages(&folder, &["$1"]).await;
    let older = keep(&folder, &BOTH[..1]);
    // One commit more is enough.
    with_messages(&folder, &["$2"]).await;
    let newer = keep(&folder, &BOTH[..1]);
    put_back(&older);
    for _ in 0..2 {
        let refused = open(&folder.journal(), vault());
        assert!(matches!(refused, Err(OpenError::Older { found, outside }) if found < outside), "{refused:?}");
    }
    assert_eq!(keep(&folder, &BOTH[..1]), older, "it was left as it is");
    put_back(&newer);
    assert_eq!(Pair::new(&folder).lane().await, ["$1", "$2"]);
}

#[tokio::test]
async fn count_that_is_behind_locks_nobody_out_and_one_that_is_gone_or_damaged_is_refused() {
    let folder = Folder::new();
    with_messages(&folder, &["$1"]).await;
    let behind = keep(&folder, &BOTH[1..]);
    with_messages(&folder, &["$2"]).await;
    // As after a death between a commit and the count, or a power cut.
    put_back(&behind);
    with_messages(&folder, &["$3"]).await;
    // Whoever puts an older copy back takes away what would tell.
    let right = keep(&folder, &BOTH[1..]);
    let uncounted = |what: &str| {
        let refused = open(&folder.journal(), vault());
        assert!(matches!(refused, Err(OpenError::Uncounted)), "{what}: {refused:?}");
    };
    fs::remove_file(folder.journal().join(BOTH[1])).expect("it is there");
    uncounted("it is gone");
    for damaged in [&b""[..], &[0xff; 24], &[0; 24], b"short"] {
        fs::write(folder.journal().join(BOTH[1]), damaged).expect("it can be written");
        uncounted(&format!("{damaged:?}"));
    }
    put_back(&right);
    assert_eq!(Pair::new(&folder).lane().await, ["$1", "$2", "$3"]);
    // Whoever goes on with it all the same begins to count anew.
    fs::remove_file(folder.journal().join(BOTH[1])).expect("it is there");
    let router = TestRouter::linking(&[&at("one", "!a"), &at("two", "!b")]);
    let adopted =
        SqliteJournal::open_of_any_age(&folder.journal(), vault(), router, Limits::default(), Clock::system());
    drop(adopted.expect("it opens"));
    let older = keep(&folder, &BOTH[..1]);
    with_messages(&folder, &["$5"]).await;
    put_back(&older);
    assert!(matches!(open(&folder.journal(), vault()), Err(OpenError::Older { .. })));
}

#[tokio::test]
async fn nobody_without_the_key_makes_an_older_copy_look_newer() {
    let folder = Folder::new();
    with_messages(&folder, &["$1"]).await;
    let older = keep(&folder, &BOTH[..1]);
    with_messages(&folder, &["$2"]).await;
    put_back(&older);
    let connection = rusqlite::Connection::open(folder.file()).expect("it is a database");
    connection.execute("UPDATE total SET commits = commits + 100", []).expect("it can be written");
    drop(connection);
    let refused = open(&folder.journal(), vault());
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
}

#[tokio::test]
async fn what_changes_nothing_is_not_counted() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    pair.arrive(vec![said("@ann", "$1")]).await;
    let before = keep(&folder, &BOTH[1..]);
    pair.journal.hurry().await.expect("it is open");
    assert_eq!(keep(&folder, &BOTH[1..]), before);
    pair.arrive(vec![said("@ann", "$2")]).await;
    assert_ne!(keep(&folder, &BOTH[1..]), before);
}
