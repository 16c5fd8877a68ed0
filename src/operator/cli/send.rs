//! `sealbridge send`: words and files from a terminal or a pipe into a conversation.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sealbridge_contract::{Address, Answer, RemoteId, SecretBytes};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Period, parse_address, root_key},
    notices::markup::Markup,
    operator::{
        Action, Actor, Failure, FailureKind, Open, Outcome, Progress,
        actions::{Content, MOST_FILES, NamedFile, Sending, content},
        control::{Called, StepFrame, call},
        output::Output,
        perform,
    },
};

const NOTHING: &str = "there is nothing to say: name words or a file, or let a program write into this one";
/// More is no message.
const MOST_WORDS: u64 = 1 << 20;

/// Say something in a conversation, end-to-end encrypted, and wait until it is there. Without words and files, what comes
/// on standard input is said. Exit code 0: the far server has it; 6: refused; 7: kept, and on its way; 75: not kept.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// Where: account/conversation.
    #[arg(short = 'r', long = "to", visible_alias = "room", value_parser = parse_address)]
    to: Address,
    /// The words. `-` for standard input. They come before `-m` and `-f`, which take all that follows them, or after `--`.
    words: Vec<String>,
    /// More words, on a line of their own each. `-` for standard input.
    #[arg(short, long = "message", value_name = "WORDS", num_args = 1..)]
    message: Vec<String>,
    /// Files to send.
    #[arg(short, long = "file", value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// The words are Markdown.
    #[arg(short = 'z', long, group = "markup")]
    markdown: bool,
    /// The words are HTML.
    #[arg(short = 'w', long, group = "markup")]
    html: bool,
    /// The words are code, or what a program printed.
    #[arg(short = 'k', long, group = "markup")]
    code: bool,
    /// The words are a machine's, so no bot answers them.
    #[arg(short = 'n', long)]
    notice: bool,
    /// In answer to this message of the conversation, as its network calls it.
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// In the thread that begins with this message.
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// In the place of this message, which was sent so earlier.
    #[arg(long, value_name = "ID", conflicts_with_all = ["reply_to", "thread", "file"])]
    edit: Option<String>,
    /// The same again under the same key within a day is said once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long to wait for it to arrive.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = period)]
    within: Period,
}

fn period(text: &str) -> Result<Period, String> {
    Period::parse(text).ok_or_else(|| "a length of time is written 30s, 5m or 1h".into())
}

impl Send {
    fn markup(&self) -> Markup {
        match () {
            () if self.markdown => Markup::Markdown,
            () if self.html => Markup::Html,
            () if self.code => Markup::Code,
            () => Markup::Plain,
        }
    }

    /// What other programs of this kind take, and would be misread here: it is said how to say it.
    fn check(&self) -> Result<(), Failure> {
        if let Some(word) = self.words.first().filter(|word| is_a_conversation(word)) {
            return Err(Failure::usage(format!(
                "`{word}` is written like another conversation, and one call is for one: call once for each; if it is \
                 meant as words, say them with -m"
            )));
        }
        if self.file.iter().any(|file| file.as_os_str() == "-") {
            let words = "a file from standard input has no name: write it into a file first, or name it as ./-";
            return Err(Failure::usage(words));
        }
        Ok(())
    }

    /// The words that were typed, or those that come on standard input.
    fn words(&self) -> Result<Option<String>, Failure> {
        let is_stdin = |words: &[String]| words == ["-"];
        let from_stdin = (is_stdin(&self.words) && self.message.is_empty())
            || (is_stdin(&self.message) && self.words.is_empty())
            || (self.words.is_empty() && self.message.is_empty() && self.file.is_empty());
        if from_stdin {
            if io::stdin().is_terminal() {
                return Err(Failure::usage(NOTHING));
            }
            let mut words = String::new();
            io::stdin()
                .lock()
                .take(MOST_WORDS + 1)
                .read_to_string(&mut words)
                .map_err(|error| Failure::usage(format!("standard input can't be read as text: {error}")))?;
            if words.len() as u64 > MOST_WORDS {
                return Err(Failure::usage("this is too long for a message: send it as a file, with `-f`"));
            }
            return Ok(Some(words.trim_end_matches('\n').to_owned()).filter(|words| !words.trim().is_empty()));
        }
        let typed = (!self.words.is_empty()).then(|| self.words.join(" "));
        let lines: Vec<_> = typed.into_iter().chain(self.message.iter().cloned()).collect();
        Ok(Some(lines.join("\n")).filter(|words| !words.trim().is_empty()))
    }
}

/// Whether a word is written as a conversation of Matrix's is, with or without its account.
fn is_a_conversation(word: &str) -> bool {
    let inner = word.split_once('/').map_or(word, |(_, inner)| inner);
    inner.starts_with(['!', '#'])
        && inner.len() > 1
        && (inner.contains(':') || word != inner)
        && !inner.contains(char::is_whitespace)
}

/// Says it, by the running service if there is one.
pub(super) async fn send(
    config: Arc<Config>,
    send: Send,
    open: Open,
    output: Output,
) -> Result<Option<FailureKind>, Failure> {
    send.check()?;
    if send.file.len() > MOST_FILES {
        return Err(Failure::usage(format!("{MOST_FILES} files at once, and no more")));
    }
    let mut parcel = Parcel::pack(&send, output)?;
    let id = |id: &Option<String>| id.clone().map(RemoteId::new);
    let sending = Sending {
        to: send.to.clone(),
        reply_to: id(&send.reply_to),
        thread: id(&send.thread),
        edit: id(&send.edit),
        within_ms: u64::try_from(send.within.0.as_millis()).unwrap_or(u64::MAX).min(24 * 3_600_000),
    };
    let action = Action::Send(sending);
    let render = async |step: StepFrame| parcel.answer(&step);
    let outcome = match call(&config.control_path(), action.clone(), render).await? {
        Called::Done(outcome) => outcome,
        Called::NotRunning => without_service(config, action, &mut parcel, open).await?,
    };
    output.outcome(&outcome);
    Ok(outcome.found)
}

/// Opens the service for as long as this takes. Its lock keeps any other one out meanwhile.
async fn without_service(
    config: Arc<Config>,
    action: Action,
    parcel: &mut Parcel,
    open: Open,
) -> Result<Outcome, Failure> {
    if !config.journal_exists() {
        return Err(Failure::new(FailureKind::Config, "nothing is set up yet: run `sealbridge init`"));
    }
    let key = root_key::load(&config)?;
    let service = open(config, key).await?;
    let stop = CancellationToken::new();
    let actor = Actor::Local { uid: rustix::process::geteuid().as_raw() };
    let host = Arc::clone(&service).as_host();
    let sending = async {
        let mut performance = perform(host, actor, action);
        let mut answer = None;
        loop {
            match performance.next(answer.take()).await? {
                Progress::Done(outcome) => return Ok(outcome),
                Progress::Step(step) => answer = parcel.answer(&StepFrame::from(step))?,
            }
        }
    };
    let running = service.run(oneshot::channel().0, stop.clone());
    tokio::pin!(running);
    let outcome = tokio::select! {
        outcome = sending => {
            stop.cancel();
            // What it still has to write down and to say is part of an orderly end.
            let _ = running.await;
            outcome
        }
        ended = &mut running => Err(ended.err().unwrap_or_else(|| Failure::other("the service ended before it was sent"))),
    };
    service.close().await;
    outcome
}

/// What is sent, ready to be handed over piece by piece.
struct Parcel {
    content: Content,
    files: Vec<(File, ProgressBar)>,
}

impl Parcel {
    fn pack(send: &Send, output: Output) -> Result<Self, Failure> {
        let (mut named, mut files) = (Vec::new(), Vec::new());
        for path in &send.file {
            let (file, size) = open_file(path)?;
            let name = path.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned());
            files.push((file, output.bar(&name, size)));
            named.push(NamedFile { name, size });
        }
        let key = send.idempotency_key.clone();
        let words = send.words()?;
        if words.is_none() && named.is_empty() {
            return Err(Failure::usage(NOTHING));
        }
        let content = Content { words, markup: send.markup(), notice: send.notice, key, files: named };
        Ok(Self { content, files })
    }

    fn answer(&mut self, step: &StepFrame) -> Result<Option<Answer>, Failure> {
        match step {
            StepFrame::Ask { .. } => Ok(Some(content(&self.content))),
            StepFrame::Piece { file } => {
                let (file, bar) = self
                    .files
                    .get_mut(*file)
                    .ok_or_else(|| Failure::other("the service asks for a file that is none"))?;
                let mut piece = Vec::with_capacity(Answer::LARGEST_PIECE);
                let most = Answer::LARGEST_PIECE as u64;
                let read = file.by_ref().take(most).read_to_end(&mut piece);
                read.map_err(|error| Failure::other(format!("the file can't be read any more: {error}")))?;
                bar.inc(piece.len() as u64);
                if piece.is_empty() {
                    bar.finish_and_clear();
                }
                Ok(Some(Answer::Piece(SecretBytes::new(piece))))
            }
            _ => Ok(None),
        }
    }
}

fn open_file(path: &Path) -> Result<(File, u64), Failure> {
    let failed = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::NotFound { "; words come before -f, or with -m" } else { "" };
        Failure::usage(format!("{} can't be read: {error}{hint}", path.display()))
    };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("{} is not a file", path.display())));
    }
    Ok((file, meta.len()))
}

impl Output {
    /// A bar that shows how far a file is, if somebody looks.
    fn bar(self, name: &str, size: u64) -> ProgressBar {
        if !self.shows_bars() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
        let bar = ProgressBar::new(size).with_message(super::super::plain::field(name).into_owned());
        bar.set_style(style.expect("the template is one"));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}
