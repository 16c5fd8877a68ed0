//! The loopback transports keep the promises of the contract.

use sealbridge_contract::conformance::run_all;
use sealbridge_loopback::{Datasheet, Deduplicates, NetworkKind, Settings};

use crate::{folders::Folders, harness::Loopbacks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_to_end_keeps_its_promises() {
    let report = run_all(&Loopbacks::new(Settings::default())).await;
    // Only what a played encryption can't show is left out.
    assert_eq!(report.count(), (41, 1), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_to_end_that_carries_and_remembers_little_keeps_its_promises() {
    let settings = Settings {
        datasheet: Datasheet::Plain,
        deduplication: Deduplicates::Never,
        finds: false,
        batch: 1,
        ..Settings::default()
    };
    let report = run_all(&Loopbacks::new(settings)).await;
    assert_eq!(report.count(), (37, 5), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_keeps_its_promises() {
    let settings = Settings { kind: NetworkKind::Carrier, ..Settings::default() };
    let report = run_all(&Loopbacks::new(settings)).await;
    assert_eq!(report.count(), (33, 2), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_keeps_the_same_promises() {
    let report = run_all(&Folders { settings: Settings::default() }).await;
    assert_eq!(report.count(), (29, 13), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_over_a_folder_keeps_the_same_promises() {
    let settings = Settings { kind: NetworkKind::Carrier, ..Settings::default() };
    let report = run_all(&Folders { settings }).await;
    assert_eq!(report.count(), (29, 6), "{report}");
}
