//! Durable messages a second through the journal alone: accept, head, settle. Run with `cargo bench --bench journal`.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sealbridge::store::{FirstVerdict, Journal, Limits, Link, LinkName, Routed, Router, sqlite::SqliteJournal};
use sealbridge_contract::{
    AccountName, Address, Arrival, Arrived, Author, Batch, Cleartext, Clock, ConversationId, DeliveryId, Message,
    PersonId, RemoteId, RootKey, SenderTrust, Timestamp, Vault,
    inbox::{Incoming, Once, Parcel},
};

/// Every conversation of account a goes to the one of the same name of account b.
struct Pairs {
    b: AccountName,
    link: LinkName,
}

impl Router for Pairs {
    fn linked_since(&self, _: &Address) -> Option<Timestamp> {
        Some(Timestamp(0))
    }

    fn route(&self, from: &Address, _: &RemoteId, _: &Cleartext, _: SenderTrust) -> Vec<Routed> {
        let to = Address { account: self.b.clone(), conversation: from.conversation.clone() };
        vec![Routed { link: self.link.clone(), to, verdict: FirstVerdict::Enqueue, tell: None }]
    }

    fn open(&self, _: &Address, _: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        None
    }

    fn links_are(&self, _: Vec<Link>) {}
}

fn conversation(lane: u64) -> ConversationId {
    ConversationId::new(format!("!room-number-{lane:06}:homeserver.example"))
}

/// How many messages were written in each conversation.
static WRITTEN: [AtomicU64; 1000] = [const { AtomicU64::new(0) }; 1000];
/// A Megolm session has so many messages.
const SESSION: u64 = 100;

fn batch(lane: u64, first: u64, size: u64) -> Batch {
    let arrivals = (first..first + size).map(|number| {
        let author = Author { id: PersonId::new("@somebody:homeserver.example"), name: Some("Somebody".into()) };
        let message = Message::text(author, Timestamp(1_700_000_000_000), &"words of somebody ".repeat(8));
        let written = WRITTEN[usize::try_from(lane).expect("a lane's number is small")].fetch_add(1, Ordering::Relaxed);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(number.to_le_bytes());
        let id = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let incoming = Incoming {
            id: RemoteId::new(format!("${}", &id[..43])),
            message: Cleartext::new(message),
            trust: SenderTrust::Proven,
            identity: None,
            once: Some(Once {
                series: [lane, written / SESSION].map(u64::to_le_bytes).concat(),
                index: written % SESSION,
            }),
        };
        Arrival { conversation: conversation(lane), what: Arrived::Message(incoming) }
    });
    Batch { arrivals: arrivals.collect(), ..Batch::default() }
}

struct Run {
    lanes: u64,
    senders: u64,
    batch: u64,
    messages: u64,
}

/// Takes numbers from `next`; says how many messages a second were accepted, read and settled.
async fn run(journal: &Arc<dyn Journal>, next: &Arc<AtomicU64>, run: &Run) -> f64 {
    let a = name("a");
    let begun = Instant::now();
    let first = next.load(Ordering::Relaxed);
    let end = first + run.messages;
    let senders = (0..run.senders).map(|sender| {
        let (journal, next, a) = (Arc::clone(journal), Arc::clone(next), a.clone());
        let (lanes, size, senders) = (run.lanes, run.batch, run.senders);
        tokio::spawn(async move {
            let mut turn = sender;
            loop {
                let number = next.fetch_add(size, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                journal.accept(&a, batch(turn % lanes, number, size)).await.expect("there is room");
                turn += senders;
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let settled = Arc::new(AtomicU64::new(0));
    let mut workers = std::collections::HashMap::new();
    let goal = run.messages.div_ceil(run.batch) * run.batch;
    while settled.load(Ordering::Relaxed) < goal {
        let woken = tokio::time::timeout(Duration::from_millis(20), journal.woken()).await.unwrap_or_default();
        for lane in woken {
            // One worker a lane, as in the flow: it goes on while there is something, and is woken again.
            let bell = workers.entry(lane.clone()).or_insert_with(|| {
                let bell = Arc::new(tokio::sync::Notify::new());
                tokio::spawn(serve(Arc::clone(journal), lane, Arc::clone(&bell), Arc::clone(&settled)));
                bell
            });
            bell.notify_one();
        }
    }
    let took = begun.elapsed().as_secs_f64();
    for sender in senders {
        sender.await.expect("no sender panics");
    }
    next.store(first + goal, Ordering::Relaxed);
    goal as f64 / took
}

async fn serve(journal: Arc<dyn Journal>, lane: Address, bell: Arc<tokio::sync::Notify>, settled: Arc<AtomicU64>) {
    let mut after = 0;
    loop {
        bell.notified().await;
        loop {
            let Ok(head) = journal.head(&lane, after, 64).await else { return };
            let Some(last) = head.last() else { break };
            after = last.number;
            let count = head.len() as u64;
            let settle = head.iter().map(|pending| {
                let journal = Arc::clone(&journal);
                let (number, id) = (pending.number, RemoteId::new(format!("$there-{}", pending.delivery)));
                async move { journal.settle(number, &id).await }
            });
            for outcome in join_all(settle).await {
                outcome.expect("it is pending");
            }
            settled.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn name(name: &str) -> AccountName {
    AccountName::parse(name).expect("an account's name")
}

fn open(folder: &std::path::Path) -> Arc<dyn Journal> {
    let router = Arc::new(Pairs { b: name("b"), link: LinkName::parse("link").expect("a link's name") });
    let vault = Vault::new(RootKey::new([1; 32]));
    Arc::new(SqliteJournal::open(folder, vault, router, Limits::default(), Clock::system()).expect("the journal opens"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut out = std::io::stdout().lock();
    let messages = std::env::var("MESSAGES").ok().and_then(|m| m.parse().ok()).unwrap_or(30_000);
    let settled: u64 = std::env::var("SETTLED").ok().and_then(|m| m.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir()?;
    let next = Arc::new(AtomicU64::new(0));
    let cases = [
        ("1 lane, batches of 20", Run { lanes: 1, senders: 4, batch: 20, messages }),
        ("1 lane, one by one, 64 at once", Run { lanes: 1, senders: 64, batch: 1, messages }),
        ("1000 lanes, one by one, 64 at once", Run { lanes: 1000, senders: 64, batch: 1, messages }),
        ("1000 lanes, one by one, 256 at once", Run { lanes: 1000, senders: 256, batch: 1, messages }),
    ];
    for filled in [false, true] {
        if filled {
            let begun = Instant::now();
            let journal = open(folder.path());
            let done = next.load(Ordering::Relaxed);
            let fill = Run { lanes: 16, senders: 16, batch: 100, messages: settled.saturating_sub(done) };
            let rate = runtime.block_on(run(&journal, &next, &fill));
            writeln!(out, "filled to {settled} settled at {rate:.0} a second, in {:?}", begun.elapsed())?;
            runtime.block_on(journal.close());
        }
        let begun = Instant::now();
        let journal = open(folder.path());
        writeln!(out, "opened in {:?}", begun.elapsed())?;
        for (what, case) in &cases {
            let rate = runtime.block_on(run(&journal, &next, case));
            writeln!(out, "{} settled before; {what}: {rate:.0} messages a second", next.load(Ordering::Relaxed))?;
        }
        runtime.block_on(journal.close());
    }
    Ok(())
}
