//! Debian's packages, installed where they are missing.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// Sees to it that all of these programs are there. Blocks, for a minute at worst.
///
/// # Errors
/// They are not there, and this is no Debian, or not root, or Debian does not give them out.
pub fn ready(packages: &[&str], programs: &[&str]) -> Result<()> {
    let is_there = || programs.iter().all(|program| Path::new(program).exists());
    if is_there() {
        return Ok(());
    }
    ensure!(rustix::process::geteuid().is_root(), "only root can install {}", packages.join(", "));
    ensure!(Path::new("/etc/debian_version").exists(), "install what has {programs:?}");
    let lock = File::create(paths::lab_dir()?.join("apt.lock")).context("Open the lock file")?;
    lock.lock().context("Wait for another installation")?;
    if is_there() {
        return Ok(());
    }
    run("apt-get", &["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    run("apt-get", &[&install[..], packages].concat())?;
    ensure!(is_there(), "Debian's packages have other programs than {programs:?}");
    Ok(())
}

/// Runs to the end, and fails with what the command said last.
pub(crate) fn run(command: &str, arguments: &[&str]) -> Result<()> {
    output(command, arguments).map(drop)
}

/// The same, and gives what it said.
pub(crate) fn output(command: &str, arguments: &[&str]) -> Result<String> {
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
