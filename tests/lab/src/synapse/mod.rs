//! A real Synapse on loopback with throw-away data, which knows no other homeserver unless it is told to.

mod admin;
mod config;
mod federation;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

pub use admin::User;
pub use config::Options;

use crate::fresh::{free_port, random, random_hex};
use crate::leash::{Leash, Program};
use crate::venv::Venv;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// One homeserver. It dies with this value, and with this process.
#[derive(Debug)]
pub struct Synapse {
    server_name: String,
    url: String,
    data_dir: PathBuf,
    registration_secret: String,
    leash: Leash,
}

impl Synapse {
    /// Starts a homeserver called `name` (for example `alpha.test`) and waits until it answers. One that federates is
    /// called by its address.
    pub async fn start(name: &str, options: Options) -> Result<Self> {
        let venv = tokio::task::spawn_blocking(Venv::ready).await??;
        let mut last = None;
        for _ in 0..3 {
            let server = Self::prepare(name, &options, &venv)?;
            match server.restart().await {
                Ok(()) => return Ok(server),
                // Another process may have taken the port meanwhile.
                Err(error) if server.log_tail(200).contains("Address already in use") => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("No free port")))
    }

    fn prepare(name: &str, options: &Options, venv: &Venv) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("sealbridge-lab-{name}-"))
            .tempdir()
            .context("Make a data directory")?;
        let port = free_port()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let name = if options.federates { address.as_str() } else { name };
        if options.federates {
            federation::certificate(dir.path())?;
        }
        let secrets = config::Secrets {
            registration: random_hex::<16>()?,
            macaroon: random_hex::<16>()?,
            form: random_hex::<16>()?,
        };
        let config = config::render(name, port, dir.path(), &secrets, options);
        let file = dir.path().join("homeserver.yaml");
        std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let logging = serde_json::to_string_pretty(&config::logging(dir.path()))?;
        std::fs::write(dir.path().join("log.yaml"), logging)?;
        let key = format!("ed25519 a_lab {}\n", STANDARD_NO_PAD.encode(random::<32>()?));
        std::fs::write(dir.path().join("signing.key"), key)?;

        // From here on the leash deletes the directory, even if we are killed.
        let dir = dir.keep();
        let leash = Leash::new(&Program {
            command: venv.python().into(),
            args: ["-m", "synapse.app.homeserver", "--config-path"]
                .into_iter()
                .map(Into::into)
                .chain([file.into()])
                .collect(),
            env: vec![("PYTHONUNBUFFERED".into(), "1".into())],
            dir: Some(dir.clone()),
            log: dir.join("output.log"),
            group: false,
            remove: (!options.keep_data).then(|| dir.clone()),
        })?;
        Ok(Self {
            server_name: name.to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            data_dir: dir,
            registration_secret: secrets.registration,
            leash,
        })
    }

    /// The address for clients, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Everything the homeserver stores: database, media, logs.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn pid(&self) -> Option<u32> {
        self.leash.pid()
    }

    /// The process between us and the homeserver; ends when this value is dropped.
    pub fn keeper_pid(&self) -> u32 {
        self.leash.keeper_pid()
    }

    /// Ends the homeserver in order. Its data stays until this value is dropped.
    pub async fn stop(&self) -> Result<()> {
        self.leash.stop(STOP_GRACE).await
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        self.leash.kill().await
    }

    /// Starts the homeserver again on its old data and port, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.leash.start().await?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        let give_up = Instant::now() + START_DEADLINE;
        let versions = format!("{}/_matrix/client/versions", self.url);
        loop {
            if let Ok((200, _)) = request(&versions, "GET", None, None).await {
                return Ok(());
            }
            let name = &self.server_name;
            if !self.leash.is_running() {
                bail!("{name} ended while it started:\n{}", self.log_tail(15));
            }
            if Instant::now() > give_up {
                bail!("{name} does not answer:\n{}", self.log_tail(15));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last lines of what the homeserver printed and logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let mut tail = Vec::new();
        for name in ["output.log", "homeserver.log"] {
            let Ok(text) = std::fs::read(self.data_dir.join(name)) else {
                continue;
            };
            let text = String::from_utf8_lossy(&text).into_owned();
            let all: Vec<&str> = text.lines().collect();
            let last = &all[all.len().saturating_sub(lines)..];
            tail.extend(last.iter().map(|line| (*line).to_owned()));
        }
        tail.join("\n")
    }

    fn registration_secret(&self) -> &str {
        &self.registration_secret
    }
}

/// A request of its own connection, so that it works from any runtime.
pub(crate) async fn request(url: &str, method: &str, token: Option<&str>, body: Option<Value>) -> Result<(u16, Value)> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let mut request = client.request(method.parse()?, url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}
