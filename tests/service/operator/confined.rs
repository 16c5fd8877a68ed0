//! What the running service can't do to the machine, nor others of its user to it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::Stdio,
};

use sealbridge_lab::skip;

use super::bench::{Bench, wait_until};

/// Somebody who is not root.
const NOBODY: u32 = 65_534;

#[test]
fn service_writes_nothing_through_a_link_that_leads_out_of_its_folder() {
    let bench = Bench::set_up();
    let running = bench.start(&[]);
    assert_eq!(running.stop(), 0);
    let log = bench.read("log");
    if log.contains("not at all") {
        return skip::skip("this kernel has no Landlock");
    }
    assert!(log.contains("Confined by Landlock"), "{log}");

    fs::create_dir(bench.path("elsewhere")).expect("a folder can be made");
    fs::remove_dir_all(bench.path("sealbridge-state/spool")).expect("it is ours");
    std::os::unix::fs::symlink("../elsewhere", bench.path("sealbridge-state/spool")).expect("a link can be made");
    let said = bench.run(&["run"]);
    assert!(said.exit == 3 && said.err.contains("spool") && said.err.contains("ermission denied"), "{said:?}");

    // The control: it is Landlock that stops it.
    let config = bench.read("sealbridge.toml");
    assert!(config.contains("[service]\n"), "{config}");
    bench.write("sealbridge.toml", &config.replace("[service]\n", "[service]\nconfine = false\n"));
    let running = bench.start(&[]);
    assert!(bench.read("log").contains("not confined"));
    assert_eq!(running.stop(), 0);
}

#[test]
fn nobody_of_the_same_user_can_look_into_the_memory_of_the_service() {
    let bench = Bench::new();
    let binary = bench.path("sealbridge");
    fs::copy(env!("CARGO_BIN_EXE_sealbridge"), &binary).expect("the binary was built for this");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path("."), open).expect("it is our own");
    let mut command = std::process::Command::new(&binary);
    // It asks and waits, and has done what each command does first.
    command.args(["--config", "/nowhere", "init"]).env_clear().stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().expect("it can be started");
    // What the kernel tells of a process belongs to root once nobody else may look into it.
    let owner = || fs::metadata(format!("/proc/{}/maps", child.id())).map(|meta| meta.uid());
    wait_until(|| owner().is_ok_and(|owner| owner == 0));
    drop(child.stdin.take());
    let _ = child.wait();
}
