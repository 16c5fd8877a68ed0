//! The desktop's keyring, by the Secret Service's own `secret-tool`: a child process that takes and gives the key over
//! pipes. So the key is in no argument, no variable and no file, and the service has no D-Bus of its own.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::operator::{Failure, FailureKind};

/// What asks the keyring. Debian has it in `libsecret-tools`.
const TOOL: &str = "secret-tool";

/// How long a keyring may take: somebody may have to type what opens it.
const PATIENCE: Duration = Duration::from_secs(120);

/// No answer is longer.
const LONGEST: usize = 4096;

/// Which of a folder's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that is in force.
    Current,
    /// One that takes its place in a moment.
    Next,
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Self::Current => "root",
            Self::Next => "next-root",
        }
    }
}

/// Reads the key of a state folder. `None`: the keyring has none.
pub(super) fn look_up(state: &Path, which: Which) -> Result<Option<Zeroizing<String>>, Failure> {
    let found = ask("lookup", &[], state, which, None)?;
    if found.status.success() && !found.said.is_empty() {
        let text = std::str::from_utf8(&found.said).map_err(|_| failure(FailureKind::Config, WRONG.to_owned()))?;
        return Ok(Some(Zeroizing::new(text.trim_end_matches('\n').to_owned())));
    }
    found.refuse_trouble("read")?;
    // Of what is locked the tool says nothing, as of what is not there. What it shows of one that is there it shows
    // without asking anybody to unlock it.
    let shown = ask("search", &["--all"], state, which, None)?;
    shown.refuse_trouble("searched")?;
    if shown.said.is_empty() {
        return Ok(None);
    }
    Err(failure(FailureKind::Temporary, "the desktop's keyring is locked: unlock it, and try again".to_owned()))
}

/// Keeps the key of a state folder, in the place of one that it may have.
pub(super) fn keep(state: &Path, which: Which, text: &str) -> Result<(), Failure> {
    let kept = ask("store", &["--label=Sealbridge root key"], state, which, Some(text.trim_end()))?;
    if kept.status.success() {
        return Ok(());
    }
    kept.refuse_trouble("written to")?;
    Err(failure(FailureKind::Temporary, "the desktop's keyring takes no key: is it locked?".to_owned()))
}

/// Forgets a key of a state folder.
pub(super) fn forget(state: &Path, which: Which) -> Result<(), Failure> {
    ask("clear", &[], state, which, None)?.refuse_trouble("written to")
}

/// How somebody puts a key there by hand.
pub(super) fn command(state: &Path) -> String {
    format!(
        "secret-tool store --label='Sealbridge root key' application sealbridge key {} state '{}'",
        Which::Current.word(),
        state.display()
    )
}

const WRONG: &str = "what the desktop's keyring has for this state folder is no root key";

/// What came of a question.
struct Answer {
    status: ExitStatus,
    said: Zeroizing<Vec<u8>>,
    /// What is wrong, in the tool's words.
    complained: String,
}

impl Answer {
    fn refuse_trouble(&self, what: &str) -> Result<(), Failure> {
        if self.status.success() || self.complained.is_empty() {
            return Ok(());
        }
        let words = format!("the desktop's keyring can't be {what}: {}", self.complained);
        Err(failure(FailureKind::Temporary, words))
    }
}

fn ask(verb: &str, options: &[&str], state: &Path, which: Which, key: Option<&str>) -> Result<Answer, Failure> {
    let mut child = Command::new(TOOL)
        .arg(verb)
        .args(options)
        .args(["application", "sealbridge", "key", which.word(), "state"])
        .arg(state)
        .stdin(if key.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failure(FailureKind::Config, missing(&error)))?;
    let answered = converse(&mut child, key);
    if answered.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    answered.map_err(|error| {
        let words = match error.kind() {
            io::ErrorKind::TimedOut => format!(
                "the desktop's keyring did not answer within {} s: does it wait for somebody to unlock it?",
                PATIENCE.as_secs()
            ),
            _ => format!("{TOOL} could not be spoken to: {error}"),
        };
        failure(FailureKind::Temporary, words)
    })
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "the root key is in the desktop's keyring, and {TOOL} is not there: install it (Debian: libsecret-tools)"
            )
        }
        _ => format!("{TOOL} can't be run: {error}"),
    }
}

/// Says the key, waits for the end, and hears what was said. No thread: the service has only one until it is confined.
fn converse(child: &mut Child, key: Option<&str>) -> io::Result<Answer> {
    if let (Some(mut stdin), Some(key)) = (child.stdin.take(), key) {
        match stdin.write_all(key.as_bytes()) {
            // It ended at once, and says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    // What it says is shorter than what a pipe holds, so it ends without being heard.
    let give_up = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > give_up {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = heard(child.stdout.take())?;
    let complained = heard(child.stderr.take())?;
    let words = String::from_utf8_lossy(&complained);
    let words = words.lines().next().unwrap_or_default().trim_start_matches("secret-tool: ").to_owned();
    Ok(Answer { status, said, complained: words })
}

fn heard(from: Option<impl io::Read>) -> io::Result<Zeroizing<Vec<u8>>> {
    // A key fits, so that it is never moved in memory and left behind.
    let mut said = Zeroizing::new(Vec::with_capacity(LONGEST));
    if let Some(from) = from {
        from.take(LONGEST as u64).read_to_end(&mut said)?;
    }
    Ok(said)
}

fn failure(kind: FailureKind, words: String) -> Failure {
    Failure::new(kind, words)
}
