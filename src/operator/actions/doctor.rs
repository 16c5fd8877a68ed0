//! What is wrong, and what to do about it.

use std::{os::unix::fs::PermissionsExt, path::Path};

use sealbridge_contract::gate::Encryption;
use serde::Serialize;

use super::{Outcome, conversations::is_operators, to_line};
use crate::{
    config::{Config, Size},
    flow::fullness,
    notices,
    operator::{Failure, FailureKind, Host, admin, ending, plain::field},
};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub topic: String,
    /// How it is.
    pub state: CheckState,
    /// What was seen, and what to do.
    pub words: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// In order.
    Ok,
    /// Worth a look.
    Warn,
    /// Messages don't cross, or are not safe, until somebody acts.
    Bad,
}

fn check(topic: impl Into<String>, state: CheckState, words: impl Into<String>) -> Check {
    Check { topic: topic.into(), state, words: words.into() }
}

pub(super) async fn doctor(host: &dyn Host) -> Result<Outcome, Failure> {
    let config = host.config();
    let mut checks = vec![state_folder(&config.service.state), root_key_of_the_running(config), disk(config)];
    let mut found = None;
    for (name, account) in &host.config().accounts {
        let topic = format!("account {name}");
        let open = host.accounts().into_iter().find(|account| account.name == *name);
        let stopped = open.as_ref().and_then(|account| account.stopped.clone());
        let Some(transport) = open.and_then(|account| account.transport) else {
            let why =
                stopped.unwrap_or_else(|| Failure::new(FailureKind::Config, "not logged in: run `sealbridge init`"));
            found = found.or(Some(why.kind));
            checks.push(check(topic, CheckState::Bad, format!("stopped ({}): {why}", account.network())));
            continue;
        };
        let transport = transport.common();
        let health = transport.health();
        checks.push(match (stopped, health.connected, health.trouble) {
            (Some(why), _, _) => check(&topic, CheckState::Bad, format!("stopped: {why}")),
            (None, false, trouble) => {
                found = found.or(Some(FailureKind::Unreachable));
                let why = trouble.map_or(String::new(), |trouble| format!(": {trouble}"));
                check(&topic, CheckState::Bad, format!("not connected{why}"))
            }
            (None, true, Some(trouble)) => check(&topic, CheckState::Warn, trouble),
            (None, true, None) => check(&topic, CheckState::Ok, "connected"),
        });
        for finding in transport.doctor().await {
            let state = if finding.grave { CheckState::Bad } else { CheckState::Warn };
            checks.push(check(format!("{topic}: {}", finding.topic), state, finding.words));
        }
    }
    checks.extend(host.trouble().map(|trouble| check("service", CheckState::Bad, trouble)));
    checks.extend(links(host).await?);
    checks.extend(sources(host).await?);
    checks.extend(journal(host).await?);
    Ok(diagnosis(&checks, found))
}

async fn sources(host: &dyn Host) -> Result<Vec<Check>, Failure> {
    let taken = host.journal().shares().await?.into_iter().filter(|share| share.is_taken);
    let mut checks: Vec<_> =
        taken.map(|share| check(notices::in_words(&share.at), CheckState::Bad, fullness::waiting(&share))).collect();
    let Some(sources) = host.sources() else { return Ok(checks) };
    let left = sources.left_behind().await.unwrap_or_default();
    let words = "what was gathered of it waits, since the config has no such source any more. With it in the config \
                 again, it is said";
    checks.extend(left.into_iter().map(|name| check(format!("source {name}"), CheckState::Warn, words)));
    Ok(checks)
}

/// What can be looked at without the running service.
#[must_use]
pub fn on_disk(config: &Config) -> Vec<Check> {
    let mut checks = vec![state_folder(&config.service.state), root_key(config), disk(config)];
    let words = |ended: ending::Ended| {
        let at = mail_parser::DateTime::from_timestamp(ended.at.0.div_euclid(1000)).to_rfc3339();
        format!("it ended at {at}: {}", ended.words)
    };
    checks.extend(ending::read(&config.service.state).map(|ended| check("last run", CheckState::Bad, words(ended))));
    checks
}

/// Why the journal does not open.
#[must_use]
pub fn journal_does_not_open(why: &Failure) -> Check {
    check("journal", CheckState::Bad, why.words.clone())
}

/// That no service runs.
#[must_use]
pub fn service_not_running(words: &str) -> Check {
    check("service", CheckState::Bad, words)
}

/// The checks as an answer.
#[must_use]
pub fn diagnosis(checks: &[Check], kind: Option<FailureKind>) -> Outcome {
    let sign = |state| match state {
        CheckState::Ok => "ok   ",
        CheckState::Warn => "warn ",
        CheckState::Bad => "BAD  ",
    };
    let words = checks
        .iter()
        .map(|c| format!("{}{}: {}\n", sign(c.state), field(&c.topic), field(&c.words)))
        .collect::<String>();
    let mut outcome = Outcome::new(words, checks.iter().map(to_line).collect());
    if checks.iter().any(|check| check.state == CheckState::Bad) {
        outcome.found = Some(kind.unwrap_or(FailureKind::Other));
    }
    outcome
}

fn state_folder(state: &Path) -> Check {
    let topic = "state folder";
    let shown = state.display();
    match std::fs::metadata(state) {
        Err(error) => check(topic, CheckState::Bad, format!("{shown}: {error}; run `sealbridge init`")),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            check(topic, CheckState::Warn, format!("others can look into {shown}. Run: chmod 700 {shown}"))
        }
        Ok(_) => check(topic, CheckState::Ok, shown.to_string()),
    }
}

/// The running service can't ask the keyring: it runs nothing but its engines.
fn root_key_of_the_running(config: &Config) -> Check {
    if config.service.root_key_in_keyring {
        return check("root key", CheckState::Ok, "the desktop's keyring gave it when the service began");
    }
    root_key(config)
}

fn root_key(config: &Config) -> Check {
    let fine = match config.service.root_key_in_keyring {
        true => "in the desktop's keyring, which is unlocked",
        false => "readable, by its owner alone",
    };
    match crate::config::root_key::load(config) {
        Ok(_) => check("root key", CheckState::Ok, fine),
        Err(failure) => check("root key", CheckState::Bad, failure.words),
    }
}

fn disk(config: &Config) -> Check {
    let Ok(disk) = rustix::fs::statvfs(&config.service.state) else {
        return check("disk", CheckState::Warn, "how much room is left can't be seen");
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let wanted = config.journal.most_payload.0;
    let words = format!("{} free", human(free));
    if free < wanted {
        let words =
            format!("{words}, and the journal may grow to {}; lower `journal.most_payload` or make room", Size(wanted));
        return check("disk", CheckState::Warn, words);
    }
    check("disk", CheckState::Ok, words)
}

fn human(bytes: u64) -> Size {
    Size(if bytes > 1 << 30 { bytes >> 30 << 30 } else { bytes >> 20 << 20 })
}

async fn links(host: &dyn Host) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let accounts = host.accounts();
    for link in host.journal().links().await? {
        let topic = format!("link {}", link.name);
        let (mut bad, mut in_clear) = (Vec::new(), Vec::new());
        let said_by = link.ends.iter().find(|end| notices::is_source(&end.at));
        for end in link.ends.iter().filter(|end| !notices::is_source(&end.at)) {
            let account = accounts.iter().find(|account| account.name == end.at.account);
            let Some(transport) = account.and_then(|account| account.transport.as_ref()) else {
                bad.push(format!("{} waits for its account, which is not running", end.at));
                continue;
            };
            let infos = transport.common().conversations();
            let why = match infos.iter().find(|info| info.id == end.at.conversation).map(|info| info.encryption) {
                Some(Encryption::Pinned) => continue,
                Some(Encryption::Absent) if is_operators(transport, &end.at.conversation) => {
                    in_clear.push(end.at.to_string());
                    continue;
                }
                Some(Encryption::Absent) => "is not encrypted, so nothing is carried there",
                Some(Encryption::Violated) => "was encrypted, and its server now says otherwise",
                Some(Encryption::Replaced) => "was given up for another; say `sealbridge links replace` to follow",
                Some(Encryption::Unknown) => "is not known to be encrypted yet",
                Some(Encryption::Muted) => "does not let us speak; let us send messages there",
                Some(Encryption::Frozen) => "has somebody in it who was not approved; `sealbridge audience` says who",
                Some(Encryption::Left) | None => "is not one that we are in; invite us",
            };
            bad.push(format!("{} {why}", end.at));
        }
        checks.push(match (bad.is_empty(), &link.paused) {
            (false, _) => check(topic, CheckState::Bad, bad.join("; ")),
            (true, Some(why)) => {
                check(topic, CheckState::Warn, format!("{why}; `sealbridge links resume` lets it go on"))
            }
            (true, None) if in_clear.is_empty() => {
                let words = match said_by.map(|end| notices::is_operator(&end.at)) {
                    None => "every end is encrypted",
                    Some(true) => "what `sealbridge send` brings is encrypted where it is said",
                    Some(false) => "what its source brings is encrypted where it is said",
                };
                check(topic, CheckState::Ok, words)
            }
            (true, None) => {
                let words =
                    format!("every end is encrypted, but for what you run and let read: {}", in_clear.join(", "));
                check(topic, CheckState::Ok, words)
            }
        });
    }
    Ok(checks)
}

async fn journal(host: &dyn Host) -> Result<Vec<Check>, Failure> {
    let journal = host.journal();
    let counts = journal.counts().await?;
    let most = host.config().journal.most_payload.0;
    let mut checks = Vec::new();
    let mut tell = |condition: bool, topic: &str, state, words: String| {
        if condition {
            checks.push(check(topic, state, words));
        }
    };
    let quarantined =
        format!("{} rows do not open and are set aside; `sealbridge dead-letters list`", counts.quarantined);
    tell(counts.quarantined > 0, "quarantine", CheckState::Bad, quarantined);
    let full = format!("{} of {} used", Size(counts.payload_bytes), Size(most));
    tell(
        counts.payload_bytes >= most,
        "journal",
        CheckState::Bad,
        format!("full: {full}; messages stay on their networks"),
    );
    let nearly = counts.payload_bytes < most && counts.payload_bytes > most / 5 * 4;
    tell(nearly, "journal", CheckState::Warn, format!("nearly full: {full}"));
    tell(counts.payload_bytes <= most / 5 * 4, "journal", CheckState::Ok, full);
    let dead = format!("{}; `sealbridge dead-letters list` says why", counts.dead);
    tell(counts.dead > 0, "dead letters", CheckState::Warn, dead);
    tell(counts.held > 0, "held", CheckState::Warn, format!("{} deliveries wait for somebody to act", counts.held));
    let given_up = host.config().journal.limits().unreadable_for.as_secs() / 86_400;
    for waits in journal.unread().await? {
        let account = host.config().accounts.get(&waits.account);
        let way = account.and_then(|account| account.way_out(&waits.reason)).unwrap_or("they are tried again");
        let words =
            format!("{} can't be read yet: {}; {way}. Given up after {given_up} days", waits.count, waits.reason);
        tell(true, &format!("account {}: unreadable", waits.account), CheckState::Warn, words);
    }
    if admin::room(&*journal).await?.is_none() {
        checks.push(check(
            "admin room",
            CheckState::Warn,
            "there is none, so nobody is told what needs a person; run `sealbridge init`",
        ));
    }
    Ok(checks)
}
