//! Four troubles, four refusals.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use rusqlite::Connection;
use sealbridge_contract::{RootKey, Vault};
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        keys::{Keys, Place, name_key, once_key},
        open, schema,
    },
    *,
};

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
    let newest = schema::newest(schema::MIGRATIONS);
    set_version(99);
    let refused = open(&folder.journal(), vault());
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, known }) if known == newest), "{refused:?}");
    set_version(newest);
    assert_eq!(Pair::new(&folder).lane().await, ["$1"]);
}

#[tokio::test]
async fn file_of_the_first_version_is_brought_forward_and_its_replay_values_stay_refused() {
    use sealbridge_contract::{Arrived, inbox::Once};
    let numbered = |name: &str, index: u64| {
        let mut incoming = incoming(name, message("@ann", name));
        incoming.once = Some(Once { series: b"!room\0session\0".to_vec(), index });
        Arrived::Message(incoming)
    };
    let folder = Folder::new();
    fs::create_dir(folder.journal()).expect("it can be made");
    let keys = Keys::new(vault());
    let mut connection = Connection::open(folder.file()).expect("it can be made");
    let first = |connection: &Connection| open::make_key_check(connection, &keys);
    schema::migrate(&mut connection, &schema::MIGRATIONS[..1], first).expect("the first version is sound");
    let tag = keys.tag(&Place::conversation(1, "one", "!a"));
    connection
        .execute("INSERT INTO conversation (id, account, name, tag) VALUES (1, 'one', '!a', ?1)", [tag])
        .expect("it can be written");
    // Its value was a digest of series and number.
    let digest = Sha256::new().chain_update(b"!room\0session\0").chain_update(7_u32.to_be_bytes()).finalize();
    let value = (once_key(&account("one"), "once", &digest), name_key(1, "$old"));
    connection.execute("INSERT INTO once (key, seen) VALUES (?1, ?2)", value).expect("it can be written");
    drop(connection);

    let pair = Pair::new(&folder);
    pair.arrive(vec![numbered("$old", 7), numbered("$replayed", 7), numbered("$3", 8)]).await;
    assert_eq!(pair.lane().await, ["$3"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["$replayed"]);
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
async fn folder_that_is_others_too_is_refused_and_left_as_it_was() {
    let folder = Folder::new();
    fs::create_dir(folder.journal()).expect("it can be made");
    fs::write(folder.journal().join("theirs"), "").expect("it can be written");
    for mode in [0o755, 0o1777, 0o710] {
        fs::set_permissions(folder.journal(), fs::Permissions::from_mode(mode)).expect("it is ours");
        let Err(OpenError::Unusable(words)) = open(&folder.journal(), vault()) else { panic!("{mode:o} is taken") };
        assert!(words.contains("chmod 700"), "{words}");
        let now = fs::metadata(folder.journal()).expect("it is there").permissions().mode();
        assert_eq!(now & 0o7777, mode);
        assert_eq!(fs::read_dir(folder.journal()).expect("it can be read").count(), 1);
    }
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
    assert_eq!(files, 5, "the database, its log, the log's index, the lock, and the count");
}
