//! Four troubles, four refusals.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use rusqlite::Connection;
use sealbridge_contract::{RootKey, Vault};

use super::*;

async fn with_a_message(folder: &Folder) {
    let pair = Pair::new(folder);
    pair.arrive(vec![said("@ann", "$1")]).await;
    pair.journal.close().await;
}

#[tokio::test]
async fn second_process_is_refused_while_the_first_runs() {
    let folder = Folder::new();
    let first = open(&folder.journal(), vault()).expect("it opens");
    assert!(matches!(open(&folder.journal(), vault()), Err(OpenError::InUse)));
    first.close().await;
    open(&folder.journal(), vault()).expect("it opens when the first has closed");
}

#[tokio::test]
async fn another_key_is_refused_and_changes_nothing() {
    let folder = Folder::new();
    with_a_message(&folder).await;
    let before = fs::read(folder.file()).expect("the file is there");
    let other = Vault::new(RootKey::new([2; 32]));
    assert!(matches!(open(&folder.journal(), other), Err(OpenError::WrongKey)));
    assert_eq!(fs::read(folder.file()).expect("the file is there"), before);
    assert_eq!(Pair::new(&folder).lane().await, ["$1"]);
}

#[tokio::test]
async fn file_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    with_a_message(&folder).await;
    let set_version = |version: i64| {
        let connection = Connection::open(folder.file()).expect("it is a database");
        connection.pragma_update(None, "user_version", version).expect("it can be written");
    };
    set_version(99);
    let refused = open(&folder.journal(), vault());
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, known: 1 })), "{refused:?}");
    set_version(1);
    assert_eq!(Pair::new(&folder).lane().await, ["$1"]);
}

#[tokio::test]
async fn damaged_file_is_refused() {
    let folder = Folder::new();
    with_a_message(&folder).await;
    let sound = fs::read(folder.file()).expect("the file is there");
    let mut page_gone = sound.clone();
    page_gone[8192..12288].fill(0xaa);
    let cases = [
        ("not a database", b"this was never a database".repeat(500)),
        ("cut in the middle", sound[..sound.len() / 2].to_vec()),
        ("a page overwritten", page_gone),
    ];
    for (what, bytes) in cases {
        fs::write(folder.file(), bytes).expect("it can be written");
        let refused = open(&folder.journal(), vault());
        assert!(matches!(refused, Err(OpenError::Damaged(_))), "{what}: {refused:?}");
    }
    fs::write(folder.file(), sound).expect("it can be written");
    assert_eq!(Pair::new(&folder).lane().await, ["$1"]);
}

#[tokio::test]
async fn changed_schema_is_refused() {
    let folder = Folder::new();
    with_a_message(&folder).await;
    let connection = Connection::open(folder.file()).expect("it is a database");
    connection.execute_batch("DROP INDEX delivery_open").expect("it can be written");
    drop(connection);
    assert!(matches!(open(&folder.journal(), vault()), Err(OpenError::Damaged(_))));
}

#[tokio::test]
async fn place_that_is_no_folder_is_unusable() {
    let folder = Folder::new();
    fs::write(folder.journal(), "a file").expect("it can be written");
    assert!(matches!(open(&folder.journal(), vault()), Err(OpenError::Unusable(_))));
    fs::remove_file(folder.journal()).expect("it is there");
    symlink("/nonexistent/anywhere", folder.journal()).expect("it can be written");
    assert!(matches!(open(&folder.journal(), vault()), Err(OpenError::Unusable(_))));
}

#[tokio::test]
async fn nobody_else_can_read_the_folder_or_a_file_in_it() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    pair.arrive(vec![said("@ann", "$1")]).await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.journal()), 0o700);
    let mut files = 0;
    for file in fs::read_dir(folder.journal()).expect("it can be read") {
        let path = file.expect("it can be read").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 4, "the database, its log, the log's index, and the lock");
}
