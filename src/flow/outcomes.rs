//! Who waits for what becomes of messages, such as the program that brought them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sealbridge_contract::{Address, RemoteId, gate::Hold};
use tokio::sync::mpsc;

use super::attempt::Outcome;
use crate::store::Pending;

/// What became of a message at one conversation, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It is there, under this name.
    Arrived(RemoteId),
    /// It will not arrive, and why.
    Refused(String),
    /// It waits for something about its destination.
    Waits(Hold),
    /// It was tried in vain, and is tried again.
    Tried(String),
}

/// What became of a message of those that are waited for, and at which conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which message, as it is called where it came from.
    pub id: RemoteId,
    /// At which conversation.
    pub at: Address,
    /// What became of it.
    pub became: Became,
}

type Ear = (u64, mpsc::UnboundedSender<News>);

/// Those who wait.
#[derive(Debug, Default)]
pub struct Outcomes {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    ears: HashMap<(Address, RemoteId), Vec<Ear>>,
}

/// One who waits. Nobody does any more once it is dropped.
#[derive(Debug)]
pub struct Waiter {
    number: u64,
    from: Address,
    ids: Vec<RemoteId>,
    news: mpsc::UnboundedReceiver<News>,
    outcomes: Arc<Outcomes>,
}

impl Outcomes {
    /// Waits for what becomes of messages from now on.
    #[must_use]
    pub fn wait_for(self: &Arc<Self>, from: Address, ids: Vec<RemoteId>) -> Waiter {
        let (sender, news) = mpsc::unbounded_channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        for id in &ids {
            waiting.ears.entry((from.clone(), id.clone())).or_default().push((number, sender.clone()));
        }
        drop(waiting);
        Waiter { number, from, ids, news, outcomes: Arc::clone(self) }
    }

    /// Tells those who wait what came of an attempt.
    pub fn note(&self, pending: &Pending, to: &Address, outcome: &Outcome) {
        let waiting = self.lock();
        if waiting.ears.is_empty() {
            return;
        }
        let Some((from, ears)) = pending.from.as_ref().and_then(|from| Some((from, waiting.ears.get(from)?))) else {
            return;
        };
        let became = match outcome {
            Outcome::Delivered(id) => Became::Arrived(id.clone()),
            Outcome::Later(_, cause) => Became::Tried(cause.clone()),
            Outcome::LaneWaits(why) | Outcome::Held(why) => Became::Waits(*why),
            Outcome::LeftOut(why) | Outcome::NotHere(why) | Outcome::Dead(why) => Became::Refused(why.clone()),
        };
        for (_, ear) in ears {
            // Whoever went away does not want to know.
            let _ = ear.send(News { id: from.1.clone(), at: to.clone(), became: became.clone() });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// The next that is known of any of them.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.outcomes.lock();
        for id in &self.ids {
            let key = (self.from.clone(), id.clone());
            if let Some(ears) = waiting.ears.get_mut(&key) {
                ears.retain(|(number, _)| *number != self.number);
                if ears.is_empty() {
                    waiting.ears.remove(&key);
                }
            }
        }
    }
}
