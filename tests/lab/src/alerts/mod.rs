//! A real Alertmanager, from Debian's package, and the alerts that are handed to it.

pub mod chaos;
pub mod demo;

use std::{ffi::OsString, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    debian,
    http::{free_port, request},
    leash::{Leash, Program},
    skip,
};

const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";
const AMTOOL: &str = "/usr/bin/amtool";
const PATIENCE: Duration = Duration::from_secs(20);

/// An Alertmanager that tells one webhook. It ends with this value.
#[derive(Debug)]
pub struct Alertmanager {
    folder: TempDir,
    port: u16,
    _leash: Leash,
}

/// Installs it where it is missing. False: it can't be had here, and the test says so.
pub async fn available() -> bool {
    let ready = tokio::task::spawn_blocking(|| debian::ready(&["prometheus-alertmanager"], &[PROGRAM, AMTOOL])).await;
    match ready {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            skip::skip(&format!("there is no Alertmanager: {error:#}"));
            false
        }
        Err(_) => false,
    }
}

impl Alertmanager {
    /// Starts one that tells `webhook`, with this secret, of every alert at once.
    pub async fn start(webhook: &str, secret: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = json!({
            // Nothing ends by itself.
            "global": { "resolve_timeout": "24h" },
            "route": {
                "receiver": "room", "group_by": ["alertname"],
                "group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [{
                "name": "room",
                "webhook_configs": [{
                    "url": webhook, "send_resolved": true,
                    "http_config": { "authorization": { "type": "Bearer", "credentials": secret } },
                }],
            }],
        });
        // YAML takes JSON as it is.
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, config.to_string())?;
        let port = free_port()?;
        let flag = |name: &str, value: String| OsString::from(format!("--{name}={value}"));
        let leash = Leash::new(&Program {
            command: PROGRAM.into(),
            args: vec![
                flag("config.file", file.display().to_string()),
                flag("storage.path", folder.path().join("data").display().to_string()),
                flag("web.listen-address", format!("127.0.0.1:{port}")),
                // Nothing but loopback is spoken to.
                flag("cluster.listen-address", String::new()),
            ],
            log: folder.path().join("log"),
            ..Program::default()
        })?;
        leash.start().await.context("Start Alertmanager")?;
        let started = Self { folder, port, _leash: leash };
        let begun = std::time::Instant::now();
        loop {
            let ready = request("GET", &format!("{}/-/ready", started.url()), &[], "").await;
            if ready.is_ok_and(|answer| answer.status == 200) {
                return Ok(started);
            }
            ensure!(begun.elapsed() < PATIENCE, "Alertmanager does not start: {}", started.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// An alert fires, by `amtool`, as an operator would try it.
    pub async fn fire(&self, name: &str, instance: &str, summary: &str) -> Result<()> {
        let labels = [format!("alertname={name}"), format!("instance={instance}"), "severity=critical".to_owned()];
        let annotation = format!("--annotation=summary={summary}");
        let mut arguments = vec!["alert", "add", annotation.as_str()];
        arguments.extend(labels.iter().map(String::as_str));
        self.amtool(&arguments).await.map(drop)
    }

    /// The same alert is over.
    pub async fn resolve(&self, name: &str, instance: &str) -> Result<()> {
        let past = "2020-01-01T00:00:00Z";
        let body = json!([{
            "labels": { "alertname": name, "instance": instance, "severity": "critical" },
            "startsAt": past, "endsAt": "2020-01-01T00:00:01Z",
        }]);
        let url = format!("{}/api/v2/alerts", self.url());
        let answer = request("POST", &url, &[("content-type", "application/json")], body.to_string()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    /// How many requests it has made of its webhook, by its own metrics.
    pub async fn requests(&self) -> Result<usize> {
        self.counted("notification_requests_total").await
    }

    /// How many notifications it has given up, by its own metrics.
    pub async fn failures(&self) -> Result<usize> {
        self.counted("notifications_failed_total").await
    }

    async fn counted(&self, name: &str) -> Result<usize> {
        let answer = request("GET", &format!("{}/metrics", self.url()), &[], "").await?;
        let start = format!("alertmanager_{name}{{integration=\"webhook\"");
        // Newer ones count by the reason as well.
        let lines = answer.body.lines().filter(|line| line.starts_with(&start));
        let counts: Vec<usize> = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
        ensure!(!counts.is_empty(), "it does not count {name}");
        Ok(counts.iter().sum())
    }

    /// Its silences.
    pub async fn silences(&self) -> Result<Vec<Value>> {
        let answer = request("GET", &format!("{}/api/v2/silences", self.url()), &[], "").await?;
        Ok(answer.json().as_array().cloned().unwrap_or_default())
    }

    async fn amtool(&self, arguments: &[&str]) -> Result<String> {
        let url = format!("--alertmanager.url={}", self.url());
        let output = tokio::process::Command::new(Path::new(AMTOOL)).arg(url).args(arguments).output().await?;
        ensure!(output.status.success(), "amtool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
