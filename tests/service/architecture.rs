//! The rules of the house, as tests over its own source.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends so, with its text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder can be read to its end").path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    assert!(!found.is_empty(), "no {ending} below {folder}: the test would check nothing");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("source is text");
        let name = path.strip_prefix(root()).expect("it lies below the root").to_string_lossy().into_owned();
        (name, text)
    };
    found.into_iter().map(read).collect()
}

/// Lines of `text` that are code and fit.
fn code<'a>(text: &'a str, fits: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().enumerate();
    lines.filter(move |(_, line)| !line.trim_start().starts_with("//") && fits(line)).map(|(at, line)| (at + 1, line))
}

fn assert_none(what: &str, files: &[(String, String)], fits: impl Fn(&str) -> bool + Copy) {
    let found =
        files.iter().flat_map(|(name, text)| code(text, fits).map(move |(at, line)| format!("{name}:{at}: {line}")));
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn only_the_matrix_bridge_knows_the_matrix_sdk() {
    let mut all = files("src", ".rs");
    all.extend(files("bridges", ".rs").into_iter().filter(|(name, _)| !name.starts_with("bridges/matrix/")));
    assert!(all.iter().any(|(name, _)| name.starts_with("bridges/deltachat/")));
    assert_none("the matrix-sdk family outside bridges/matrix", &all, |line| {
        line.contains("matrix_sdk") || line.contains("ruma::") || line.contains("vodozemac")
    });
    let matrix = files("bridges/matrix", ".rs");
    assert!(matrix.iter().any(|(_, text)| text.contains("matrix_sdk_crypto")), "the rule looks for the right word");
}

#[test]
fn only_the_list_of_transports_knows_a_network_that_the_service_did_not_begin_with() {
    let is_named = |text: &str| text.to_lowercase().replace([' ', '-', '_'], "").contains("deltachat");
    let all = files("src", ".rs");
    let named: Vec<_> = all.iter().filter(|(_, text)| is_named(text)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(named, ["src/transports.rs"], "what is special about a network is said by its own crate");
}

#[test]
fn bridges_depend_on_the_contract_and_never_on_each_other() {
    for (name, text) in files("bridges", "Cargo.toml") {
        let own = name.split('/').nth(1).expect("bridges/NAME/Cargo.toml");
        let networks = std::fs::read_dir(root().join("bridges")).expect("bridges/ is there");
        for other in networks {
            let other = other.expect("a folder can be read to its end").file_name().to_string_lossy().into_owned();
            let shared = ["contract", "child"].contains(&other.as_str());
            let depends = !shared && other != own && text.contains(&format!("sealbridge-{other}"));
            assert!(!depends, "{name} depends on {other}");
        }
        assert!(own != "child" || !text.contains("sealbridge-contract"), "the child-process layer knows no network");
        assert!(!text.lines().any(|line| line.starts_with("sealbridge.") || line.starts_with("sealbridge =")));
    }
}

#[test]
fn every_transport_runs_the_conformance_kit() {
    let bridges = std::fs::read_dir(root().join("bridges")).expect("bridges/ is there");
    for bridge in bridges {
        let name = bridge.expect("a folder can be read to its end").file_name().to_string_lossy().into_owned();
        if ["contract", "child"].contains(&name.as_str()) {
            continue;
        }
        let runs = files(&format!("bridges/{name}/tests"), ".rs");
        let whole = |line: &str| line.contains("run_all(") || line.contains("run(&harness)");
        let runs = runs.iter().any(|(_, text)| code(text, whole).next().is_some());
        assert!(runs, "bridges/{name}/tests never runs the whole of the kit");
    }
}

#[test]
fn delta_chat_is_never_asked_for_a_group_without_encryption() {
    let mut all = files("bridges/deltachat/src", ".rs");
    all.extend(files("bridges/child/src", ".rs"));
    all.extend(files("src", ".rs"));
    for call in ["create_group_chat_unencrypted", "createGroupChatUnencrypted", "misc_send", "create_broadcast"] {
        assert_none("a call that can send in clear", &all, |line| line.contains(call));
    }
    let forced = all.iter().any(|(_, text)| text.contains("(\"force_encryption\", \"1\")"));
    assert!(forced, "the engine is not told to encrypt everything");
    let tests = files("bridges/deltachat/tests", ".rs");
    let known = tests.iter().any(|(_, text)| text.contains("create_group_chat_unencrypted"));
    assert!(known, "the rule looks for the right word");
}

#[test]
fn steps_that_decide_do_no_io() {
    // These carry out what was decided.
    let acting = [
        "attempt",
        "audience",
        "desk",
        "dispatch",
        "mod",
        "namesakes",
        "obituaries",
        "outcomes",
        "signals",
        "telling",
        "upkeep",
    ];
    let acts = |name: &str| acting.iter().any(|step| name == format!("src/flow/{step}.rs"));
    let steps: Vec<_> = files("src/flow", ".rs").into_iter().filter(|(name, _)| !acts(name)).collect();
    assert!(steps.len() >= 4, "the rule looks at something");
    assert_none("I/O in a step that decides", &steps, |line| {
        [".await", "async fn", "std::fs", "tokio::fs"].iter().any(|io| line.contains(io))
    });
    let gate = files("bridges/contract/src", "gate.rs");
    assert_none("I/O in the gate", &gate, |line| line.contains("async") || line.contains("std::fs"));
}

#[test]
fn time_is_handed_in() {
    let mut all = files("src/flow", ".rs");
    all.extend(files("src/store", ".rs"));
    assert_none("a wall clock in journey or journal", &all, |line| line.contains("SystemTime::now"));
}

#[test]
fn only_incoming_parcels_are_wrapped_unsealed() {
    let service: Vec<_> = files("src", ".rs").into_iter().filter(|(name, _)| !name.contains("/suite")).collect();
    assert_none("Sealed::received in the service", &service, |line| line.contains("Sealed::received"));
}

#[test]
fn every_crate_keeps_the_workspace_lints_and_unsafe_is_forbidden() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    let mut manifests = files("bridges", "Cargo.toml");
    manifests.extend(files("tests/lab", "Cargo.toml"));
    manifests.extend(files("tests/bench", "Cargo.toml"));
    manifests.extend(files("tests/fuzz", "Cargo.toml"));
    manifests.push(("Cargo.toml".into(), workspace));
    for (name, text) in manifests {
        assert!(text.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
}

#[test]
fn the_map_matches_the_tree() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map is there");
    let named: BTreeSet<&str> = map.split('`').skip(1).step_by(2).collect();
    let is_path = |name: &&&str| ["src/", "bridges/", "tests/"].iter().any(|start| name.starts_with(start));
    for path in named.iter().filter(is_path).filter(|path| !path.contains(['<', ' '])) {
        assert!(root().join(path).exists(), "the map names {path}, which is not there");
    }
    for place in ["src", "bridges"] {
        for entry in std::fs::read_dir(root().join(place)).expect("the place is there") {
            let name = entry.expect("a folder can be read to its end").file_name().to_string_lossy().into_owned();
            let path = format!("{place}/{name}");
            let known = named.contains(path.as_str())
                || ["src/lib.rs", "src/main.rs", "src/testing.rs"].contains(&path.as_str());
            assert!(known, "the map does not name {path}");
        }
    }
}

#[test]
fn every_failpoint_is_on_its_list() {
    let mut listed: BTreeSet<&str> = sealbridge::flow::FAILPOINTS.iter().copied().collect();
    listed.extend(sealbridge::config::root_key::FAILPOINTS);
    listed.extend(sealbridge::backup::FAILPOINTS);
    listed.extend(sealbridge::notices::FAILPOINTS);
    listed.extend(sealbridge::operator::FAILPOINTS);
    listed.extend(sealbridge_matrix::FAILPOINTS);
    listed.extend(sealbridge_matrix::AGE_FAILPOINTS);
    listed.extend(sealbridge_matrix::MISLEADING);
    let mut sources = files("src", ".rs");
    sources.extend(files("bridges/matrix/src", ".rs"));
    let mut used = BTreeSet::new();
    for (_, text) in &sources {
        for (_, line) in code(text, |line| line.contains("fail_point!(\"")) {
            let name = line.split("fail_point!(\"").nth(1).and_then(|rest| rest.split('"').next());
            used.insert(name.expect("a failpoint has a name"));
        }
    }
    assert_eq!(listed, used, "the lists of failpoints and the source differ");
}

/// The names of all tests but the lab's own.
fn tests() -> BTreeSet<String> {
    tests_in(&["src", "bridges", "tests/service"])
}

fn tests_in(folders: &[&str]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for folder in folders {
        for (_, text) in files(folder, ".rs") {
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    let name = lines.find_map(|line| line.split_once("fn ")?.1.split_once('('));
                    tests.extend(name.map(|(name, _)| name.to_owned()));
                }
            }
        }
    }
    tests
}

/// The rows of a page's table that begin with a number, each as its cells. The numbers are those from 1 to `count`.
fn numbered(page: &str, count: usize, columns: usize) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(root().join(page)).expect("the page is there");
    let number = |row: &[String]| row[0].split(' ').next().and_then(|number| number.parse::<usize>().ok());
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|row| number(row).is_some()).collect();
    let numbers: Vec<_> = rows.iter().filter_map(|row| number(row)).collect();
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    for row in &rows {
        assert!(row.len() == columns && row.iter().all(|cell| !cell.is_empty()), "{row:?} has other columns");
    }
    rows
}

/// Whether a cell names tests, all of which exist, or else begins with one of these reasons.
fn names_tests(cell: &str, reasons: &[&str], tests: &BTreeSet<String>) -> bool {
    let is_test = |name: &str| {
        let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        name.is_some_and(|name| tests.contains(name))
    };
    reasons.iter().any(|reason| cell.starts_with(reason)) || cell.split(", ").all(is_test)
}

/// Whether a cell names one of these tests.
fn names_any(cell: &str, tests: &BTreeSet<String>) -> bool {
    cell.split(", ").any(|name| tests.contains(name.trim_matches('`')))
}

#[test]
fn every_adversarial_case_names_tests_that_exist_or_says_why_there_is_none() {
    let tests = tests();
    for row in numbered("docs/adversarial-cases.md", 72, 3) {
        let reasons = ["can't arise yet: ", "does not arise: ", "not defended: "];
        assert!(names_tests(&row[2], &reasons, &tests), "{row:?} names no test");
    }
}

#[test]
fn every_encryption_scenario_names_tests_that_exist_and_those_that_must_have_one_name_one_of_the_running_service() {
    let (tests, running) = (tests(), tests_in(&["tests/service/scenarios", "tests/service/lying"]));
    let mut marked = 0;
    for row in numbered("docs/encryption-scenarios.md", 35, 4) {
        assert!(["yes", "no"].contains(&&*row[2]), "{row:?}");
        let must = row[0].ends_with('●');
        marked += usize::from(must);
        let reasons: &[&str] = if must { &[] } else { &["not tried: "] };
        assert!(names_tests(&row[3], reasons, &tests), "{row:?} names no test");
        assert!(!must || names_any(&row[3], &running), "{row:?} is tried without the service");
    }
    assert_eq!(marked, 23, "those that the catalogue wants");
}
