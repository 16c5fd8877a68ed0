//! What is packaged: the unit for systemd, what it promises of the service and what systemd says of it, and Prometheus' rules.

use std::{path::PathBuf, process::Command, time::Duration};

use sealbridge::{
    config::root_key,
    metrics,
    operator::{FailureKind, cli},
};
use sealbridge_lab::{debian, skip};
use sealbridge_loopback::LoopbackHub;

use crate::running::Running;

const ANALYZE: &str = "/usr/bin/systemd-analyze";

fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn unit() -> PathBuf {
    at("packaging/sealbridge.service")
}

fn text() -> String {
    std::fs::read_to_string(unit()).expect("the unit is there")
}

/// The value of a key that stands there once.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{key} is missing"));
    assert!(values.next().is_none(), "{key} stands there twice");
    value
}

#[test]
fn unit_leaves_the_service_as_little_as_systemd_can() {
    if let Err(error) = debian::ready(&["systemd"], &[ANALYZE]) {
        return skip::skip(&format!("{error:#}"));
    }
    let analyze = |arguments: &[&str]| {
        let said =
            Command::new(ANALYZE).args(arguments).arg(unit()).env("SYSTEMD_PAGER", "").output().expect("it is there");
        let words = [said.stdout, said.stderr].concat();
        (said.status.success(), String::from_utf8_lossy(&words).into_owned())
    };
    // In tenths: 1.5 and below.
    let (within, words) = analyze(&["security", "--offline=true", "--threshold=15"]);
    let score = words
        .lines()
        .find_map(|line| line.split_once("Overall exposure level")?.1.split_once(": ")?.1.split(' ').next());
    let score: f64 = score.and_then(|score| score.parse().ok()).unwrap_or_else(|| panic!("no score: {words}"));
    assert!(within && score <= 1.5, "{score}: {words}");
    // The control: most of it comes from what the unit forbids.
    let (within, words) = analyze(&["security", "--offline=true", "--threshold=5"]);
    assert!(!within, "nothing is beyond any limit: {words}");
    let (_, words) = analyze(&["verify"]);
    for odd in ["nknown", "gnoring", "nvalid", "ailed to parse"] {
        assert!(!words.contains(odd), "{words}");
    }
}

#[test]
fn unit_runs_the_service_as_it_is_run_and_gives_it_its_key() {
    let text = text();
    let words: Vec<_> = value(&text, "ExecStart").split(' ').collect();
    let typed = cli::command().try_get_matches_from(&words).expect("it is a command");
    assert_eq!(typed.subcommand_name(), Some("run"));
    let credential = value(&text, "LoadCredentialEncrypted").split(':').next();
    assert_eq!(credential, Some(root_key::CREDENTIAL));
    let kinds = [FailureKind::Usage, FailureKind::Config, FailureKind::Auth, FailureKind::Refused];
    let codes: Vec<_> = kinds.iter().map(|kind| kind.exit_code().to_string()).collect();
    assert_eq!(value(&text, "RestartPreventExitStatus"), codes.join(" "), "what a person must mend is not tried again");
    assert_eq!((value(&text, "User"), value(&text, "StateDirectory")), ("sealbridge", "sealbridge"));
    let readme = std::fs::read_to_string(at("README.md")).expect("it is there");
    for told in
        ["packaging/sealbridge.service", root_key::CREDENTIAL, "/etc/sealbridge/config.toml", "/var/lib/sealbridge"]
    {
        assert!(readme.contains(told), "the README does not say {told}");
    }
}

/// The numbers that the alert rules look at: each name, and the outcomes that it is asked for.
fn looked_at() -> Vec<(String, Vec<String>)> {
    let rules = std::fs::read_to_string(at("packaging/prometheus-rules.yml")).expect("it is there");
    let exprs = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let numbers = exprs.flat_map(|expr| expr.split("sealbridge_").skip(1));
    let number = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        let labels = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(labels, _)| labels);
        let outcomes = labels.and_then(|labels| labels.split_once("outcome=")?.1.split('"').nth(1));
        let outcomes = outcomes.into_iter().flat_map(|all| all.split('|')).map(str::to_owned).collect();
        (format!("sealbridge_{}", &rest[..end]), outcomes)
    };
    numbers.map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_alert_rules_look_at_is_counted_from_nought_from_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = LoopbackHub::fresh("rules");
    let text = format!(
        "[service]\nstate = {:?}\n[accounts.a]\nnetwork = \"loopback\"\nhub = \"{}\"\nconversations = [\"room\"]\n\
         [sources.job]\nformat = \"raw\"\nto = [\"a/room\"]\n",
        folder.path().join("state"),
        hub.name(),
    );
    let running = Running::start(&text).await;
    // An account counts once it is open.
    let host = running.host();
    while host.accounts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = metrics::text(&*host).await.expect("the journal answers");
    running.stop().await;
    let of = |number: &str, label: &str, outcome: &str| format!("{number}{{{label},outcome=\"{outcome}\"}} 0");
    for outcome in ["retried", "dead"] {
        let line = of("sealbridge_deliveries_total", "account=\"a\"", outcome);
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    for outcome in ["arrived", "kept", "silent", "refused", "not_proven", "not_now"] {
        let line = of("sealbridge_notice_requests_total", "source=\"job\"", outcome);
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    let looked_at = looked_at();
    assert!(looked_at.len() > 6, "{looked_at:?}");
    for (number, outcomes) in looked_at {
        // A network without an egress guard counts nothing of one.
        let mut lines = text.lines().filter(|line| line.starts_with(&number));
        assert!(number == "sealbridge_guard_stopped_total" || lines.next().is_some(), "{number} is not in\n{text}");
        for outcome in outcomes {
            let is_nought =
                |line: &str| line.starts_with(&number) && line.ends_with(&format!("outcome=\"{outcome}\"}} 0"));
            assert!(text.lines().any(is_nought), "{number} of {outcome} is not in\n{text}");
        }
    }
}

#[test]
fn alert_rules_fire_by_the_first_that_is_refused_or_dead_after_a_start() {
    let promtool = "/usr/bin/promtool";
    if let Err(error) = sealbridge_lab::debian::ready(&["prometheus"], &[promtool]) {
        return skip::skip(&format!("{error:#}"));
    }
    for arguments in [
        [&["check", "rules"][..], &["packaging/prometheus-rules.yml"]],
        [&["test", "rules"], &["tests/fixtures/prometheus-rules.test.yml"]],
    ] {
        let said = Command::new(promtool).args(arguments.concat()).current_dir(at(".")).output().expect("it is there");
        let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success(), "{words}");
    }
}
