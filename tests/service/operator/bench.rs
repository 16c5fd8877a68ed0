//! A folder with a config and a network on disk, in which the built binary is run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Answers for two accounts on a network that is a folder.
pub(super) const ANSWERS: &str = r#"
[admin]
account = "a"
person = "operator"
[accounts.a]
network = "loopback"
directory = "network"
i_know_this_is_not_encrypted_on_disk = true
conversations = ["room", "other"]
[accounts.b]
network = "loopback"
directory = "network"
i_know_this_is_not_encrypted_on_disk = true
conversations = ["room"]
"#;

/// A folder in which an operator works.
pub(super) struct Bench {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) exit: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// Its lines of JSON.
    pub(super) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// Its only line of JSON.
    pub(super) fn line(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        // The path of a socket is short, and a temporary folder's may not be.
        Self {
            folder: TempDir::with_prefix_in("sb", "/tmp").expect("a temporary folder can be made"),
            variables: Vec::new(),
        }
    }

    /// From now on every command has this in its environment, which is empty else.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// With the two accounts set up.
    pub(super) fn set_up() -> Self {
        let bench = Self::new();
        bench.write("answers.toml", ANSWERS);
        let said = bench.run(&["init", "--answers", "answers.toml"]);
        assert_eq!(said.exit, 0, "{said:?}");
        bench
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a temporary folder takes a file");
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealbridge"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end; one that does not end is killed, and that is a failure.
    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        let said = || tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let (out, err) = (said(), said());
        let file = |said: &tempfile::NamedTempFile| said.reopen().expect("it is there");
        let mut command = self.command(arguments);
        let child = command.stdout(file(&out)).stderr(file(&err)).spawn().expect("the binary was built for this");
        let mut running = Running { child };
        let mut ended = None;
        wait_until(|| {
            ended = running.child.try_wait().expect("it is our own child");
            ended.is_some()
        });
        let text = |said: tempfile::NamedTempFile| fs::read_to_string(said.path()).expect("it says text");
        Said {
            exit: ended.and_then(|status| status.code()).expect("it was not killed"),
            out: text(out),
            err: text(err),
        }
    }

    /// With `--json`.
    pub(super) fn json(&self, arguments: &[&str]) -> Said {
        self.run(&[&["--json"], arguments].concat())
    }

    /// Starts the service, and waits until it answers. What it logs goes to `log`.
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        let log = fs::File::create(self.path("log")).expect("a temporary folder takes a file");
        let mut command = self.command(&[arguments, &["run"]].concat());
        let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("the binary was built for this");
        let running = Running { child };
        wait_until(|| {
            let said = self.json(&["status"]);
            let accounts =
                said.lines().first().and_then(|line| line["accounts"].as_array().cloned()).unwrap_or_default();
            said.exit == 0 && accounts.iter().all(|account| account["connected"] == true)
        });
        running
    }
}

/// The service, running. Killed when this is dropped.
pub(super) struct Running {
    child: Child,
}

impl Running {
    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and gives its exit code.
    pub(super) fn stop(mut self) -> i32 {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("it has an id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it is our own child").code().expect("it ends by itself")
    }

    /// Kills it, as a crash does.
    pub(super) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our own child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come true in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}
