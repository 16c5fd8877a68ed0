//! The root key, changed: at each moment one of two keys opens the journal, and it is said which.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::Output,
};

use sealbridge::config::root_key::FAILPOINTS;
use sealbridge_contract::AccountName;
use sealbridge_loopback::DiskPeer;
use serde_json::{Value, json};

use super::bench::{Bench, mode, wait_until};

const KEY: &str = "sealbridge-state/root.key";
const INNER: &str = "sealbridge-state/journal.key";

fn peer(bench: &Bench, account: &str) -> DiskPeer {
    let account = AccountName::parse(account).expect("it is a name");
    DiskPeer::open(&bench.path("network"), &account).expect("it is a folder")
}

fn with(bench: &Bench, arguments: &[&str], variable: (&str, &str)) -> Output {
    bench.command(arguments).env(variable.0, variable.1).output().expect("the binary was built for this")
}

/// A secret in a file of its own.
fn keep(bench: &Bench, name: &str, text: &str) {
    bench.write(name, text);
    fs::set_permissions(bench.path(name), fs::Permissions::from_mode(0o600)).expect("it is our own file");
}

/// Whether this root key opens the journal; if not, it must be said why.
fn opens(bench: &Bench, key: &str) -> bool {
    keep(bench, "candidate.key", key);
    let said = with(bench, &["links", "list"], ("SEALBRIDGE_SERVICE__ROOT_KEY_FILE", "candidate.key"));
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    if !said.status.success() {
        assert_eq!(said.status.code(), Some(3), "{words}");
        assert!(words.contains("is not the root key of this journal: it has the number"), "{words}");
    }
    said.status.success()
}

#[test]
fn new_root_key_opens_what_waits_and_the_old_one_opens_nothing() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    assert_eq!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit, 0);
    assert_eq!(bench.run(&["links", "pause", "lounge"]).exit, 0);
    let (mut ann, ben) = (peer(&bench, "a"), peer(&bench, "b"));
    let said: Vec<_> = (0..20).map(|count| format!("word {count}")).collect();
    for words in &said {
        ann.say("room", "@ann", words).expect("there is room");
    }
    wait_until(|| bench.json(&["status"]).line()["journal"]["held"] == 20);
    let busy = bench.json(&["key", "rotate"]);
    assert_eq!((busy.exit, &busy.line()["error"]["kind"]), (75, &"temporary".into()), "{busy:?}");
    assert_eq!(running.stop(), 0);

    let (old, locked) = (bench.read(KEY), bench.read(INNER));
    assert!(opens(&bench, &old));
    let done = bench.json(&["key", "rotate"]);
    assert_eq!(done.exit, 0, "{done:?}");
    let (new, line) = (bench.read(KEY), done.line());
    assert_ne!((&new, bench.read(INNER)), (&old, locked));
    assert_eq!((mode(&bench.path(KEY)), mode(&bench.path(INNER))), (0o600, 0o600));
    assert!(line["number"].is_string() && line["before"].is_string() && line["number"] != line["before"], "{line}");
    assert!(opens(&bench, &new) && !opens(&bench, &old));
    let said_why = with(&bench, &["run"], ("SEALBRIDGE_SERVICE__ROOT_KEY_FILE", "candidate.key"));
    let words = String::from_utf8_lossy(&said_why.stderr).into_owned();
    for number in [&line["number"], &line["before"]] {
        assert!(words.contains(number.as_str().expect("it is text")), "{words} does not say {number}");
    }
    let files = fs::read_dir(bench.path("sealbridge-state")).expect("it is there");
    for file in files.map(|file| file.expect("it can be read").path()).filter(|path| path.is_file()) {
        let bytes = fs::read(&file).expect("it is ours");
        assert!(!bytes.windows(old.trim().len()).any(|part| part == old.trim().as_bytes()), "{}", file.display());
    }

    let running = bench.start(&[]);
    assert_eq!(bench.json(&["links", "resume", "lounge"]).line()["released"], 20);
    let heard = || {
        let heard = ben.heard().expect("it can be read").into_iter();
        heard.map(|line| line.words).filter(|words| words.contains("word ")).collect::<Vec<_>>()
    };
    wait_until(|| heard().len() == 20);
    assert!(heard().iter().zip(&said).all(|(heard, said)| heard.contains(said.as_str())), "{:?}", heard());
    assert_eq!(running.stop(), 0);

    let audit = bench.read("sealbridge-state/audit.jsonl");
    let lines = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("it is JSON"));
    let changes: Vec<_> =
        lines.filter(|line| line["action"] == "rotate_key").map(|line| line["outcome"].clone()).collect();
    assert_eq!(changes, ["begun".into(), "temporary".into(), "begun".into(), serde_json::Value::Null]);
}

#[test]
fn change_of_the_root_key_writes_through_no_link_that_was_laid_in_its_way() {
    let bench = Bench::set_up();
    let (elsewhere, laid) = (bench.path("elsewhere"), bench.path("sealbridge-state/journal.key.new"));
    std::fs::write(&elsewhere, "somebody's").expect("it is written");
    std::os::unix::fs::symlink(&elsewhere, &laid).expect("it is made");
    assert_eq!(bench.json(&["key", "rotate"]).exit, 0);
    assert_eq!(std::fs::read_to_string(&elsewhere).expect("it is there"), "somebody's");
    let key = bench.path("sealbridge-state/journal.key").symlink_metadata().expect("it is there");
    assert!(key.is_file() && !laid.exists(), "{key:?}");
    assert_eq!(bench.json(&["links", "list"]).exit, 0, "the journal opens");
}

#[test]
fn change_of_the_root_key_that_is_killed_leaves_exactly_one_of_two_that_opens() {
    for to in [None, Some("new.key")] {
        for (place, name) in FAILPOINTS.iter().enumerate() {
            let bench = Bench::set_up();
            let old = bench.read(KEY);
            let locked = fs::File::open(bench.path(INNER)).expect("it can be read");
            let arguments = [&["--json", "key", "rotate"][..], &to.map_or(vec![], |to| vec!["--to", to])].concat();
            let killed = with(&bench, &arguments, ("FAILPOINT_KILL_AT", &format!("{name}=1")));
            assert_eq!(killed.status.signal(), Some(9), "{name}: {killed:?}");
            let in_force = place >= FAILPOINTS.iter().position(|name| *name == "key::unwiped").expect("it is one");
            let new = [to.unwrap_or("sealbridge-state/root.key.new"), KEY].into_iter();
            let new = new.filter_map(|file| fs::read_to_string(bench.path(file)).ok()).find(|key| *key != old);
            assert_eq!(opens(&bench, &old), !in_force, "{name}: the old key");
            assert_eq!(new.is_some_and(|new| opens(&bench, &new)), in_force, "{name}: the new key");

            // Where the new one takes the old one's place, whatever was begun is finished by whoever comes next.
            let usual = bench.run(&["links", "list"]);
            assert_eq!(usual.exit == 0, to.is_none() || !in_force, "{name}: {usual:?}");
            let again = bench.run(&arguments);
            let line = again.line();
            match to {
                None => assert!(again.exit == 0 && line["before"].is_string(), "{name}: {again:?}"),
                Some(_) if in_force => assert!(again.exit == 0 && line["before"] == Value::Null, "{name}: {again:?}"),
                Some(to) if bench.path(to).exists() && again.exit != 0 => {
                    let error = &line["error"];
                    assert!(
                        error["words"].as_str().is_some_and(|words| words.contains("name another file")),
                        "{name}: {again:?}"
                    );
                }
                Some(_) => assert_eq!(again.exit, 0, "{name}: {again:?}"),
            }
            assert!(!bench.path("sealbridge-state/root.key.new").exists(), "{name}: something is left over");
            for left in [format!("{INNER}.old"), format!("{KEY}.old")] {
                assert!(!bench.path(&left).exists(), "{name}: {left} is left over");
            }
            // What the old key opened is gone from the disk, once something else is in force.
            let (mut bytes, mut locked) = (Vec::new(), locked);
            locked.read_to_end(&mut bytes).expect("it can be read");
            let is_wiped = !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0);
            assert_eq!(is_wiped, in_force || to.is_none() || again.exit == 0, "{name}: what the old key opened");
        }
    }
}

#[test]
fn root_key_that_is_a_credential_is_changed_by_a_file_to_make_a_credential_of() {
    let bench = Bench::set_up();
    fs::create_dir(bench.path("credentials")).expect("a folder can be made");
    fs::rename(bench.path(KEY), bench.path("credentials/sealbridge-root-key")).expect("it is there");
    let folder = bench.path("credentials").display().to_string();
    let given = |arguments: &[&str]| with(&bench, arguments, ("CREDENTIALS_DIRECTORY", &folder));
    let refused = given(&["--json", "key", "rotate"]);
    assert_eq!(refused.status.code(), Some(2));
    let done = given(&["--json", "key", "rotate", "--to", "new.key"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(mode(&bench.path("new.key")), 0o600);
    assert_eq!(given(&["links", "list"]).status.code(), Some(3), "the old credential opens nothing");
    fs::rename(bench.path("new.key"), bench.path("credentials/sealbridge-root-key")).expect("it is there");
    assert!(given(&["links", "list"]).status.success(), "the new one does");
}

#[test]
fn journal_without_an_inner_key_opens_as_before_and_says_that_its_key_can_not_be_changed() {
    let bench = Bench::set_up();
    // As a build before had it: what opens the journal is the root key itself. A journal that is empty is as good.
    for name in ["journal.db", "journal.key", "journal.db-wal", "journal.db-shm"] {
        let _ = fs::remove_file(bench.path(&format!("sealbridge-state/{name}")));
    }
    bench.write("sealbridge-state/journal.db", "");
    assert_eq!(bench.json(&["links", "list"]).exit, 0);
    assert!(!bench.path(INNER).exists());
    let refused = bench.json(&["key", "rotate"]);
    assert_eq!((refused.exit, &refused.line()["error"]["kind"]), (3, &json!("config")), "{refused:?}");
    assert!(!bench.path("sealbridge-state/root.key.new").exists());
    assert_eq!(bench.json(&["links", "list"]).exit, 0);
}
