//! The Python packages that the lab stands on: Synapse, mautrix-python, matrix-nio, Delta Chat's engine.
//!
//! They go into a virtual environment under the build directory, once: a stamp says that what lies
//! there is complete, and a lock file keeps two processes from installing at the same time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::paths;

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

const SCRIPTS: [(&str, &str); 9] = [
    ("machine.py", include_str!("../python/machine.py")),
    ("sas.py", include_str!("../python/sas.py")),
    ("leash.py", include_str!("../python/leash.py")),
    ("timeline.py", include_str!("../python/timeline.py")),
    ("base.py", include_str!("../python/base.py")),
    ("person.py", include_str!("../python/person.py")),
    ("delta_person.py", include_str!("../python/delta_person.py")),
    ("echo.py", include_str!("../python/echo.py")),
    ("nio_person.py", include_str!("../python/nio_person.py")),
];

/// A complete virtual environment.
#[derive(Debug, Clone)]
pub struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// The environment, installed first if it is not there. Blocks, for a minute at worst.
    pub fn ready() -> Result<Self> {
        // A failure is kept too, or every test of a process would try for itself.
        static READY: OnceLock<Result<Venv, String>> = OnceLock::new();
        let ready = READY.get_or_init(|| install().map_err(|error| format!("{error:#}")));
        match ready {
            Ok(venv) => Ok(venv.clone()),
            Err(error) => bail!("Install the lab's Python packages: {error}"),
        }
    }

    /// The environment's own interpreter.
    pub fn python(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// Delta Chat's engine itself, without the script that the package lays before it.
    pub fn delta_chat(&self) -> Result<PathBuf> {
        let lib = self.dir.join("lib");
        for entry in fs::read_dir(&lib).with_context(|| format!("Look into {}", lib.display()))? {
            let engine = entry?.path().join("site-packages/deltachat_rpc_server/deltachat-rpc-server");
            if engine.exists() {
                return Ok(engine);
            }
        }
        bail!("deltachat-rpc-server is not in {}", lib.display())
    }
}

/// One of our own scripts, written out where Python can read it.
pub fn script(name: &str) -> Result<PathBuf> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    if let Some(dir) = DIR.get() {
        return Ok(dir.join(name));
    }
    let dir = write_scripts().context("Write out the lab's scripts")?;
    Ok(DIR.get_or_init(|| dir).join(name))
}

fn write_scripts() -> Result<PathBuf> {
    let parts = SCRIPTS.iter().flat_map(|(name, text)| [*name, *text]);
    let dir = paths::lab_dir()?.join("scripts").join(digest(parts));
    fs::create_dir_all(&dir)?;
    for (name, text) in SCRIPTS {
        let path = dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        // Renamed into place, since another process may be reading it.
        let mut file = tempfile::NamedTempFile::new_in(&dir)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
    }
    Ok(dir)
}

fn install() -> Result<Venv> {
    let home = paths::lab_dir()?.join("venv");
    fs::create_dir_all(&home)?;
    // Each list has a directory of its own, so that two checkouts can share one build directory.
    let dir = home.join(digest([REQUIREMENTS]));
    let stamp = dir.join("complete");
    if stamp.exists() {
        return Ok(Venv { dir });
    }
    let lock = File::create(home.join("lock")).context("Open the lock file")?;
    lock.lock().context("Wait for another installation")?;
    if stamp.exists() {
        return Ok(Venv { dir });
    }

    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    progress.enable_steady_tick(Duration::from_millis(120));
    progress.set_message("Creating a Python environment");
    if dir.exists() {
        fs::remove_dir_all(&dir).context("Remove a half-made environment")?;
    }
    create(&dir, &progress)?;

    let list = dir.join("requirements.txt");
    fs::write(&list, REQUIREMENTS)?;
    progress.set_message("Installing Synapse, mautrix-python, matrix-nio and Delta Chat's engine");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let mut command = Command::new(dir.join("bin/python"));
    command.args(pip).arg("--requirement").arg(&list);
    run(&mut command)?;
    fs::write(&stamp, "")?;
    progress.finish_with_message("Python packages installed");
    Ok(Venv { dir })
}

fn create(dir: &Path, progress: &ProgressBar) -> Result<()> {
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(dir);
        run(&mut command)
    };
    let Err(error) = make() else { return Ok(()) };
    let debian = Path::new("/etc/debian_version").exists();
    if !(debian && rustix::process::geteuid().is_root()) {
        return Err(error.context("Create a virtual environment (Debian: install python3-venv)"));
    }
    progress.set_message("Installing Debian's python3-venv");
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends", "python3-venv"])
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    make()
}

/// Runs to the end, and fails with what the command said last.
fn run(command: &mut Command) -> Result<()> {
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

fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
