//! A large file takes no more memory than a small one.

use sealbridge::spool::SpoolFolder;
use sealbridge_contract::{
    Author, Cleartext, Destination, Kind, Media, Message, Origin, PersonId, Rule, SenderTrust, Spool as _, Timestamp,
    Verdict,
    gate::Encryption,
    judge,
    message::{FileName, MediaType, Sort},
};
use sealbridge_lab::processes::peak_memory;
use sha2::{Digest as _, Sha256};

const MIB: usize = 1 << 20;
const LARGE: usize = 200;
const MORE_AT_MOST: u64 = 16 << 20;
/// Set in the process that does nothing else.
const ALONE: &str = "SPOOL_TEST_ALONE";

/// Other tests of this process take memory, too, so it is measured in one of its own.
#[test]
fn two_hundred_megabytes_pass_through_in_bounded_memory() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(pass_through());
    }
    let tests = std::env::current_exe().expect("it is running");
    let name = "spool::two_hundred_megabytes_pass_through_in_bounded_memory";
    let alone = std::process::Command::new(tests).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output();
    let alone = alone.expect("it can be run");
    let said = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&alone.stderr));
}

async fn pass_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = SpoolFolder::open(folder.path(), [3; 32].into(), 1 << 30).expect("the folder can be used");
    let before = peak_memory(std::process::id()).expect("Linux tells it");
    let piece: Vec<u8> = (0..MIB).map(|at| (at % 251) as u8).collect();
    let mut writer = spool.create(1 << 30).await.expect("there is room");
    for _ in 0..LARGE {
        writer.write(&piece).await.expect("there is room");
    }
    let spooled = writer.finish(None).await.expect("there is room");
    let media = Media::new(Sort::File, FileName::new("x"), MediaType::new("a/b"), spooled.clone());
    let author = Author { id: PersonId::new("@a:x"), name: None };
    let message = Cleartext::new(Message::of(author, Timestamp(0), Kind::File(Box::new(media))));
    let (to, rule) = (Destination::EndToEnd(Encryption::Pinned), Rule { most_file: 1 << 30, ..Rule::default() });
    let Verdict::Speak(cleared) = judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &rule)
    else {
        panic!("an encrypted conversation is spoken to");
    };
    let pass = cleared.pass(spooled.id).expect("it is the message's own file");
    let mut reader = spool.open(&pass, 0).await.expect("it is there");
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(piece) = reader.next().await.expect("nobody changed it") {
        hash.update(piece.expose());
        size += piece.expose().len();
    }
    assert_eq!((size, <[u8; 32]>::from(hash.finalize())), (LARGE * MIB, spooled.sha256));
    let more = peak_memory(std::process::id()).expect("Linux tells it") - before;
    assert!(more < MORE_AT_MOST, "it took {} MiB more", more / MIB as u64);
}
