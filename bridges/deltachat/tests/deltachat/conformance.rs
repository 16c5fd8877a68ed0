//! The transport keeps the promises of the contract, on a real mail server.

use anyhow::Result;
use sealbridge_contract::conformance::{run, run_only};
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
    let report = run(&harness).await;
    let text = report.to_string();
    let failed: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("FAILED")).map(str::trim).collect();
    for case in &failed {
        // Mail servers may swap what was mailed within a moment; what comes in another order each time is a fault.
        let name = case.strip_suffix(": the order is another").unwrap_or_else(|| panic!("{report}"));
        let again = run_only(&harness, name).await;
        assert!(again.passed(), "{report}\n{again}");
    }
    let (passed, not_applicable) = report.count();
    assert_eq!((passed + failed.len(), not_applicable), (30, 12), "{report}");
    Ok(())
}
