//! What the commands about the config show, check and refuse.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

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

#[test]
fn check_tells_what_the_service_would_not_start_with_and_what_only_another_user_could_see() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let check = |lines: &str| {
        let source = "[sources.job]\nformat = \"hookshot\"\nto = [\"a/!r:example.org\"]\n";
        let text = format!("{MINIMAL}{source}{lines}");
        fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
        let checked = sealbridge(folder.path(), &["config", "check"]);
        let said = [checked.stdout, checked.stderr].concat();
        (checked.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let write = |name: &str, text: &str, mode: u32| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("a temporary folder takes a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    write("good", "correct horse", 0o600);
    write("open", "correct horse", 0o644);
    write("empty", "", 0o600);
    write("bad.toml", "plain = \"{{\"\n", 0o644);
    write("good.toml", "plain = \"{{ text }}\"\n", 0o644);
    let again = "[sources.more]\nformat = \"hookshot\"\nto = [\"a/!r:example.org\"]\nsecret_files = [\"good\"]\n";
    for (lines, words) in [
        ("secret_files = [\"missing\"]\n".to_owned(), "can't be read"),
        ("secret_files = [\"open\"]\n".to_owned(), "chmod 600"),
        ("secret_files = [\"empty\"]\n".to_owned(), "is empty"),
        ("template = \"missing.toml\"\n".to_owned(), "missing.toml"),
        ("template = \"bad.toml\"\n".to_owned(), "bad.toml"),
        (format!("secret_files = [\"good\"]\n{again}"), "the same secret"),
    ] {
        let (code, said) = check(&lines);
        assert!(code == Some(3) && said.contains("[sources.job]") && said.contains(words), "{lines} {said}");
        assert!(!said.contains("correct horse") && !said.contains("in order"), "{said}");
    }
    let (code, said) = check("secret_files = [\"good\"]\ntemplate = \"good.toml\"\n");
    assert!(code == Some(0) && !said.contains("looked at"), "{said}");
    // Nobody else's, as far as this user can see: to root it belongs to another, and to others it can't be read.
    let file = folder.path().join("good");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(65_534), None).expect("root gives files away");
    } else {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("it is ours");
    }
    let (code, said) = check("secret_files = [\"good\"]\n");
    assert!(code == Some(0) && said.contains("good could not be looked at"), "{said}");
}

#[test]
fn send_of_nothing_is_refused_however_nothing_is_written() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("sealbridge.toml"), MINIMAL).expect("a temporary folder takes a file");
    for nothing in [&["-m", ""][..], &["-m", " ", "-m", "\n"], &[""], &["-"]] {
        let sent = sealbridge(folder.path(), &[&["send", "-r", "a/!r:example.org"], nothing].concat());
        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
        assert!(sent.status.code() == Some(2) && said.contains("nothing to say"), "{nothing:?} {said}");
    }
}

#[test]
fn secret_of_an_endpoint_that_others_can_read_is_not_in_order() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("ops");
    fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a temporary folder takes a file");
    let section = "[accounts.hooks]\nnetwork = \"webhook\"\n[accounts.hooks.endpoints.ops]\nurl = \"http://127.0.0.1:9\"\n\
                   operator_run = true\n";
    let text = format!("{MINIMAL}{section}secret_file = {file:?}\n");
    fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
    for (mode, code, part) in [(0o644, 3, "chmod 600"), (0o600, 0, "in order")] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
        let checked = sealbridge(folder.path(), &["config", "check"]);
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.code() == Some(code) && said.contains(part), "{mode:o} {said}");
    }
    fs::remove_file(&file).expect("it is there");
    assert_eq!(sealbridge(folder.path(), &["config", "check"]).status.code(), Some(3));
}

#[test]
fn help_names_the_formats_of_sources() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let help = sealbridge(folder.path(), &["sources", "add", "--help"]);
    let said = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(["alertmanager", "standard-webhooks", "uptime-kuma"].iter().all(|name| said.contains(name)), "{said}");
}

#[test]
fn send_as_other_programs_have_it_is_understood_or_refused_with_how_to_say_it() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("sealbridge.toml"), MINIMAL).expect("a temporary folder takes a file");
    fs::write(folder.path().join("one"), "1").expect("a temporary folder takes a file");
    let one = folder.path().join("one").display().to_string();
    let ready = "nothing is set up yet";
    for (args, code, part) in [
        (&["-m", "a", "b"][..], 3, ready),
        (&["-m", "a", "-f", &one, &one], 3, ready),
        (&["-z", "-n", "-m", "**a**"], 3, ready),
        (&["-f", &one, "--", "two rooms: a!b"], 3, ready),
        (&["!s:example.org", "-m", "a"], 2, "once for each"),
        (&["a/!s", "-m", "a"], 2, "once for each"),
        (&["#s:example.org"], 2, "once for each"),
        (&["-m", "a", "-f", "-"], 2, "into a file first"),
        (&["-f", &one, "words"], 2, "before -f"),
        (&["-m", "a", "-p", "x"], 2, "unexpected argument"),
    ] {
        let sent = sealbridge(folder.path(), &[&["send", "-r", "a/!r:example.org"], args].concat());
        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
        assert!(sent.status.code() == Some(code) && said.contains(part), "{args:?} {said}");
    }
}

#[test]
fn operator_is_told_where_a_sender_finds_a_source_whose_path_is_its_secret() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("sealbridge-state")).expect("it is not there yet");
    let text = format!("{MINIMAL}[notices]\nlisten = \"127.0.0.1:9480\"\n");
    fs::write(folder.path().join("sealbridge.toml"), text).expect("a temporary folder takes a file");
    let say = |arguments: &[&str]| {
        let done = sealbridge(folder.path(), &[&["sources"], arguments].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("words")
    };
    let added = say(&["add", "hook", "--format", "hookshot", "--to", "a/!r:example.org"]);
    let rotated = say(&["rotate", "hook"]);
    for said in [&added, &rotated] {
        assert!(said.contains("http://127.0.0.1:9480/hook, or to http://127.0.0.1:9480/webhook/SECRET"), "{said}");
        let secret = said.split("shown this once:").nth(1).and_then(|rest| rest.split_whitespace().next());
        assert_eq!(said.matches(secret.expect("a secret")).count(), 1, "{said}");
    }
    let plain = say(&["add", "job", "--format", "raw", "--to", "a/!r:example.org"]);
    assert!(!plain.contains(", or to "), "{plain}");
}
