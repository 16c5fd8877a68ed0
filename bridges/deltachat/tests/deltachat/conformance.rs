//! The transport keeps the promises of the contract, on a real mail server.

use anyhow::Result;
use sealbridge_contract::conformance::{run_all, run_only};
use sealbridge_lab::MailServer;

use crate::harness::Deltas;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_chat_keeps_its_promises() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let harness = Deltas { server };
    // One case alone, for whoever looks for a fault.
    if let Ok(part) = std::env::var("SEALBRIDGE_CASE") {
        let report = run_only(&harness, &part).await;
        assert!(report.passed(), "{report}");
        return Ok(());
    }
    let report = run_all(&harness).await;
    assert_eq!(report.count(), (24, 9), "{report}");
    Ok(())
}
