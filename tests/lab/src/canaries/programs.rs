//! Programs that post and mail, and an endpoint of somebody else's that is posted to: what comes in and goes out by
//! other ways than a person's client.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::talk::{Canaries, Kind};
use crate::{
    bridge::Bridge,
    fresh::random_hex,
    http::{Answered, free_port, request},
};

/// So long a notice may take until it is taken, whatever fails meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nobody has its other half: what is encrypted to it is opened by nobody.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// What else listens on this machine, and what is kept of it.
#[derive(Debug)]
pub(super) struct Programs {
    notices: u16,
    mail: u16,
    metrics: u16,
    /// What every source shows.
    pub(super) secret: String,
    /// With which what is posted is signed.
    pub(super) signing: String,
    endpoint: Endpoint,
    /// What was answered, and what the metrics and the pages of health said.
    kept: TempDir,
    secrets: TempDir,
}

impl Programs {
    pub(super) async fn new() -> Result<Self> {
        let folder = |what: &str| tempfile::Builder::new().prefix(&format!("sealbridge-lab-{what}-")).tempdir();
        let (kept, secrets) = (folder("answers")?, folder("secrets")?);
        let endpoint = Endpoint::listen(&kept.path().join("endpoint")).await?;
        let programs = Self {
            notices: free_port()?,
            mail: free_port()?,
            metrics: free_port()?,
            secret: random_hex::<24>()?,
            signing: format!("whsec_{}", random_hex::<24>()?),
            endpoint,
            kept,
            secrets,
        };
        for (name, secret) in [("source", &programs.secret), ("signing", &programs.signing)] {
            crate::bridge::private(&programs.secrets.path().join(name), secret)?;
        }
        Ok(programs)
    }

    /// What the operator writes for them. They speak in `room`, whose admin is `admin`, of the account `a`.
    pub(super) fn config(&self, room: &str, admin: &str) -> String {
        let [source, signing] = ["source", "signing"].map(|name| self.secrets.path().join(name));
        let of = |name: &str, format: &str| {
            format!("[sources.{name}]\nformat = {format:?}\nto = [\"a/{room}\"]\nsecret_files = [{source:?}]\n")
        };
        let sections = [of("job", "raw"), of("alerts", "alertmanager"), of("cron", "mail")].concat();
        let (notices, mail, metrics, endpoint) = (self.notices, self.mail, self.metrics, self.endpoint.port);
        format!(
            "\n[notices]\nlisten = \"127.0.0.1:{notices}\"\nlisten_mail = \"127.0.0.1:{mail}\"\nanswer_within = \"2s\"\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n{sections}\
             [operator.admins.ann]\naccount = \"a\"\nperson = {admin:?}\n\
             [accounts.vault]\nnetwork = \"webhook\"\n[accounts.vault.endpoints.away]\n\
             url = \"http://127.0.0.1:{endpoint}/hook\"\nsecret_file = {signing:?}\nrecipients = [{RECIPIENT:?}]\n"
        )
    }

    pub(super) fn answers(&self) -> PathBuf {
        self.kept.path().join("answers")
    }

    pub(super) fn metrics(&self) -> PathBuf {
        self.kept.path().join("metrics")
    }

    pub(super) fn endpoint(&self) -> PathBuf {
        self.kept.path().join("endpoint")
    }

    /// Keeps what the service counts and how it says it is, if it runs at this moment.
    pub(super) async fn note_metrics(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.metrics())?;
        for page in ["metrics", "healthz", "readyz"] {
            if let Ok(said) = request("GET", &format!("http://127.0.0.1:{}/{page}", self.metrics), &[], "").await {
                writeln!(file, "{page} {} {:?}\n{}", said.status, said.headers, said.body)?;
            }
        }
        Ok(())
    }

    /// Everything that they are there for has happened.
    pub(super) fn ensure_used(&self) -> Result<()> {
        let metrics = std::fs::read_to_string(self.metrics())?;
        ensure!(metrics.contains("sealbridge_guard_stopped_total"), "The service counts nothing");
        let posted = std::fs::read_to_string(self.endpoint())?;
        ensure!(posted.contains("AGE ENCRYPTED FILE"), "Nothing was posted to the endpoint");
        ensure!(std::fs::read_to_string(self.answers())?.contains("event_ids"), "No program was told what arrived");
        Ok(())
    }

    /// Does the next thing, and answers what has to be heard of it.
    pub(super) async fn say(&self, kind: Kind, canaries: &mut Canaries) -> Result<Option<String>> {
        let words = canaries.next("words");
        match kind {
            Kind::Posted => {
                let body = json!({ "title": canaries.next("title"), "text": words, "more": canaries.next("more") });
                self.taken("job", &[("content-type", "application/json")], body.to_string().into()).await?;
            }
            Kind::PostedFile => {
                let name = format!("{}.txt", canaries.next("name"));
                let headers = [("x-title", &*words), ("x-filename", &name), ("content-type", "application/zip")];
                self.taken("job", &headers, canaries.content()).await?;
            }
            Kind::Mailed => self.mailed(&words, canaries).await?,
            Kind::Fired => self.alert("firing", &words, canaries).await?,
            Kind::Resolved => {
                // That something is over which nobody knows of is said for itself.
                self.alert("resolved", &words, canaries).await?;
            }
            Kind::Unproven => {
                let (wrong, path) = (format!("Bearer {words}"), canaries.next("path"));
                self.refused(&path, &[("authorization", &wrong)], canaries.content()).await?;
                self.refused(&format!("job/{path}?token={path}"), &[], canaries.content()).await?;
                return Ok(None);
            }
            _ => {
                // What can't be read is refused with a reason, which does not say it again.
                let body = format!("{{\"alerts\": [{{\"labels\": {{\"{words}\": [\"{}", canaries.next("cut"));
                self.refused("alerts", &[("authorization", &self.bearer())], body.into()).await?;
                return Ok(None);
            }
        }
        Ok(Some(words))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    async fn alert(&self, status: &str, words: &str, canaries: &mut Canaries) -> Result<()> {
        let (label, summary) = (canaries.next("label"), canaries.next("summary"));
        let labels = json!({ "alertname": words, "severity": "warning", "instance": label });
        let body = json!({
            "version": "4", "groupKey": format!("{{}}:{{alertname={words:?}}}"), "status": status, "receiver": "room",
            "groupLabels": { "alertname": words }, "commonLabels": labels, "externalURL": "http://127.0.0.1:9093",
            "commonAnnotations": { "summary": summary },
            "alerts": [{
                "status": status, "labels": labels, "annotations": { "summary": summary },
                "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": format!("http://127.0.0.1:9090/graph?g0.expr={}", canaries.next("query")),
                "fingerprint": random_hex::<8>()?,
            }],
        });
        self.taken("alerts", &[("content-type", "application/json")], body.to_string().into()).await
    }

    /// Posts until it is taken, each time as the same.
    async fn taken(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<()> {
        let (bearer, key) = (self.bearer(), random_hex::<8>()?);
        let headers = [headers, &[("authorization", &*bearer), ("idempotency-key", &*key)]].concat();
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.post(path, &headers, body.clone()).await {
                Ok(answer) if matches!(answer.status, 200 | 202) => return Ok(()),
                Ok(answer) if answer.status < 500 => bail!("It is refused: {} {}", answer.status, answer.body),
                other => ensure!(Instant::now() < give_up, "It is never taken: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Posts until it is refused.
    async fn refused(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.post(path, headers, body.clone()).await {
                Ok(answer) if (400..500).contains(&answer.status) => return Ok(()),
                Ok(answer) if answer.status < 400 => bail!("It is taken: {} {}", answer.status, answer.body),
                other => ensure!(Instant::now() < give_up, "It is never refused: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Answered> {
        let answer = request("POST", &format!("http://127.0.0.1:{}/{path}", self.notices), headers, body).await?;
        self.keep_answer(&format!("{} {:?}\n{}", answer.status, answer.headers, answer.body))?;
        Ok(answer)
    }

    fn keep_answer(&self, answer: &str) -> Result<()> {
        Ok(writeln!(File::options().create(true).append(true).open(self.answers())?, "{answer}")?)
    }

    async fn mailed(&self, words: &str, canaries: &mut Canaries) -> Result<()> {
        let (name, body) = (canaries.next("from"), canaries.next("body"));
        let mail = format!(
            "Message-ID: <{name}@nas>\r\nFrom: {name} <root@nas>\r\nSubject: {words}\r\n\r\nIt says {body}.\r\n.\r\n"
        );
        let proof = base64_of(&format!("\0cron\0{}", self.secret));
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.hand_over(&proof, &mail).await {
                Ok(answer) if answer.starts_with("250") => return Ok(()),
                Ok(answer) if answer.starts_with('5') => bail!("It is refused: {answer}"),
                other => ensure!(Instant::now() < give_up, "It is never taken: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Gives what was answered to the mail.
    async fn hand_over(&self, proof: &str, mail: &str) -> Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.mail)).await?);
        let (proof, mail) = (format!("AUTH PLAIN {proof}\r\n"), mail.to_owned());
        let steps =
            ["", "EHLO nas\r\n", &proof, "MAIL FROM:<root@nas>\r\n", "RCPT TO:<cron@localhost>\r\n", "DATA\r\n"];
        let mut answer = String::new();
        for step in steps.into_iter().chain([&*mail]) {
            stream.write_all(step.as_bytes()).await?;
            answer.clear();
            while answer.lines().next_back().is_none_or(|line| line.as_bytes().get(3) != Some(&b' ')) {
                ensure!(stream.read_line(&mut answer).await? > 0, "It broke off");
            }
            self.keep_answer(&answer)?;
        }
        Ok(answer)
    }
}

fn base64_of(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

/// An endpoint of somebody else's, which keeps what is posted to it and always says that it took it.
#[derive(Debug)]
struct Endpoint {
    port: u16,
    listening: JoinHandle<()>,
}

impl Endpoint {
    async fn listen(keeps: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let file = Arc::new(File::options().create(true).append(true).open(keeps)?);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let file = Arc::clone(&file);
                // Whoever breaks off tries again.
                tokio::spawn(async move { drop(answers(stream, &file).await) });
            }
        });
        Ok(Self { port, listening })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn answers(stream: TcpStream, mut file: &File) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.context("It says how long it is")?];
        stream.read_exact(&mut body).await?;
        file.write_all(&[head.as_bytes(), &body, b"\n"].concat())?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

/// Says something by the operator's own command, through the running service.
pub(super) async fn operator_sends(bridge: &Bridge, room: &str, canaries: &mut Canaries) -> Result<String> {
    let (words, to) = (canaries.next("words"), format!("a/{room}"));
    // What the operator has on their own disk is none of the service's.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(format!("{}.txt", canaries.next("sent")));
    std::fs::write(&file, canaries.content())?;
    let sent = bridge.cli(&["send", "--to", &to, &words, "-f", &file.display().to_string()]).await?.ok()?;
    let told: Value = serde_json::from_str(sent.stdout.lines().next().context("It says what became of it")?)?;
    ensure!(!told.to_string().contains(&words), "It says the words again");
    Ok(words)
}
