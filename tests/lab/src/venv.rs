//! The Python packages that the lab stands on: Synapse, mautrix-python, matrix-nio, Delta Chat's engine.
//!
//! They go into a virtual environment under the build directory, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use crate::install::{once, run, write_out};
use crate::paths;

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

const SCRIPTS: [(&str, &str); 15] = [
    ("machine.py", include_str!("../python/machine.py")),
    ("sas.py", include_str!("../python/sas.py")),
    ("leash.py", include_str!("../python/leash.py")),
    ("timeline.py", include_str!("../python/timeline.py")),
    ("base.py", include_str!("../python/base.py")),
    ("person.py", include_str!("../python/person.py")),
    ("delta_person.py", include_str!("../python/delta_person.py")),
    ("echo.py", include_str!("../python/echo.py")),
    ("nio_person.py", include_str!("../python/nio_person.py")),
    ("forms.py", include_str!("../python/forms.py")),
    ("receiver.py", include_str!("../python/receiver.py")),
    ("senders.py", include_str!("../python/senders.py")),
    ("posting.py", include_str!("../python/posting.py")),
    ("openpgp.py", include_str!("../python/openpgp.py")),
    ("terminal.py", include_str!("../python/terminal.py")),
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

    /// What runs one of our own scripts.
    pub(crate) fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.python());
        command.arg(script(name)?);
        Ok(command)
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
    let home = paths::lab_dir()?.join("scripts");
    let dir = write_out(&home, &SCRIPTS).context("Write out the lab's scripts")?;
    Ok(DIR.get_or_init(|| dir).join(name))
}

fn install() -> Result<Venv> {
    let dir = once("venv", &[REQUIREMENTS], |dir, progress| {
        progress.set_message("Creating a Python environment");
        create(dir, progress)?;
        let list = dir.join("requirements.txt");
        fs::write(&list, REQUIREMENTS)?;
        progress.set_message("Installing Synapse, mautrix-python, matrix-nio and Delta Chat's engine");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let mut command = Command::new(dir.join("bin/python"));
        command.args(pip).arg("--requirement").arg(&list);
        run(&mut command)?;
        progress.finish_with_message("Python packages installed");
        Ok(())
    })?;
    Ok(Venv { dir })
}

/// Makes an empty environment in a folder.
pub(crate) fn create(dir: &Path, progress: &ProgressBar) -> Result<()> {
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
