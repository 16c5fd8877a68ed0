//! What the running service does for a backup. The file itself is written by the command: the service can't reach its
//! place.

use super::Outcome;
use crate::operator::{Failure, Host};

pub(super) async fn prepare(host: &dyn Host) -> Result<Outcome, Failure> {
    let mut lines = Vec::new();
    for account in host.config().accounts.keys() {
        let export = host.export(account).await;
        let export = export.map_err(|failure| failure.while_doing(&format!("account {account}")))?;
        lines.extend(export.map(|file| serde_json::json!({ "account": account, "file": file })));
    }
    Ok(Outcome::new("", lines))
}
