//! What the people where a message was written are told of it: what of it does not cross as they meant it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sealbridge_contract::{Address, Cleartext, Loss, Message, PersonId, RemoteId, Target, Timestamp, Verb};

use crate::{notices, store::Pending};

/// For as long as this, in milliseconds, what somebody is told of message by message is counted together.
const TIME: i64 = 10 * 60_000;
/// Of as many of them each is told; the rest is told of once.
const MOST: u32 = 10;

/// Something to tell where a message was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Where.
    pub(super) at: Address,
    /// The same topic is told there once.
    pub(super) topic: String,
    words: String,
    /// The message that it answers.
    about: Option<RemoteId>,
}

impl Word {
    /// The same as a message.
    pub(super) fn notice(&self, now: Timestamp) -> Cleartext {
        let reply_to = self.about.clone().map(Target::new);
        Cleartext::new(Message { reply_to, ..Message::notice(now, &self.words) })
    }
}

/// What is lost of a delivery that is done with, to be told once for each kind and link, and for each reason why one of a
/// kind that else crosses did not. A source of notices loses nothing of what it hears, and nobody reads where it says
/// something.
pub(super) fn of_losses(pending: &Pending, to: &Address, lost: &[Loss]) -> Vec<Word> {
    let (Some((from, _)), Some(link)) = (&pending.from, &pending.link) else { return Vec::new() };
    if [from, to].into_iter().any(notices::is_source) {
        return Vec::new();
    }
    let word = |loss: &Loss| Word {
        at: from.clone(),
        topic: format!("lost {} {link} {to}", loss.topic()),
        words: format!("Over the link {link}: {loss}."),
        about: None,
    };
    lost.iter().filter(|loss| is_worth_telling(loss)).map(word).collect()
}

/// How much of each person was told of lately, message by message.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    /// The number of this time.
    time: i64,
    words: HashMap<(Address, PersonId), u32>,
}

impl Lately {
    fn at(&mut self, now: Timestamp) -> &mut HashMap<(Address, PersonId), u32> {
        let time = now.0.div_euclid(TIME);
        if self.time != time {
            *self = Self { time, ..Self::default() };
        }
        &mut self.words
    }
}

impl Told {
    /// What to tell of the file that a delivery does without, or of words that are too long for it, in answer to its
    /// message, since somebody waits for each. Once for each reason, however many conversations do not get it. To be
    /// told before the words of a file are sent: their echo may be what concludes it, and then nobody would tell.
    pub(super) fn word(&self, pending: &Pending, lost: &[Loss], now: Timestamp) -> Option<Word> {
        let ((from, id), link) = (pending.from.as_ref()?, pending.link.as_ref()?);
        let loss = lost.iter().find(|loss| matches!(loss, Loss::NoFile(_) | Loss::TooLong(_)))?;
        let what = if matches!(loss, Loss::NoFile(_)) { "files" } else { "long messages" };
        let at = from.clone();
        let by = pending.message.author();
        if self.lock().at(now).get(&(at.clone(), by.clone())).is_some_and(|told| *told >= MOST) {
            let topic = format!("more {what} {} {}", by.as_str(), now.0.div_euclid(TIME));
            let more = format!("More {what} of one person did not cross. ");
            let words = more + "For some minutes they are not told of one by one.";
            return Some(Word { at, topic, words, about: None });
        }
        // By its numbers, too: whatever takes less says something else.
        let topic = match loss {
            Loss::NoFile(why) => format!("file {why:?} {}", id.as_str()),
            loss => format!("{loss:?} {}", id.as_str()),
        };
        let words = format!("Over the link {link}: {loss}.");
        Some(Word { at, topic, words, about: Some(id.clone()) })
    }

    /// Counts a word that was not told before.
    pub(super) fn count(&self, word: &Word, by: &PersonId, now: Timestamp) {
        if word.about.is_some() {
            *self.lock().at(now).entry((word.at.clone(), by.clone())).or_default() += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each file, and what is too long, is told of by itself. What has no other form anywhere is told to nobody, nor that somebody is not called:
/// programs call whom they answer, and the name is there in any case.
fn is_worth_telling(loss: &Loss) -> bool {
    use Verb::{Membership, Mention, NameAndPicture, Other, Timer};
    !matches!(
        loss,
        Loss::NoFile(_) | Loss::TooLong(_) | Loss::Degraded(Timer | Membership | NameAndPicture | Other | Mention)
    )
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{AccountName, Author, ConversationId, DeliveryId, SenderTrust, message::Absence};

    use super::*;
    use crate::{notices::SourceName, store::LinkName};

    fn pending(by: &str, id: &str) -> Pending {
        let account = AccountName::parse("a").expect("a name");
        let from = Address { account, conversation: ConversationId::new("room") };
        let author = Author { id: PersonId::new(by), name: None };
        Pending {
            number: 1,
            delivery: DeliveryId::random(),
            link: LinkName::parse("both").ok(),
            from: Some((from, RemoteId::new(id))),
            message: Cleartext::new(Message::text(author, Timestamp(0), "look")),
            trust: SenderTrust::Proven,
            reply_to: None,
            thread: None,
            about: None,
            erased: None,
            attempt: 0,
            not_before: Timestamp(0),
            enqueued_at: Timestamp(0),
            last: true,
        }
    }

    #[test]
    fn of_many_files_of_one_person_some_are_told_of_and_then_one_word_more() {
        let told = Told::default();
        let lost = [Loss::NoFile(Absence::NotAsSaid)];
        let tell = |by: &str, number: u32, now: i64| {
            let (pending, now) = (pending(by, &format!("${number}")), Timestamp(now));
            let word = told.word(&pending, &lost, now).expect("there is something to tell");
            told.count(&word, &PersonId::new(by), now);
            word
        };
        let about = |word: &Word| word.about.as_ref().map(|id| id.as_str().to_owned());
        for number in 0..MOST {
            assert_eq!(about(&tell("ann", number, 0)), Some(format!("${number}")));
        }
        let [more, again] = [tell("ann", 100, 1), tell("ann", 101, TIME - 1)];
        assert_eq!((about(&more), &more), (None, &again), "it is told of once");
        assert!(about(&tell("ben", 102, 2)).is_some(), "nobody else is told less for it");
        assert!(about(&tell("ann", 103, TIME)).is_some(), "nor for ever");
    }

    #[test]
    fn each_reason_is_another_topic_and_words_of_our_own_are_told_to_nobody() {
        let (told, now) = (Told::default(), Timestamp(0));
        let topic = |pending: &Pending, why| told.word(pending, &[Loss::NoFile(why)], now).map(|word| word.topic);
        let anns = pending("ann", "$1");
        let whys = [Absence::Refused, Absence::TooLarge { most: Some(1) }, Absence::TooLarge { most: Some(2) }];
        let topics: std::collections::BTreeSet<_> = whys.iter().filter_map(|why| topic(&anns, *why)).collect();
        assert_eq!(topics.len(), whys.len());
        assert_eq!(told.word(&anns, &[], now), None);
        assert_eq!(topic(&Pending { from: None, link: None, ..pending("ann", "$1") }, Absence::Refused), None);
        let losses = [Loss::NoFile(Absence::Refused), Loss::Degraded(Verb::Edit), Loss::Degraded(Verb::Mention)];
        let (at, _) = anns.from.clone().expect("it came from somewhere");
        assert_eq!(of_losses(&anns, &at, &losses).len(), 1);
        let source = SourceName::parse("prom").expect("a name").address();
        assert_eq!(of_losses(&anns, &source, &losses), []);
        let prom = Pending { from: Some((source, RemoteId::new("1"))), ..pending("notices/prom", "1") };
        assert_eq!(of_losses(&prom, &at, &losses), []);
    }
}
