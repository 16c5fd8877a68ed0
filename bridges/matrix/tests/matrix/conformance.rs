//! The transport keeps the promises of the contract, on a real homeserver.

use anyhow::Result;
use sealbridge_contract::conformance::{run_all, run_only};
use sealbridge_lab::Lab;

use crate::harness::Matrices;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrix_keeps_its_promises() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let harness = Matrices::new(lab);
    // One case alone, for whoever looks for a fault.
    if let Ok(part) = std::env::var("SEALBRIDGE_CASE") {
        let report = run_only(&harness, &part).await;
        assert!(report.passed(), "{report}");
        return Ok(());
    }
    let report = run_all(&harness).await;
    // How much an answer holds is the homeserver's to decide.
    assert_eq!(report.count(), (41, 1), "{report}");
    Ok(())
}
