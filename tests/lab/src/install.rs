//! Things that the lab installs once, under the build directory.
//!
//! A stamp says that what lies there is complete, and a lock file keeps two processes from installing at the same time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::paths;

/// The folder of what `parts` describe, made first by `make` if it is not there. Blocks until it is.
pub(crate) fn once(
    name: &str,
    parts: &[&str],
    make: impl FnOnce(&Path, &ProgressBar) -> Result<()>,
) -> Result<PathBuf> {
    let home = paths::lab_dir()?.join(name);
    fs::create_dir_all(&home)?;
    // Each list has a directory of its own, so that two checkouts can share one build directory.
    let dir = home.join(digest(parts));
    let stamp = dir.join("complete");
    if stamp.exists() {
        return Ok(dir);
    }
    let lock = File::create(home.join("lock")).context("Open the lock file")?;
    lock.lock().context("Wait for another installation")?;
    if stamp.exists() {
        return Ok(dir);
    }

    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    progress.enable_steady_tick(Duration::from_millis(120));
    if dir.exists() {
        fs::remove_dir_all(&dir).context("Remove what was half-made")?;
    }
    make(&dir, &progress)?;
    fs::write(&stamp, "")?;
    Ok(dir)
}

/// Writes files into a folder of their own under `home`, where other processes may be reading them already.
pub(crate) fn write_out(home: &Path, files: &[(&str, &str)]) -> Result<PathBuf> {
    let parts: Vec<_> = files.iter().flat_map(|(name, text)| [*name, *text]).collect();
    let dir = home.join(digest(&parts));
    fs::create_dir_all(&dir)?;
    for (name, text) in files {
        let path = dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        // Renamed into place, since another process may be reading it.
        let mut file = tempfile::NamedTempFile::new_in(&dir)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
    }
    Ok(dir)
}

/// Runs to the end, and fails with what the command said last.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("Run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n");
    bail!("{name} failed ({}):\n{tail}", output.status);
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
