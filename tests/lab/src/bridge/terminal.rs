//! A command of the service at a terminal, as a person has it before them.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use super::Bridge;
use crate::venv::Venv;

/// A command that was begun. It is told that its terminal is gone when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    shown: watch::Receiver<Vec<u8>>,
}

impl Bridge {
    /// Begins a command of the service at a terminal of 80 columns.
    pub async fn terminal(&self, args: &[&str]) -> Result<Terminal> {
        let program = tokio::task::spawn_blocking(|| Venv::ready()?.command("terminal.py")).await??;
        let mut child = Command::from(program)
            .arg(self.binary.path())
            .arg("--config")
            .arg(self.config())
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env_remove("FAILPOINT_KILL_AT")
            .env_remove("NO_COLOR")
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("Run sealbridge at a terminal")?;
        let keyboard = child.stdin.take().context("It has a keyboard")?;
        let mut screen = child.stdout.take().context("It has a screen")?;
        let (shows, shown) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece).await {
                shows.send_modify(|all: &mut Vec<u8>| all.extend_from_slice(&piece[..read]));
            }
        });
        Ok(Terminal { child, keyboard, shown })
    }
}

impl Terminal {
    /// All that was shown so far, with the codes that steer a terminal.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.borrow()).into_owned()
    }

    /// Waits until something was shown, and gives all of it.
    pub async fn wait_for(&mut self, words: &str, within: Duration) -> Result<String> {
        let is_there = |shown: &Vec<u8>| String::from_utf8_lossy(shown).contains(words);
        let waited = tokio::time::timeout(within, self.shown.wait_for(is_there)).await;
        let is_shown = matches!(waited, Ok(Ok(_)));
        drop(waited);
        anyhow::ensure!(is_shown, "{words:?} is not shown:\n{}", self.shown());
        Ok(self.shown())
    }

    /// Types it. The end of a line is part of it; `\u{4}` at its beginning is the end of what is typed, `\u{3}` stops.
    pub async fn types(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes()).await.context("Type")?;
        self.keyboard.flush().await.context("Type")
    }

    /// Waits until the command has ended; gives its exit code, and all that was shown.
    pub async fn ends(mut self, within: Duration) -> Result<(i32, String)> {
        let ended = tokio::time::timeout(within, async {
            let status = self.child.wait().await?;
            // Until the screen is closed, too.
            while self.shown.changed().await.is_ok() {}
            anyhow::Ok(status)
        });
        let status = ended.await.with_context(|| format!("It does not end:\n{}", self.shown()))??;
        Ok((status.code().unwrap_or(-1), self.shown()))
    }
}
