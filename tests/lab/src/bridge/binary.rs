//! Builds the service's binary, and keeps a copy that no later build replaces while it runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::paths;

/// Which build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As it is used, unoptimised.
    Usual,
    /// With the named places where the recovery suite kills it.
    Failpoints,
}

/// A built binary.
#[derive(Debug, Clone)]
pub struct Binary(PathBuf);

const BENCH: &str = "sealbridge-bench";

fn cargo_build(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(arguments).current_dir(paths::workspace_root());
    ensure!(command.status().context("Run cargo build")?.success(), "cargo build failed");
    Ok(())
}

impl Binary {
    /// Builds it, or finds that nothing changed.
    pub fn build(build: Build) -> Result<Self> {
        let package: &[&str] = &["--package", "sealbridge", "--bin", "sealbridge"];
        let features: &[&str] = match build {
            Build::Usual => &[],
            Build::Failpoints => &["--features", "failpoints"],
        };
        cargo_build(&[package, features].concat())?;
        let built = paths::target_dir()?.join("debug/sealbridge");
        Self::copy(&built, &format!("sealbridge-{build:?}").to_lowercase())
    }

    /// Builds it for measurements, and what measures it. Both at once, so that they share what they are built on.
    pub fn build_optimised() -> Result<(Self, Self)> {
        let both = ["--package", "sealbridge", "--bin", "sealbridge", "--package", BENCH, "--bin", BENCH];
        cargo_build(&[&["--release"], both.as_slice()].concat())?;
        let built = paths::target_dir()?.join("release");
        let service = Self::copy(&built.join("sealbridge"), "sealbridge-release")?;
        Ok((service, Self::copy(&built.join(BENCH), BENCH)?))
    }

    /// A binary that somebody else built: the one that `cargo test` names.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn copy(built: &Path, name: &str) -> Result<Self> {
        let folder = paths::lab_dir()?.join("bin");
        std::fs::create_dir_all(&folder)?;
        let kept = folder.join(name);
        // A running program can't be written to, but its name can be given to another file.
        let fresh = folder.join(format!("{name}.{}", std::process::id()));
        std::fs::copy(built, &fresh).with_context(|| format!("Copy {}", built.display()))?;
        std::fs::rename(&fresh, &kept)?;
        Ok(Self(kept))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
