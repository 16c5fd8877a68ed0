//! The commands, against the built binary: what they print, and with which code they end.

use sealbridge_contract::AccountName;
use sealbridge_loopback::DiskPeer;
use serde_json::json;

use super::bench::{ANSWERS, Bench, mode, wait_until};

#[test]
fn without_a_service_commands_say_so_and_how_to_start_it() {
    let bench = Bench::set_up();
    let status = bench.json(&["status"]);
    assert_eq!((status.exit, status.line()), (5, json!({ "running": false })));
    for command in [
        &["conversations", "list"][..],
        &["verify", "a", "ann"],
        &["links", "add", "l", "a/room", "b/room"],
        &["links", "replace", "l", "a/room", "a/other"],
    ] {
        let said = bench.json(command);
        assert_eq!((said.exit, &said.line()["error"]["kind"]), (5, &"unreachable".into()), "{command:?}");
        assert!(said.err.contains("sealbridge run"), "{}", said.err);
    }
    let doctor = bench.json(&["doctor"]);
    let states: Vec<_> = doctor.lines().iter().map(|line| (line["topic"].clone(), line["state"].clone())).collect();
    let expected = [("state folder", "ok"), ("root key", "ok"), ("disk", "ok"), ("service", "bad")];
    let expected: Vec<_> = expected.iter().map(|(topic, state)| (json!(topic), json!(state))).collect();
    assert_eq!((doctor.exit, states), (5, expected));
}

#[test]
fn without_a_service_the_journal_alone_answers() {
    let bench = Bench::set_up();
    for command in [&["dead-letters", "list"][..], &["links", "list"]] {
        let said = bench.json(command);
        assert_eq!((said.exit, said.out.as_str()), (0, ""), "{command:?}: {}", said.err);
    }
    for (command, nothing) in [("retry", json!({ "retried": 0, "content_gone": 0 })), ("drop", json!({ "dropped": 0 }))]
    {
        let all = ["dead-letters", command, "--all"];
        assert_eq!(bench.json(&all).line(), nothing);
        assert_eq!(bench.run(&all).out, "There are no dead letters.\n");
    }
    let said = bench.run(&["dead-letters", "show", "7"]);
    assert_eq!(said.exit, 2);
    assert!(said.err.contains("there is no dead letter 7"), "{}", said.err);

    let fresh = Bench::new();
    fresh.write("sealbridge.toml", "[accounts.a]\nnetwork = \"matrix\"\n");
    let said = fresh.run(&["dead-letters", "list"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.err.contains("sealbridge init") && !fresh.path("sealbridge-state").exists(), "{}", said.err);
}

#[test]
fn links_live_through_their_whole_life_with_stable_fields() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let made = bench.json(&["links", "add", "lounge", "a/room", "b/room"]);
    assert_eq!(made.exit, 0, "{made:?}");
    let mut line = made.line();
    for end in line["ends"].as_array_mut().expect("a list") {
        assert!(end["since"].as_i64().expect("a moment") > 1_600_000_000_000);
        end["since"] = json!(0);
    }
    let expected = json!({
        "name": "lounge",
        "ends": [
            { "at": "a/room", "since": 0, "name": "room", "encryption": "pinned", "operator_run": false },
            { "at": "b/room", "since": 0, "name": "room", "encryption": "pinned", "operator_run": false },
        ],
        "paused": null,
        "fixed": false,
    });
    assert_eq!(line, expected);

    let again = bench.json(&["links", "add", "lounge", "a/room", "b/room"]);
    assert_eq!((again.exit, &again.line()["error"]["kind"]), (2, &"usage".into()));
    let nowhere = bench.json(&["links", "add", "l", "a/nowhere", "b/room"]);
    assert_eq!((nowhere.exit, &nowhere.line()["error"]["kind"]), (6, &"refused".into()));
    let hides = bench.run(&["links", "add", "lou\u{200b}nge", "a/room", "b/room"]);
    assert!(hides.exit == 2 && hides.err.contains("U+200B is in it"), "{hides:?}");
    let twice = bench.run(&["links", "add", "l", "b/room", "a/room"]);
    assert!(twice.exit == 6 && twice.err.contains("`lounge`"), "{twice:?}");
    let admin = bench.json(&["status"]).line()["admin_room"].as_str().expect("there is one").to_owned();
    let leak = bench.run(&["links", "add", "l", &admin, "b/other"]);
    assert!(leak.exit == 6 && leak.err.contains("admin room"), "{leak:?}");
    let stranger = bench.run(&["links", "add", "l", "aa/room", "b/room"]);
    assert!(stranger.exit == 2 && stranger.err.contains("did you mean `a`?"), "{stranger:?}");

    assert_eq!(bench.json(&["links", "pause", "lounge"]).line()["paused"], "paused by the operator");
    let resumed = bench.json(&["links", "resume", "lounge"]).line();
    assert_eq!((&resumed["paused"], &resumed["released"]), (&json!(null), &json!(0)));
    let replaced = bench.json(&["links", "replace", "lounge", "a/room", "a/other"]).line();
    assert_eq!(replaced["ends"][0]["at"], "a/other");
    let misspelt = bench.run(&["links", "remove", "lunge"]);
    assert!(misspelt.exit == 2 && misspelt.err.contains("did you mean `lounge`?"), "{misspelt:?}");
    assert_eq!(bench.json(&["links", "remove", "lounge"]).line(), json!({ "name": "lounge", "removed": true }));
    assert_eq!(bench.json(&["links", "list"]).out, "");
    assert_eq!(running.stop(), 0);

    let audit = bench.read("sealbridge-state/audit.jsonl");
    let lines: Vec<serde_json::Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let begun = |line: &&serde_json::Value| line["outcome"] == "begun";
    assert_eq!(
        lines.iter().filter(begun).count(),
        lines.iter().filter(|line| !begun(line)).count() - 1,
        "`init` is the first"
    );
    let ended = lines.iter().filter(|line| !begun(line));
    let told: Vec<_> = ended.map(|line| (line["action"].as_str(), line["outcome"].as_str())).collect();
    let expected = [
        (Some("init"), None),
        (Some("add_link"), None),
        (Some("add_link"), Some("usage")),
        (Some("add_link"), Some("refused")),
        (Some("add_link"), Some("usage")),
        (Some("add_link"), Some("refused")),
        (Some("add_link"), Some("refused")),
        (Some("add_link"), Some("usage")),
        (Some("pause_link"), None),
        (Some("resume_link"), None),
        (Some("replace_end"), None),
        (Some("remove_link"), Some("usage")),
        (Some("remove_link"), None),
    ];
    assert_eq!(told, expected);
    assert_eq!(mode(&bench.path("sealbridge-state/audit.jsonl")), 0o600);
}

#[test]
fn config_that_others_can_write_or_replace_is_believed_by_no_command() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    const OTHERS: u32 = 65_534;
    let bench = Bench::set_up();
    let (config, folder) = (bench.path("sealbridge.toml"), bench.path("."));
    let set_mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let refuses = |words: &str| {
        for arguments in [&["run"][..], &["links", "list"], &["config", "check"], &["doctor"]] {
            let said = bench.json(arguments);
            assert!(said.exit == 3 && format!("{said:?}").contains(words), "{words} {arguments:?}: {said:?}");
        }
    };
    let believes = || assert_eq!(bench.json(&["links", "list"]).exit, 0);
    set_mode(&config, 0o666);
    refuses("everybody can write it");
    set_mode(&config, 0o644);
    believes();
    set_mode(&folder, 0o777);
    refuses("everybody can write its folder");
    set_mode(&folder, 0o1777);
    believes();
    set_mode(&folder, 0o700);
    // Another name for it is as good as where that leads.
    let elsewhere = bench.path("elsewhere");
    std::fs::create_dir(&elsewhere).expect("it can be made");
    std::fs::rename(&config, elsewhere.join("real.toml")).expect("it is ours");
    std::os::unix::fs::symlink(elsewhere.join("real.toml"), &config).expect("it can be made");
    believes();
    set_mode(&elsewhere, 0o777);
    refuses("everybody can write its folder");
    set_mode(&elsewhere, 0o700);
    // Only root gives files away. Who else believes what is a matter of `config::load::owner`'s own tests.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    chown(&config, None, Some(OTHERS)).expect("root gives files away");
    set_mode(&config, 0o664);
    refuses("chmod g-w");
    set_mode(&config, 0o644);
    believes();
    chown(&config, Some(OTHERS), None).expect("root gives files away");
    refuses("belongs to another user");
    chown(&config, Some(0), Some(0)).expect("root takes files back");
    chown(&elsewhere, Some(0), Some(OTHERS)).expect("root gives files away");
    set_mode(&elsewhere, 0o770);
    refuses("a group of users can write its folder");
    chown(&elsewhere, Some(OTHERS), Some(0)).expect("root gives files away");
    refuses("its folder belongs to another user");
}

#[test]
fn change_that_is_cut_short_by_a_kill_is_written_down_as_begun() {
    let mut bench = Bench::set_up();
    bench.set_env("FAILPOINT_KILL_AT", "audit::before-end=1");
    let running = bench.start(&[]);
    bench.set_env("FAILPOINT_KILL_AT", "nowhere=1");
    let cut = bench.json(&["links", "add", "lounge", "a/room", "b/room"]);
    assert_ne!(cut.exit, 0, "{cut:?}");
    drop(running);
    let audit = bench.read("sealbridge-state/audit.jsonl");
    let last: serde_json::Value = serde_json::from_str(audit.lines().last().expect("there is one")).expect("JSON");
    assert_eq!((&last["action"], &last["outcome"]), (&"add_link".into(), &"begun".into()), "{audit}");
    assert_eq!(last["with"]["name"], "lounge", "{audit}");
    assert!(bench.json(&["links", "list"]).out.contains("lounge"), "it was made");
}

#[test]
fn memory_of_the_service_is_never_written_to_a_core_dump() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the kernel tells it");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_eq!(running.stop(), 0);
}

#[test]
fn conversations_and_status_have_stable_fields() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let conversation = bench.json(&["conversations", "list", "--account", "b"]).line();
    let expected = json!({
        "at": "b/room", "account": "b", "id": "room", "name": "room", "encryption": "pinned",
        "operator_run": false, "members": 2, "links": [],
    });
    assert_eq!(conversation, expected);

    let status = bench.json(&["status"]).line();
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let expected = [
        "accounts",
        "admin_room",
        "journal",
        "journal_most_bytes",
        "lanes",
        "links",
        "links_paused",
        "running",
        "sources",
        "started_at",
        "trouble",
        "version",
    ];
    assert_eq!(keys(&status), expected);
    let expected = ["connected", "identity", "last_heard", "name", "network", "stopped", "trouble"];
    assert_eq!(keys(&status["accounts"][0]), expected);
    let expected = [
        "dead",
        "gaps",
        "held",
        "oldest",
        "payload_bytes",
        "quarantined",
        "queued",
        "settled",
        "unreadable",
        "unrouted",
    ];
    assert_eq!(keys(&status["journal"]), expected);
    assert_eq!(bench.run(&["doctor"]).exit, 0);
    assert_eq!(running.stop(), 0);
}

#[test]
fn comparison_with_nobody_says_what_it_waits_for_and_then_why_it_ends() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let said = bench.json(&["verify", "a", "ann"]);
    let lines = said.lines();
    assert_eq!(lines[0]["step"], "progress", "{said:?}");
    assert_eq!((said.exit, &lines[1]["error"]["kind"]), (5, &"unreachable".into()), "{said:?}");
    let stranger = bench.json(&["verify", "c", "ann"]);
    assert_eq!((stranger.exit, &stranger.line()["error"]["kind"]), (2, &"usage".into()));
    assert_eq!(running.stop(), 0);
}

/// Does something to what was set up.
type Spoil<'a> = &'a dyn Fn(&Bench);

#[test]
fn journal_that_does_not_open_ends_with_the_code_of_what_is_wrong_with_it() {
    let journal = "sealbridge-state/journal.db";
    let open = |bench: &Bench| rusqlite::Connection::open(bench.path(journal)).expect("it is a database");
    let newer = |bench: &Bench| open(bench).pragma_update(None, "user_version", 999).expect("it can be written");
    let changed = |bench: &Bench| open(bench).execute_batch("CREATE TABLE mine (x)").expect("it can be written");
    let junk = |bench: &Bench| bench.write(journal, &"x".repeat(8192));
    let folder = |bench: &Bench| {
        std::fs::remove_file(bench.path(journal)).expect("it is ours");
        std::fs::create_dir(bench.path(journal)).expect("its place is free");
    };
    let key = |bench: &Bench| {
        bench.write("sealbridge-state/root.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    };
    let cases: [(Spoil<'_>, &str); 5] = [
        (&newer, "newer Sealbridge"),
        (&changed, "damaged"),
        (&junk, "damaged"),
        (&folder, "can't be opened"),
        (&key, "root key"),
    ];
    for (spoil, words) in cases {
        let bench = Bench::set_up();
        spoil(&bench);
        for command in [&["run"][..], &["links", "list"], &["init"]] {
            let said = bench.json(command);
            let error = said.lines().last().expect("it says why")["error"].clone();
            assert_eq!(
                (said.exit, &error["kind"], &error["exit"]),
                (3, &"config".into(), &3.into()),
                "{words}: {said:?}"
            );
            assert!(error["words"].as_str().is_some_and(|said| said.contains(words)), "{words}: {said:?}");
        }
    }
}

#[test]
fn link_of_the_config_that_leads_to_the_admin_room_is_refused_before_anything_runs() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let admin = bench.json(&["status"]).line()["admin_room"].as_str().expect("there is one").to_owned();
    assert_eq!(running.stop(), 0);
    let link = format!("\n[links.leak]\nends = [{admin:?}, \"b/room\"]\n");
    bench.write("sealbridge.toml", &(bench.read("sealbridge.toml") + link.as_str()));
    let refused = bench.run(&["run"]);
    assert!(
        refused.exit == 6 && refused.err.contains("admin room") && refused.err.contains("links.leak"),
        "{refused:?}"
    );
}

#[test]
fn message_that_never_becomes_a_delivery_is_told_in_the_admin_room_and_counted() {
    let bench = Bench::new();
    let link = "[links.l]\nends = [\"a/room\", \"b/room\"]\nmost_bytes = \"1KiB\"\n";
    bench.write("answers.toml", &format!("{ANSWERS}{link}"));
    assert_eq!(bench.run(&["init", "--answers", "answers.toml"]).exit, 0);
    let running = bench.start(&[]);
    let status = || bench.json(&["status"]).line();
    let admin = status()["admin_room"].as_str().expect("there is one").to_owned();
    let account = AccountName::parse("a").expect("it is a name");
    let mut ann = DiskPeer::open(&bench.path("network"), &account).expect("it is a folder");
    for _ in 0..2 {
        ann.say("room", "@ann", &"x".repeat(3000)).expect("there is room");
    }
    wait_until(|| status()["journal"]["dead"] == 2);
    let told = || {
        let heard = ann.heard().expect("it can be read");
        let told = heard.into_iter().filter(|line| admin.ends_with(line.conversation.as_str()));
        told.map(|line| line.words).filter(|words| words.contains("did not cross")).collect::<Vec<_>>()
    };
    wait_until(|| !told().is_empty());
    let words = told();
    assert!(words.len() == 1 && words[0].starts_with("a/room: "), "{words:?}");
    assert!(words[0].contains("`sealbridge dead-letters list`") && !words[0].contains("xxx"), "{words:?}");
    assert_eq!(running.stop(), 0);
}

/// An answers file for one more account.
const MORE: &str = "[accounts.c]\nnetwork = \"loopback\"\ndirectory = \"network\"\ni_know_this_is_not_encrypted_on_disk = true\n\
                    conversations = [\"room\"]\n";

#[test]
fn account_is_added_beside_what_was_written_and_listed() {
    let bench = Bench::set_up();
    let before = format!("# Mine, all mine.\n{}# The end.\n", bench.read("sealbridge.toml"));
    bench.write("sealbridge.toml", &before);
    bench.write("more.toml", MORE);
    let added = bench.json(&["account", "add", "--answers", "more.toml"]);
    let last = added.lines().last().cloned().expect("it says how it ended");
    assert_eq!((added.exit, &last["step"], &last["account"]), (0, &"done".into(), &"c".into()), "{added:?}");
    let after = bench.read("sealbridge.toml");
    for line in before.lines() {
        assert!(after.contains(line), "{line} is gone from {after}");
    }
    let again = bench.json(&["account", "add", "--answers", "more.toml"]);
    assert_eq!((again.exit, &again.line()["error"]["kind"]), (2, &"usage".into()), "{again:?}");
    let names = |said: super::bench::Said| said.lines().iter().map(|line| line["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(bench.json(&["account", "list"])), ["a", "b", "c"], "also while nothing runs");

    let running = bench.start(&[]);
    assert!(bench.run(&["account", "list"]).out.contains("account c (loopback, "));
    bench.write("more.toml", &MORE.replace("accounts.c", "accounts.d"));
    let beside = bench.json(&["account", "add", "--answers", "more.toml"]);
    assert_eq!(beside.exit, 75, "a running service is not changed under its feet: {beside:?}");
    let invitation = bench.json(&["conversations", "invite", "c/room"]);
    assert_eq!((invitation.exit, &invitation.line()["error"]["kind"]), (6, &"refused".into()));
    assert_eq!(running.stop(), 0);
    assert_eq!(bench.read("sealbridge.toml"), after);
}

#[test]
fn account_that_does_not_log_in_leaves_the_config_as_it_was() {
    use std::{io::Write as _, process::Stdio};
    let bench = Bench::set_up();
    let before = bench.read("sealbridge.toml");
    let cases = [
        // Name, network at the second try, address at the second try, groups: then its engine is not to be found.
        (&["account", "add"][..], "family\nsmoke signals\ndeltachat\n@nobody\nbridge@mail.example\nFamily, Work\n", 1),
        (&["account", "add", "family", "--network", "deltachat"], "bridge@mail.example\n\n", 1),
        (&["account", "add", "family", "--network", "smoke"], "", 2),
    ];
    for (arguments, typed, exit) in cases {
        let mut command = bench.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("it is a pipe").write_all(typed.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {words}");
        assert!(exit == 2 || words.contains("is as it was"), "{words}");
        assert_eq!(bench.read("sealbridge.toml"), before);
    }
}

#[test]
fn usage_errors_end_with_two_and_help_with_none() {
    let bench = Bench::new();
    for (command, exit) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["links", "add", "--help"], 0),
        (&["lniks"], 2),
        (&["links", "add", "only-a-name"], 2),
        (&["links", "add", "l", "no-slash", "b/room"], 2),
        (&["verify", "NotAName"], 2),
        (&["dead-letters", "retry"], 2),
        (&["dead-letters", "retry", "1", "--all"], 2),
        (&["run", "--log-format", "xml"], 2),
    ] {
        assert_eq!(bench.run(command).exit, exit, "{command:?}");
    }
    for command in [&["lniks"][..], &["dead-letters", "retry"], &["run", "--log-format", "xml"]] {
        let said = bench.json(command);
        let error = said.line()["error"].clone();
        assert_eq!((&error["kind"], &error["exit"]), (&"usage".into(), &2.into()), "{command:?}: {said:?}");
        assert!(error["words"].as_str().is_some_and(|words| words.contains("--help")), "{command:?}: {said:?}");
        assert!(said.err.contains("error: "), "{command:?}: a person is told, too: {said:?}");
    }
    let help = bench.run(&["--help"]).out;
    for code in ["   0  ", "   1  ", "   2  ", "   3  ", "   4  ", "   5  ", "   6  ", "  75  "] {
        assert!(help.contains(code), "the help does not explain {code}");
    }
}

#[test]
fn completions_and_manual_come_from_the_commands_themselves() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&["completions", shell]);
        assert!(script.exit == 0 && script.out.contains("dead-letters"), "{shell}");
    }
    let page = bench.run(&["man"]);
    assert!(page.exit == 0 && page.out.starts_with(".ie") && page.out.contains("sealbridge"), "{}", page.out);
    std::fs::create_dir(bench.path("man")).expect("a temporary folder takes a folder");
    assert_eq!(bench.run(&["man", "--folder", "man"]).exit, 0);
    assert!(bench.read("man/sealbridge-links-add.1").contains("ENDS"));
}

/// What people are told to run exists: every `sealbridge …` in our sources is a command line that parses, once the
/// words in capitals are filled in.
#[test]
fn every_command_that_a_message_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = ["src", "bridges", "docs"].map(|folder| root.join(folder)).into();
    let mut named = std::collections::BTreeSet::new();
    let mut texts = vec![root.join("README.md"), root.join("SECURITY.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is a folder of ours").flatten() {
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() && !path.ends_with("tests") => folders.push(path),
                Some("rs" | "md") => texts.push(path),
                _ => {}
            }
        }
    }
    for path in texts {
        let text = std::fs::read_to_string(&path).expect("it is text");
        let text = text.replace("\\\n", " ");
        let commands = text.split("`sealbridge ").skip(1).filter_map(|rest| rest.split_once('`'));
        named.extend(commands.map(|(command, _)| command.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    assert!(named.len() > 10, "the search finds them: {named:?}");
    for command in named {
        // Of `links list|add` and the like each is a command; what is only a placeholder has no place on a command line.
        let words: Vec<_> = command.split(' ').filter(|word| !word.contains(['{', '[', '…'])).collect();
        let choices = words.iter().map(|word| word.split("\\|").flat_map(|word| word.split('|')).collect::<Vec<_>>());
        let lines = choices.fold(vec![vec![]], |lines: Vec<Vec<&str>>, choices| {
            let longer = lines.iter().flat_map(|line| choices.iter().map(|word| [line.as_slice(), &[word]].concat()));
            longer.collect()
        });
        for line in lines {
            let upper = |word: &&&str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let command: Vec<_> = line.iter().take_while(|word| !upper(word)).copied().collect();
            let mut parser = sealbridge::operator::cli::command();
            let mut at = &mut parser;
            for word in command.iter().take_while(|word| !word.starts_with('-')) {
                // What stands after a command that has none below it is its arguments.
                if !at.has_subcommands() {
                    break;
                }
                let below = at.find_subcommand_mut(word);
                at = below.unwrap_or_else(|| panic!("`sealbridge {}` is no command", line.join(" ")));
            }
        }
    }
}

#[test]
fn change_that_can_not_be_written_down_is_not_made() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let audit = bench.path("sealbridge-state/audit.jsonl");
    std::fs::remove_file(&audit).expect("it began with `init`");
    std::fs::create_dir(&audit).expect("it is made");
    let refused = bench.json(&["links", "add", "lounge", "a/room", "b/room"]);
    assert_eq!((refused.exit, &refused.line()["error"]["kind"]), (75, &"temporary".into()), "{refused:?}");
    assert!(refused.line().to_string().contains("audit.jsonl"), "{refused:?}");
    assert_eq!(bench.json(&["links", "list"]).out, "", "what only looks is done");
    assert_eq!(running.stop(), 0);
    let key = bench.read("sealbridge-state/root.key");
    assert_eq!(bench.json(&["key", "rotate"]).exit, 75);
    assert_eq!(bench.read("sealbridge-state/root.key"), key);
    std::fs::remove_dir(&audit).expect("it is empty");
    let running = bench.start(&[]);
    assert_eq!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit, 0);
    assert_eq!(running.stop(), 0);
}
