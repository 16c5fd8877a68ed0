//! `sealbridge init`: from nothing to a bot with an admin room, resumable, and never over what exists.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};

use super::bench::{ANSWERS, Bench, mode};

#[test]
fn answers_make_a_bot_with_an_admin_room_and_private_files() {
    let bench = Bench::new();
    bench.write("answers.toml", ANSWERS);
    let said = bench.json(&["init", "--answers", "answers.toml"]);
    assert_eq!(said.exit, 0, "{said:?}");
    let lines = said.lines();
    let last = lines.last().expect("it says how it ended");
    assert_eq!(last["step"], "done");
    assert_eq!(last["config"], "sealbridge.toml");
    let room = last["admin_room"].as_str().expect("there is one").to_owned();
    assert!(room.starts_with("a/"), "{room}");
    assert!(lines.iter().all(|line| line["step"].is_string()), "every line is a step: {lines:?}");

    assert_eq!(mode(&bench.path("sealbridge-state")), 0o700);
    assert_eq!(mode(&bench.path("sealbridge-state/root.key")), 0o600);
    assert!(bench.read("sealbridge.toml").contains("[accounts.b]"));

    let running = bench.start(&[]);
    assert_eq!(bench.json(&["status"]).line()["admin_room"], room);
    assert_eq!(running.stop(), 0);
}

#[test]
fn root_key_given_as_a_credential_is_used_and_none_is_written() {
    let bench = Bench::new();
    bench.write("answers.toml", ANSWERS);
    fs::create_dir(bench.path("credentials")).expect("a temporary folder takes a folder");
    bench.write("credentials/sealbridge-root-key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    let run = |arguments: &[&str], mode| {
        let credential = bench.path("credentials/sealbridge-root-key");
        fs::set_permissions(credential, fs::Permissions::from_mode(mode)).expect("it is ours");
        let mut command = bench.command(arguments);
        let output = command.env("CREDENTIALS_DIRECTORY", bench.path("credentials")).output();
        output.expect("the binary was built for this").status.code()
    };
    assert_eq!(run(&["init", "--answers", "answers.toml"], 0o444), Some(3), "others can read it");
    assert_eq!(run(&["init", "--answers", "answers.toml"], 0o440), Some(0));
    assert!(!bench.path("sealbridge-state/root.key").exists());
    assert_eq!(run(&["links", "list"], 0o400), Some(0));
    // Without it the journal stays closed.
    assert_eq!(bench.run(&["links", "list"]).exit, 3);
}

#[test]
fn second_init_changes_nothing() {
    let bench = Bench::set_up();
    let before = (bench.read("sealbridge.toml"), bench.read("sealbridge-state/root.key"));
    let said = bench.json(&["init", "--answers", "answers.toml"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert!(said.out.contains("going on with it") && said.out.contains("is there already"), "{}", said.out);
    assert_eq!((bench.read("sealbridge.toml"), bench.read("sealbridge-state/root.key")), before);
}

#[test]
fn interrupted_init_goes_on_where_it_was() {
    let whole = Bench::set_up();
    // Interrupted after each file: the config alone, the config with the key, and all but the admin room.
    let config = whole.read("sealbridge.toml");
    let stages: [&[&str]; 2] = [&["sealbridge.toml"], &["sealbridge.toml", "sealbridge-state/root.key"]];
    for files in stages {
        let bench = Bench::new();
        bench.write("answers.toml", ANSWERS);
        fs::create_dir(bench.path("sealbridge-state")).expect("a temporary folder takes a folder");
        fs::set_permissions(bench.path("sealbridge-state"), fs::Permissions::from_mode(0o700)).expect("it is ours");
        for file in files {
            bench.write(file, &whole.read(file));
            fs::set_permissions(bench.path(file), fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
        let said = bench.json(&["init", "--answers", "answers.toml"]);
        assert_eq!(said.exit, 0, "with {files:?}: {said:?}");
        assert!(said.lines().last().expect("it says how it ended")["admin_room"].is_string());
        assert_eq!(bench.read("sealbridge.toml"), config);
    }

    let bench = Bench::new();
    bench.write("answers.toml", &ANSWERS.replace("[admin]\naccount = \"a\"\nperson = \"operator\"\n", ""));
    let said = bench.json(&["init", "--answers", "answers.toml"]);
    assert_eq!((said.exit, &said.lines().last().expect("a line")["admin_room"]), (0, &serde_json::Value::Null));
    let admin = "\n[admin]\naccount = \"a\"\nperson = \"operator\"\n";
    bench.write("sealbridge.toml", &(bench.read("sealbridge.toml") + admin));
    // Without answers: everything that is still to be done is in the config.
    let said = bench.json(&["init"]);
    assert!(said.lines().last().expect("a line")["admin_room"].is_string(), "{said:?}");
}

#[test]
fn answers_about_another_account_do_not_touch_what_exists() {
    let bench = Bench::set_up();
    let before = bench.read("sealbridge.toml");
    bench.write("answers.toml", &ANSWERS.replace("accounts.b", "accounts.c"));
    let said = bench.run(&["init", "--answers", "answers.toml"]);
    assert_eq!(said.exit, 6, "{said:?}");
    assert!(said.err.contains("not written over") && said.err.contains("`c`"), "{}", said.err);
    assert_eq!(bench.read("sealbridge.toml"), before);
}

#[test]
fn links_in_the_answers_become_fixed_links() {
    let bench = Bench::new();
    bench.write("answers.toml", &format!("{ANSWERS}[links.lounge]\nends = [\"a/room\", \"b/room\"]\n"));
    assert_eq!(bench.run(&["init", "--answers", "answers.toml"]).exit, 0);
    let link = bench.json(&["links", "list"]).line();
    assert_eq!((&link["name"], &link["fixed"]), (&"lounge".into(), &true.into()));
}

#[test]
fn misspelt_answer_is_told_with_its_place_and_nothing_is_written() {
    let bench = Bench::new();
    bench.write("answers.toml", &ANSWERS.replace("person =", "persn ="));
    let said = bench.run(&["init", "--answers", "answers.toml"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.err.contains("answers.toml:4:1: unknown key `persn`; did you mean `person`?"), "{}", said.err);
    assert!(!bench.path("sealbridge.toml").exists() && !bench.path("sealbridge-state").exists());
}

const MATRIX: &str =
    "[accounts.a]\nnetwork = \"matrix\"\nhomeserver = \"http://127.0.0.1:9\"\nuser = \"@a:localhost\"\n";

#[test]
fn password_in_a_file_that_others_can_read_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    let inline = format!("{MATRIX}password = \"hunter2\"\n");
    let by_file = format!("{MATRIX}password_file = \"password\"\n");
    bench.write("password", "hunter2\n");
    for (text, secret) in [(inline, "answers.toml"), (by_file, "password")] {
        bench.write("answers.toml", &text);
        let said = bench.json(&["init", "--answers", "answers.toml"]);
        assert_eq!((said.exit, &said.line()["error"]["kind"]), (3, &"config".into()), "{said:?}");
        assert!(said.err.contains("chmod 600") && said.err.contains(secret), "{}", said.err);
        assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"));
        assert!(!bench.path("sealbridge.toml").exists());
    }
}

#[test]
fn password_never_reaches_the_config() {
    let bench = Bench::new();
    bench.write("answers.toml", &format!("{MATRIX}password = \"hunter2\"\n"));
    fs::set_permissions(bench.path("answers.toml"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    // Nothing listens there, so the login fails; the config is written by then.
    let said = bench.json(&["init", "--answers", "answers.toml", "-vvv"]);
    assert_eq!(said.exit, 5, "{said:?}");
    assert_eq!(said.lines().last().expect("a line")["error"]["kind"], "unreachable");
    let config = bench.read("sealbridge.toml");
    assert!(config.contains("127.0.0.1:9") && !config.contains("hunter2"), "{config}");
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"));
}

/// Lets a person type, and gives the config that came of it.
fn typed(typed: &str) -> (Bench, String) {
    let bench = Bench::new();
    let mut command = bench.command(&["--json", "init"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built for this");
    child.stdin.take().expect("it is a pipe").write_all(typed.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    // The login asks, and nobody answers any more; or what it needs is not there.
    assert!([1, 2, 5].contains(&output.status.code().expect("it was not killed")), "{output:?}");
    let config = bench.read("sealbridge.toml");
    (bench, config)
}

#[test]
fn person_is_asked_for_what_a_config_needs() {
    // Name, network, user (at the second try), homeserver, no other account, operator, and the proposed inviter.
    let (_bench, config) = typed("home\n\nbot\n@bot:example.org\nhttp://127.0.0.1:9\nno\n@me:example.org\n\n");
    let parts = ["[accounts.home]", "@bot:example.org", "http://127.0.0.1:9", "person = \"@me:", "from = [\"@me:"];
    for part in parts {
        assert!(config.contains(part), "{part} is not in {config}");
    }
    assert!(config.lines().filter(|line| !line.is_empty()).count() <= 14, "{config}");
}

#[test]
fn person_is_asked_for_accounts_of_any_network_and_who_they_are_where_they_can_be_reached() {
    // The first account can't write to somebody who has not written to it, so the operator is asked for on the second.
    let family = "family\ndeltachat\nrelay.example\nFamily, Work\nyes\n";
    let home = "home\nmatrix\n@bot:example.org\nhttp://127.0.0.1:9\nno\n@me:elsewhere.org\n\n";
    let (_bench, config) = typed(&format!("{family}{home}"));
    let config: toml::Table = toml::from_str(&config).expect("it is TOML");
    let account = &config["accounts"]["family"];
    assert!(account["address"].as_str().is_some_and(|address| address.ends_with("@relay.example")), "{account}");
    assert_eq!(account["groups"].as_array().map(Vec::len), Some(2), "{account}");
    assert_eq!(config["admin"]["account"].as_str(), Some("home"));
    assert_eq!(config["accounts"]["home"]["invites"]["from"][0].as_str(), Some("example.org"));
}
