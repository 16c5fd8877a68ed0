//! How the service is doing.

use std::time::Duration;

use sealbridge_contract::{AccountName, transport::Health};
use serde::Serialize;

use super::Outcome;
use crate::{
    config::{Period, Size},
    operator::{Failure, Host, admin},
    store::Counts,
};

#[derive(Serialize)]
struct Status {
    running: bool,
    version: &'static str,
    started_at: i64,
    trouble: Option<String>,
    accounts: Vec<AccountLine>,
    links: usize,
    links_paused: usize,
    admin_room: Option<String>,
    journal: Counts,
    journal_most_bytes: u64,
}

#[derive(Serialize)]
struct AccountLine {
    name: AccountName,
    network: &'static str,
    #[serde(flatten)]
    health: Health,
    stopped: Option<String>,
}

pub(super) async fn status(host: &dyn Host) -> Result<Outcome, Failure> {
    let journal = host.journal();
    let links = journal.links().await?;
    let status = Status {
        running: true,
        version: env!("CARGO_PKG_VERSION"),
        started_at: host.started_at().0,
        trouble: host.trouble(),
        accounts: accounts(host),
        links: links.len(),
        links_paused: links.iter().filter(|link| link.paused.is_some()).count(),
        admin_room: admin::room(&*journal).await?.map(|room| room.to_string()),
        journal: journal.counts().await?,
        journal_most_bytes: host.config().journal.most_payload.0,
    };
    let up = host.clock().now().since(host.started_at());
    Ok(Outcome::one(describe(&status, up, host.clock().now().0), &status))
}

/// Every account of the config, those that are not open among them.
fn accounts(host: &dyn Host) -> Vec<AccountLine> {
    let open = host.accounts();
    let line = |(name, account): (&AccountName, &crate::transports::AccountConfig)| {
        let found = open.iter().find(|account| account.name == *name);
        AccountLine {
            name: name.clone(),
            network: account.network(),
            health: found.and_then(|account| Some(account.transport.as_ref()?.common().health())).unwrap_or_default(),
            stopped: match found {
                Some(account) => account.stopped.as_ref().map(ToString::to_string),
                None => Some("not open".into()),
            },
        }
    };
    host.config().accounts.iter().map(line).collect()
}

fn describe(status: &Status, up: Duration, now: i64) -> String {
    let up = Period(Duration::from_secs(up.as_secs()));
    let mut words = format!("Sealbridge {} has been running for {up}.\n", status.version);
    if let Some(trouble) = &status.trouble {
        words.push_str(&format!("TROUBLE: {trouble}\n"));
    }
    for account in &status.accounts {
        let identity = account.health.identity.as_deref().unwrap_or("?");
        let heard = account
            .health
            .last_heard
            .map_or(String::new(), |at| format!(", heard of {} s ago", now.saturating_sub(at).max(0) / 1000));
        let state = match (&account.stopped, account.health.connected, &account.health.trouble) {
            (Some(why), _, _) => format!("STOPPED: {why}"),
            (None, true, None) => "connected".into(),
            (None, true, Some(trouble)) => format!("connected, but {trouble}"),
            (None, false, trouble) => {
                format!("NOT CONNECTED{}", trouble.as_ref().map_or(String::new(), |t| format!(": {t}")))
            }
        };
        words.push_str(&format!("account {} ({}, {identity}): {state}{heard}\n", account.name, account.network));
    }
    let paused =
        if status.links_paused > 0 { format!(", {} of them paused", status.links_paused) } else { String::new() };
    words.push_str(&format!("links: {}{paused}\n", status.links));
    let room = status.admin_room.as_deref().unwrap_or("none; run `sealbridge init`");
    words.push_str(&format!("admin room: {room}\n"));
    let counts = &status.journal;
    words.push_str(&format!(
        "journal: {} queued, {} held, {} dead letters, {} not readable yet, {} gaps, {} behind them, {} delivered, {} of {}\n",
        counts.queued,
        counts.held,
        counts.dead,
        counts.unreadable,
        counts.gaps,
        counts.unrouted,
        counts.settled,
        Size(counts.payload_bytes),
        Size(status.journal_most_bytes),
    ));
    if let Some(oldest) = counts.oldest {
        words.push_str(&format!("oldest queued: {} s ago\n", now.saturating_sub(oldest.0).max(0) / 1000));
    }
    if counts.quarantined > 0 {
        words
            .push_str(&format!("{} rows do not open and are set aside: run `sealbridge doctor`\n", counts.quarantined));
    }
    words
}
