//! How the service is doing.

use std::time::Duration;

use sealbridge_contract::{AccountName, transport::Health};
use serde::Serialize;

use super::Outcome;
use crate::{
    config::{Period, Size},
    flow::{LaneState, fullness},
    operator::{Failure, Host, admin, plain::field},
    store::{Counts, LaneReport, Share},
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
    lanes: Vec<LaneLine>,
    sources: Vec<SourceLine>,
}

/// A source that has something waiting.
#[derive(Serialize)]
struct SourceLine {
    source: String,
    waiting: u64,
    bytes: u64,
    files_bytes: u64,
    share_taken: bool,
    #[serde(skip)]
    words: Option<String>,
}

/// A conversation that has something in the outbox.
#[derive(Serialize)]
struct LaneLine {
    at: String,
    queued: u64,
    since: i64,
    attempts: u32,
    cause: Option<String>,
    #[serde(flatten)]
    doing: Option<LaneState>,
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
        lanes: lanes(host).await?,
        sources: journal.shares().await?.into_iter().map(source_line).collect(),
    };
    let up = host.clock().now().since(host.started_at());
    Ok(Outcome::one(describe(&status, up, host.clock().now().0), &status))
}

/// The accounts alone.
pub(super) fn list_accounts(host: &dyn Host) -> Outcome {
    let (accounts, now) = (accounts(host), host.clock().now().0);
    let words: String = accounts.iter().map(|account| describe_account(account, now)).collect();
    let words = if words.is_empty() { "No accounts yet. Add one: sealbridge account add\n".to_owned() } else { words };
    Outcome::new(words, accounts.iter().map(super::to_line).collect())
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
                None => Some("not running".into()),
            },
        }
    };
    host.config().accounts.iter().map(line).collect()
}

fn source_line(share: Share) -> SourceLine {
    SourceLine {
        source: share.at.conversation.as_str().to_owned(),
        waiting: share.messages,
        bytes: share.bytes,
        files_bytes: share.files,
        share_taken: share.is_taken,
        words: share.is_taken.then(|| fullness::words(&share)),
    }
}

/// Those that wait longest first.
async fn lanes(host: &dyn Host) -> Result<Vec<LaneLine>, Failure> {
    let mut doing = host.lanes();
    let mut reports = host.journal().lane_reports().await?;
    reports.sort_by_key(|report| report.since);
    let line = |report: LaneReport| LaneLine {
        at: report.at.to_string(),
        queued: report.queued,
        since: report.since.0,
        attempts: report.attempts,
        cause: report.cause,
        doing: doing.remove(&report.at),
    };
    Ok(reports.into_iter().map(line).collect())
}

/// As many lanes are shown to a person.
const SHOWN: usize = 20;

fn describe_lanes(lanes: &[LaneLine], now: i64) -> String {
    let mut words = String::new();
    for lane in lanes.iter().take(SHOWN) {
        let age = now.saturating_sub(lane.since).max(0) / 1000;
        let why = match (&lane.doing, &lane.cause) {
            (Some(LaneState::Waits(hold)), _) => format!(": {hold}"),
            (_, Some(cause)) => format!(": {}", field(cause)),
            _ => String::new(),
        };
        let tried = if lane.attempts > 0 { format!(", tried {} times", lane.attempts) } else { String::new() };
        words.push_str(&format!(
            "lane {}: {} queued, the first {age} s ago{tried}{why}\n",
            field(&lane.at),
            lane.queued
        ));
    }
    if lanes.len() > SHOWN {
        words.push_str(&format!("and {} lanes more; --json names them all\n", lanes.len() - SHOWN));
    }
    words
}

fn describe_account(account: &AccountLine, now: i64) -> String {
    // What was stopped is the doctor's.
    let Health { identity, last_heard, connected, trouble, stopped: _ } = &account.health;
    let identity = identity.as_deref().unwrap_or("?");
    let ago = |at: i64| format!(", heard of {} s ago", now.saturating_sub(at).max(0) / 1000);
    let heard = last_heard.map_or(String::new(), ago);
    let state = match (&account.stopped, connected, trouble) {
        (Some(why), _, _) => format!("STOPPED: {why}"),
        (None, true, None) => "connected".into(),
        (None, true, Some(trouble)) => format!("connected, but {trouble}"),
        (None, false, Some(trouble)) => format!("NOT CONNECTED: {trouble}"),
        (None, false, None) => "NOT CONNECTED".into(),
    };
    let line = format!("account {} ({}, {identity}): {state}{heard}", account.name, account.network);
    format!("{}\n", field(&line))
}

fn describe(status: &Status, up: Duration, now: i64) -> String {
    let up = Period(Duration::from_secs(up.as_secs()));
    let mut words = format!("Sealbridge {} has been running for {up}.\n", status.version);
    if let Some(trouble) = &status.trouble {
        words.push_str(&format!("TROUBLE: {trouble}\n"));
    }
    words.extend(status.accounts.iter().map(|account| describe_account(account, now)));
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
    words.push_str(&describe_lanes(&status.lanes, now));
    status.sources.iter().filter_map(|source| source.words.as_deref()).for_each(|crowded| {
        words.push_str(&format!("{}\n", field(crowded)));
    });
    if counts.quarantined > 0 {
        words
            .push_str(&format!("{} rows do not open and are set aside: run `sealbridge doctor`\n", counts.quarantined));
    }
    words
}
