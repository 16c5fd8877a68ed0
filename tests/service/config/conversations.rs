//! Quiet hours of a conversation, whichever source speaks there.

use std::fs;

use tempfile::TempDir;

use super::{MINIMAL, check, sealbridge};

const QUIET: &str = "quiet = \"22:00-07:00\"\n";

fn at(conversation: &str, lines: &str) -> String {
    format!("[notices.conversations.\"a/!{conversation}:example.org\"]\n{lines}")
}

/// A source that speaks in these conversations.
fn source(to: &str, lines: &str) -> String {
    let to: Vec<_> = to.chars().map(|name| format!("\"a/!{name}:example.org\"")).collect();
    format!("{MINIMAL}[sources.job]\nformat = \"raw\"\nto = [{}]\n{lines}", to.join(", "))
}

#[test]
fn quiet_hours_of_conversations_are_checked_and_shown() {
    let (quiet, later) = (at("r", QUIET), at("s", "quiet = \"23:00-07:00\"\n"));
    let good = source("rs", &format!("{quiet}quiet_zone = \"Europe/Zurich\"\n{}", quiet.replace("!r", "!s")));
    check(&good.replace("Europe/Zurich", "UTC"), &[], &[]);
    check(&source("r", &at("x", QUIET)), &[], &[("7:24", "no source speaks there")]);
    check(&source("r", &at("r", &format!("{QUIET}quiet_below = \"low\"\n"))), &[], &[("9:1", "nothing matters less")]);
    let differ = "different quiet hours";
    check(&source("rs", &quiet), &[], &[("6:1", differ)]);
    check(&source("rs", &format!("{quiet}{later}")), &[], &[("6:1", differ)]);
    check(&good, &[], &[("6:1", differ)]);
    let escalates = "escalate_after = \"1m\"\nescalate_to = [\"a/!r:example.org\", \"a/!s:example.org\"]\n";
    check(&source("o", &format!("{escalates}{quiet}")), &[], &[("8:1", differ)]);

    let folder = TempDir::new().expect("a temporary folder can be made");
    let shown = |lines: &str, json: &[&str]| {
        fs::write(folder.path().join("sealbridge.toml"), source("r", lines)).expect("a folder takes a file");
        let args = [&["--config", "sealbridge.toml"], json, &["sources", "list"]].concat();
        String::from_utf8_lossy(&sealbridge(folder.path(), &args).stdout).into_owned()
    };
    let words = shown(&format!("quiet = \"12:00-13:00\"\n{quiet}"), &[]);
    assert!(words.contains("  quiet 12:00-13:00 UTC, but for what is critical or worse\n"), "{words}");
    assert!(words.contains("  quiet in a/!r:example.org 22:00-07:00 UTC, but for what is critical or worse\n"), "{words}");
    let json = shown(&quiet, &["--json"]);
    let line: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("it is JSON");
    assert_eq!(line["quiet_in"]["a/!r:example.org"]["quiet"], "22:00-07:00", "{json}");
}
