//! An endpoint for outgoing webhooks that verifies with Standard Webhooks' own library, and `age`, of another make than
//! the bridge's.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    debian, http,
    leash::{Leash, Program},
    senders::Senders,
    venv,
};

/// How long it may take to come up.
const SOON: Duration = Duration::from_secs(20);

/// A program that takes what is posted to it, and can be away for a while.
#[derive(Debug)]
pub struct Receiver {
    leash: Leash,
    log: PathBuf,
    /// Its port on loopback.
    pub port: u16,
}

/// A request that it got.
#[derive(Debug)]
pub struct Posted {
    /// Where it went.
    pub path: String,
    /// What it called itself.
    pub id: String,
    /// Whether its signature is good.
    pub good: bool,
    /// What was posted; nothing if the signature is bad.
    pub document: Value,
    /// What came over the wire, whole.
    pub wire: Vec<u8>,
}

impl Receiver {
    /// Runs it, with a log in this folder. It verifies by the secret in this file.
    pub async fn start(folder: &Path, secret: &Path) -> Result<Self> {
        let senders = tokio::task::spawn_blocking(Senders::ready).await??;
        let (log, port) = (folder.join("receiver.log"), http::free_port()?);
        let program = Program {
            command: senders.python().into(),
            args: vec![venv::script("receiver.py")?.into(), port.to_string().into(), secret.into()],
            log: log.clone(),
            ..Program::default()
        };
        let receiver = Self { leash: Leash::new(&program)?, log, port };
        receiver.come_back().await?;
        Ok(receiver)
    }

    /// Ends it in the middle of whatever it does.
    pub async fn go_away(&self) -> Result<()> {
        self.leash.kill().await
    }

    /// Runs it again.
    pub async fn come_back(&self) -> Result<()> {
        let ready = |log: &Path| fs::read_to_string(log).unwrap_or_default().lines().filter(|l| *l == "ready").count();
        let before = ready(&self.log);
        self.leash.start().await?;
        let begun = tokio::time::Instant::now();
        while ready(&self.log) == before {
            ensure!(begun.elapsed() < SOON, "{}", fs::read_to_string(&self.log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// What it got so far, first what came first.
    pub fn posted(&self) -> Vec<Posted> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter_map(|line| posted(&serde_json::from_str(line).ok()?)).collect()
    }
}

/// Installs what is missing of both. Blocks, for a minute at worst.
///
/// # Errors
/// They can't be had here.
pub fn ready() -> Result<()> {
    Senders::ready()?;
    debian::ready(&["age"], &["/usr/bin/age", "/usr/bin/age-keygen"])
}

fn posted(line: &Value) -> Option<Posted> {
    Some(Posted {
        path: line["path"].as_str()?.to_owned(),
        id: line["id"].as_str()?.to_owned(),
        good: line["good"].as_bool()?,
        document: line["document"].clone(),
        wire: STANDARD.decode(line["wire"].as_str()?).ok()?,
    })
}

/// A key of `age`, as its own command makes it: Debian's, which is written in Go.
#[derive(Debug)]
pub struct AgeKey {
    file: PathBuf,
    /// Its public half.
    pub public: String,
}

impl AgeKey {
    /// Makes one, in this file.
    pub fn make(file: PathBuf) -> Result<Self> {
        debian::run("/usr/bin/age-keygen", &["-o", &file.to_string_lossy()])?;
        let public = debian::output("/usr/bin/age-keygen", &["-y", &file.to_string_lossy()])?;
        let public = public.trim().to_owned();
        Ok(Self { file, public })
    }

    /// Opens what was encrypted for it.
    pub fn open(&self, sealed: &str) -> Result<Vec<u8>> {
        let mut age = Command::new("/usr/bin/age")
            .arg("--decrypt")
            .arg("--identity")
            .arg(&self.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("Run age")?;
        let mut stdin = age.stdin.take().context("It has a standard input")?;
        let sealed = sealed.to_owned();
        let writing = std::thread::spawn(move || stdin.write_all(sealed.as_bytes()));
        let output = age.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        writing.join().ok().context("It is written")??;
        Ok(output.stdout)
    }
}
