//! A full disk: nothing more is acknowledged, nothing acknowledged is lost, and it goes on by itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use sealbridge_contract::inbox::Filling;
use sealbridge_lab::small_disk::SmallDisk;

use super::{super::write::Ask, *};
use crate::store::JournalError;

impl Engine for SmallDisk {
    fn open(&self, router: Arc<TestRouter>, limits: Limits, clock: Clock) -> Arc<dyn Journal> {
        let folder = self.folder().join("journal");
        Arc::new(SqliteJournal::open(&folder, vault(), router, limits, clock).expect("it opens"))
    }
}

/// Offers messages, several at once, until the journal is full. Says which were acknowledged.
async fn offer_until_full(pair: &Pair<'_>, from: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for round in from.. {
        let offers = (0..4).map(|n| {
            let (journal, a) = (pair.journal.clone(), pair.a.clone());
            let name = format!("${round:04}-{n}");
            async move {
                let long = incoming(&name, message("@ann", &"x".repeat(8000)));
                let offered = batch(&a, vec![sealbridge_contract::Arrived::Message(long)]);
                journal.accept(&a.account, offered).await.map(|()| name)
            }
        });
        let mut full = false;
        for outcome in futures_util::future::join_all(offers).await {
            match outcome {
                Ok(name) => acknowledged.push(name),
                Err(error) => {
                    assert!(matches!(error, JournalError::Full), "{error:?}");
                    full = true;
                }
            }
        }
        if full {
            break;
        }
    }
    acknowledged
}

/// Lets the journal's file grow by so many pages and no more.
async fn limit_to(sqlite: &SqliteJournal, more: i64) -> Result<(), JournalError> {
    let limit = Ask::of(1, move |ledger| {
        let pages: i64 = ledger.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let sql = format!("PRAGMA max_page_count = {}", pages + more);
        Ok(ledger.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(drop)?)
    });
    sqlite.writer.ask(limit).await
}

async fn names(pair: &Pair<'_>) -> Vec<String> {
    let head = pair.head().await;
    let mut names: Vec<_> =
        head.iter().map(|p| p.from.as_ref().expect("it was received").1.as_str().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_loses_nothing_acknowledged_and_goes_on_when_there_is_room() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(&folder.0.path().join("disk"), 4 << 10) else { return };
    let ballast = disk.folder().join("ballast");
    // Half of the disk, so that what is freed later is enough to fold the log, however long it grew.
    fs::write(&ballast, vec![1; 2 << 20]).expect("there is room");
    let pair = Pair::new(&disk);
    let mut acknowledged = offer_until_full(&pair, 0).await;
    assert!(acknowledged.len() > 10, "{} fit", acknowledged.len());
    assert_eq!(names(&pair).await, acknowledged, "what was refused left nothing");
    let still = offer_until_full(&pair, 1000).await;
    acknowledged.extend(still);
    fs::remove_file(&ballast).expect("it is there");
    // Whoever was refused offers again.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let again = batch(&pair.a, vec![said("@ann", "$again")]);
        match pair.journal.accept(&pair.a.account, again).await {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, JournalError::Full) && Instant::now() < deadline, "{error:?}"),
        }
    }
    acknowledged.push("$again".into());
    acknowledged.sort();
    assert_eq!(names(&pair).await, acknowledged);
    for pending in pair.head().await.into_iter().take(10) {
        pair.journal.settle(pending.number, &id("$there")).await.expect("there is room for that");
        acknowledged.retain(|name| name != pending.from.as_ref().expect("it was received").1.as_str());
    }
    let pair = pair.reopen();
    assert_eq!(names(&pair).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_at_its_largest_takes_no_more_still_settles_and_goes_on() {
    let folder = Folder::new();
    let (a, b) = (at("one", "!a"), at("two", "!b"));
    let router = TestRouter::linking(&[&a, &b]);
    let sqlite = SqliteJournal::open(&folder.journal(), vault(), router.clone(), Limits::default(), Clock::system());
    let sqlite = Arc::new(sqlite.expect("it opens"));
    let limit_to = |more| limit_to(&sqlite, more);
    limit_to(64).await.expect("it can be set");
    let clock = Clock::system();
    let journal: Arc<dyn Journal> = sqlite.clone();
    let pair = Pair { engine: &folder, journal, router, clock, limits: Limits::default(), a, b };
    let mut acknowledged = offer_until_full(&pair, 0).await;
    assert!(acknowledged.len() > 10, "{} fit", acknowledged.len());
    assert_eq!(names(&pair).await, acknowledged);
    let first = pair.head().await.remove(0);
    pair.journal.settle(first.number, &id("$there")).await.expect("what erases needs no room");
    acknowledged.retain(|name| name != first.from.as_ref().expect("it was received").1.as_str());
    limit_to(1000).await.expect("it can be set");
    pair.arrive(vec![said("@ann", "$again")]).await;
    acknowledged.insert(0, "$again".into());
    acknowledged.sort();
    assert_eq!(names(&pair).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_that_finds_no_room_waits_and_goes_on_by_itself() {
    let folder = Folder::new();
    let (a, b) = (at("one", "!a"), at("two", "!b"));
    let router = TestRouter::linking(&[&a, &b]);
    let sqlite = SqliteJournal::open(&folder.journal(), vault(), router.clone(), Limits::default(), Clock::system());
    let sqlite = Arc::new(sqlite.expect("it opens"));
    let limit_to = |more| limit_to(&sqlite, more);
    let journal: Arc<dyn Journal> = sqlite.clone();
    let (clock, limits) = (Clock::system(), Limits::default());
    let pair = Pair { engine: &folder, journal, router, clock, limits, a, b };
    pair.arrive(vec![gap("from")]).await;
    pair.arrive((0..3000).map(|n| said("@ann", &format!("${n:04}"))).collect()).await;
    // Room for some hundreds of deliveries, not for all.
    limit_to(60).await.expect("it can be set");
    let gap = pair.journal.open_gaps(&pair.a.account).await.expect("the journal reads").remove(0);
    let closed = Filling { gap: gap.id, arrivals: vec![], next: None };
    pair.journal.fill(&pair.a.account, closed).await.expect("there is room for the first");
    let settled = async |pair: &Pair<'_>| {
        let mut before = 0;
        loop {
            let queued = pair.journal.counts().await.expect("the journal reads").queued;
            if queued == before {
                return queued;
            }
            before = queued;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let queued = settled(&pair).await;
    assert!((256..3000).contains(&queued), "{queued} are routed");
    let asked = pair.router.asked();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = pair.router.asked() - asked;
    assert!((1..2_500).contains(&asked), "{asked} were routed in vain within two seconds");
    // What needs no room is done meanwhile.
    let head = pair.head().await;
    for pending in &head[..10] {
        pair.journal.settle(pending.number, &id("$there")).await.expect("it needs no room");
    }
    limit_to(1000).await.expect("it can be set");
    let deadline = Instant::now() + Duration::from_secs(20);
    while pair.journal.counts().await.expect("the journal reads").queued < 2990 {
        assert!(Instant::now() < deadline, "it does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(pair.lane().await, (10..3000).map(|n| format!("${n:04}")).collect::<Vec<_>>());
}
