//! The socket on which commands talk to the service, and the lock that keeps a second service out.

use std::{os::unix::process::CommandExt as _, path::Path, process::Stdio};

use super::bench::{Bench, mode, wait_until};

#[test]
fn second_service_is_kept_out_and_a_killed_one_is_followed() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    assert_eq!(mode(&bench.path("sealbridge-state/control.sock")), 0o600);
    for command in [&["run"][..], &["init"]] {
        let second = bench.run(command);
        assert_eq!(second.exit, 75, "{command:?}: {second:?}");
        assert!(second.err.contains("stop it first"), "{}", second.err);
    }
    running.kill();
    assert!(bench.path("sealbridge-state/control.sock").exists(), "a killed service leaves its socket");
    assert_eq!(bench.run(&["status"]).exit, 5, "nobody answers on it");
    let next = bench.start(&[]);
    assert_eq!(next.stop(), 0);
    assert!(!bench.path("sealbridge-state/control.sock").exists(), "a service that stops takes its socket with it");
}

#[test]
fn socket_path_that_is_too_long_is_told_with_the_key_that_mends_it() {
    let bench = Bench::set_up();
    let long = "x".repeat(120);
    let said = bench
        .command(&["run"])
        .env("SEALBRIDGE_SERVICE__CONTROL_SOCKET", &long)
        .output()
        .expect("the binary was built for this");
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(3), "{words}");
    assert!(words.contains("service.control_socket") && words.contains("107"), "{words}");
}

#[test]
fn what_is_not_a_socket_is_not_overwritten() {
    let bench = Bench::set_up();
    bench.write("sealbridge-state/control.sock", "precious");
    let said = bench.run(&["run"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert_eq!(bench.read("sealbridge-state/control.sock"), "precious");
}

#[test]
fn another_user_is_refused_by_the_socket_itself() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else. What the service says to another user is tested beside it.
        return;
    }
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    let open = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is our own");
    };
    open(&bench.path("."), 0o755);
    open(&bench.path("sealbridge-state"), 0o755);
    let binary = bench.path("sealbridge");
    std::fs::copy(env!("CARGO_BIN_EXE_sealbridge"), &binary).expect("the binary was built for this");
    let mut command = std::process::Command::new(&binary);
    let said =
        command.args(["--json", "status"]).current_dir(bench.path(".")).env_clear().uid(65_534).gid(65_534).output();
    let said = said.expect("root can start a program as another user");
    let words = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(6), "{words}");
    assert!(words.contains("another user"), "{words}");
    assert_eq!(running.stop(), 0);
}

#[test]
fn doctor_finds_a_second_service_that_has_the_journal_and_another_socket() {
    let bench = Bench::set_up();
    let mut elsewhere = bench.command(&["run"]);
    elsewhere.env("SEALBRIDGE_SERVICE__CONTROL_SOCKET", bench.path("elsewhere.sock"));
    let mut running = elsewhere.stderr(Stdio::null()).spawn().expect("the binary was built for this");
    wait_until(|| bench.path("elsewhere.sock").exists());
    let said = bench.json(&["doctor"]);
    let found = said.lines().into_iter().find(|line| line["topic"] == "journal");
    let words = found.as_ref().and_then(|line| line["words"].as_str()).unwrap_or_default();
    assert!(said.exit != 0 && words.contains("another Sealbridge has this journal open"), "{said:?}");
    running.kill().expect("it runs");
    running.wait().expect("it is our own child");
    let said = bench.json(&["doctor"]);
    assert!(said.lines().into_iter().all(|line| line["topic"] != "journal"), "{said:?}");
}
