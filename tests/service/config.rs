//! The config: what it takes, what it refuses and where, and what it never shows.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sealbridge::config::{self, Config, Flags, Format, Known, Level, Place, Problem, Sources};
use tempfile::TempDir;

const MINIMAL: &str = "[accounts.a]\nnetwork = \"matrix\"\nuser = \"@a:example.org\"\n";

fn sources(folder: &TempDir, text: &str, environment: &[(&str, &str)]) -> Sources {
    let file = folder.path().join("sealbridge.toml");
    fs::write(&file, text).expect("a temporary folder takes a file");
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { file, environment, flags: Flags::default() }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let folder = TempDir::new().expect("a temporary folder can be made");
    config::load(&sources(&folder, text, environment)).map_err(|problems| problems.0)
}

/// Where each problem is, and its words.
fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<(String, String)> {
    let place = |problem: &Problem| match &problem.at {
        Place::File { position, .. } => position.map_or("file".into(), |at| format!("{}:{}", at.line, at.column)),
        Place::Variable(name) => name.clone(),
    };
    let found = load(text, environment).expect_err("it is not in order");
    found.iter().map(|problem| (place(problem), problem.words.clone())).collect()
}

fn check(text: &str, environment: &[(&str, &str)], expected: &[(&str, &str)]) {
    let found = problems(text, environment);
    let shown: Vec<_> = found.iter().map(|(place, words)| (place.as_str(), words.as_str())).collect();
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for ((place, words), (expected_place, expected_words)) in shown.iter().zip(expected) {
        assert_eq!(place, expected_place, "{words}");
        assert!(words.contains(expected_words), "{words:?} lacks {expected_words:?}");
    }
}

fn sealbridge(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealbridge"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("the binary was built for this test")
}

fn example() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    fs::read_to_string(path).expect("the example is there")
}

/// The example with every key that it only shows in force.
fn whole_example() -> String {
    let shown = |line: &str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())).map(str::to_owned)
    };
    example().lines().map(|line| shown(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn misspelt_key_is_told_with_line_column_and_the_nearest_name() {
    check("[service]\nstatte = \"x\"\n", &[], &[("2:1", "unknown key `statte`; did you mean `state`?")]);
    check("[servise]\n", &[], &[("1:2", "did you mean `service`?")]);
    check("accounts.a = { network = \"matrix\", usr = \"x\" }", &[], &[("1:36", "did you mean `user`?")]);
    let nested = "[accounts.a]\nnetwork = \"matrix\"\n  [accounts.a.invites]\n  form = []\n";
    check(nested, &[], &[("4:3", "did you mean `from`?")]);
}

#[test]
fn every_unknown_key_is_told_at_once() {
    let text = "[log]\nlevle = \"info\"\n[journal]\nmost_paylod = 1\n";
    check(text, &[], &[("2:1", "`level`"), ("4:1", "`most_payload`")]);
}

#[test]
fn unknown_variable_is_an_error_with_the_nearest_name() {
    let single = [("SEALBRIDGE_SERVICE_STATE", "x")];
    check(MINIMAL, &single, &[("SEALBRIDGE_SERVICE_STATE", "did you mean SEALBRIDGE_SERVICE__STATE?")]);
    let account = [("SEALBRIDGE_ACCOUNTS__A__HOMSERVER", "x")];
    check(MINIMAL, &account, &[("SEALBRIDGE_ACCOUNTS__A__HOMSERVER", "SEALBRIDGE_ACCOUNTS__A__HOMESERVER?")]);
    check(MINIMAL, &[("SEALBRIDGE_LOG__", "x")], &[("SEALBRIDGE_LOG__", "is not known")]);
    check(MINIMAL, &[("SEALBRIDGE_JOURNAL", "x")], &[("SEALBRIDGE_JOURNAL", "names a section")]);
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [("SEALBRIDGE_LOG", "debug"), ("SEALBRIDGE_CONFIG", "x"), ("PATH", "x"), ("SEAL_X", "y")];
    assert!(load(MINIMAL, &others).is_ok());
}

#[test]
fn flags_go_over_the_environment_and_it_over_the_file() {
    let text = format!("[service]\nstate = \"/file\"\n[log]\nformat = \"text\"\nlevel = \"warn\"\n{MINIMAL}");
    let environment = [("SEALBRIDGE_SERVICE__STATE", "/environment"), ("SEALBRIDGE_LOG__LEVEL", "debug")];
    let folder = TempDir::new().expect("a temporary folder can be made");

    let file_alone = config::load(&sources(&folder, &text, &[])).expect("it is in order");
    assert_eq!((file_alone.service.state, file_alone.log.level), ("/file".into(), Level::Warn));

    let mut all = sources(&folder, &text, &environment);
    let with_environment = config::load(&all).expect("it is in order");
    assert_eq!((with_environment.service.state, with_environment.log.level), ("/environment".into(), Level::Debug));

    all.flags = Flags { state: Some("/flag".into()), log_format: Some(Format::Json), verbose: 1 };
    let with_flags = config::load(&all).expect("it is in order");
    assert_eq!(with_flags.service.state, PathBuf::from("/flag"));
    assert_eq!((with_flags.log.format, with_flags.log.level), (Format::Json, Level::Trace));
}

#[test]
fn environment_sets_lists_numbers_and_accounts_of_its_own() {
    let environment = [
        ("SEALBRIDGE_ACCOUNTS__B__NETWORK", "matrix"),
        ("SEALBRIDGE_ACCOUNTS__B__INVITES__FROM", "@x:example.org,example.net"),
        ("SEALBRIDGE_LINKS__L__ENDS", "a/!x:example.org,b/!y:example.org"),
        ("SEALBRIDGE_LINKS__L__MOST_HOPS", "2"),
        ("SEALBRIDGE_JOURNAL__MOST_PAYLOAD", "2GiB"),
        ("SEALBRIDGE_ACCOUNTS__A__HOMESERVER", "https://matrix.example.org"),
    ];
    let config = load(MINIMAL, &environment).expect("it is in order");
    let link = config.links.values().next().expect("the environment makes one");
    let ends: Vec<_> = link.ends.iter().map(ToString::to_string).collect();
    assert_eq!(ends, ["a/!x:example.org", "b/!y:example.org"]);
    assert_eq!(link.most_hops, 2);
    assert_eq!(config.journal.most_payload.0, 2 << 30);
    let shown = config::redacted(&config);
    assert_eq!(shown["accounts"]["b"]["invites"]["from"], serde_json::json!(["@x:example.org", "example.net"]));
    assert_eq!(shown["accounts"]["a"]["homeserver"], "https://matrix.example.org");
}

#[test]
fn value_of_the_wrong_kind_is_told_with_its_place_and_without_the_value() {
    check("[journal]\nunreadable_for = \"hunter2\"\n", &[], &[("2:1", "a length of time such as")]);
    check("[journal]\nmost_payload = []\n", &[], &[("2:1", "found a list")]);
    let end = format!("{MINIMAL}[links.l]\nends = [\"a/!x\",\n  \"hunter2\"]\n");
    check(&end, &[], &[("6:3", "a conversation is written account/conversation")]);
    check("[log]\nformat = \"jsn\"\n", &[], &[("2:1", "format")]);
    let stall = "[accounts.a]\nnetwork = \"matrix\"\nstall_after = \"hunter2\"\n";
    check(stall, &[], &[("3:1", "not a length of time")]);
    let hops = [("SEALBRIDGE_LINKS__L__MOST_HOPS", "hunter2"), ("SEALBRIDGE_LINKS__L__ENDS", "a/!x,a/!y")];
    check(MINIMAL, &hops, &[("SEALBRIDGE_LINKS__L__MOST_HOPS", "expected")]);
    for (text, environment) in [
        ("[journal]\nunreadable_for = \"hunter2\"\n", &[][..]),
        (end.as_str(), &[]),
        (stall, &[]),
        (MINIMAL, &hops),
        ("password = \"hunter2", &[]),
        ("password = \"hunter2\"", &[]),
        ("accounts = \"hunter2\"", &[]),
        ("[accounts.a]\nnetwork = \"hunter2\"", &[]),
        ("[log]\nformat = \"hunter2\"\n", &[]),
    ] {
        for (_, words) in problems(text, environment) {
            assert!(!words.contains("hunter2"), "a value is shown: {words}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_told() {
    let no_account = format!("{MINIMAL}[links.l]\nends = [\"a/!x\", \"b/!y\"]\n");
    check(&no_account, &[], &[("5:17", "there is no account `b`")]);
    let one_end = format!("{MINIMAL}[links.l]\nends = [\"a/!x\"]\n");
    check(&one_end, &[], &[("5:1", "two ends or more")]);
    let twice = format!("{MINIMAL}[links.l]\nends = [\"a/!x\", \"a/!x\"]\n");
    check(&twice, &[], &[("5:17", "in the list already")]);
    let admin = format!("[admin]\naccount = \"aa\"\nperson = \"@p:x\"\n{MINIMAL}");
    check(&admin, &[], &[("2:1", "did you mean `a`?")]);
    check("[accounts.Home]\nnetwork = \"matrix\"\n", &[], &[("1:11", "an account name has")]);
    check("[accounts.a]\nuser = \"@a:x\"\n", &[], &[("1:11", "network")]);
}

#[test]
fn admin_who_could_not_be_told_for_certain_is_an_error() {
    let with = |text: &str| format!("{MINIMAL}{text}");
    let admin = |lines: &str| with(&format!("[operator.admins.ann]\n{lines}\n"));
    let whole = admin("account = \"a\"\nperson = \"@ann:x\"\nkey = \"2AhcAUBfkoiYo8RYHqUyvVQWzlYyoDrMnCyX8rtEajw\"");
    assert!(load(&whole, &[]).is_ok(), "a whole one is in order");
    for (text, place, words) in [
        (admin("account = \"b\"\nperson = \"@ann:x\""), "5:1", "there is no account `b`"),
        (admin("account = \"a\"\nperson = \"ann\""), "6:1", "@name:server"),
        (admin("account = \"a\"\nperson = \"\""), "6:1", "@name:server"),
        (admin("account = \"a\"\nperson = \"@ann:x\"\nkey = \"short\""), "7:1", "43 letters"),
        (admin("account = \"a\""), "4:18", "person"),
        (admin("account = \"a\"\nperson = \"@ann:x\"\nkeys = \"k\""), "7:1", "`key`"),
        (with("[operator]\nlevel = 0\n"), "5:1", "everybody's"),
        (with("[operator]\nlevel = \"high\"\n"), "5:1", "expected"),
        (with("[operator]\nadmins = [\"@ann:x\"]\n"), "5:1", "expected"),
    ] {
        check(&text, &[], &[(place, words)]);
    }
    let mail = "[accounts.m]\nnetwork = \"deltachat\"\naddress = \"bridge@mail.example\"\n[operator.admins.ann]\naccount = \
                \"m\"\n";
    let fingerprint = "926358B8F4D84C7DB81F9668A351D95C24C03621";
    assert!(load(&format!("{mail}person = \"{fingerprint}\"\n"), &[]).is_ok());
    for person in ["ann@mail.example", &fingerprint.to_lowercase(), &fingerprint[1..]] {
        check(&format!("{mail}person = \"{person}\"\n"), &[], &[("6:1", "fingerprint")]);
    }
    let keyed = format!("{mail}person = \"{fingerprint}\"\nkey = \"k\"\n");
    check(&keyed, &[], &[("7:1", "no key beside their id")]);
}

#[test]
fn what_could_never_run_is_told_before_it_does() {
    let matrix = |lines: &str| format!("[accounts.a]\nnetwork = \"matrix\"\n{lines}\n");
    for (lines, words) in [
        ("homeserver = \"http://matrix.example.org\"", "plain http is for loopback only"),
        ("homeserver = \"ftp://matrix.example.org\"", "not http or https"),
        ("homeserver = \"https://\"", "not a valid URL"),
        ("homeserver = \"matrix example org\"", "not a valid server name"),
        ("homeserver = \"\"", "not a valid server name"),
        ("user = \"bridge\"", "write the whole user id, such as @bridge:example.org"),
        ("user = \"\"", "write the whole user id"),
        ("user = \"@bridge\"", "is not a Matrix user id"),
        ("sync_timeout = 0", "longer than nothing"),
    ] {
        check(&matrix(lines), &[], &[("3:1", words)]);
    }
    for lines in
        ["homeserver = \"http://127.0.0.1:8008\"", "homeserver = \"http://localhost:8008\"", "homeserver = \"a.b\""]
    {
        assert!(load(&matrix(lines), &[]).is_ok(), "{lines}");
    }
    let variable = [("SEALBRIDGE_ACCOUNTS__A__HOMESERVER", "http://matrix.example.org")];
    check(MINIMAL, &variable, &[("SEALBRIDGE_ACCOUNTS__A__HOMESERVER", "plain http is for loopback only")]);

    for (line, words) in [
        ("most_payload = \"0B\"", "more than nothing"),
        ("most_files = 0", "more than nothing"),
        ("unreadable_for = \"0s\"", "longer than nothing"),
        ("keep_lines_for = \"0s\"", "longer than nothing"),
    ] {
        check(&format!("[journal]\n{line}\n"), &[], &[("2:1", words)]);
    }
    assert!(load("[journal]\nhold_sender_for = \"0s\"\ndead_letters_for = \"0s\"\n", &[]).is_ok());
}

#[test]
fn link_that_could_carry_nothing_is_told() {
    let accounts = format!("{MINIMAL}[accounts.f]\nnetwork = \"deltachat\"\naddress = \"b@example.org\"\n");
    let link = |ends: &str, more: &str| format!("{accounts}[links.l]\nends = [{ends}]\n{more}\n");
    let rooms = "\"a/!x:example.org\", \"f/10-0123456789ab\"";
    assert!(load(&link(rooms, "most_file = 0"), &[]).is_ok(), "a link without files");
    for (more, words) in [("most_hops = 0", "more than nothing"), ("most_bytes = 0", "more than nothing")] {
        check(&link(rooms, more), &[], &[("9:1", words)]);
    }
    for (end, words) in [
        ("a/#talk:example.org", "an alias, which can lead elsewhere tomorrow"),
        ("a/talk", "not a room id, such as !room:example.org"),
        ("a/@ann:example.org", "not a room id"),
        ("f/Family", "not a chat, such as 10-0123456789ab"),
        ("f/10-0123456789AB", "not a chat"),
        ("f/-0123456789ab", "not a chat"),
    ] {
        let found = problems(&link(&format!("{rooms}, {end:?}"), ""), &[]);
        let [(place, said)] = found.as_slice() else { panic!("{end}: {found:?}") };
        assert!(place.starts_with("8:") && said.contains(words), "{end}: {place} {said}");
        assert!(said.contains("sealbridge conversations list"), "{said}");
    }
}

#[test]
fn name_of_a_link_has_nothing_that_hides_or_turns() {
    let named = |name: &str| format!("{MINIMAL}[links.{name:?}]\nends = [\"a/!x\", \"a/!y\"]\n");
    for (name, code) in [
        ("lou\u{200b}nge", "U+200B"),
        ("\u{202e}egnuol", "U+202E"),
        ("lounge\u{2066}", "U+2066"),
        ("\u{feff}lounge", "U+FEFF"),
        ("\u{2800}", "U+2800"),
    ] {
        // As it is, and not as Rust would write it.
        let text = named("NAME").replace("NAME", name);
        check(&text, &[], &[("4:8", code)]);
    }
    for name in ["lounge", "salón", "שלום", "👩‍👩‍👧‍👦 home"] {
        assert!(load(&named("NAME").replace("NAME", name), &[]).is_ok(), "{name}");
    }
}

#[test]
fn secret_is_never_taken_from_the_config() {
    let inline = format!("{MINIMAL}password = \"hunter2\"\n");
    check(&inline, &[], &[("4:1", "a secret is never written into the config")]);
}

#[test]
fn example_parses_and_shows_the_defaults() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let [as_it_is, in_force] = [example(), whole_example()].map(|text| {
        let config = config::load(&sources(&folder, &text, &[])).unwrap_or_else(|problems| panic!("{problems}"));
        let mut shown = config::redacted(&config);
        // These have no default that could be written down: they follow from others, or are an example.
        let examples = [
            ("/service", "root_key_file"),
            ("/service", "control_socket"),
            ("/accounts/work", "homeserver"),
            ("/accounts/family", "password_file"),
            ("/accounts/family", "groups"),
            ("/accounts/hooks/endpoints/ops", "allow_addresses"),
            ("/accounts/hooks/endpoints/ops", "next_secret_file"),
            ("/accounts/hooks/endpoints/ops", "ca_file"),
            ("/operator/admins/anna", "key"),
            ("/notices", "listen"),
            ("/notices", "listen_mail"),
            ("/sources/prometheus", "secret_files"),
            ("/sources/prometheus", "name"),
            ("/sources/prometheus", "template"),
            ("/sources/prometheus", "api"),
            ("/sources/prometheus", "expect_every"),
            ("/sources/prometheus", "expect_alert"),
            ("/sources/prometheus", "signature_header"),
            ("/sources/prometheus", "timestamp_header"),
            ("/sources/prometheus", "burst"),
            ("/sources/prometheus", "quiet"),
            ("/sources/prometheus", "quiet_zone"),
            ("/sources/prometheus", "mention"),
            ("/sources/prometheus", "escalate_after"),
            ("/sources/prometheus", "escalate_to"),
            ("/sources/prometheus", "escalate_mention"),
            ("/health", "listen"),
            ("/metrics", "listen"),
        ];
        for (section, key) in examples {
            shown.pointer_mut(section).and_then(|section| section.as_object_mut()?.remove(key));
        }
        shown
    });
    assert_eq!(as_it_is, in_force);
}

#[test]
fn what_of_a_source_is_gathered_and_whom_it_calls_is_checked_and_shown() {
    let source =
        |lines: &str| format!("{MINIMAL}[sources.job]\nformat = \"raw\"\nto = [\"a/!r:example.org\"]\n{lines}");
    check(&source("quiet = \"22-\"\n"), &[], &[("7:1", "quiet hours are written \"22:00-07:00\"")]);
    check(&source("quiet = \"07:00-07:00\"\n"), &[], &[("7:1", "end at another time")]);
    let zone = "quiet = \"22:00-07:00\"\nquiet_zone = \"Europe/Zuerich\"\n";
    check(&source(zone), &[], &[("8:1", "there is no zone `Europe/Zuerich`")]);
    check(&source("quiet_zone = \"Europe/Zurich\"\n"), &[], &[("7:1", "from when until when")]);
    check(&source("quiet_below = \"low\"\n"), &[], &[("7:1", "nothing matters less")]);
    for wrong in ["0s", "25h"] {
        check(&source(&format!("gather_for = \"{wrong}\"\n")), &[], &[("7:1", "from a second to a day")]);
    }
    check(&source("mention = [\"@room\", \"ann\"]\n"), &[], &[("7:21", "who is called is a person there")]);
    check(&source("signature_header = \"X Mine\"\n"), &[], &[("7:1", "a header's name has letters")]);
    for (lines, at, words) in [
        ("escalate_after = \"15m\"\n", "7:1", "say with `escalate_to` where"),
        ("escalate_after = \"0s\"\nescalate_mention = [\"@room\"]\n", "7:1", "a second or longer"),
        ("escalate_mention = [\"@room\"]\n", "7:1", "how long nobody may look after it"),
        ("escalate_to = [\"a/!o:example.org\"]\n", "7:1", "how long nobody may look after it"),
        ("escalate_after = \"1m\"\nescalate_to = [\"a/!r:example.org\"]\n", "8:1", "it is said there already"),
        ("escalate_after = \"1m\"\nescalate_to = [\"b/!r:example.org\"]\n", "8:16", "there is no account `b`"),
        ("escalate_after = \"1m\"\nescalate_mention = [\"ann\"]\n", "8:21", "who is called is a person there"),
    ] {
        check(&source(lines), &[], &[(at, words)]);
    }
    let folder = TempDir::new().expect("a temporary folder can be made");
    let good = "escalate_after = \"15m\"\nescalate_to = [\"a/!o:example.org\"]\nmention = [\"@room\", \"@ann:example.org\"]\nburst = 10\nquiet = \"22:00-07:00\"\nquiet_zone = \"Europe/Zurich\"\n";
    fs::write(folder.path().join("sealbridge.toml"), source(good)).expect("a temporary folder takes a file");
    let shown = sealbridge(folder.path(), &["--config", "sealbridge.toml", "sources", "list"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for words in [
        "10 at once within 1m, the rest in a digest",
        "after 15m told in a/!o:example.org if nobody says by a reaction or a command that they look after it",
        "quiet 22:00-07:00 Europe/Zurich, but for what is critical or worse",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
}

#[test]
fn example_names_every_key() {
    let table: toml::Table = toml::from_str(&whole_example()).expect("the example is TOML");
    // The network in memory is for tests; its keys are no operator's business.
    let networks = ["matrix", "deltachat", "webhook"];
    for path in networks.iter().flat_map(|network| Known::default().paths(Some(network))) {
        let mut at = vec![toml::Value::Table(table.clone())];
        for name in &path {
            let inner = at.iter().filter_map(toml::Value::as_table);
            at = match name.as_str() {
                "NAME" => inner.flat_map(|table| table.values().cloned().collect::<Vec<_>>()).collect(),
                name => inner.filter_map(|table| table.get(name).cloned()).collect(),
            };
        }
        assert!(!at.is_empty(), "config.example.toml does not name {}", path.join("."));
    }
}

#[test]
fn schema_accepts_no_unknown_key_and_names_the_networks() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let output = sealbridge(folder.path(), &["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a schema is JSON");
    assert_eq!(schema["additionalProperties"], false);
    let networks = schema["$defs"]["AccountConfig"]["oneOf"].as_array().expect("a choice of networks");
    let names: Vec<_> = networks.iter().map(|network| &network["properties"]["network"]["const"]).collect();
    assert_eq!(names, ["matrix", "deltachat", "webhook", "loopback"]);
    assert!(networks.iter().all(|network| network["additionalProperties"] == false));
}

#[test]
fn show_takes_out_what_may_be_a_secret_and_shows_defaults() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let text = "[accounts.a]\nnetwork = \"matrix\"\nhomeserver = \"https://me:hunter2@example.org\"\n";
    fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
    for arguments in [&["config", "show"][..], &["--json", "config", "show"]] {
        let output = sealbridge(folder.path(), arguments);
        let shown = String::from_utf8(output.stdout).expect("a config is text");
        assert!(output.status.success() && shown.contains("example.org"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("unreadable_for"), "defaults are shown: {shown}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    }
}

#[test]
fn what_show_prints_is_a_config_again() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("sealbridge.toml"), example()).expect("a temporary folder takes a file");
    let shown = sealbridge(folder.path(), &["config", "show"]).stdout;
    let first = config::load(&sources(&folder, &example(), &[])).expect("it is in order");
    let shown = String::from_utf8(shown).expect("a config is text");
    let again = config::load(&sources(&folder, &shown, &[])).expect("it is in order");
    // What follows from other keys is shown as what it comes to.
    let service = config::Service {
        root_key_file: Some(first.root_key_path()),
        control_socket: Some(first.control_path()),
        ..first.service.clone()
    };
    assert_eq!(again, Config { service, ..first });
}

#[test]
fn show_says_where_everything_lies() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("sealbridge.toml"), MINIMAL).expect("a temporary folder takes a file");
    let shown = sealbridge(folder.path(), &["--json", "config", "show"]).stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).expect("one object");
    let state = folder.path().join("sealbridge-state");
    for (key, path) in [("state", ""), ("root_key_file", "root.key"), ("control_socket", "control.sock")] {
        assert_eq!(shown["service"][key], state.join(path).to_str().expect("text").trim_end_matches('/'), "{key}");
    }
}

#[test]
fn manual_makes_its_folder() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let written = sealbridge(folder.path(), &["man", "--folder", "share/man1"]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    for page in ["sealbridge.1", "sealbridge-links-add.1"] {
        let text = fs::read_to_string(folder.path().join("share/man1").join(page)).expect("the page is there");
        assert!(text.contains("sealbridge"), "{page}");
    }
}

#[test]
fn check_says_in_order_or_exits_with_the_code_for_the_config() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("sealbridge.toml");
    let missing = sealbridge(folder.path(), &["config", "check"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("sealbridge init"));

    fs::write(&file, MINIMAL).expect("a temporary folder takes a file");
    let good = sealbridge(folder.path(), &["--json", "config", "check"]);
    assert_eq!(good.status.code(), Some(0));
    let line: serde_json::Value = serde_json::from_slice(&good.stdout).expect("one object");
    let expected = serde_json::json!({
        "config": "sealbridge.toml", "ok": true, "remarks": [], "accounts": 1, "links": 0, "set_up": false,
    });
    assert_eq!(line, expected);

    fs::write(&file, "[servise]\n").expect("a temporary folder takes a file");
    let bad = sealbridge(folder.path(), &["--json", "config", "check"]);
    assert_eq!(bad.status.code(), Some(3));
    let line: serde_json::Value = serde_json::from_slice(&bad.stdout).expect("one object");
    assert_eq!((&line["error"]["kind"], &line["error"]["exit"]), (&"config".into(), &3.into()));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("sealbridge.toml:1:2"));
}

#[test]
fn check_remarks_on_what_a_link_lets_through_and_no_conversation_of_it_takes() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let remarks = |more: &str| {
        let two = MINIMAL.replace("[accounts.a]", "[accounts.b]");
        let link = "[links.l]\nends = [\"a/!room:example.org\", \"b/!room:example.org\"]";
        let text = format!("{MINIMAL}{two}{link}\n{more}\n");
        fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
        let good = sealbridge(folder.path(), &["--json", "config", "check"]);
        let line: serde_json::Value = serde_json::from_slice(&good.stdout).expect("one object");
        assert_eq!(good.status.code(), Some(0), "{line}");
        line["remarks"].clone()
    };
    assert_eq!(remarks(""), serde_json::json!([]), "the defaults are nobody's decision");
    assert_eq!(remarks("most_bytes = \"20KiB\"\nmost_file = \"2GiB\""), serde_json::json!([]));
    let words = "links.l: `most_bytes` is 1 MiB, and no conversation of it surely takes more than 32 KiB.";
    let files = "links.l: `most_file` is 3 GiB, and no conversation of it surely takes more than 2 GiB.";
    assert_eq!(remarks("most_bytes = \"1MiB\"\nmost_file = \"3GiB\""), serde_json::json!([words, files]));
}

#[test]
fn root_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let text = format!("[service]\nstate = \".\"\n{MINIMAL}");
    fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
    let key = folder.path().join("root.key");
    fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").expect("a temporary folder takes a file");
    let set_mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is our own file");

    set_mode(0o644);
    for command in [&["config", "check"][..], &["run"]] {
        let refused = sealbridge(folder.path(), command);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{words}");
        assert!(words.contains("chmod 600") && words.contains("root.key"), "{words}");
        assert!(!words.contains("AAAA"), "{words}");
    }
    set_mode(0o600);
    assert_eq!(sealbridge(folder.path(), &["config", "check"]).status.code(), Some(0));
}

#[test]
fn root_key_is_never_made_anew_for_a_journal_that_exists() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let text = format!("[service]\nstate = \".\"\n{MINIMAL}");
    fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("it is our own folder");
    fs::write(folder.path().join("journal.db"), "").expect("a temporary folder takes a file");
    for command in [&["init"][..], &["run"], &["config", "check"]] {
        let refused = sealbridge(folder.path(), command);
        assert_eq!(refused.status.code(), Some(3), "{command:?}");
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains("put it back"), "{words}");
        assert!(!folder.path().join("root.key").exists(), "{command:?} made a key");
    }
}
