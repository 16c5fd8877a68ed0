//! Runs a server that can't outlive us.
//!
//! Between us and the server sits a small Python process that holds the other end of a pipe. When
//! the pipe closes, because we dropped it or because we were killed, it kills the server. Signals
//! go through it too, so a process id that was used again is never hit.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;

use crate::venv;

/// What to run, and where.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub command: OsString,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub dir: Option<PathBuf>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// The program is several processes, and a kill takes them all.
    pub group: bool,
    /// Deleted with everything in it once the program is gone and the leash is dropped.
    pub remove: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    starts: u32,
    pid: u32,
    running: bool,
    /// Negative for a signal, as Python has it.
    exit_code: i32,
    /// The program could not be started, or the keeper itself is gone.
    broken: bool,
}

/// One program, which may be started again after it ended.
#[derive(Debug)]
pub struct Leash {
    keeper_pid: u32,
    stdin: Mutex<ChildStdin>,
    status: watch::Receiver<Status>,
}

impl Leash {
    /// Prepares the program; [`Leash::start`] runs it.
    pub fn new(program: &Program) -> Result<Self> {
        let mut keeper = Command::new("python3");
        keeper.arg("-I").arg(venv::script("leash.py")?).arg("--log").arg(&program.log);
        if let Some(dir) = &program.dir {
            keeper.arg("--cwd").arg(dir);
        }
        if program.group {
            keeper.arg("--group");
        }
        if let Some(dir) = &program.remove {
            keeper.arg("--remove").arg(dir);
        }
        keeper
            .arg("--")
            .arg(&program.command)
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for us; what we started is stopped in order.
            .process_group(0);
        let mut keeper = keeper.spawn().context("Start python3 for the leash")?;
        let stdin = keeper.stdin.take().context("The leash has no stdin")?;
        let stdout = keeper.stdout.take().context("The leash has no stdout")?;
        let keeper_pid = keeper.id();
        let (report, status) = watch::channel(Status::default());
        // A thread and not a task, so that a leash can be shared by tests with a runtime each.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                report.send_modify(|status| status.learn(&line));
            }
            report.send_modify(|status| {
                status.broken = true;
                status.running = false;
            });
            keeper.wait()
        });
        Ok(Self { keeper_pid, stdin: Mutex::new(stdin), status })
    }

    /// Starts the program, unless it runs; answers its process id.
    pub async fn start(&self) -> Result<u32> {
        let before = self.status();
        if before.running {
            return Ok(before.pid);
        }
        self.say("start")?;
        let now = self
            .wait_until(Duration::from_secs(10), |now| now.starts > before.starts)
            .await
            .context("Start the program")?;
        Ok(now.pid)
    }

    /// Asks the program to end (SIGTERM), and kills it when it has not after `grace`.
    pub async fn stop(&self, grace: Duration) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.say("term")?;
        if self.wait_exit(grace).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// SIGKILL, and waits until the program is gone.
    pub async fn kill(&self) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.say("kill")?;
        self.wait_exit(Duration::from_secs(10)).await.map(|_| ())
    }

    /// Waits until the program has ended; answers its exit code.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<i32> {
        let ended = self.wait_until(deadline, |now| !now.running).await?;
        Ok(ended.exit_code)
    }

    pub fn is_running(&self) -> bool {
        self.status().running
    }

    /// The running program's process id.
    pub fn pid(&self) -> Option<u32> {
        let status = self.status();
        status.running.then_some(status.pid)
    }

    /// The process that holds the leash.
    pub fn keeper_pid(&self) -> u32 {
        self.keeper_pid
    }

    fn status(&self) -> Status {
        *self.status.borrow()
    }

    async fn wait_until(&self, deadline: Duration, reached: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut status = self.status.clone();
        let wait = status.wait_for(|now| now.broken || reached(now));
        let now = *tokio::time::timeout(deadline, wait)
            .await
            .context("The program did not get there in time")?
            .context("The leash is gone")?;
        ensure!(!now.broken || reached(&now), "The leash is gone");
        Ok(now)
    }

    fn say(&self, word: &str) -> Result<()> {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{word}").context("The leash is gone")
    }
}

impl Status {
    fn learn(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("started", pid)) => {
                if let Ok(pid) = pid.parse() {
                    self.starts += 1;
                    self.pid = pid;
                    self.running = true;
                }
            }
            Some(("exited", code)) => {
                self.running = false;
                self.exit_code = code.parse().unwrap_or(-1);
            }
            Some(("failed", _)) => self.broken = true,
            _ => {}
        }
    }
}
