//! A person's process: commands in, answers and events out.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::received::Received;

const KEPT_LINES: usize = 60;

/// The homeserver, or the person's own library, said no.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    pub error: String,
    pub errcode: Option<String>,
    pub status: Option<u16>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Refusal {}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>>;

#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    next: AtomicU64,
    /// Closing it ends the process.
    commands: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    waiting: Waiting,
    /// The last lines of standard error.
    complaints: Mutex<VecDeque<String>>,
}

impl Process {
    /// Runs a script; threads carry the lines, so that a person works from any runtime.
    pub(crate) fn start(script: &mut Command) -> Result<Self> {
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("Start a person")?;
        let mut stdin = child.stdin.take().context("A person has no stdin")?;
        let stdout = child.stdout.take().context("A person has no stdout")?;
        let stderr = child.stderr.take().context("A person has no stderr")?;
        let shared =
            Arc::new(Shared { inbox: Inbox::new(), waiting: Waiting::default(), complaints: Mutex::default() });
        let pid = child.id();

        let (commands, queue) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            while let Ok(line) = queue.recv() {
                if stdin.write_all(&line).is_err() {
                    break;
                }
            }
        });
        let complaints = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                complaints.complain(line);
            }
        });
        let reader = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                reader.take(&line);
            }
            let code = child.wait();
            reader.end(&format!("the process ended ({code:?})"));
        });
        Ok(Self { pid, next: AtomicU64::new(1), commands, shared })
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.shared.inbox
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The last lines that the process wrote to standard error.
    pub(crate) fn complaints(&self) -> String {
        self.shared.complaints()
    }

    /// Queues a command at once and answers when it is done. Commands keep the order of the calls.
    pub(crate) fn call(&self, name: &str, mut arguments: Value) -> impl Future<Output = Result<Value>> + Send + use<> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.retain(|_, value| !value.is_null());
            arguments.insert("id".into(), json!(id));
            arguments.insert("do".into(), json!(name));
        }
        let (answer, answered) = oneshot::channel();
        lock(&self.shared.waiting).insert(id, answer);
        let mut line = arguments.to_string().into_bytes();
        line.push(b'\n');
        if self.commands.send(line).is_err() {
            lock(&self.shared.waiting).remove(&id);
        }
        let shared = Arc::clone(&self.shared);
        let name = name.to_owned();
        async move {
            match answered.await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(anyhow::anyhow!("The person is gone at {name}:\n{}", shared.complaints())),
            }
        }
    }
}

impl Shared {
    fn take(&self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            self.complain(line.to_owned());
            return;
        };
        if let Some(id) = value["id"].as_u64() {
            let waiting = lock(&self.waiting).remove(&id);
            if let Some(waiting) = waiting {
                let answer = match value.get("ok") {
                    Some(ok) => Ok(ok.clone()),
                    None => Err(serde_json::from_value(value).unwrap_or_else(|error| Refusal {
                        error: format!("unreadable answer: {error}"),
                        errcode: None,
                        status: None,
                    })),
                };
                // A caller that no longer waits has what it needs.
                let _ = waiting.send(answer);
            }
            return;
        }
        match serde_json::from_value::<Received>(value) {
            Ok(received) => self.inbox.push(received),
            Err(error) => self.inbox.push(Received::Stopped { reason: format!("unreadable line: {error}") }),
        }
    }

    fn end(&self, reason: &str) {
        lock(&self.waiting).clear();
        self.inbox.push(Received::Stopped { reason: format!("{reason}\n{}", self.complaints()) });
    }

    fn complain(&self, line: String) {
        let mut lines = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn complaints(&self) -> String {
        let lines = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
