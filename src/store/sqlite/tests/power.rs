//! A power cut: whatever part of the log reached the disk, everything that was acknowledged before is there.

use std::fs;

use super::*;

/// A frame of the log is a page and its header; the log has a header of its own.
const LOG_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;

/// What was acknowledged when the log had a length.
struct Acknowledged {
    log: usize,
    accepted: Vec<String>,
    settled: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_prefix_of_the_log_holds_every_message_acknowledged_before_it() {
    let folder = Folder::new();
    let pair = Pair::new(&folder);
    let log = folder.journal().join("journal.db-wal");
    // It is on disk before the first commit is, and nobody waits for what is written into it later.
    let counted = fs::read(folder.journal().join("journal.count")).expect("it is there");
    let (mut accepted, mut settled, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..12 {
        let one = format!("${round}-one");
        pair.arrive(vec![said("@ann", &one)]).await;
        accepted.push(one);
        let two: Vec<String> = (0..3).map(|n| format!("${round}-two-{n}")).collect();
        pair.arrive(two.iter().map(|name| said("@ann", name)).collect()).await;
        accepted.extend(two);
        if round % 3 == 2 {
            let first = pair.head().await.remove(0);
            pair.journal.settle(first.number, &id("$there")).await.expect("it is pending");
            settled.push(words(&first.message));
        }
        let log = fs::metadata(&log).expect("the log is there").len();
        let log = usize::try_from(log).expect("it is short");
        history.push(Acknowledged { log, accepted: accepted.clone(), settled: settled.clone() });
    }
    let (database, log) = (fs::read(folder.file()).expect("it is there"), fs::read(&log).expect("it is there"));
    assert_eq!(history.last().map(|last| last.log), Some(log.len()), "nothing was folded meanwhile");
    let frames = (log.len() - LOG_HEADER) / FRAME;
    assert!(frames > 100, "{frames} frames");
    let at_frames = (0..=frames).map(|frame| LOG_HEADER + frame * FRAME);
    let within = (0..frames).step_by(3).flat_map(|frame| {
        let begin = LOG_HEADER + frame * FRAME;
        [begin + 1, begin + 24, begin + 24 + 2000, begin + FRAME - 1]
    });
    for cut in at_frames.chain(within).chain([0, 1, LOG_HEADER - 1]) {
        let copy = Folder::new();
        fs::create_dir(copy.journal()).expect("it can be made");
        fs::write(copy.file(), &database).expect("it can be written");
        fs::write(copy.journal().join("journal.db-wal"), &log[..cut]).expect("it can be written");
        fs::write(copy.journal().join("journal.count"), &counted).expect("it can be written");
        let recovered = Pair::new(&copy);
        let lane = recovered.lane().await;
        let acknowledged = history.iter().rev().find(|then| then.log <= cut);
        check(&accepted, acknowledged, &lane, cut);
        // And it goes on.
        recovered.arrive(vec![said("@ann", "$after")]).await;
        assert_eq!(recovered.lane().await.last().map(String::as_str), Some("$after"));
    }
}

fn check(accepted: &[String], acknowledged: Option<&Acknowledged>, lane: &[String], cut: usize) {
    let first = lane.first().and_then(|first| accepted.iter().position(|name| name == first)).unwrap_or(0);
    let recovered = &accepted[first..(first + lane.len()).min(accepted.len())];
    assert_eq!(lane, recovered, "cut at {cut}: in order, none left out");
    // Batches of one and three, so a torn one shows in the count.
    let whole = [0, 1].contains(&((first + lane.len()) % 4));
    assert!(whole, "cut at {cut}: a batch is there whole or not at all");
    let Some(acknowledged) = acknowledged else { return };
    let known = first + lane.len();
    assert!(known >= acknowledged.accepted.len(), "cut at {cut}: {known} of {}", acknowledged.accepted.len());
    for name in &acknowledged.settled {
        assert!(!lane.contains(name), "cut at {cut}: {name} was delivered and is not delivered again");
    }
}
