//! Backups: what is in one comes back, what is not a whole one changes nothing, and nothing is carried twice.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
};

use sealbridge::backup::FAILPOINTS;
use sealbridge_contract::AccountName;
use sealbridge_loopback::DiskPeer;

use super::bench::{Bench, Said, mode, wait_until};

const STATE: &str = "sealbridge-state";
const MAKE: [&str; 5] = ["backup", "create", "a.backup", "--key", "backup.key"];
const RESTORE: [&str; 5] = ["backup", "restore", "a.backup", "--key", "backup.key"];

fn peer(bench: &Bench, account: &str) -> DiskPeer {
    let account = AccountName::parse(account).expect("it is a name");
    DiskPeer::open(&bench.path("network"), &account).expect("it is a folder")
}

/// What Ben has heard of these words.
fn heard(ben: &DiskPeer, words: &str) -> Vec<String> {
    let heard = ben.heard().expect("it can be read").into_iter();
    heard.map(|line| line.words).filter(|line| line.contains(words)).collect()
}

fn lose_everything(bench: &Bench) {
    fs::remove_dir_all(bench.path(STATE)).expect("it is there");
    fs::remove_file(bench.path("sealbridge.toml")).expect("it is there");
}

fn letters(bench: &Bench) -> Vec<String> {
    let said = bench.json(&["dead-letters", "list"]);
    let reasons = said.lines().into_iter().filter_map(|line| Some(line["reason"].as_str()?.to_owned()));
    reasons.collect()
}

/// Every file in a folder, with what is in it.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => all.extend(content(&path)),
            false => drop(all.insert(path.display().to_string(), fs::read(&path).unwrap_or_default())),
        }
    }
    all
}

#[test]
fn backup_of_a_running_service_brings_links_and_queue_back_and_nothing_is_carried_twice() {
    for delivered_since in [false, true] {
        let bench = Bench::set_up();
        let running = bench.start(&[]);
        assert_eq!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit, 0);
        let (mut ann, ben) = (peer(&bench, "a"), peer(&bench, "b"));
        ann.say("room", "@ann", "early").expect("there is room");
        wait_until(|| heard(&ben, "early").len() == 1);
        assert_eq!(bench.run(&["links", "pause", "lounge"]).exit, 0);
        for count in 0..5 {
            ann.say("room", "@ann", &format!("waits {count}")).expect("there is room");
        }
        wait_until(|| bench.json(&["status"]).line()["journal"]["held"] == 5);

        let made = bench.json(&MAKE);
        assert_eq!(made.exit, 0, "{made:?}");
        let line = made.line();
        assert_eq!((&line["key_made"], line["file"].as_str()), (&true.into(), Some("a.backup")), "{line}");
        assert_eq!((mode(&bench.path("a.backup")), mode(&bench.path("backup.key"))), (0o600, 0o600));
        assert_eq!(bench.json(&MAKE).exit, 2, "it is there already");
        if delivered_since {
            assert_eq!(bench.run(&["links", "resume", "lounge"]).exit, 0);
            wait_until(|| heard(&ben, "waits").len() == 5);
        }
        ann.say("room", "@ann", "since").expect("there is room");
        let settled = || bench.json(&["status"]).line()["journal"]["settled"].as_u64();
        let held = || bench.json(&["status"]).line()["journal"]["held"] == 6;
        wait_until(|| if delivered_since { heard(&ben, "since").len() == 1 } else { held() });
        assert!(settled().is_some());
        let root = bench.read("sealbridge-state/root.key");
        assert_eq!(running.stop(), 0);
        let copies: Vec<_> = content(&bench.path(STATE)).into_keys().filter(|name| name.contains("copy")).collect();
        assert!(copies.is_empty(), "{copies:?}");
        let backup = fs::read(bench.path("a.backup")).expect("it was made");
        for secret in [root.trim().as_bytes(), b"waits", b"lounge", b"@ann"] {
            assert!(!backup.windows(secret.len()).any(|part| part == secret), "{secret:?} is in the backup in clear");
        }

        lose_everything(&bench);
        let restored = bench.json(&RESTORE);
        assert_eq!(restored.exit, 0, "{restored:?}");
        let line = restored.line();
        assert_eq!((&line["config_made"], &line["root_key_made"]), (&true.into(), &true.into()), "{line}");
        assert_ne!(bench.read("sealbridge-state/root.key"), root, "the old root key was in no backup");
        assert_eq!(mode(&bench.path(STATE)), 0o700);
        assert_eq!(bench.run(&["init", "--answers", "answers.toml"]).exit, 0);

        let running = bench.start(&[]);
        // Those that were delivered since are known by their echo.
        let expected = if delivered_since { 0 } else { 5 };
        wait_until(|| bench.json(&["status"]).line()["journal"]["held"] == expected);
        assert_eq!(bench.run(&["links", "resume", "lounge"]).exit, 0);
        ann.say("room", "@ann", "later").expect("there is room");
        wait_until(|| heard(&ben, "later").len() == 1);
        wait_until(|| bench.json(&["status"]).line()["journal"]["queued"] == 0);
        let waits: Vec<_> = heard(&ben, "waits");
        assert_eq!(waits.len(), 5, "delivered since: {delivered_since}: {waits:?}");
        // Nobody can tell whether what was said since was carried, so it is kept for somebody to decide.
        assert_eq!(heard(&ben, "since").len(), usize::from(delivered_since));
        let letters = letters(&bench);
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(letters[0].contains("before a backup was restored"), "{letters:?}");
        assert_eq!(heard(&ben, "early").len(), 1);
        assert_eq!(running.stop(), 0);
    }
}

/// Tries to restore, and expects that it is refused with these words and that nothing is there afterwards.
fn refused(bench: &Bench, words: &str) -> Said {
    let before = content(&bench.path("."));
    let said = bench.json(&RESTORE);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.line()["error"]["words"].as_str().is_some_and(|said| said.contains(words)), "{said:?}");
    assert!(content(&bench.path(".")) == before, "something changed");
    assert!(!bench.path("sealbridge-state.restoring").exists());
    said
}

#[test]
fn backup_that_is_damaged_cut_short_newer_or_of_another_key_is_refused_and_nothing_changes() {
    let bench = Bench::set_up();
    // Long enough for some pieces, so that damage shows while it is being unpacked, too.
    fs::create_dir_all(bench.path("sealbridge-state/spool")).expect("a folder can be made");
    bench.write("sealbridge-state/spool/AAAAAAAAAAAAAAAAAAAAAA", &"x".repeat(1 << 20));
    assert_eq!(bench.json(&MAKE).exit, 0);
    let whole = fs::read(bench.path("a.backup")).expect("it was made");
    let key = bench.read("backup.key");
    lose_everything(&bench);
    let put = |bytes: &[u8]| fs::write(bench.path("a.backup"), bytes).expect("there is room");

    for at in [100, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        put(&changed);
        refused(&bench, "damaged");
    }
    for length in [whole.len() - 1, whole.len() / 2, 60] {
        put(&whole[..length]);
        refused(&bench, "damaged");
    }
    put(&[&whole[..], b"more"].concat());
    refused(&bench, "damaged");
    put(&[b"sealbridge backup 2", &whole[19..]].concat());
    refused(&bench, "newer Sealbridge");
    put(b"SQLite format 3\0");
    refused(&bench, "no backup of Sealbridge");
    put(&whole);
    bench.write("backup.key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    refused(&bench, "is sealed with the key that has the number");
    fs::set_permissions(bench.path("backup.key"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    refused(&bench, "chmod 600");
    fs::set_permissions(bench.path("backup.key"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    bench.write("backup.key", &key);
    assert_eq!(bench.json(&RESTORE).exit, 0, "the whole one is restored");
}

#[test]
fn nothing_is_restored_over_what_is_there() {
    let bench = Bench::set_up();
    assert_eq!(bench.json(&MAKE).exit, 0);
    for running in [Some(bench.start(&[])), None] {
        let said = bench.json(&RESTORE);
        assert_eq!((said.exit, &said.line()["error"]["kind"]), (6, &"refused".into()), "{said:?}");
        drop(running);
    }
    // And no backup lies where it would be lost with what it is of.
    for place in ["sealbridge-state/b.backup", "sealbridge-state/spool/b.backup"] {
        let said = bench.json(&["backup", "create", place, "--key", "backup.key"]);
        assert_eq!(said.exit, 2, "{said:?}");
        assert!(!bench.path(place).exists());
    }
    assert_eq!(bench.json(&["backup", "create", "c.backup", "--key", "sealbridge-state/b.key"]).exit, 2);
}

#[test]
fn backups_are_made_one_at_a_time_and_an_empty_journal_is_none() {
    let bench = Bench::set_up();
    assert_eq!(bench.json(&MAKE).exit, 0);
    let another = fs::File::open(bench.path("sealbridge-state/backup.lock")).expect("it is there");
    another.try_lock().expect("nobody else makes one");
    let second = bench.json(&["backup", "create", "b.backup", "--key", "backup.key"]);
    assert_eq!(second.exit, 75, "{second:?}");
    assert!(!bench.path("b.backup").exists() && !bench.path("b.backup.half").exists());
    drop(another);
    // Somebody who may write where the backup comes to gets nothing else written.
    fs::write(bench.path("precious"), "precious").expect("there is room");
    std::os::unix::fs::symlink(bench.path("precious"), bench.path("c.backup.half")).expect("a link can be made");
    assert_eq!(bench.json(&["backup", "create", "c.backup", "--key", "backup.key"]).exit, 0);
    assert_eq!(fs::read(bench.path("precious")).expect("it is there"), b"precious");
    assert_eq!(mode(&bench.path("c.backup")), 0o600);
    // Nor is another database read that lies behind the journal's name, or an empty file taken for one.
    let (journal, elsewhere) = (bench.path("sealbridge-state/journal.db"), bench.path("elsewhere.db"));
    fs::rename(&journal, &elsewhere).expect("it is there");
    std::os::unix::fs::symlink(&elsewhere, &journal).expect("a link can be made");
    assert_ne!(bench.json(&["backup", "create", "d.backup", "--key", "backup.key"]).exit, 0);
    fs::remove_file(&journal).expect("it is there");
    fs::write(&journal, "").expect("there is room");
    for left in ["journal.db-wal", "journal.db-shm"] {
        let _ = fs::remove_file(bench.path(STATE).join(left));
    }
    assert_ne!(bench.json(&["backup", "create", "d.backup", "--key", "backup.key"]).exit, 0);
    assert!(!bench.path("d.backup").exists());
}

#[test]
fn backup_and_restoring_that_are_killed_leave_nothing_by_half_and_can_be_done_again() {
    for place in FAILPOINTS {
        let bench = Bench::set_up();
        let makes = ["backup::copied", "backup::written"].contains(place);
        if !makes {
            assert_eq!(bench.json(&MAKE).exit, 0);
            lose_everything(&bench);
        }
        let arguments = if makes { MAKE } else { RESTORE };
        let killed = bench.command(&arguments).env("FAILPOINT_KILL_AT", format!("{place}=1")).output();
        let killed = killed.expect("the binary was built for this");
        assert_eq!(killed.status.signal(), Some(9), "{place}: {killed:?}");
        assert_eq!(bench.path("a.backup").exists(), !makes, "{place}");
        assert_eq!(bench.path(STATE).exists(), makes, "{place}");
        let again = bench.json(&arguments);
        assert_eq!(again.exit, 0, "{place}: {again:?}");
        for left in ["sealbridge-state.restoring", "sealbridge-state/journal.copy", "a.backup.half"] {
            assert!(!bench.path(left).exists(), "{place}: {left} is left over");
        }
        assert_eq!(bench.json(&["links", "list"]).exit, 0, "{place}");
    }
}

#[test]
fn older_copy_of_the_journal_is_refused_by_every_command_and_adopted_it_carries_nothing_twice() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    assert_eq!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit, 0);
    let (mut ann, ben) = (peer(&bench, "a"), peer(&bench, "b"));
    assert_eq!(running.stop(), 0);
    let file = bench.path("sealbridge-state/journal.db");
    let older = fs::read(&file).expect("it is there");
    let running = bench.start(&[]);
    ann.say("room", "@ann", "since").expect("there is room");
    wait_until(|| heard(&ben, "since").len() == 1);
    assert_eq!(running.stop(), 0);
    let newer = fs::read(&file).expect("it is there");
    fs::write(&file, &older).expect("there is room");

    for arguments in
        [&["run"][..], &["links", "list"], &["links", "remove", "lounge"], &["init", "--answers", "answers.toml"]]
    {
        let said = bench.json(arguments);
        let error = said.lines().into_iter().find_map(|line| line.get("error").cloned()).unwrap_or_default();
        assert_eq!((said.exit, &error["kind"]), (6, &"refused".into()), "{arguments:?}: {said:?}");
        assert!(error["words"].as_str().is_some_and(|words| words.contains("older copy")), "{said:?}");
    }
    let doctor = bench.json(&["doctor"]);
    assert!(doctor.exit != 0 && doctor.out.contains("older copy"), "{doctor:?}");
    fs::write(&file, &newer).expect("there is room");
    assert_eq!(bench.json(&["links", "list"]).exit, 0, "the newer one is taken");

    fs::write(&file, &older).expect("there is room");
    assert_eq!(bench.json(&["backup", "adopt"]).exit, 0);
    assert_eq!(bench.run(&["init", "--answers", "answers.toml"]).exit, 0);
    let running = bench.start(&[]);
    ann.say("room", "@ann", "later").expect("there is room");
    wait_until(|| heard(&ben, "later").len() == 1);
    assert_eq!(heard(&ben, "since").len(), 1);
    assert_eq!(letters(&bench).len(), 1);
    assert_eq!(bench.json(&["backup", "adopt"]).exit, 75, "a service runs");
    assert_eq!(running.stop(), 0);
}
