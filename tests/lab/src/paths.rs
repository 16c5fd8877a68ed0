//! Where the workspace and its build directory are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The directory of the workspace's own `Cargo.toml`.
pub fn workspace_root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir)
}

/// Cargo's target directory, as cargo itself says it.
pub fn target_dir() -> Result<&'static Path> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let found = ask_cargo()?;
    Ok(FOUND.get_or_init(|| found))
}

/// What the lab keeps between runs: Python packages, logs.
pub fn lab_dir() -> Result<PathBuf> {
    let dir = target_dir()?.join("lab");
    std::fs::create_dir_all(&dir).with_context(|| format!("Create {}", dir.display()))?;
    Ok(dir)
}

fn ask_cargo() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace_root())
        .output()
        .context("Run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("Read the answer of cargo metadata")?;
    let dir = answer["target_directory"].as_str().context("cargo metadata named no target directory")?;
    Ok(PathBuf::from(dir))
}
