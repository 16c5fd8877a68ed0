//! A desktop's keyring, as people have it: gnome-keyring on a session bus of its own. Nobody is there to be asked for a
//! password, so what is locked stays locked.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    debian,
    fresh::random_hex,
    leash::{Leash, Program},
    skip::skip,
};

const PACKAGES: [&str; 3] = ["gnome-keyring", "libsecret-tools", "dbus-daemon"];
const PROGRAMS: [&str; 3] = ["/usr/bin/gnome-keyring-daemon", "/usr/bin/secret-tool", "/usr/bin/dbus-daemon"];
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing is started by the bus, so nothing is there that this did not start.
const BUS: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:path=PATH</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"#;

/// A keyring, unlocked. It ends with this value.
#[derive(Debug)]
pub struct Keyring {
    folder: TempDir,
    bus: Leash,
    locked: Leash,
    unlocked: Leash,
}

impl Keyring {
    /// Starts one. `None`: it can't be installed here, and the running test is counted as skipped.
    pub async fn start() -> Result<Option<Self>> {
        let installed = tokio::task::spawn_blocking(|| debian::ready(&PACKAGES, &PROGRAMS)).await?;
        if let Err(error) = installed {
            skip(&format!("{error:#}"));
            return Ok(None);
        }
        let folder = TempDir::with_prefix_in("sb", "/tmp")?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("bus.conf"), BUS.replace("PATH", &path("bus").to_string_lossy()))?;
        fs::write(path("password"), random_hex::<8>()?)?;
        let config = format!("--config-file={}", path("bus.conf").display());
        let bus = Program {
            command: PROGRAMS[2].into(),
            args: vec![config.into(), "--nofork".into(), "--nopidfile".into()],
            log: path("log"),
            ..Program::default()
        };
        let keyring = |unlocks: &str| {
            let words = format!("exec {} --foreground --components=secrets {unlocks}", PROGRAMS[0]);
            let home = folder.path().to_owned().into_os_string();
            let mut env = vec![("DBUS_SESSION_BUS_ADDRESS".into(), address(folder.path()).into())];
            env.extend(["HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"].map(|name| (name.into(), home.clone())));
            let (command, args) = ("sh".into(), vec!["-c".into(), words.into()]);
            Program { command, args, env, log: path("log"), dir: Some(folder.path().to_owned()), ..Program::default() }
        };
        let bus = Leash::new(&bus)?;
        let [locked, unlocked] = ["", "--unlock < password"].map(|unlocks| Leash::new(&keyring(unlocks)));
        let keyring = Self { bus, locked: locked?, unlocked: unlocked?, folder };
        keyring.bus.start().await?;
        keyring.unlock().await?;
        Ok(Some(keyring))
    }

    /// What finds it, for the environment of a command.
    pub fn env(&self) -> [(&'static str, String); 2] {
        [("DBUS_SESSION_BUS_ADDRESS", address(self.folder.path())), ("PATH", "/usr/bin:/bin".to_owned())]
    }

    /// Locks it, as a session that begins without a password.
    pub async fn lock(&self) -> Result<()> {
        self.unlocked.stop(PATIENCE).await?;
        self.locked.start().await?;
        self.answers().await
    }

    /// Unlocks it.
    pub async fn unlock(&self) -> Result<()> {
        self.locked.stop(PATIENCE).await?;
        self.unlocked.start().await?;
        self.answers().await
    }

    /// Where it keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Does with it what somebody does by hand. Gives what it said, and whether it was done.
    pub fn tool(&self, arguments: &[&str], typed: &str) -> Result<(String, bool)> {
        let mut command = Command::new(PROGRAMS[1]);
        command.args(arguments).env_clear().envs(self.env());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().context("Start secret-tool")?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may not want to hear it.
            let _ = std::io::Write::write_all(&mut stdin, typed.as_bytes());
        }
        let said = child.wait_with_output()?;
        let words = [said.stdout, said.stderr].concat();
        Ok((String::from_utf8_lossy(&words).into_owned(), said.status.success()))
    }

    async fn answers(&self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        // Of what is not there it says nothing; the bus complains while nobody is there.
        while !self.tool(&["search", "nothing", "there"], "")?.0.is_empty() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            ensure!(Instant::now() < give_up, "the keyring does not answer:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn address(folder: &Path) -> String {
    format!("unix:path={}", folder.join("bus").display())
}
