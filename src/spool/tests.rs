//! Whatever happens to a file on disk, nothing wrong is ever given out.

use std::{fs::OpenOptions, os::unix::fs::PermissionsExt as _};

use sealbridge_contract::{
    Author, Cleared, Cleartext, Destination, Kind, Media, Message, Origin, PersonId, Rule, SenderTrust, Timestamp,
    Verdict,
    gate::Encryption,
    judge,
    message::{FileName, MediaType, Sort},
    pieces::{PIECE, TAG},
};
use sha2::{Digest as _, Sha256};

use super::*;

const MOST: u64 = 64 << 20;

fn spool(folder: &Path) -> SpoolFolder {
    SpoolFolder::open(folder, Zeroizing::new([3; 32]), MOST).expect("the folder can be used")
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

async fn put(spool: &SpoolFolder, content: &[u8]) -> Result<Spooled, SpoolError> {
    let mut writer = spool.create(MOST).await?;
    // Pieces of odd lengths, as networks give them.
    for piece in content.chunks(70_001) {
        writer.write(piece).await?;
    }
    writer.finish(None).await
}

/// Only the gate's leave opens a file.
async fn with_pass<T>(spooled: &Spooled, act: impl AsyncFnOnce(&Pass<'_>) -> T) -> T {
    let media = Media::new(Sort::File, FileName::new("x"), MediaType::new("a/b"), spooled.clone());
    let author = Author { id: PersonId::new("@a:x"), name: None };
    let message = Cleartext::new(Message::of(author, Timestamp(0), Kind::File(Box::new(media))));
    let to = Destination::EndToEnd(Encryption::Pinned);
    let rule = Rule { most_file: u64::MAX, ..Rule::default() };
    let Verdict::Speak(cleared): Verdict<'_> =
        judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &rule)
    else {
        panic!("an encrypted conversation is spoken to");
    };
    let cleared: Cleared<'_> = cleared;
    act(&cleared.pass(spooled.id).expect("it is the message's own file")).await
}

async fn get(spool: &SpoolFolder, spooled: &Spooled, from: u64) -> Result<Vec<u8>, SpoolError> {
    with_pass(spooled, async |pass| {
        let mut reader = spool.open(pass, from).await?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next().await? {
            all.extend_from_slice(piece.expose());
        }
        Ok(all)
    })
    .await
}

fn change(spool: &SpoolFolder, spooled: &Spooled, act: impl FnOnce(&mut Vec<u8>)) {
    let path = spool.0.path(spooled.id);
    let mut content = fs::read(&path).expect("the file is there");
    act(&mut content);
    fs::write(&path, content).expect("the file can be written");
}

#[tokio::test]
async fn file_comes_back_whole_and_from_any_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path());
    for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7] {
        let content = bytes(size);
        let spooled = put(&spool, &content).await.expect("there is room");
        assert_eq!(spooled.size, size as u64);
        assert_eq!(spooled.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
        for from in [0, 1, size / 2, PIECE, size.saturating_sub(1), size] {
            let from = from.min(size);
            assert!(get(&spool, &spooled, from as u64).await == Ok(content[from..].to_vec()), "{size} from {from}");
        }
    }
}

#[tokio::test]
async fn changed_cut_swapped_or_strange_file_gives_nothing_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path());
    let content = bytes(3 * PIECE + 100);
    let whole = PIECE + TAG;
    let head = Header::LENGTH;
    type Act = fn(&mut Vec<u8>, usize, usize);
    let acts: [(&str, Act); 7] = [
        ("a flipped bit in the head", |file, _, _| file[10] ^= 1),
        ("a flipped bit in a piece", |file, head, _| file[head + 5] ^= 1),
        ("a flipped bit in the last piece", |file, _, _| *file.last_mut().expect("it has bytes") ^= 1),
        ("cut in a piece", |file, _, _| file.truncate(file.len() - 10)),
        ("cut between pieces", |file, head, whole| file.truncate(head + 2 * whole)),
        ("two pieces swapped", |file, head, whole| {
            let (first, second) = file[head..].split_at_mut(whole);
            first.swap_with_slice(&mut second[..whole]);
        }),
        ("a piece twice", |file, head, whole| file.copy_within(head..head + whole, head + whole)),
    ];
    for (what, act) in acts {
        let spooled = put(&spool, &content).await.expect("there is room");
        change(&spool, &spooled, |file| act(file, head, whole));
        assert!(get(&spool, &spooled, 0).await == Err(SpoolError::Damaged), "{what}");
    }
    let (mine, other) = (put(&spool, &content).await.expect("room"), put(&spool, &content).await.expect("room"));
    fs::copy(spool.0.path(other.id), spool.0.path(mine.id)).expect("it can be copied");
    assert!(get(&spool, &mine, 0).await == Err(SpoolError::Damaged), "another file under this name");
    let stranger = SpoolFolder::open(folder.path(), Zeroizing::new([4; 32]), MOST).expect("the folder can be used");
    assert!(get(&stranger, &other, 0).await == Err(SpoolError::Damaged), "another key");
}

#[tokio::test]
async fn file_that_is_not_what_its_sender_said_is_never_released() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path());
    let mut writer = spool.create(MOST).await.expect("there is room");
    writer.write(b"something else").await.expect("there is room");
    assert_eq!(writer.finish(Some([0; 32])).await, Err(SpoolError::WrongHash));
    let mut writer = spool.create(10).await.expect("there is room");
    assert_eq!(writer.write(&[0; 11]).await, Err(SpoolError::TooLong { most: 10 }));
    assert!(writer.finish(None).await.is_err(), "what was too long stays given up");
    // Given up half-way.
    drop(spool.create(MOST).await.expect("there is room"));
    assert_eq!((fs::read_dir(folder.path()).expect("it is there").count(), spool.used()), (0, 0));
}

#[tokio::test]
async fn full_spool_takes_nothing_more_and_has_room_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = SpoolFolder::open(folder.path(), Zeroizing::new([3; 32]), 2 * PIECE as u64).expect("a folder");
    let first = put(&spool, &bytes(PIECE)).await.expect("there is room");
    assert_eq!(put(&spool, &bytes(PIECE)).await, Err(SpoolError::Full));
    assert_eq!(spool.used(), length_on_disk(&spool, &first));
    drop(first);
    let unleased = spool.unleased().await.expect("it can be read");
    assert_eq!(spool.remove(unleased, &HashSet::new()).await, Ok(1));
    assert_eq!(spool.used(), 0);
    put(&spool, &bytes(PIECE)).await.expect("there is room again");
}

#[tokio::test]
async fn file_that_no_empty_spool_could_hold_is_too_long_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = 2 * PIECE as u64;
    let spool = SpoolFolder::open(folder.path(), Zeroizing::new([3; 32]), most).expect("a folder");
    for size in [2 * PIECE, 9 * PIECE] {
        assert_eq!(put(&spool, &bytes(size)).await, Err(SpoolError::TooLong { most }), "{size}");
    }
    assert_eq!(spool.used(), 0);
}

fn length_on_disk(spool: &SpoolFolder, spooled: &Spooled) -> u64 {
    fs::metadata(spool.0.path(spooled.id)).expect("it is there").len()
}

#[tokio::test]
async fn full_disk_is_told_apart_from_a_broken_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path());
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (shared, path) = (Arc::clone(&spool.0), folder.path().join("x.part"));
    let begun = write::Part::begin(shared, SpoolId::random(), path, full, MOST).map_err(SpoolError::from);
    assert_eq!(begun.err(), Some(SpoolError::Full));
    assert_eq!(spool.used(), 0);
}

#[tokio::test]
async fn only_what_nobody_names_or_holds_is_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path());
    let (held, named, orphan) = (put(&spool, b"a").await, put(&spool, b"b").await, put(&spool, b"c").await);
    let (held, named) = (held.expect("room"), named.expect("room").id);
    let orphan = orphan.expect("room").id;
    let unleased = spool.unleased().await.expect("it can be read");
    assert!(!unleased.contains(&held.id));
    assert_eq!(spool.remove(unleased, &HashSet::from([named])).await, Ok(1));
    assert!(!spool.0.path(orphan).exists() && spool.0.path(named).exists() && spool.0.path(held.id).exists());
    // After a crash nothing is held any more, and what was not whole is gone at once.
    fs::write(folder.path().join("left.part"), b"half").expect("it can be written");
    let again = self::spool(folder.path());
    assert!(!folder.path().join("left.part").exists());
    assert_eq!(again.unleased().await.expect("it can be read").len(), 2);
    assert!(get(&again, &held, 0).await == Ok(b"a".to_vec()));
}

#[tokio::test]
async fn nobody_else_can_look_into_it_and_there_is_nothing_to_see() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(&folder.path().join("spool"));
    let content = b"canary canary canary".repeat(1000);
    let spooled = put(&spool, &content).await.expect("there is room");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("spool")), 0o700);
    assert_eq!(mode(&spool.0.path(spooled.id)), 0o600);
    let disk = fs::read(spool.0.path(spooled.id)).expect("it is there");
    assert!(!disk.windows(6).any(|window| window == b"canary"));
    assert!(!format!("{spool:?} {spooled:?}").contains("canary"));
}
