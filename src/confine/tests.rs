//! A process of its own tries what is forbidden: what is confined stays so, and this one has more tests to run.

use std::{
    fs,
    io::{self, ErrorKind},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    process::Command,
};

use super::*;

/// Names the folder to the process that is to be confined.
const FOLDER: &str = "SEALBRIDGE_TEST_CONFINED";
const NAME: &str = "confine::tests::confined_process_reaches_its_state_and_its_engine_and_nothing_else";

fn is_denied<T>(done: io::Result<T>, what: &str) {
    let error = done.err().unwrap_or_else(|| panic!("{what} is not denied"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

/// A program that makes a file: `engine FILE`.
fn engine(at: &Path) -> PathBuf {
    let script = at.join("engine");
    fs::write(&script, "#!/bin/sh\nset -e\n: > \"$1\"\n").expect("a file can be written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is our own file");
    script
}

fn runs(program: &Path, argument: &Path) -> io::Result<bool> {
    Command::new(program).arg(argument).status().map(|status| status.success())
}

fn try_everything(folder: &Path) {
    let place = |name: &str| folder.join(name);
    let (state, elsewhere) = (place("state"), place("elsewhere"));
    let reach = Reach {
        writes: vec![state.clone()],
        sockets: vec![place("socket")],
        reads: vec![place("readable"), "/etc".into(), "/usr".into(), "/lib".into(), "/lib64".into(), "/dev".into()],
        runs: programs::of(&place("engine")),
        ports: Vec::new(),
    };
    // The control: all of it can be done before.
    fs::write(elsewhere.join("before"), "x").expect("nothing is confined yet");
    assert!(TcpListener::bind("127.0.0.1:0").is_ok() && runs(Path::new("/bin/true"), &state).is_ok());
    if enforce(&reach).expect("the kernel takes it") == Level::NotAtAll {
        sealbridge_lab::skip::skip("this kernel has no Landlock");
        return;
    }

    fs::create_dir(state.join("inner")).expect("the state is its own");
    fs::write(state.join("a"), "x").expect("the state is its own");
    fs::rename(state.join("a"), state.join("inner/a")).expect("the state is its own");
    fs::remove_file(state.join("inner/a")).expect("the state is its own");
    UnixListener::bind(place("socket/control.new")).expect("it may make its socket");
    fs::rename(place("socket/control.new"), place("socket/control.sock")).expect("it may name its socket");
    assert_eq!(fs::read_to_string(place("readable/file")).expect("it may read this"), "x");
    assert!(runs(&place("engine"), &state.join("made")).expect("the engine runs") && state.join("made").exists());

    is_denied(fs::write(elsewhere.join("x"), "x"), "to write elsewhere");
    is_denied(fs::write(state.join("leads-elsewhere/x"), "x"), "to write through a link");
    is_denied(fs::write(place("readable/file"), "y"), "to write what it reads");
    is_denied(fs::write(place("socket/x"), "x"), "to write beside its socket");
    is_denied(fs::remove_file(elsewhere.join("before")), "to remove what is elsewhere");
    is_denied(fs::read(elsewhere.join("before")), "to read elsewhere");
    is_denied(Command::new("/bin/true").status(), "to run something else");
    is_denied(TcpListener::bind("127.0.0.1:0"), "to listen");
    // What it runs is held to the same.
    assert!(!runs(&place("engine"), &elsewhere.join("made")).expect("the engine runs"), "the engine writes elsewhere");
    assert!(!elsewhere.join("made").exists());
}

#[test]
fn confined_process_reaches_its_state_and_its_engine_and_nothing_else() {
    if let Some(folder) = env::var_os(FOLDER) {
        return try_everything(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for name in ["state", "elsewhere", "readable", "socket"] {
        fs::create_dir(folder.path().join(name)).expect("a folder can be made");
    }
    fs::write(folder.path().join("readable/file"), "x").expect("a file can be written");
    std::os::unix::fs::symlink("../elsewhere", folder.path().join("state/leads-elsewhere"))
        .expect("a link can be made");
    engine(folder.path());
    let this = env::current_exe().expect("it runs");
    let status = Command::new(this).args(["--exact", NAME, "--nocapture"]).env(FOLDER, folder.path()).status();
    assert!(status.expect("a test can be run").success());
}

#[test]
fn files_that_an_account_reads_are_within_reach_and_others_are_not() {
    let text = "[accounts.hooks]\nnetwork = \"webhook\"\n[accounts.hooks.endpoints.ops]\noperator_run = true\n\
                url = \"https://hooks.example.org/\"\nsecret_file = \"/srv/ops.secret\"\nca_file = \"/srv/ca.pem\"\n";
    let config = crate::config::load_text(Path::new("/test/config.toml"), text).expect("the config is sound");
    let reach = reach(&config);
    for file in ["/srv/ops.secret", "/srv/ca.pem"] {
        assert!(reach.reads.iter().any(|path| path == Path::new(file)), "{file}");
    }
    assert!(!reach.reads.iter().any(|path| path == Path::new("/srv")));
    assert!(!reach.writes.iter().any(|path| path.starts_with("/srv")));
}
