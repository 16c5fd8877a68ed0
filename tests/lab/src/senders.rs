//! The programs whose notices are read, from their own packages: Apprise, Slack's and Discord's libraries, Standard
//! Webhooks, CloudEvents, curl, and Alertmanager with amtool.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    debian,
    install::{once, run},
    venv,
};

const REQUIREMENTS: &str = include_str!("../python/senders.txt");

/// Senders that are called otherwise than what they speak, by how their names begin.
const SPEAK: &[(&str, &str)] = &[
    ("apprise-hookshot", "hookshot"),
    ("apprise-ntfy", "ntfy"),
    ("apprise-gotify", "gotify"),
    ("apprise-slack", "slack"),
    ("apprise-discord", "discord"),
    ("curl-ntfy", "ntfy"),
    ("curl-gotify", "gotify"),
    ("curl-raw", "raw"),
    ("curl-ping", "ping"),
    ("mattermost", "slack"),
    ("forgejo", "gitea"),
];

/// Which of these formats a sender speaks. The longest beginning counts.
pub fn spoken<'a>(sender: &str, formats: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let all = SPEAK.iter().copied().chain(formats.map(|format| (format, format)));
    let fits = all.filter(|(begin, _)| sender.starts_with(begin)).max_by_key(|(begin, _)| begin.len());
    fits.map(|(_, format)| format)
}

/// All of them, ready to send.
#[derive(Debug, Clone)]
pub struct Senders {
    python: PathBuf,
}

impl Senders {
    /// Installs what is missing. Blocks, for a minute at worst.
    pub fn ready() -> Result<Self> {
        static READY: OnceLock<Result<Senders, String>> = OnceLock::new();
        let ready = READY.get_or_init(|| install().map_err(|error| format!("{error:#}")));
        match ready {
            Ok(senders) => Ok(senders.clone()),
            Err(error) => bail!("Install the programs that send notices: {error}"),
        }
    }

    /// Has one of them (`apprise-json`, `slack-sdk-blocks`, …; `senders.py list` names all) send one notice to an address.
    /// Blocks until it has its answer.
    ///
    /// # Errors
    /// By the sender's own word its notice was not taken.
    pub fn send(&self, name: &str, url: &str, secret: Option<&str>) -> Result<()> {
        let mut command = self.command()?;
        command.args(["send", name, url]).args(secret);
        run(&mut command)
    }

    /// Has each of them but Alertmanager send one notice to `URL/NAME`, and says which took theirs for taken. Blocks, for
    /// half a minute at worst.
    pub fn each(&self, url: &str) -> Result<Vec<(String, bool)>> {
        self.send_all(&["each", url])
    }

    /// The same for those that are named here, with the secret of each, shown or signed with as that sender does it.
    pub fn each_with(&self, url: &str, secrets: &BTreeMap<String, String>) -> Result<Vec<(String, bool)>> {
        self.send_all(&["each", url, &serde_json::to_string(secrets)?])
    }

    fn send_all(&self, arguments: &[&str]) -> Result<Vec<(String, bool)>> {
        let output = self.command()?.args(arguments).output().context("Run the senders")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, how)| (name.into(), how == "taken"))
            .collect())
    }

    /// Has Python's `smtplib` hand a mail over at `HOST:PORT`, for whoever shows this secret. Blocks until it is answered.
    ///
    /// # Errors
    /// The mail was not taken, and why.
    pub fn mail(&self, at: &str, to: &str, secret: Option<&str>) -> Result<()> {
        let mut command = self.command()?;
        command.args(["mail", at, to]).args(secret);
        run(&mut command)
    }

    /// Writes down what each of them sends, as `FOLDER/NAME.http`. Blocks, for half a minute at worst.
    pub fn capture(&self, folder: &Path) -> Result<()> {
        let mut command = self.command()?;
        command.arg("capture").arg(folder);
        run(&mut command)
    }

    /// The Python that has their packages.
    pub fn python(&self) -> &Path {
        &self.python
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.python);
        command.arg(venv::script("senders.py")?);
        Ok(command)
    }
}

fn install() -> Result<Senders> {
    let programs = ["/usr/bin/prometheus-alertmanager", "/usr/bin/amtool"];
    debian::ready(&["prometheus-alertmanager"], &programs)?;
    debian::ready(&["curl"], &["/usr/bin/curl"])?;
    // Apart from the people's packages, so that neither keeps the other at an older version.
    let dir = once("senders", &[REQUIREMENTS], |dir, progress| {
        progress.set_message("Creating a Python environment");
        venv::create(dir, progress)?;
        let list = dir.join("senders.txt");
        fs::write(&list, REQUIREMENTS)?;
        progress.set_message("Installing the programs that send notices");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(dir.join("bin/python")).args(pip).arg("--requirement").arg(&list))?;
        progress.finish_with_message("Programs that send notices installed");
        Ok(())
    })?;
    Ok(Senders { python: dir.join("bin/python") })
}
