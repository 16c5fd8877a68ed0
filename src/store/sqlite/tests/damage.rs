//! Changed bytes: refused, or set aside by name; never another message, never another conversation, never a panic.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use rusqlite::Connection;
use sealbridge_contract::{
    gate::Hold,
    inbox::{Filling, StoreWrite},
};

use super::*;
use crate::store::{JournalError, Router as _};

/// What is in the journal that gets damaged.
struct Truth {
    /// Pending deliveries by number: lane and words.
    pending: BTreeMap<i64, (String, String)>,
    /// Numbers that are dead letters anyway.
    dead: BTreeSet<i64>,
}

async fn fill(folder: &Folder) -> Truth {
    let pair = Pair::new(folder);
    let journal = &pair.journal;
    let long = incoming("$long", message("@ann", &"long ".repeat(2000)));
    pair.arrive((0..6).map(|n| said("@ann", &format!("$settled{n}"))).collect()).await;
    for pending in pair.head().await {
        journal.settle(pending.number, &id(&format!("$there{}", pending.number))).await.expect("it is pending");
    }
    pair.arrive((0..8).map(|n| said("@ann", &format!("${n}"))).collect()).await;
    pair.arrive(vec![sealbridge_contract::Arrived::Message(long), unreadable("@bob", "$raw", true)]).await;
    let back = (0..4).map(|n| said("@bob", &format!("$back{n}"))).collect();
    journal.accept(&pair.b.account, batch(&pair.b, back)).await.expect("there is room");
    assert!(journal.say(&pair.b, notice("the bridge says"), Some("topic")).await.expect("there is room"));
    let head = pair.head().await;
    journal.hold(head[0].number, Hold::Paused).await.expect("it is pending");
    journal.bury(head[1].number, "no").await.expect("it is pending");
    journal.put_link(linking("l", &[&pair.a, &pair.b])).await.expect("there is room");
    journal.write(&pair.a.account, vec![StoreWrite::put("cursor", b"42".as_slice())]).await.expect("there is room");
    pair.arrive(vec![gap("from"), said("@ann", "$waits")]).await;
    let mut pending = BTreeMap::new();
    for lane in [&pair.a, &pair.b] {
        for row in journal.head(lane, 0, 100).await.expect("the journal reads") {
            pending.insert(row.number, (lane.to_string(), words(&row.message)));
        }
    }
    assert_eq!(pending.len(), 12);
    let dead = journal.dead_letters(0, 100).await.expect("the journal reads").iter().map(|l| l.number).collect();
    journal.close().await;
    Truth { pending, dead }
}

/// What a reader may answer about a damaged file: the truth, or that it is damaged.
fn truth_or_damaged<T>(answer: Result<T, JournalError>, what: &str) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(JournalError::Damaged(_)) => None,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

async fn look(journal: &SqliteJournal, truth: &Truth, at_byte: usize) -> &'static str {
    let what = format!("byte {at_byte}");
    let Some(lanes) = truth_or_damaged(journal.lanes().await, &what) else { return "damaged" };
    let mut seen = BTreeSet::new();
    for lane in lanes {
        let Some(head) = truth_or_damaged(journal.head(&lane, 0, 100).await, &what) else { return "damaged" };
        for row in head {
            let (to, said) = truth.pending.get(&row.number).unwrap_or_else(|| panic!("{what}: {} is new", row.number));
            assert_eq!(
                (to.as_str(), said.as_str()),
                (lane.to_string().as_str(), words(&row.message).as_str()),
                "{what}"
            );
            seen.insert(row.number);
        }
    }
    let Some(letters) = truth_or_damaged(journal.dead_letters(0, 100).await, &what) else { return "damaged" };
    let named: BTreeSet<i64> = letters.iter().map(|letter| letter.number).collect();
    for number in truth.pending.keys() {
        assert!(seen.contains(number) || named.contains(number), "{what}: {number} is neither there nor named");
    }
    let account = account("one");
    if let Some(Some(cursor)) = truth_or_damaged(journal.read(&account, "cursor").await, &what) {
        assert_eq!(secret(&cursor), b"42", "{what}");
    }
    if let Some(events) = truth_or_damaged(journal.waiting(&account, Default::default(), 0, 10).await, &what) {
        assert!(events.iter().all(|event| secret(&event.raw) == b"raw $raw"), "{what}");
    }
    if let Some(links) = truth_or_damaged(journal.links().await, &what) {
        assert!(links.iter().all(|l| l.ends.len() == 2 && l.name == link("l")), "{what}");
    }
    if let Some(gaps) = truth_or_damaged(journal.open_gaps(&account).await, &what) {
        for gap in gaps {
            assert_eq!((gap.from.as_str(), gap.until.as_deref()), ("from", Some("until")), "{what}");
            let filling = Filling { gap: gap.id, arrivals: vec![], next: None };
            truth_or_damaged(journal.fill(&account, filling).await, &what);
        }
        let head = journal.head(&at("two", "!b"), 0, 100).await.expect("it was readable a moment ago");
        for row in head.iter().filter(|row| !truth.pending.contains_key(&row.number)) {
            assert_eq!(words(&row.message), "$waits", "{what}");
        }
    }
    if named == truth.dead { "unharmed" } else { "set aside" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_byte_anywhere_is_refused_or_set_aside_and_never_delivered() {
    let folder = Folder::new();
    let truth = fill(&folder).await;
    let sound = fs::read(folder.file()).expect("it is there");
    let counted = fs::read(folder.journal().join("journal.count")).expect("it is there");
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    // The header is looked at byte by byte, the rest in steps that share no factor with the page.
    for at_byte in (0..100).chain((100..sound.len()).step_by(149)) {
        let mut bytes = sound.clone();
        bytes[at_byte] ^= 1 << (at_byte % 8);
        let copy = Folder::new();
        fs::create_dir(copy.journal()).expect("it can be made");
        fs::write(copy.file(), bytes).expect("it can be written");
        fs::write(copy.journal().join("journal.count"), &counted).expect("it can be written");
        let outcome = match open(&copy.journal(), vault()) {
            Ok(journal) => look(&journal, &truth, at_byte).await,
            Err(OpenError::Damaged(_)) => "refused",
            // The version stands in the header.
            Err(OpenError::Newer { .. }) if (60..64).contains(&at_byte) => "refused",
            Err(error) => panic!("byte {at_byte}: {error:?}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    // Each of these was seen, or the test would not look where it should.
    for outcome in ["refused", "set aside", "unharmed"] {
        assert!(outcomes.get(outcome).is_some_and(|seen| *seen > 0), "{outcome}: {outcomes:?}");
    }
}

/// Does something to the file behind the journal's back that SQLite itself finds sound.
fn tamper(folder: &Folder, sql: &str) {
    let connection = Connection::open(folder.file()).expect("it is a database");
    assert!(connection.execute(sql, []).expect("it can be written") > 0, "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_that_was_moved_is_set_aside_by_name_and_the_rest_goes_on() {
    let moves = [
        (
            "to another conversation",
            "UPDATE delivery SET lane = (SELECT id FROM conversation WHERE name = '!a') WHERE number = 1",
        ),
        (
            "from another conversation",
            "UPDATE received SET conversation = (SELECT id FROM conversation WHERE name = '!b') WHERE id = 1",
        ),
        ("another message's words", "UPDATE delivery SET source = 3 WHERE number = 1"),
        (
            "another row's ciphertext",
            "UPDATE received SET payload = (SELECT payload FROM received WHERE id = 3) WHERE id = 1",
        ),
        ("a better sender", "UPDATE received SET trust = 0 WHERE id = 1"),
        ("another link", "UPDATE delivery SET link = NULL WHERE number = 1"),
        ("another delivery", "UPDATE delivery SET id = (SELECT id FROM delivery WHERE number = 3) WHERE number = 1"),
        ("no message at all", "UPDATE delivery SET source = 77 WHERE number = 1"),
    ];
    for (what, sql) in moves {
        let folder = Folder::new();
        let pair = Pair::new(&folder);
        pair.arrive(vec![said("@ann", "$1"), said("@ann", "$2"), said("@ann", "$3")]).await;
        pair.journal.close().await;
        tamper(&folder, sql);
        let pair = Pair::new(&folder);
        let first = pair.journal.head(&pair.b, 0, 1).await.expect("the journal reads");
        let first: Vec<_> = first.iter().map(|pending| words(&pending.message)).collect();
        assert_eq!(first, ["$2"], "{what}: a broken row is no empty lane");
        assert_eq!(pair.lane().await, ["$2", "$3"], "{what}");
        assert!(pair.journal.head(&pair.a, 0, 10).await.expect("it reads").is_empty(), "{what}");
        let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
        let letter = &letters[0];
        assert_eq!((letters.len(), letter.number, letter.kept), (1, 1, false), "{what}");
        assert!(letter.reason.contains("does not open"), "{what}: {}", letter.reason);
        let counts = pair.journal.counts().await.expect("the journal reads");
        assert_eq!((counts.quarantined, counts.queued), (1, 2), "{what}");
        let retried = pair.journal.retry(1).await;
        assert!(matches!(retried, Err(JournalError::NoSuch(_))), "{what}: {retried:?}");
        pair.journal.drop_letter(1).await.expect("it is there");
        assert!(pair.journal.dead_letters(0, 10).await.expect("the journal reads").is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_and_waiting_message_that_do_not_open_are_set_aside() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    pair.arrive(vec![unreadable("@ann", "$1", true), unreadable("@bob", "$2", false), said("@ann", "$3")]).await;
    pair.arrive(vec![said("@ann", "$4")]).await;
    pair.journal.close().await;
    tamper(&folder, "UPDATE unreadable SET raw = (SELECT raw FROM unreadable WHERE sender = '@bob')");
    tamper(&folder, "UPDATE received SET trust = 0 WHERE remote = '$3'");
    let pair = Pair::new(&folder);
    let waiting = pair.journal.waiting(&pair.a.account, Default::default(), 0, 10).await.expect("the journal reads");
    assert_eq!(waiting.iter().map(|w| secret(&w.raw)).collect::<Vec<_>>(), [b"raw $2"]);
    assert_eq!(pair.journal.waiting(&pair.a.account, Default::default(), 0, 1).await.expect("it reads").len(), 1);
    assert_eq!(pair.lane().await, ["$4"], "what was set aside holds nobody");
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    let names: BTreeSet<&str> = letters.iter().map(|letter| letter.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["$1", "$3"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_that_does_not_open_is_set_aside_by_name_and_what_it_joins_is_held() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    let (other, on) = (linking("other", &[&at("one", "!x"), &at("two", "!y")]), linking("l", &[&pair.a, &pair.b]));
    pair.journal.put_link(on.clone()).await.expect("there is room");
    pair.journal.put_link(other.clone()).await.expect("there is room");
    pair.arrive(vec![said("@ann", "$1")]).await;
    pair.journal.close().await;
    tamper(&folder, "UPDATE link SET content = (SELECT content FROM link WHERE name = 'other') WHERE name = 'l'");
    let pair = Pair::new(&folder);
    let links = pair.journal.links().await.expect("the journal reads");
    assert_eq!(links[1], other, "the rest goes on");
    assert!(links[0].paused.as_ref().is_some_and(|why| why.contains("damaged")), "{:?}", links[0]);
    assert_eq!((&links[0].name, &links[0].ends), (&on.name, &on.ends), "it joins what it joined");
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert_eq!(letters.iter().map(|letter| letter.name.as_str()).collect::<Vec<_>>(), ["link l"]);
    pair.router.links_are(links);
    pair.arrive(vec![said("@ann", "$2")]).await;
    assert_eq!(pair.lane().await, ["$1"], "what comes in is held");
    pair.journal.resume(&link("l")).await.expect("it is there");
    assert_eq!(pair.lane().await, ["$1", "$2"]);
    pair.journal.close().await;
    // Where its ends do not fit either, nobody knows what it joins.
    tamper(&folder, "UPDATE link SET content = zeroblob(60) WHERE name = 'l'");
    tamper(&folder, "UPDATE link_end SET since = since + 1 WHERE link = (SELECT id FROM link WHERE name = 'l')");
    let refused = open(&folder.journal(), vault());
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_that_does_not_open_is_set_aside_by_name_and_holds_nobody() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    pair.arrive(vec![gap("from"), said("@ann", "$1")]).await;
    pair.journal.close().await;
    tamper(&folder, "UPDATE gap SET content = zeroblob(60)");
    let pair = Pair::new(&folder);
    assert!(pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads").is_empty());
    pair.journal.expire().await.expect("the journal writes");
    assert_eq!(pair.lane().await, ["$1"]);
    let letters = pair.journal.dead_letters(0, 10).await.expect("the journal reads");
    assert!(letters[0].name.contains("gap") && letters[0].from.as_ref() == Some(&pair.a), "{letters:?}");
    assert_eq!(pair.journal.counts().await.expect("the journal reads").quarantined, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_that_does_not_open_is_never_taken_for_none() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    let writes = vec![StoreWrite::put("session", b"1".as_slice()), StoreWrite::put("other", b"2".as_slice())];
    pair.journal.write(&pair.a.account, writes).await.expect("there is room");
    pair.journal.close().await;
    tamper(&folder, "UPDATE entry SET value = (SELECT value FROM entry WHERE key = 'other') WHERE key = 'session'");
    let pair = Pair::new(&folder);
    let read = pair.journal.read(&pair.a.account, "session").await;
    assert!(matches!(read, Err(JournalError::Damaged(_))), "{read:?}");
    let read = pair.journal.read_all(&pair.a.account, "").await;
    assert!(matches!(read, Err(JournalError::Damaged(_))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_file_is_looked_over_while_in_use_and_stops_when_damaged() {
    let folder = Folder::new();
    fill(&folder).await;
    let reopen = || {
        let router = TestRouter::linking(&[&at("one", "!a"), &at("two", "!b")]);
        SqliteJournal::open_comparing(
            (0, false),
            &folder.journal(),
            vault(),
            router,
            Limits::default(),
            Clock::system(),
        )
    };
    let sound = reopen().expect("it opens");
    assert!(sound.checkup.is_some());
    let counts = sound.counts().await.expect("a sound file goes on");
    assert_eq!(counts.queued, 12);
    sound.close().await;
    let connection = Connection::open(folder.file()).expect("it is a database");
    let index = "SELECT rootpage FROM sqlite_master WHERE name = 'delivery_settled'";
    let page: usize = connection.query_row(index, [], |row| row.get(0)).expect("it is there");
    drop(connection);
    let mut bytes = fs::read(folder.file()).expect("it is there");
    bytes[(page - 1) * 4096..page * 4096].fill(0xaa);
    fs::write(folder.file(), bytes).expect("it can be written");
    let journal = reopen().expect("it opens before it is looked over");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !matches!(journal.counts().await, Err(JournalError::Damaged(_))) {
        assert!(std::time::Instant::now() < deadline, "the look finds it");
        tokio::task::yield_now().await;
    }
    let to = at("two", "!b");
    for refused in [journal.head(&to, 0, 1).await.map(|_| ()), journal.say(&to, notice("x"), None).await.map(|_| ())] {
        assert!(matches!(refused, Err(JournalError::Damaged(_))), "{refused:?}");
    }
}
