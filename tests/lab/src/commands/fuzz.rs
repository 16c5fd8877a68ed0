//! `cargo lab fuzz`: what parses what others wrote is handed inputs that nobody wrote, for a while.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    sync::Mutex,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use sealbridge_lab::paths;
use serde::Deserialize;

use super::say;

/// What a target's line starts with that tells what it did, and the variable that gives it its time: as in `tests/fuzz`.
const MARK: &str = "FUZZED: ";
const TIME: &str = "BOLERO_RANDOM_TEST_TIME_MS";
/// By which variable the usual test run gives each target the same inputs every time.
pub(super) const SEED: &str = "BOLERO_RANDOM_SEED";

#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How many run at once. By default as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only targets with this in their names.
    name: Option<String>,
}

/// A target: a test of a crate's own.
struct Target {
    binary: PathBuf,
    folder: PathBuf,
    test: String,
}

/// What a target did.
struct Done {
    /// Its line. Without one it ended early.
    line: Option<(String, u64, u64)>,
    test: String,
    /// What it printed, if it found something.
    finding: Option<String>,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<ExitCode> {
        say("== building");
        let mut targets = targets()?;
        targets.retain(|target| self.name.as_ref().is_none_or(|name| target.test.contains(name.as_str())));
        ensure!(!targets.is_empty(), "there is no such target");
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        say(&format!("== {} targets, {} seconds each, {jobs} at once", targets.len(), self.seconds));
        let (queue, done) = (Mutex::new(targets.into_iter()), Mutex::new(Vec::new()));
        let work = || -> Result<()> {
            loop {
                let Some(target) = queue.lock().expect("nobody panics with it").next() else { return Ok(()) };
                let one = target.run(self.seconds)?;
                say(&one.to_string());
                done.lock().expect("nobody panics with it").push(one);
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker only runs and counts"))
        })?;
        Ok(report(&done.into_inner().expect("nobody panics with it")))
    }
}

fn report(done: &[Done]) -> ExitCode {
    for one in done {
        if let Some(finding) = &one.finding {
            say(&format!("\n== a finding of {}\n{finding}", one.test));
        }
    }
    let findings = done.iter().filter(|one| one.finding.is_some()).count();
    let runs: u64 = done.iter().filter_map(|one| one.line.as_ref()).map(|(_, runs, _)| runs).sum();
    say(&format!("{} targets, {runs} runs, {findings} findings", done.len()));
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the tests of each crate's own and looks for targets among them.
fn targets() -> Result<Vec<Target>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["test", "--workspace", "--features", "sealbridge/failpoints", "--lib", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics").current_dir(paths::workspace_root());
    let built = output(build.stderr(Stdio::inherit()), "Build the targets")?;
    let mut targets = Vec::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(Message { executable: Some(binary), manifest_path: Some(manifest) }) = serde_json::from_str(line) else {
            continue;
        };
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let list = output(Command::new(&binary).args(["--list", "--format", "terse", "fuzz::"]), "List the targets")?;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        targets.extend(tests.map(|test| Target {
            binary: binary.clone(),
            folder: folder.clone(),
            test: test.to_owned(),
        }));
    }
    Ok(targets)
}

fn output(command: &mut Command, what: &'static str) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().context(what)?;
    ensure!(output.status.success(), "{what}: {}", output.status);
    Ok(output)
}

impl Target {
    fn run(self, seconds: u64) -> Result<Done> {
        let mut run = Command::new(&self.binary);
        run.args(["--exact", &self.test, "--nocapture"]).current_dir(&self.folder).stdin(Stdio::null());
        run.env(TIME, (seconds * 1000).to_string()).env("RUST_BACKTRACE", "0");
        let output = run.output().with_context(|| format!("Run {}", self.test))?;
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let line = printed.lines().find_map(counted);
        let finding = (!output.status.success() || line.is_none()).then_some(printed);
        Ok(Done { line, test: self.test, finding })
    }
}

/// Reads the line of a target. The test harness may have begun it with words of its own.
fn counted(line: &str) -> Option<(String, u64, u64)> {
    let mut words = line.split_once(MARK)?.1.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.line, &self.finding) {
            (Some((name, runs, seconds)), None) => {
                write!(f, "{name:<18}{runs:>10} runs{seconds:>6} seconds, 0 findings")
            }
            _ => write!(f, "{:<40} 1 finding", self.test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_targets_write_them() {
        assert_eq!((MARK, TIME, SEED), (sealbridge_fuzz::MARK, sealbridge_fuzz::TIME, sealbridge_fuzz::SEED));
        let line = format!("test fuzz::x ... {MARK}html 15124 5");
        assert_eq!(counted(&line), Some(("html".to_owned(), 15124, 5)));
        assert_eq!(counted("test fuzz::x ... ok"), None);
    }
}
