//! Comparisons of identities that an admin makes in a direct chat.
//!
//! What is shown in a chat proves no more than the chat does. So emoji are shown to an admin alone whose key the config
//! names, and of somebody else: their own would prove nothing. An answer names the number that was shown with the emoji:
//! a server that keeps it back can't make it the answer to others.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use sealbridge_contract::{Address, Answer, Cleartext, Message, PersonId, Step, steps::Emoji};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::operator::{Action, Actor, Failure, Host, Performance, Progress, actions::BROKE, perform, plain};

/// So many go on at once.
const MOST: usize = 8;
/// So long somebody may take to compare.
const PATIENCE: Duration = Duration::from_secs(600);

/// Those that go on, by the chat that they are made in. They end with this value.
#[derive(Default)]
pub(super) struct Comparisons(HashMap<Address, Going>);

struct Going {
    by: PersonId,
    shown: Shown,
    answers: mpsc::Sender<Answer>,
    task: JoinHandle<()>,
}

/// The number of what is shown, while somebody compares.
type Shown = Arc<Mutex<Option<String>>>;

/// What somebody says of the emoji.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Those with this number are the same.
    Yes(String),
    /// They are not.
    No,
}

impl Comparisons {
    /// Begins one. What comes of it is said in the chat.
    ///
    /// # Errors
    /// In words for whoever asked.
    pub(super) fn begin(
        &mut self,
        host: Arc<dyn Host>,
        at: &Address,
        by: &PersonId,
        action: Action,
    ) -> Result<(), &str> {
        self.0.retain(|_, going| !going.task.is_finished());
        if self.0.contains_key(at) {
            return Err(
                "A comparison goes on here. It ends by itself after ten minutes; `!seal no` ends it once its emoji \
                        are shown.",
            );
        }
        if self.0.len() >= MOST {
            return Err("Too many comparisons go on at this moment. Try again in ten minutes.");
        }
        let actor = Actor::Person { person: by.clone(), at: at.clone() };
        let (answers, answered) = mpsc::channel(1);
        let shown = Shown::default();
        let performance = perform(Arc::clone(&host), actor, action);
        let table = Table { host, at: at.clone(), shown: Arc::clone(&shown), answered };
        let task = tokio::spawn(table.compare(performance));
        self.0.insert(at.clone(), Going { by: by.clone(), shown, answers, task });
        Ok(())
    }

    /// Takes what somebody says of the emoji that are shown in this chat.
    ///
    /// # Errors
    /// In words for whoever said it: it counts for nothing.
    pub(super) fn judge(&self, at: &Address, by: &PersonId, verdict: &Verdict) -> Result<(), &'static str> {
        const NOTHING: &str = "No emoji of yours are shown here at this moment.";
        let going = self.0.get(at).filter(|going| going.by == *by && !going.task.is_finished()).ok_or(NOTHING)?;
        let mut shown = going.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let number = shown.as_ref().ok_or(NOTHING)?;
        let answer = match verdict {
            Verdict::Yes(said) if said == number => Answer::Yes,
            Verdict::Yes(_) => {
                return Err("That is not the number that is shown with the emoji. Nothing is confirmed.");
            }
            Verdict::No => Answer::No,
        };
        *shown = None;
        going.answers.try_send(answer).map_err(|_| NOTHING)
    }
}

impl Drop for Comparisons {
    fn drop(&mut self) {
        self.0.values().for_each(|going| going.task.abort());
    }
}

/// Where one is made.
struct Table {
    host: Arc<dyn Host>,
    at: Address,
    shown: Shown,
    answered: mpsc::Receiver<Answer>,
}

impl Table {
    async fn compare(mut self, mut performance: Performance) {
        let mut answer = None;
        loop {
            let step = AssertUnwindSafe(performance.next(answer.take())).catch_unwind().await;
            match step.unwrap_or_else(|_| Err(Failure::other(BROKE))) {
                Ok(Progress::Step(Step::Compare(emoji))) => answer = Some(self.ask(&emoji).await),
                Ok(Progress::Step(Step::Show(words) | Step::Progress(words))) => drop(self.say(&words).await),
                Ok(Progress::Done(outcome)) => {
                    self.say(&outcome.words).await;
                    return;
                }
                Ok(Progress::Step(_)) => {
                    self.say("That is not done in a chat.").await;
                    return;
                }
                Err(failure) => {
                    self.say(&format!("That was not done: {failure}.")).await;
                    return;
                }
            }
        }
    }

    /// Shows the emoji, and waits for whoever compares them. Whoever was not shown them, or says nothing, says no.
    async fn ask(&mut self, emoji: &[Emoji]) -> Answer {
        let Some(number) = number() else { return Answer::No };
        let shown: Vec<_> = emoji.iter().map(|one| format!("{} {}", one.symbol, one.name)).collect();
        let words = format!(
            "The bridge sees: {}\nAsk the other person over another way what their client shows. If all of it is the same, \
             say `!seal yes {number}`; if not, `!seal no`.",
            shown.join(", ")
        );
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        let answer = match self.say(&words).await {
            true => tokio::time::timeout(PATIENCE, self.answered.recv()).await.ok().flatten(),
            false => None,
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
        answer.unwrap_or(Answer::No)
    }

    /// Whether it goes on its way.
    async fn say(&self, words: &str) -> bool {
        let words = plain::lines(words.trim_end());
        let notice = Cleartext::new(Message::notice(self.host.clock().now(), &words));
        self.host.journal().say(&self.at, notice, None).await.is_ok()
    }
}

/// Six digits that nobody knows before.
fn number() -> Option<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{:06}", u32::from_le_bytes(bytes) % 1_000_000))
}
