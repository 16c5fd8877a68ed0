//! The service itself, as its operator runs it: the real binary, set up by `sealbridge init --answers`.

mod binary;
mod journal;
mod plan;
mod terminal;

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

pub use binary::{Binary, Build};
pub(crate) use plan::private;
pub use plan::{AccountPlan, Plan};
pub use terminal::Terminal;

use crate::leash::{Leash, Program};

/// A service that was set up. It dies with this value.
#[derive(Debug)]
pub struct Bridge {
    binary: Binary,
    folder: TempDir,
    leash: Option<Leash>,
    env: Vec<(OsString, OsString)>,
}

/// What a command of the service answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The last line of standard output, as JSON.
    pub fn json(&self) -> Result<Value> {
        let line = self.stdout.lines().rfind(|line| !line.trim().is_empty());
        let line = line.with_context(|| format!("No output; it complained: {}", self.stderr))?;
        serde_json::from_str(line).with_context(|| format!("Not JSON: {line}"))
    }

    /// Fails unless the command succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.code == 0,
            "sealbridge ended with exit code {}\n{}\n{}",
            self.code,
            self.stdout.trim(),
            self.stderr.trim()
        );
        Ok(self)
    }
}

impl Bridge {
    /// Makes the answers file and runs `sealbridge init` with it.
    pub async fn set_up(binary: &Binary, plan: &Plan) -> Result<Self> {
        let bridge = Self::prepare(binary, plan)?;
        bridge.init().await?.ok().context("sealbridge init")?;
        Ok(bridge)
    }

    /// Makes the folder with the answers file, and runs nothing.
    pub fn prepare(binary: &Binary, plan: &Plan) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sealbridge-lab-bridge-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
        plan.write(folder.path())?;
        Ok(Self { binary: binary.clone(), folder, leash: None, env: Vec::new() })
    }

    /// Runs `sealbridge init --answers`.
    pub async fn init(&self) -> Result<Answer> {
        let answers = self.folder.path().join("answers.toml");
        self.cli(&["init", "--answers", &answers.to_string_lossy()]).await
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sealbridge.toml")
    }

    /// Its log, of all its runs.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("output.log")
    }

    /// Its log as text.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Adds a variable to the environment of everything that is run from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self.leash = None;
    }

    /// Takes one away.
    pub fn unset_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
        self.leash = None;
    }

    /// Starts `sealbridge run`, and waits until every account is connected.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn().await?;
        self.wait_connected(Duration::from_secs(60)).await
    }

    /// Starts `sealbridge run`, and waits for nothing.
    pub async fn spawn(&mut self) -> Result<()> {
        if self.leash.is_none() {
            self.leash = Some(Leash::new(&Program {
                command: self.binary.path().into(),
                args: ["--config".into(), self.config().into(), "run".into()].into(),
                env: self.env.clone(),
                dir: Some(self.folder.path().to_owned()),
                log: self.log(),
                group: false,
                remove: None,
            })?);
        }
        self.leash().context("The leash was just made")?.start().await?;
        Ok(())
    }

    fn leash(&self) -> Option<&Leash> {
        self.leash.as_ref()
    }

    /// Waits until `sealbridge status` says that every account is connected.
    pub async fn wait_connected(&self, within: Duration) -> Result<()> {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < within {
            let answer = self.cli(&["status"]).await?;
            if answer.code == 0 {
                let status = answer.json()?;
                let accounts = status["accounts"].as_array().cloned().unwrap_or_default();
                if !accounts.is_empty() && accounts.iter().all(|a| a["connected"] == Value::Bool(true)) {
                    return Ok(());
                }
            }
            last = format!("{} {}", answer.stdout, answer.stderr);
            if !self.is_running() {
                bail!("sealbridge run ended by itself:\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("Not connected after {within:?}: {last}\n{}", self.tail())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.leash().is_some_and(Leash::is_running)
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.leash().and_then(Leash::pid)
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        match self.leash() {
            Some(leash) => leash.stop(Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        match self.leash() {
            Some(leash) => leash.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until it ended by itself, and says with which exit code; negative for a signal.
    pub async fn wait_exit(&self, within: Duration) -> Result<i32> {
        self.leash().context("It was never started")?.wait_exit(within).await
    }

    /// Runs a command of the service, with `--json`.
    pub async fn cli(&self, args: &[&str]) -> Result<Answer> {
        self.cli_typed(args, "").await
    }

    /// The same for a command that asks, with what it will read.
    pub async fn cli_typed(&self, args: &[&str], typed: &str) -> Result<Answer> {
        let mut child = tokio::process::Command::new(self.binary.path())
            .arg("--config")
            .arg(self.config())
            .arg("--json")
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            // What kills the service at a certain place is not meant for its commands.
            .env_remove("FAILPOINT_KILL_AT")
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("Run sealbridge")?;
        let mut stdin = child.stdin.take().context("It has no stdin")?;
        // One that asks nothing may have ended.
        let _ = stdin.write_all(typed.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.context("Wait for sealbridge")?;
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Links conversations, given as `account/conversation`.
    pub async fn link(&self, name: &str, ends: &[&str]) -> Result<()> {
        let args = [&["links", "add", name], ends].concat();
        self.cli(&args).await?.ok().context("sealbridge links add")?;
        Ok(())
    }

    /// Waits until the service knows a conversation, given as `account/conversation`, and that it is encrypted. People
    /// may see it join a moment before it has looked.
    pub async fn wait_conversation(&self, at: &str, within: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < within {
            let answer = self.cli(&["conversations", "list"]).await?.ok()?;
            let known = answer.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut known = known.flat_map(|value| match value {
                Value::Array(all) => all,
                Value::Object(mut one) => match one.remove("conversations") {
                    Some(Value::Array(all)) => all,
                    _ => vec![Value::Object(one)],
                },
                _ => Vec::new(),
            });
            if known.any(|one| one["at"] == at && one["encryption"] == "pinned") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{at} is not known after {within:?}\n{}", self.tail())
    }

    /// `sealbridge status`, as JSON.
    pub async fn status(&self) -> Result<Value> {
        self.cli(&["status"]).await?.ok()?.json()
    }
}
