//! The unit for systemd: what it promises of the service, and what systemd says of it.

use std::{path::PathBuf, process::Command};

use sealbridge::{
    config::root_key,
    operator::{FailureKind, cli},
};
use sealbridge_lab::{debian, skip};

const ANALYZE: &str = "/usr/bin/systemd-analyze";

fn unit() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/sealbridge.service")
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
    let readme =
        std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    for told in
        ["packaging/sealbridge.service", root_key::CREDENTIAL, "/etc/sealbridge/config.toml", "/var/lib/sealbridge"]
    {
        assert!(readme.contains(told), "the README does not say {told}");
    }
}
