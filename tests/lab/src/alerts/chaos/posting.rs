//! The real programs, which post all the while, each to a source of its own format; and what each was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};

use crate::{senders::Senders, venv};

/// A program that posts, to the source of its name.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) name: &'static str,
    /// What its source speaks.
    pub(super) format: &'static str,
    /// It rests so long between two requests, in seconds.
    pause: f64,
}

const fn sender(name: &'static str, format: &'static str) -> Sender {
    Sender { name, format, pause: 0.5 }
}

/// All of them, so that there are about twenty requests a second.
pub(super) const SENDERS: [Sender; 15] = [
    sender("apprise-json", "apprise"),
    sender("apprise-xml", "apprise"),
    sender("apprise-form", "apprise"),
    sender("apprise-hookshot", "hookshot"),
    sender("apprise-ntfy", "ntfy"),
    sender("apprise-gotify", "gotify"),
    // So many that a digest of it has no line for each.
    Sender { name: "standard-webhooks", format: "standard-webhooks", pause: 0.15 },
    sender("apprise-discord", "discord"),
    sender("slack-sdk", "slack"),
    sender("discord-webhook", "discord"),
    sender("apprise-slack", "slack"),
    sender("cloudevents", "cloudevents"),
    sender("curl-ntfy", "ntfy"),
    sender("curl-raw", "raw"),
    sender("mail", "mail"),
];

/// What they were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By sender and tag: taken.
    pub(super) taken: BTreeSet<(String, String)>,
    /// Nothing, though somebody may have heard of it.
    pub(super) perhaps: BTreeSet<(String, String)>,
    /// How many were told that it is there.
    pub(super) arrived: usize,
    /// How many were told nothing, or to come again.
    pub(super) again: usize,
    /// How many requests each made.
    pub(super) requests: BTreeMap<String, usize>,
}

#[derive(Debug, Deserialize)]
struct Line {
    sender: String,
    tag: String,
    outcome: Outcome,
    status: Option<u16>,
    arrived: bool,
    requests: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Taken,
    Refused,
    Unanswered,
    Unreached,
    Broken,
}

/// The process in which they run. It ends with this value.
#[derive(Debug)]
pub(super) struct Posting {
    process: Child,
    /// As long as it is open they go on.
    input: ChildStdin,
    told: JoinHandle<Result<Told>>,
}

impl Posting {
    /// Has all of them post here, and counts in `first` what is taken.
    pub(super) async fn start(run: &str, url: &str, mail: &str, first: &Arc<AtomicUsize>) -> Result<Self> {
        let senders = tokio::task::spawn_blocking(Senders::ready).await??;
        let mut process = Command::new(senders.python())
            .arg(venv::script("posting.py")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("Run the senders")?;
        let mut input = process.stdin.take().context("They have a standard input")?;
        let output = process.stdout.take().context("They have a standard output")?;
        let pauses: BTreeMap<_, _> = SENDERS.iter().map(|sender| (sender.name, sender.pause)).collect();
        let plan = json!({ "run": run, "url": url, "mail": mail, "senders": pauses });
        input.write_all(format!("{plan}\n").as_bytes()).await?;
        let first = Arc::clone(first);
        let told = tokio::spawn(async move {
            let (mut told, mut lines) = (Told::default(), BufReader::new(output).lines());
            while let Some(line) = lines.next_line().await? {
                let line: Line = serde_json::from_str(&line).with_context(|| line.clone())?;
                first.fetch_add(usize::from(line.outcome == Outcome::Taken), Ordering::Relaxed);
                told.take(line)?;
            }
            Ok(told)
        });
        Ok(Self { process, input, told })
    }

    /// Whether one of them did what none does, and the end of it is to be looked at.
    pub(super) fn is_over(&self) -> bool {
        self.told.is_finished()
    }

    /// Has them end, each once what it repeats is taken, and says what they were told.
    pub(super) async fn stop(self) -> Result<Told> {
        let Self { mut process, input, told } = self;
        drop(input);
        let told = told.await??;
        let status = process.wait().await?;
        ensure!(status.success(), "the senders end with {status}");
        Ok(told)
    }
}

impl Told {
    fn take(&mut self, line: Line) -> Result<()> {
        let Line { sender, tag, outcome, status, arrived, requests } = line;
        *self.requests.entry(sender.clone()).or_default() += requests;
        let one = (sender, tag);
        match (outcome, status) {
            (Outcome::Taken, _) => {
                self.perhaps.remove(&one);
                self.arrived += usize::from(arrived);
                self.taken.insert(one);
                return Ok(());
            }
            // Nothing can be kept now, by HTTP's word or that of SMTP.
            (Outcome::Refused, Some(503 | 421 | 451)) | (Outcome::Unreached, _) => {}
            (Outcome::Unanswered, _) => drop(self.perhaps.insert(one)),
            (Outcome::Refused | Outcome::Broken, _) => bail!("{one:?}: {outcome:?}, status {status:?}"),
        }
        self.again += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&str, Outcome, Option<u16>)]) -> Result<Told> {
        let mut told = Told::default();
        for (tag, outcome, status) in lines {
            let (sender, tag) = ("mail".to_owned(), (*tag).to_owned());
            told.take(Line { sender, tag, outcome: *outcome, status: *status, arrived: false, requests: 1 })?;
        }
        Ok(told)
    }

    #[test]
    fn only_what_was_told_nothing_may_be_there_or_not() -> Result<()> {
        let told = told(&[
            ("1", Outcome::Unanswered, None),
            ("1", Outcome::Taken, Some(250)),
            ("2", Outcome::Refused, Some(451)),
            ("3", Outcome::Unreached, None),
            ("4", Outcome::Unanswered, None),
        ])?;
        let tags = |all: &BTreeSet<(String, String)>| all.iter().map(|one| one.1.clone()).collect::<Vec<_>>();
        assert_eq!((tags(&told.taken), tags(&told.perhaps)), (vec!["1".to_owned()], vec!["4".to_owned()]));
        assert_eq!((told.again, told.requests["mail"]), (4, 5));
        Ok(())
    }

    #[test]
    fn sender_that_is_refused_for_good_ends_the_run() {
        assert!(told(&[("1", Outcome::Refused, Some(409))]).is_err());
        assert!(told(&[("", Outcome::Broken, None)]).is_err());
    }
}
