//! A person at one end: says what was encrypted before, and notes when something is heard.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use ruma::OwnedRoomId;
use sealbridge_lab::{Synapse, checker::Tag};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{PATIENCE, account::Account};

/// A person who listens all the while.
#[derive(Debug)]
pub(crate) struct Person {
    /// Their account.
    pub(crate) account: Arc<Account>,
    ears: Arc<Ears>,
    listening: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Ears {
    heard: Mutex<Vec<Heard>>,
    changed: Notify,
    trouble: Mutex<Option<String>>,
}

/// Something that was heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Where.
    pub(crate) room: OwnedRoomId,
    /// When the homeserver's answer came that brought it.
    pub(crate) at: Instant,
    /// The words.
    pub(crate) body: String,
}

impl Person {
    /// A new one on a homeserver; listens once this returns.
    pub(crate) async fn new(server: &Synapse, base: &str) -> Result<Self> {
        let user = server.register_unique(base).await?;
        let account = Arc::new(Account::log_in(server.url(), &user.localpart, &user.password).await?);
        let ears = Arc::new(Ears::default());
        let (came, mut coming) = tokio::sync::mpsc::unbounded_channel();
        let ready = Arc::new(Notify::new());
        let listening = tokio::spawn({
            let (account, ears, ready) = (Arc::clone(&account), Arc::clone(&ears), Arc::clone(&ready));
            async move {
                // Whoever reads is gone only when we are.
                let listen = account.listen(|| ready.notify_one(), |one| drop(came.send(one)));
                let hear = async {
                    while let Some(one) = coming.recv().await {
                        let read = account.read(&one).await?;
                        let body = read.as_ref().and_then(|content| content["body"].as_str());
                        if let Some(body) = body {
                            ears.hear(Heard { room: one.room, at: one.at, body: body.to_owned() });
                        }
                    }
                    Ok(())
                };
                let ended = tokio::select! { ended = listen => ended, ended = hear => ended };
                ears.fail(format!("{:#}", ended.err().unwrap_or_else(|| anyhow::anyhow!("it ended"))));
            }
        });
        ready.notified().await;
        Ok(Self { account, ears, listening })
    }

    /// Waits until a tagged message is heard, and says when it came.
    pub(crate) async fn hears(&self, tag: &Tag) -> Result<Heard> {
        let text = tag.text();
        let mut looked = 0;
        let wait = async {
            loop {
                let changed = self.ears.changed.notified();
                {
                    let heard = self.ears.heard();
                    if let Some(found) = heard[looked..].iter().find(|one| one.body.contains(&text)) {
                        return Ok(found.clone());
                    }
                    looked = heard.len();
                }
                ensure!(self.ears.trouble().is_none(), "{}", self.ears.trouble().unwrap_or_default());
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{text} is not heard"))?
    }

    /// Everything heard so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.ears.heard().clone()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Ears {
    fn heard(&self) -> std::sync::MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, heard: Heard) {
        self.heard().push(heard);
        self.changed.notify_waiters();
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.changed.notify_waiters();
    }
}
