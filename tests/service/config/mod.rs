//! The config: what it takes, what it refuses and where, and what it never shows.

mod commands;

use std::{
    fs,
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
    let key_of = |text: &str| load(text, &[]).map(|config| config.operator.admins["ann"].key.clone());
    let known = key_of(&whole).expect("a whole one is in order");
    let grouped = whole.replace(
        "2AhcAUBfkoiYo8RYHqUyvVQWzlYyoDrMnCyX8rtEajw",
        "2Ahc AUBf koiY o8RY HqUy vVQW zlYy oDrM nCyX 8rtE ajw",
    );
    assert!(known.is_some() && key_of(&grouped).is_ok_and(|key| key == known), "as `audience` shows it");
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
            ("/notices/conversations/work~1!alerts:example.org", "quiet_zone"),
            ("/sources/prometheus", "secret_files"),
            ("/sources/prometheus", "name"),
            ("/sources/prometheus", "template"),
            ("/sources/prometheus", "api"),
            ("/sources/prometheus", "expect_every"),
            ("/sources/prometheus", "expect_alert"),
            ("/sources/grafana", "signature_header"),
            ("/sources/grafana", "timestamp_header"),
            ("/sources/prometheus", "burst"),
            ("/sources/prometheus", "fold_for"),
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
    let grafana = |lines: &str| source(lines).replace("raw", "grafana");
    check(&grafana("signature_header = \"X Mine\"\n"), &[], &[("7:1", "a header's name has letters")]);
    check(&source("timestamp_header = \"X-Time\"\n"), &[], &[("7:1", "for Grafana")]);
    check(&source("api = \"http://127.0.0.1:9093\"\n"), &[], &[("7:1", "for the format \"alertmanager\" alone")]);
    for (line, words) in [
        ("gather_for = \"5m\"", "say with `burst`"),
        ("quiet_below = \"warning\"", "say with `quiet`"),
        ("mention_from = \"info\"", "say with `mention`"),
        ("escalate_from = \"warning\"", "say with `escalate_after`"),
        ("name = \" \"", "leave it out"),
        ("expect_every = \"5m\"\nexpect_alert = \"\"", "leave it out"),
    ] {
        let at = if line.contains('\n') { "8:1" } else { "7:1" };
        check(&source(&format!("{line}\n")), &[], &[(at, words)]);
    }
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
fn address_at_which_nobody_could_be_heard_is_told() {
    let notices = |lines: &str| format!("{MINIMAL}[notices]\n{lines}");
    check(&notices("listen = \"localhost:9480\"\n"), &[], &[("5:1", "an address and a port, as 127.0.0.1:9480")]);
    check(&notices("listen = \"127.0.0.1:0\"\n"), &[], &[("5:1", "nobody would know the port")]);
    check(&notices("listen_mail = \"127.0.0.1:0\"\n"), &[], &[("5:1", "nobody would know the port")]);
    let same = "listen = \"127.0.0.1:9480\"\nlisten_mail = \"127.0.0.1:9480\"\n";
    check(&notices(same), &[], &[("6:1", "this is the address of `listen`")]);
    for wrong in ["0", "1023", "257MiB", "1TiB"] {
        check(&notices(&format!("most_body = \"{wrong}\"\n")), &[], &[("5:1", "from 1KiB to 256MiB")]);
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
