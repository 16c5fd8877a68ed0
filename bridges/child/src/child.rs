//! One running child: questions out, answers and notifications in.

use std::{
    collections::HashMap,
    fmt,
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
};
use zeroize::Zeroizing;

use crate::{
    CallError, Ended, Limits, Program, Refusal,
    lines::{self, Next},
    stderr,
    wire::{self, Said},
};

/// How many questions may wait to be written.
const QUESTIONS: usize = 64;

/// Words of an answer, erased on drop.
type Words = Zeroizing<String>;
type Answered = Result<Words, Refusal>;
type Waiting = Mutex<HashMap<u64, oneshot::Sender<Answered>>>;

/// A running child. It is killed when the last clone is dropped.
#[derive(Clone)]
pub struct Child(Arc<Inner>);

struct Inner {
    pid: u32,
    limits: Limits,
    next: AtomicU64,
    questions: mpsc::Sender<Zeroizing<Vec<u8>>>,
    notifications: AsyncMutex<mpsc::Receiver<Notification>>,
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<Ended>>,
}

struct Shared {
    waiting: Waiting,
    /// Why it is to be killed.
    kill: watch::Sender<Option<Ended>>,
}

/// What a child says without being asked.
pub struct Notification {
    /// What it is about.
    pub method: String,
    params: Words,
}

impl Notification {
    /// What it says. `None` if it is of another form.
    #[must_use]
    pub fn params<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.params).ok()
    }
}

impl Child {
    /// Starts a child. Must be called within a runtime, which must live as long as the child.
    ///
    /// # Errors
    /// The binary can't be run.
    pub fn start(program: &Program) -> std::io::Result<Self> {
        let inherited = Program::INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut process = Command::new(&program.binary)
            .args(&program.arguments)
            .env_clear()
            .envs(inherited)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&program.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us, and we stop our children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || std::io::Error::other("a pipe to the child is missing");
        let pid = process.id().ok_or_else(missing)?;
        let stdin = process.stdin.take().ok_or_else(missing)?;
        let stdout = process.stdout.take().ok_or_else(missing)?;
        let stderr = process.stderr.take().ok_or_else(missing)?;

        let (kill, killed) = watch::channel(None);
        let shared = Arc::new(Shared { waiting: Waiting::default(), kill });
        let (questions, queue) = mpsc::channel(QUESTIONS);
        let (notify, notifications) = mpsc::channel(program.limits.notifications.max(1));
        let (tell, ended) = watch::channel(None);
        tokio::spawn(write(stdin, queue));
        tokio::spawn(stderr::drain(stderr, pid));
        let reading = tokio::spawn(read(stdout, program.limits.line, notify, Arc::clone(&shared)));
        tokio::spawn(async move {
            let why = reap(process, killed).await;
            // What it said before it ended is still read. A pipe that a grandchild holds open is not waited for.
            let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
            tracing::debug!(pid, %why, "The engine ended.");
            tell.send_replace(Some(why));
        });
        tracing::debug!(pid, "The engine was started.");
        let next = AtomicU64::new(1);
        let notifications = AsyncMutex::new(notifications);
        Ok(Self(Arc::new(Inner { pid, limits: program.limits, next, questions, notifications, shared, ended })))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Asks, and waits for the answer within the usual time.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize + Send,
    ) -> Result<T, CallError> {
        self.call_within(self.0.limits.answer, method, params).await
    }

    /// Asks, and waits for the answer within a time of its own.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        within: Duration,
        method: &'static str,
        params: impl Serialize + Send,
    ) -> Result<T, CallError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let line = wire::question(id, method, params).ok_or(CallError::Question { method })?;
        let (answer, answered) = oneshot::channel();
        let _forgotten = Forget(&self.0.shared.waiting, id);
        lock(&self.0.shared.waiting).insert(id, answer);
        let asked = async {
            // Nobody writes any more: the child has ended, or is about to.
            let _ = self.0.questions.send(line).await;
            answered.await
        };
        let answer = tokio::select! {
            biased;
            asked = tokio::time::timeout(within, asked) => asked,
            why = self.ended() => return Err(CallError::Ended(why)),
        };
        match answer {
            Err(_) => Err(CallError::Late { method, within }),
            Ok(Err(_)) => Err(CallError::Ended(self.ended().await)),
            Ok(Ok(Err(refusal))) => Err(CallError::Refused { method, refusal }),
            Ok(Ok(Ok(words))) => serde_json::from_str(&words).map_err(|_| CallError::Form { method }),
        }
    }

    /// What it says next without being asked, or why there will be nothing more.
    ///
    /// # Errors
    /// [`Ended`], once everything before it was taken.
    pub async fn notification(&self) -> Result<Notification, Ended> {
        let next = self.0.notifications.lock().await.recv().await;
        match next {
            Some(notification) => Ok(notification),
            None => Err(self.ended().await),
        }
    }

    /// Waits until it has ended and was reaped, and says why.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Ended::Unknown),
            Err(_) => Ended::Unknown,
        }
    }

    /// Kills it, and waits until it was reaped.
    pub async fn stop(&self) {
        self.0.shared.kill(Ended::Stopped);
        self.ended().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.kill(Ended::Stopped);
    }
}

impl Shared {
    fn kill(&self, why: Ended) {
        // The first reason is the true one.
        self.kill.send_if_modified(|set| {
            let first = set.is_none();
            set.get_or_insert(why);
            first
        });
    }
}

/// A question that nobody waits for any more needs no answer.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

/// Writes questions, each whole, until nobody asks any more or the child does not listen.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Zeroizing<Vec<u8>>>) {
    while let Some(line) = queue.recv().await {
        if stdin.write_all(&line).await.is_err() || stdin.flush().await.is_err() {
            // Whoever waits learns it from the child's end.
            return;
        }
    }
}

/// Reads until the end, and says why it must be killed if it still runs.
async fn read(stdout: ChildStdout, most: usize, notify: mpsc::Sender<Notification>, shared: Arc<Shared>) {
    let why = read_all(stdout, most, &notify, &shared).await;
    shared.kill(why);
    // Nobody will answer these any more.
    lock(&shared.waiting).clear();
}

async fn read_all(stdout: ChildStdout, most: usize, notify: &mpsc::Sender<Notification>, shared: &Shared) -> Ended {
    let mut from = BufReader::new(stdout);
    let mut line = Zeroizing::new(Vec::new());
    loop {
        match lines::next(&mut from, &mut line, most).await {
            Ok(Next::Line) => {}
            Ok(Next::End) | Err(_) => return Ended::Closed,
            Ok(Next::TooLong) => return Ended::LineTooLong,
        }
        match wire::read(&line) {
            Some(Said::Answer(id, result)) => shared.answer(id, Ok(Zeroizing::new(result.get().to_owned()))),
            Some(Said::No(id, code, message)) => shared.answer(id, Err(Refusal::new(code, message))),
            Some(Said::Notification(method, params)) => {
                let params = params.map_or("null", serde_json::value::RawValue::get);
                let notification = Notification { method, params: Zeroizing::new(params.to_owned()) };
                if notify.send(notification).await.is_err() {
                    return Ended::Stopped;
                }
            }
            None => return Ended::Garbage,
        }
    }
}

impl Shared {
    fn answer(&self, id: u64, answer: Answered) {
        // An answer that nobody waits for any more came too late.
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _ = waiting.send(answer);
        }
    }
}

/// Waits until the process is gone, and kills it when it must be.
async fn reap(mut process: tokio::process::Child, mut killed: watch::Receiver<Option<Ended>>) -> Ended {
    let why = tokio::select! {
        status = process.wait() => return ended(status, Ended::Unknown),
        why = killed.wait_for(Option::is_some) => why.ok().and_then(|why| *why).unwrap_or(Ended::Stopped),
    };
    if why == Ended::Closed
        // It is most likely on its way out, and its exit code says more.
        && let Ok(status) = tokio::time::timeout(GRACE, process.wait()).await
    {
        return ended(status, why);
    }
    // It may have ended this very moment.
    let _ = process.kill().await;
    why
}

/// How long a child that closed its output may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);

fn ended(status: std::io::Result<std::process::ExitStatus>, otherwise: Ended) -> Ended {
    let Ok(status) = status else { return otherwise };
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => otherwise,
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answered>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({})", self.0.pid)
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notification({}, redacted)", self.method)
    }
}
