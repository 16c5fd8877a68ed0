//! Everything that a person ever received, which tests wait on and checkers read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;
use tokio::time::Instant;

use super::received::{Message, Received, Undecryptable};

#[derive(Debug)]
pub(super) struct Inbox {
    received: Mutex<Vec<Received>>,
    /// How many there are, so that a waiter looks again.
    count: watch::Sender<usize>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { received: Mutex::new(Vec::new()), count: watch::Sender::new(0) }
    }

    pub(super) fn push(&self, one: Received) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(one);
        self.count.send_replace(received.len());
    }

    /// Reads everything received so far without copying it.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn messages(&self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        self.read(|all| {
            let messages = all.iter().filter_map(|one| match one {
                Received::Message(message) if wanted(message) => Some(message.clone()),
                _ => None,
            });
            messages.collect()
        })
    }

    /// What could not be read and still can't.
    pub(super) fn undecryptable(&self) -> Vec<Undecryptable> {
        self.read(|all| {
            let mut unread: HashMap<&str, (usize, &Undecryptable)> = HashMap::new();
            for (position, one) in all.iter().enumerate() {
                match one {
                    Received::Undecryptable(event) => {
                        unread.insert(&event.event_id, (position, event));
                    }
                    Received::Message(message) => {
                        unread.remove(message.event_id.as_str());
                    }
                    Received::Event(event) => {
                        unread.remove(event.event_id.as_str());
                    }
                    _ => {}
                }
            }
            let mut unread: Vec<_> = unread.into_values().collect();
            unread.sort_by_key(|(position, _)| *position);
            unread.into_iter().map(|(_, event)| event.clone()).collect()
        })
    }

    /// The first thing received, ever, for which `pick` answers something.
    pub(super) async fn wait<T>(&self, pick: impl Fn(&Received) -> Option<T>, within: Duration) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut count = self.count.subscribe();
        let mut looked_at = 0;
        loop {
            count.mark_unchanged();
            let (found, stopped) = self.read(|all| {
                let new = &all[looked_at..];
                looked_at = all.len();
                let stopped = new.iter().find_map(|one| match one {
                    Received::Stopped { reason } => Some(reason.clone()),
                    _ => None,
                });
                (new.iter().find_map(&pick), stopped)
            });
            if let Some(found) = found {
                return Ok(found);
            }
            if let Some(reason) = stopped {
                bail!("The person's client stopped: {reason}");
            }
            match tokio::time::timeout_at(deadline, count.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("The person is gone"),
                Err(_) => bail!("Not received within {} ms, among {looked_at} things received", within.as_millis()),
            }
        }
    }
}
