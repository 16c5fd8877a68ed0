//! Debian's packages, installed once if they are not there.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

const PACKAGES: [&str; 4] = ["postfix", "dovecot-core", "dovecot-imapd", "dovecot-lmtpd"];
const BINARIES: [&str; 4] =
    ["/usr/lib/postfix/sbin/master", "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp"];

/// Installs what is missing. Blocks, for a minute at worst.
pub(super) fn ready() -> Result<()> {
    // A failure is kept too, or every test of a process would try for itself.
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    match READY.get_or_init(|| install().map_err(|error| format!("{error:#}"))) {
        Ok(()) => Ok(()),
        Err(error) => bail!("Install the mail server: {error}"),
    }
}

fn is_there() -> bool {
    BINARIES.iter().all(|binary| Path::new(binary).exists())
}

fn install() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    ensure!(root, "Postfix and Dovecot need root, who starts them and gives each its own user");
    if is_there() {
        return Ok(());
    }
    ensure!(
        Path::new("/etc/debian_version").exists(),
        "install Postfix and Dovecot with IMAP and LMTP; see {BINARIES:?}"
    );
    let lock = File::create(paths::lab_dir()?.join("apt.lock")).context("Open the lock file")?;
    lock.lock().context("Wait for another installation")?;
    if is_there() {
        return Ok(());
    }
    run("apt-get", &["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    run("apt-get", &[&install[..], &PACKAGES[..]].concat())?;
    ensure!(is_there(), "Debian's packages have other binaries than {BINARIES:?}");
    Ok(())
}

/// Runs to the end, and fails with what the command said last.
pub(super) fn run(command: &str, arguments: &[&str]) -> Result<()> {
    output(command, arguments).map(drop)
}

fn output(command: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(command)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Keeps a package from starting a server of its own.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("Run {command}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let said = said + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    bail!("{command} failed ({}):\n{}", output.status, lines[lines.len().saturating_sub(8)..].join("\n"));
}

/// A user's number.
pub(super) fn id(what: &str, user: &str) -> Result<u32> {
    output("id", &[what, user])?.trim().parse().with_context(|| format!("Read the number of {user}"))
}
