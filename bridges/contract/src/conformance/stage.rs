//! What a case is played on: a rig, an inbox, and the transport, started and stopped as the case wants.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Accepted, Harness, MemoryIntake, Overheard, Rig, Say, Stop, Told, faces::Faces, watch::Canary};
use crate::{
    AccountName, Adapted, Album, AnyTransport, Author, Cleartext, Clock, Deduplication, DeliveryError, DeliveryId,
    Destination, Fatal, Fate, Found, Inbox, Loss, Manner, Message, Origin, PersonId, Receipt, RemoteId, Rule, Sealed,
    SealedInbox, SenderTrust, Slip, Trail, Verb, Verdict, abilities::Reactions, adapt, gate::Encryption,
    inbox::AccountStore, judge, message::Absence, names::Tags,
};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// No attempt may take longer.
const ATTEMPT: Duration = Duration::from_secs(90);

pub(crate) struct Stage<'h> {
    harness: &'h dyn Harness,
    pub(crate) canary: Arc<Canary>,
    pub(crate) intake: Arc<MemoryIntake>,
    pub(crate) rig: Rig,
    pub(crate) clock: Clock,
    transport: AnyTransport,
    running: Option<Running>,
    parcels: Mutex<HashMap<DeliveryId, Sealed>>,
    remarks: Mutex<Vec<String>>,
    count: AtomicU64,
}

struct Running {
    task: JoinHandle<Result<(), Fatal>>,
    stop: DropGuard,
}

/// Which kind of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    EndToEnd,
    OperatorRun,
    Carrier,
}

impl<'h> Stage<'h> {
    pub(crate) async fn set(harness: &'h dyn Harness, canary: Arc<Canary>) -> Told<Self> {
        let intake = Arc::new(MemoryIntake::default());
        let rig = harness.rig(&intake).await?;
        let clock = Clock::system();
        let transport = connect(&rig, &intake, &clock).await?;
        let (parcels, remarks, count) = Default::default();
        Ok(Self { harness, canary, intake, rig, clock, transport, running: None, parcels, remarks, count })
    }

    pub(crate) fn kind(&self) -> Type {
        match &self.transport {
            AnyTransport::EndToEnd(_) => Type::EndToEnd,
            AnyTransport::OperatorRun(_) => Type::OperatorRun,
            AnyTransport::Carrier(_) => Type::Carrier,
        }
    }

    pub(crate) fn transport(&self) -> &AnyTransport {
        &self.transport
    }

    pub(crate) fn quiet(&self) -> Duration {
        self.harness.quiet()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.harness.patience()
    }

    pub(crate) fn remark(&self, remark: impl Into<String>) {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).push(remark.into());
    }

    pub(crate) fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Words that nobody said before, with the canary in them.
    pub(crate) fn words(&self, about: &str) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{} {number} {about}", self.canary.word)
    }

    /// Starts to receive, and waits until the conversation can be spoken to.
    pub(crate) async fn start(&mut self) -> Told {
        self.start_without_waiting();
        self.until("it is connected and the conversation can be spoken to", async |stage| {
            let speaks = match &stage.transport {
                AnyTransport::EndToEnd(t) => t.encryption(&stage.rig.conversation) == Encryption::Pinned,
                AnyTransport::OperatorRun(t) => t.facts(&stage.rig.conversation).private_channel,
                AnyTransport::Carrier(_) => true,
            };
            Ok(speaks && stage.transport.common().health().connected)
        })
        .await
    }

    /// Starts to receive.
    pub(crate) fn start_without_waiting(&mut self) {
        let stop = CancellationToken::new();
        let (account, intake) = (self.rig.account.clone(), Arc::clone(&self.intake));
        let (transport, token) = (self.transport.clone(), stop.clone());
        let task = tokio::spawn(async move {
            match transport {
                AnyTransport::EndToEnd(t) => t.run(Inbox::new(account, intake), token).await,
                AnyTransport::OperatorRun(t) => t.run(Inbox::new(account, intake), token).await,
                AnyTransport::Carrier(t) => t.run(SealedInbox::new(account, intake), token).await,
            }
        });
        self.running = Some(Running { task, stop: stop.drop_guard() });
    }

    /// Stops in good order, and connects anew. Says how long the stop took.
    pub(crate) async fn stop(&mut self) -> Told<Duration> {
        let began = Instant::now();
        if let Some(Running { mut task, stop }) = self.running.take() {
            drop(stop);
            match tokio::time::timeout(self.patience(), &mut task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(fatal))) => return Err(self.broken(&fatal)),
                Ok(Err(_)) => return Err(Stop::failed("`run` panicked")),
                Err(_) => {
                    task.abort();
                    return Err(Stop::failed("`run` did not return after it was told to stop"));
                }
            }
        }
        let took = began.elapsed();
        self.connect().await?;
        Ok(took)
    }

    /// Waits until it ended by itself, and gives what it said.
    pub(crate) async fn ended(&mut self) -> Told<Result<(), Fatal>> {
        let Some(Running { mut task, stop: _stop }) = self.running.take() else {
            return Err(Stop::failed("it does not run"));
        };
        match tokio::time::timeout(self.patience(), &mut task).await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(_)) => Err(Stop::failed("`run` panicked")),
            Err(_) => {
                task.abort();
                Err(Stop::failed("`run` did not end, though nothing is accepted any more"))
            }
        }
    }

    /// Ends it between any two instructions that wait, as a kill would, and connects anew.
    pub(crate) async fn kill(&mut self) -> Told {
        if let Some(Running { task, stop }) = self.running.take() {
            task.abort();
            // Aborted is what it is to be.
            let _ = task.await;
            drop(stop);
        }
        self.connect().await
    }

    async fn connect(&mut self) -> Told {
        self.transport = connect(&self.rig, &self.intake, &self.clock).await?;
        Ok(())
    }

    fn broken(&self, fatal: &Fatal) -> Stop {
        let words = format!("{fatal} {fatal:?}");
        self.canary.search("a fatal error", &words);
        Stop::failed(format!("`run` ended: {}", if self.canary.is_in(&words) { "(with words in it)" } else { &words }))
    }

    /// Something was said there before: by the peer, or by us where nobody else speaks.
    pub(crate) async fn was_said(&mut self, words: &str) -> Told<RemoteId> {
        if self.hears().is_ok() {
            return self.says(words).await;
        }
        let (_, receipt) = self.send(words).await?;
        self.heard_once(words).await?;
        Ok(receipt.id)
    }

    /// Waits for what must happen.
    pub(crate) async fn until(&mut self, what: &str, mut there: impl AsyncFnMut(&Self) -> Told<bool>) -> Told {
        let deadline = Instant::now() + self.patience();
        loop {
            if there(self).await? {
                return Ok(());
            }
            if self.running.as_ref().is_some_and(|running| running.task.is_finished())
                && let Some(Running { task, .. }) = self.running.take()
            {
                return Err(match task.await {
                    Ok(Ok(())) => Stop::failed("`run` returned though nobody told it to stop"),
                    Ok(Err(fatal)) => self.broken(&fatal),
                    Err(_) => Stop::failed("`run` panicked"),
                });
            }
            if Instant::now() >= deadline {
                return Err(Stop::failed(format!("waited {:?} in vain until {what}", self.patience())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Watches for a while that something does not happen.
    pub(crate) async fn never(&mut self, what: &str, mut there: impl AsyncFnMut(&Self) -> Told<bool>) -> Told {
        let end = Instant::now() + self.quiet();
        while Instant::now() < end {
            if there(self).await? {
                return Err(Stop::failed(what));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether anything ever comes in.
    pub(crate) fn hears(&self) -> Told {
        self.harness.nothing_comes_in().map_or(Ok(()), |why| Err(Stop::cannot(why)))
    }

    /// The peer says words.
    pub(crate) async fn says(&self, words: &str) -> Told<RemoteId> {
        self.hears()?;
        self.rig.peer.say(Say { words: words.to_owned(), ..Say::default() }).await
    }

    /// Waits until a message was accepted, once and not again.
    pub(crate) async fn accepted(&mut self, id: &RemoteId) -> Told<Accepted> {
        self.until("the message is accepted", async |stage| Ok(!stage.all(id).is_empty())).await?;
        self.all(id).pop().ok_or_else(|| Stop::failed("an accepted message is gone"))
    }

    fn all(&self, id: &RemoteId) -> Vec<Accepted> {
        self.intake.accepted().into_iter().filter(|message| message.id == *id).collect()
    }

    /// A message of a person elsewhere.
    pub(crate) fn message(&self, words: &str) -> Message {
        let author = Author { id: PersonId::new("ann@elsewhere.example"), name: Some("Ann of Elsewhere".into()) };
        Message::text(author, self.clock.now(), words)
    }

    /// A slip for the rig's conversation.
    pub(crate) fn slip(&self) -> Slip {
        Slip::new(self.rig.conversation.clone(), DeliveryId::random(), self.clock.now())
    }

    /// Sends words, which must succeed.
    pub(crate) async fn send(&self, words: &str) -> Told<(Slip, Receipt)> {
        let slip = self.slip();
        let receipt = self.deliver(self.message(words), &slip).await?;
        Ok((slip, receipt))
    }

    /// Delivers, which must succeed.
    pub(crate) async fn deliver(&self, message: Message, slip: &Slip) -> Told<Receipt> {
        self.attempt(message, slip)
            .await?
            .map_err(|error| Stop::failed(format!("a delivery failed: {}", self.safe(&error))))
    }

    /// Delivers, which must fail.
    pub(crate) async fn fails(&self, message: Message, slip: &Slip) -> Told<Fate> {
        match self.attempt(message, slip).await? {
            Ok(_) => Err(Stop::failed("a delivery succeeded that must fail")),
            Err(error) => Ok(error.fate),
        }
    }

    /// Delivers once, through the gate.
    pub(crate) async fn attempt(&self, message: Message, slip: &Slip) -> Told<Result<Receipt, DeliveryError>> {
        let message = Cleartext::new(message);
        let (mut cannot, mut without_file) = (Vec::new(), None);
        let answer = loop {
            let (verb, answer) = match self.attempt_without(&message, slip, &cannot, without_file).await? {
                Ok(tried) => tried,
                Err(loss) => break Err(DeliveryError::give_up(loss.to_string())),
            };
            match answer {
                // As the journey does: what can't be in this form is tried in the next.
                Err(error) if error.fate == Fate::OtherForm && cannot.iter().all(|(known, _)| *known != verb) => {
                    cannot.push((verb, error.cause));
                }
                Err(DeliveryError { fate: Fate::WithoutFile(why), .. }) if without_file.is_none() => {
                    without_file = Some(why);
                }
                answer => break answer,
            }
        };
        match &answer {
            Ok(receipt) => self.canary.search("a receipt", &format!("{receipt:?} {}", receipt.id.as_str())),
            Err(error) => self.canary.search("an error", &format!("{error:?} {error}")),
        }
        Ok(answer)
    }

    /// One form of it. The inner error is what is lost of a message that does not cross.
    async fn attempt_without(
        &self,
        message: &Cleartext,
        slip: &Slip,
        cannot: &[(Verb, String)],
        without_file: Option<Absence>,
    ) -> Told<Result<(Verb, Result<Receipt, DeliveryError>), Loss>> {
        let tags = Tags::new(super::random_key());
        let abilities = self.transport.common().abilities();
        let read_there = self.kind() != Type::Carrier;
        let manner = Manner {
            abilities,
            reactions: Reactions::Native,
            most_file: u64::MAX,
            without_file,
            tags: &tags,
            namesake: false,
            read_there,
            cannot,
        };
        // As the journey does: a transport is given only what its datasheet says that it carries.
        let crossing = match adapt(message, slip.clone(), &manner) {
            Adapted::Crosses(crossing) => crossing,
            Adapted::LeftOut(loss) | Adapted::Rejected(loss) => return Ok(Err(loss)),
        };
        let answer = tokio::time::timeout(ATTEMPT, self.passes(crossing.message(), &crossing.slip)).await;
        let answer = answer.map_err(|_| Stop::failed(format!("an attempt took longer than {ATTEMPT:?}")))??;
        Ok(Ok((crossing.message().verb(), answer)))
    }

    async fn passes(&self, message: &Cleartext, slip: &Slip) -> Told<Result<Receipt, DeliveryError>> {
        let key = self.intake.far().key();
        let to = match &self.transport {
            AnyTransport::EndToEnd(t) => Destination::EndToEnd(t.encryption(&slip.to)),
            AnyTransport::OperatorRun(t) => Destination::OperatorRun(t.facts(&slip.to)),
            AnyTransport::Carrier(_) => Destination::Carrier(Some(key)),
        };
        let rule =
            Rule { most_hops: Trail::LONGEST + 1, most_bytes: usize::MAX, most_file: u64::MAX, ..Rule::default() };
        let origin = Origin { sender: SenderTrust::Local, said: message };
        let account = AccountName::parse("elsewhere").map_err(|error| Stop::failed(error.to_string()))?;
        let elsewhere = Album { account: &account, pictures: Some(&Faces) };
        match (judge(message, origin, &to, &rule), &self.transport) {
            (Verdict::Speak(cleared), AnyTransport::EndToEnd(t)) => {
                Ok(t.deliver(cleared.with_album(elsewhere), slip).await)
            }
            (Verdict::Speak(cleared), AnyTransport::OperatorRun(t)) => {
                Ok(t.deliver(cleared.with_album(elsewhere), slip).await)
            }
            (Verdict::Seal(sealing), AnyTransport::Carrier(t)) => {
                let parcel = {
                    let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
                    // Sealed once, so that every attempt carries the same bytes.
                    parcels.entry(slip.delivery).or_insert_with(|| sealing.seal(slip)).clone()
                };
                Ok(t.carry(&parcel, slip).await)
            }
            (Verdict::Hold(why), _) => Err(Stop::failed(format!("the gate holds it: {why}"))),
            (Verdict::Refuse(why), _) => Err(Stop::failed(format!("the gate refuses it: {why}"))),
            (Verdict::Speak(_) | Verdict::Seal(_), _) => Err(Stop::failed("the gate mistook one kind for another")),
        }
    }

    /// The bytes that were carried as `delivery`.
    pub(crate) fn parcel(&self, delivery: DeliveryId) -> Option<Sealed> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner).get(&delivery).cloned()
    }

    /// What is found of a delivery in doubt.
    pub(crate) async fn find(&self, slip: &Slip) -> Told<Found> {
        let found = self.transport.common().find(slip).await;
        found.map_err(|error| Stop::failed(format!("looking for a delivery failed: {}", self.safe(&error))))
    }

    /// Whether the same delivery twice is shown once.
    pub(crate) fn deduplicates(&self) -> bool {
        self.transport.common().abilities().deduplication != Deduplication::Never
    }

    pub(crate) fn ability(&self, verb: Verb) -> crate::Ability {
        self.transport.common().abilities().of(verb)
    }

    /// What the peer heard with these words in it.
    pub(crate) async fn heard(&self, words: &str) -> Told<Vec<Overheard>> {
        let heard = self.rig.peer.heard().await?;
        Ok(heard.into_iter().filter(|heard| neutral(&heard.words).contains(&neutral(words))).collect())
    }

    /// Waits until the peer heard these words, and watches that it does not hear them twice.
    pub(crate) async fn heard_once(&mut self, words: &str) -> Told<Overheard> {
        self.until("the peer hears it", async |stage| Ok(!stage.heard(words).await?.is_empty())).await?;
        self.never("the peer hears it twice", async |stage| Ok(stage.heard(words).await?.len() > 1)).await?;
        self.heard(words).await?.pop().ok_or_else(|| Stop::failed("what the peer heard is gone"))
    }

    /// Watches that the peer does not hear these words.
    pub(crate) async fn unheard(&mut self, words: &str) -> Told {
        self.never("the peer hears what it must not", async |stage| Ok(!stage.heard(words).await?.is_empty())).await
    }

    fn safe(&self, error: &DeliveryError) -> String {
        let words = format!("{error} ({:?})", error.fate);
        if self.canary.is_in(&words) { "(with words in it)".to_owned() } else { words }
    }
}

/// Text without what a network may take out of it: control and direction characters, and what stands for them.
pub(crate) fn neutral(text: &str) -> String {
    let kept = |c: &char| {
        let direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let control = c.is_control() && !matches!(c, '\n' | '\t');
        !(direction || control || *c == '\u{fffd}')
    };
    text.chars().filter(kept).collect()
}

async fn connect(rig: &Rig, intake: &Arc<MemoryIntake>, clock: &Clock) -> Told<AnyTransport> {
    let spool = Arc::new(intake.spool().clone());
    let intake: Arc<dyn crate::Intake> = Arc::<MemoryIntake>::clone(intake);
    let store = AccountStore::new(rig.account.clone(), intake);
    rig.near.connect(store, spool, clock.clone()).await
}
