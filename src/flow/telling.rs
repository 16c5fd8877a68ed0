//! What the people where a message was written are told of it: what of it does not cross as they meant it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sealbridge_contract::{Address, Cleartext, Clock, Loss, Message, PersonId, RemoteId, Target, Timestamp, Verb};

use crate::store::{JournalError, Pending, SharedJournal};

/// For as long as this, in milliseconds, somebody's files are counted together.
const TIME: i64 = 10 * 60_000;
/// Of as many of them each is told; the rest is told of once.
const MOST: u32 = 10;

/// Tells, and knows how much it told.
pub(super) struct Telling {
    journal: SharedJournal,
    clock: Clock,
    files: Mutex<Told>,
}

/// How many of somebody's files were told of, in the time with this number.
#[derive(Default)]
struct Told {
    time: i64,
    files: HashMap<(Address, PersonId), u32>,
}

impl Told {
    /// How many were told of in the time of this moment.
    fn at(&mut self, time: i64) -> &mut HashMap<(Address, PersonId), u32> {
        if self.time != time {
            *self = Self { time, ..Self::default() };
        }
        &mut self.files
    }
}

impl Telling {
    /// Tells by way of this journal.
    #[must_use]
    pub(super) fn new(journal: SharedJournal, clock: Clock) -> Self {
        Self { journal, clock, files: Mutex::default() }
    }

    /// Tells what is lost of a delivery that is done with, once for each kind and link.
    ///
    /// # Errors
    /// [`JournalError`]: it was not enqueued.
    pub(super) async fn tell(&self, pending: &Pending, to: &Address, lost: &[Loss]) -> Result<(), JournalError> {
        let (Some((from, _)), Some(link)) = (&pending.from, &pending.link) else { return Ok(()) };
        for loss in lost.iter().filter(|loss| is_worth_telling(**loss)) {
            let topic = format!("lost {} {link} {to}", loss.topic());
            self.say(from, &format!("Over the link {link}: {loss}."), None, &topic).await?;
        }
        Ok(())
    }

    /// Tells of the file that a delivery does without, in answer to its message: somebody waits for each. Once for each
    /// reason, however many conversations do not get it. To be called before its words are sent: their echo may be what
    /// concludes it, and then nobody would tell.
    ///
    /// # Errors
    /// [`JournalError`]: it was not enqueued.
    pub(super) async fn tell_of_file(&self, pending: &Pending, lost: &[Loss]) -> Result<(), JournalError> {
        let (Some((from, id)), Some(link)) = (&pending.from, &pending.link) else { return Ok(()) };
        let whys = lost.iter().filter_map(|loss| if let Loss::NoFile(why) = loss { Some(*why) } else { None });
        let Some(why) = whys.last() else { return Ok(()) };
        let by = pending.message.author();
        let time = self.clock.now().0.div_euclid(TIME);
        let key = (from.clone(), by.clone());
        let told = self.lock().at(time).get(&key).copied().unwrap_or_default();
        if told >= MOST {
            let words = "More files of one person did not cross. For some minutes they are not told of one by one.";
            return self.say(from, words, None, &format!("more files {} {time}", by.as_str())).await.map(drop);
        }
        let words = format!("Over the link {link}: {}.", Loss::NoFile(why));
        // By its numbers, too: whatever takes less says something else.
        let topic = format!("file {why:?} {}", id.as_str());
        if self.say(from, &words, Some(id), &topic).await? {
            *self.lock().at(time).entry(key).or_default() += 1;
        }
        Ok(())
    }

    async fn say(
        &self,
        at: &Address,
        words: &str,
        about: Option<&RemoteId>,
        topic: &str,
    ) -> Result<bool, JournalError> {
        let now: Timestamp = self.clock.now();
        let reply_to = about.map(|id| Target::new(id.clone()));
        let notice = Cleartext::new(Message { reply_to, ..Message::notice(now, words) });
        self.journal.say(at, notice, Some(topic)).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telling")
    }
}

/// Each file is told of by itself. What has no other form anywhere is told to nobody, nor that somebody is not called: programs call whom they answer,
/// and the name is there in any case.
fn is_worth_telling(loss: Loss) -> bool {
    use Verb::{Membership, Mention, NameAndPicture, Other, Timer};
    !matches!(loss, Loss::NoFile(_) | Loss::Degraded(Timer | Membership | NameAndPicture | Other | Mention))
}
