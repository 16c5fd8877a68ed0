//! One attempt at one delivery: the gate speaks again, the transport delivers, and the lane is told what came of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use fail::fail_point;
use sealbridge_contract::{
    Adapted, Address, Album, AnyTransport, Cleared, Clock, Deduplication, DeliveryError, DeliveryId, Fate, Found, Loss,
    Manner, Origin, Picture, PictureId, Pictures, Receipt, RemoteId, Slip, Timestamp, Transport, Verb, Verdict, adapt,
    gate::Hold, judge, message::Absence, names::Tags, trail::MarkKey,
};

use super::{
    namesakes::Namesakes,
    table::{Table, TableHandle},
    telling::Told,
};
use crate::{
    notices,
    store::{JournalError, Pending, SharedJournal},
};

/// The fates of what never will be delivered.
macro_rules! never {
    () => {
        Fate::GiveUp | Fate::OtherForm | Fate::WithoutFile(_) | Fate::TooLong { .. }
    };
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, under this name.
    Delivered(RemoteId),
    /// Not there yet; try again after this long.
    Later(Duration, String),
    /// Something about the destination is missing: the lane waits, in order.
    LaneWaits(Hold),
    /// Its link is paused: it is kept aside, and the others of the lane go on.
    Held(Hold),
    /// It is not to arrive, and that is as it should be.
    LeftOut(String),
    /// Its link does not lead here any more: it was moved along with the link, or nobody will take it.
    NotHere(String),
    /// It will not arrive.
    Dead(String),
}

/// An attempt: what came of it, and what its author meant and the readers do not get as it was meant.
#[derive(Debug)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// What was lost on the way.
    pub lost: Vec<Loss>,
}

impl From<Outcome> for Attempt {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, lost: Vec::new() }
    }
}

/// Makes attempts.
pub struct Attempts {
    table: TableHandle,
    marks: MarkKey,
    tags: Arc<Tags>,
    namesakes: Namesakes,
    journal: SharedJournal,
    told: Told,
    /// What was enqueued before this may have been delivered by the service of which a backup was made.
    doubt: Timestamp,
    clock: Clock,
}

impl std::fmt::Debug for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempts")
    }
}

impl Attempts {
    /// Attempts by the table that is valid at each. What was enqueued before `doubt` is looked for before it is sent.
    #[must_use]
    pub fn new(
        table: TableHandle,
        journal: SharedJournal,
        marks: MarkKey,
        tags: Tags,
        doubt: Timestamp,
        clock: Clock,
    ) -> Self {
        let tags = Arc::new(tags);
        let namesakes = Namesakes::new(SharedJournal::clone(&journal), Arc::clone(&tags));
        Self { table, marks, tags, namesakes, journal, told: Told::default(), doubt, clock }
    }

    /// Tries once. May take as long as the transport's own timeouts.
    pub async fn attempt(&self, to: &Address, pending: &Pending) -> Attempt {
        // Several sources may speak in one room, and each hears what is done to its own words alone.
        if notices::is_source(to) && pending.from.is_some() && pending.about.is_none() {
            return Outcome::LeftOut("it is about nothing that this source said".into()).into();
        }
        let table = self.table.now();
        let Some(transport) = table.transport(&to.account) else {
            return no_transport(&table, to).into();
        };
        let mut slip = Slip {
            attempt: pending.attempt,
            trail: self.trail(pending),
            reply_to: pending.reply_to.clone(),
            thread: pending.thread.clone(),
            about: pending.about.clone(),
            ..Slip::new(to.conversation.clone(), pending.delivery, pending.enqueued_at)
        };
        if let Some(known) = self.look(transport, &slip).await {
            return known.into();
        }
        if let Some(erased) = pending.erased {
            match look_for_erased(transport, &slip, erased).await {
                Ok(there) => slip.about = Some(there),
                Err(outcome) => return outcome.into(),
            }
        }
        fail_point!("flow::before-deliver");
        // Looking may have taken long: the gate judges by what is so now.
        let table = self.table.now();
        let mut forms = Forms::default();
        let outcome = loop {
            match self.deliver(&table, transport, to, pending, &slip, &mut forms).await {
                Ok(receipt) => break Outcome::Delivered(receipt.id),
                Err(Stop::Gate(outcome)) => break outcome,
                // Each turn has one verb more, and there are not many.
                Err(Stop::Form(verb, error)) if forms.cannot.iter().all(|(known, _)| *known != verb) => {
                    forms.cannot.push((verb, error.cause));
                }
                Err(Stop::File(why, _)) if forms.without_file.is_none() => forms.without_file = Some(why),
                Err(Stop::Form(_, error) | Stop::File(_, error) | Stop::Network(error)) => {
                    break match self.tell_if_too_long(pending, &error, &mut forms).await {
                        Ok(()) => after_failure(transport, &slip, error),
                        Err(error) => Outcome::Later(pause(slip.attempt), format!("its author can't be told: {error}")),
                    };
                }
            }
        };
        fail_point!("flow::after-deliver");
        Attempt { outcome, lost: forms.lost }
    }

    fn trail(&self, pending: &Pending) -> sealbridge_contract::Trail {
        let trail = pending.message.trail();
        // Words of the bridge itself are carried nowhere, so they need no mark.
        if pending.from.is_some() { trail.with(self.marks.mark(pending.delivery)) } else { trail.clone() }
    }

    /// Looks for a delivery that is so old that the network may have forgotten it. A process that died may have sent
    /// it without leaving a word, so the number of attempts tells nothing here. Nor does it where a backup was restored
    /// since: to the network we are another device by now, which it remembers nothing of.
    async fn look(&self, transport: &AnyTransport, slip: &Slip) -> Option<Outcome> {
        let (now, finds) = (self.clock.now(), transport.common().abilities().finds);
        let restored = slip.enqueued_at < self.doubt;
        match transport.common().abilities().deduplication {
            Deduplication::Always => return None,
            Deduplication::Never if !restored => return None,
            // Where the clock was moved back nobody knows how old it is.
            Deduplication::For(memory)
                if !restored && (slip.enqueued_at <= now || !finds) && now.since(slip.enqueued_at) < memory =>
            {
                return None;
            }
            Deduplication::Never | Deduplication::For(_) => {}
        }
        if !finds {
            let never_tried = slip.attempt == 0 && !restored;
            let doubt = "nobody knows whether it was delivered, and the network can't tell any more; not sent again";
            return (!never_tried).then(|| Outcome::Dead(doubt.into()));
        }
        match transport.common().find(slip).await {
            Ok(Found::There(id)) => Some(Outcome::Delivered(id)),
            Ok(Found::NotThere) => None,
            Err(DeliveryError { fate: never!(), cause }) => Some(Outcome::Dead(format!(
                "nobody knows whether it was delivered, and it can't be looked for: {cause}; not sent again"
            ))),
            Err(DeliveryError { fate: Fate::Retry(after), cause }) => {
                let after = after.unwrap_or_else(|| pause(slip.attempt));
                Some(Outcome::Later(after, format!("looking for it failed: {cause}")))
            }
            Err(DeliveryError { fate: Fate::Unknown, cause }) => {
                Some(Outcome::Later(pause(slip.attempt), format!("looking for it failed: {cause}")))
            }
        }
    }

    /// Whoever wrote what is too long hears of it. Nothing else is lost of what does not cross at all.
    async fn tell_if_too_long(
        &self,
        pending: &Pending,
        error: &DeliveryError,
        forms: &mut Forms,
    ) -> Result<(), JournalError> {
        let Fate::TooLong { most } = error.fate else { return Ok(()) };
        forms.lost = vec![Loss::TooLong(most)];
        self.tell(pending, &forms.lost).await
    }

    /// Whoever sent a file hears that it stays behind, and whoever wrote too much that this does.
    async fn tell(&self, pending: &Pending, lost: &[Loss]) -> Result<(), JournalError> {
        let now = self.clock.now();
        let Some(word) = self.told.word(pending, lost, now) else { return Ok(()) };
        if self.journal.say(&word.at, word.notice(now), Some(&word.topic)).await? {
            self.told.count(&word, pending.message.author(), now);
        }
        Ok(())
    }

    async fn deliver(
        &self,
        table: &Table,
        transport: &AnyTransport,
        to: &Address,
        pending: &Pending,
        slip: &Slip,
        forms: &mut Forms,
    ) -> Result<Receipt, Stop> {
        let rule = match &pending.link {
            None => sealbridge_contract::Rule::default(),
            Some(link) => {
                let gone = || Stop::Gate(Outcome::NotHere(format!("the link {link} does not lead here any more")));
                table.rule(link).filter(|_| table.joins(link, to)).ok_or_else(gone)?
            }
        };
        let destination =
            table.destination(to, pending.link.is_none()).ok_or_else(|| Stop::Gate(no_transport(table, to)))?;
        let abilities = transport.common().abilities();
        let namesake = match &pending.from {
            Some((from, _)) => {
                let named = pending.message.named(&self.tags);
                let at_home = from.account == to.account;
                self.namesakes.meets(to, transport.common(), named, at_home, self.clock.now()).await
            }
            // The bridge's own words.
            None => false,
        };
        let read_there = !matches!(transport, AnyTransport::Carrier(_));
        let Forms { cannot, without_file, lost } = forms;
        let manner = Manner {
            abilities,
            reactions: rule.reactions,
            most_file: rule.most_file,
            without_file: *without_file,
            tags: &self.tags,
            namesake,
            read_there,
            cannot,
        };
        let crossing = match adapt(&pending.message, slip.clone(), &manner) {
            Adapted::Crosses(crossing) => crossing,
            Adapted::LeftOut(loss) => {
                let why = loss.to_string();
                lost.push(loss);
                return Err(Stop::Gate(Outcome::LeftOut(why)));
            }
            Adapted::Rejected(loss) => {
                let why = loss.to_string();
                lost.push(loss);
                return Err(Stop::Gate(Outcome::Dead(why)));
            }
        };
        // What is lost in this form is all that is lost.
        lost.clone_from(&crossing.lost);
        let (slip, verb) = (&crossing.slip, crossing.message().verb());
        let from = pending.from.as_ref().map(|(from, _)| &from.account);
        let pictures = from.and_then(|account| table.transport(account)).map(|from| OfTransport(from.common()));
        let album = from.map(|account| Album { account, pictures: pictures.as_ref().map(|of| of as &dyn Pictures) });
        let verdict =
            judge(crossing.message(), Origin { sender: pending.trust, said: &pending.message }, &destination, &rule);
        if matches!(verdict, Verdict::Speak(_) | Verdict::Seal(_)) {
            self.tell(pending, lost).await.map_err(not_told)?;
        }
        match (verdict, transport) {
            (Verdict::Refuse(why), _) => Err(Stop::Gate(Outcome::Dead(why.to_string()))),
            (Verdict::Hold(why @ Hold::Paused), _) => Err(Stop::Gate(Outcome::Held(why))),
            (Verdict::Hold(why), _) => Err(Stop::Gate(Outcome::LaneWaits(why))),
            (Verdict::Speak(cleared), AnyTransport::EndToEnd(t)) => {
                t.deliver(shown(cleared, album), slip).await.map_err(|e| Stop::of(verb, e))
            }
            (Verdict::Speak(cleared), AnyTransport::OperatorRun(t)) => {
                t.deliver(shown(cleared, album), slip).await.map_err(|e| Stop::of(verb, e))
            }
            (Verdict::Seal(sealing), AnyTransport::Carrier(t)) => {
                t.carry(&sealing.seal(slip), slip).await.map_err(|e| Stop::of(verb, e))
            }
            // The destination's kind and the transport come from the same table, so this is a fault of ours: it stays.
            (Verdict::Speak(_) | Verdict::Seal(_), _) => Err(Stop::Gate(Outcome::LaneWaits(Hold::EncryptionUnknown))),
        }
    }
}

/// The forms in which a message was tried.
#[derive(Default)]
struct Forms {
    /// What the transport said that it can't carry of it, and why.
    cannot: Vec<(Verb, String)>,
    /// Why it said that the file never will be there.
    without_file: Option<Absence>,
    /// What is lost in the last of them.
    lost: Vec<Loss>,
}

/// The pictures of the people in a transport's network.
struct OfTransport<'a>(&'a dyn Transport);

#[async_trait]
impl Pictures for OfTransport<'_> {
    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        self.0.picture(of).await
    }
}

fn shown<'a>(cleared: Cleared<'a>, album: Option<Album<'a>>) -> Cleared<'a> {
    match album {
        Some(album) => cleared.with_album(album),
        None => cleared,
    }
}

/// Finds what was erased while it was on its way, so that it can be deleted there. Where that can't be looked for, it is
/// deleted by the name that it has if it is there; where even that is not known, it was never confirmed, and is taken not
/// to be there.
async fn look_for_erased(
    transport: &AnyTransport,
    slip: &Slip,
    (delivery, enqueued_at): (DeliveryId, Timestamp),
) -> Result<RemoteId, Outcome> {
    let never_crossed = || Outcome::LeftOut("what it deletes never crossed".into());
    let erased = Slip { delivery, enqueued_at, ..slip.clone() };
    if !transport.common().abilities().finds {
        return transport.common().name_of(&erased).ok_or_else(never_crossed);
    }
    match transport.common().find(&erased).await {
        Ok(Found::There(id)) => Ok(id),
        Ok(Found::NotThere) => Err(never_crossed()),
        Err(DeliveryError { fate: never!(), cause }) => Err(Outcome::Dead(format!(
            "nobody knows whether what it deletes arrived, and it can't be looked for: {cause}"
        ))),
        Err(DeliveryError { fate, cause }) => {
            let after = match fate {
                Fate::Retry(Some(after)) => after,
                _ => pause(slip.attempt),
            };
            Err(Outcome::Later(after, format!("looking for what it deletes failed: {cause}")))
        }
    }
}

fn no_transport(table: &Table, to: &Address) -> Outcome {
    if table.knows(&to.account) {
        Outcome::LaneWaits(Hold::AccountNotRunning)
    } else {
        Outcome::Dead(format!("there is no account {} in the config", to.account))
    }
}

enum Stop {
    Gate(Outcome),
    Network(DeliveryError),
    /// It can't be in the form of this verb.
    Form(Verb, DeliveryError),
    /// It can't have its file.
    File(Absence, DeliveryError),
}

impl Stop {
    fn of(verb: Verb, error: DeliveryError) -> Self {
        match error.fate {
            Fate::OtherForm => Self::Form(verb, error),
            Fate::WithoutFile(why) => Self::File(why, error),
            _ => Self::Network(error),
        }
    }
}

/// Whoever sent a file is told first, or it stays.
fn not_told(error: JournalError) -> Stop {
    Stop::Network(DeliveryError::retry(format!("its author can't be told what becomes of its file: {error}")))
}

/// Decides, from what the transport said, what becomes of the delivery.
fn after_failure(transport: &AnyTransport, slip: &Slip, error: DeliveryError) -> Outcome {
    let abilities = transport.common().abilities();
    match error.fate {
        never!() => Outcome::Dead(error.cause),
        Fate::Retry(after) => Outcome::Later(after.unwrap_or_else(|| pause(slip.attempt)), error.cause),
        Fate::Unknown if abilities.deduplication == Deduplication::Never && !abilities.finds => {
            Outcome::Dead(format!("{}: nobody knows whether it was delivered; not sent again", error.cause))
        }
        Fate::Unknown => Outcome::Later(pause(slip.attempt), error.cause),
    }
}

/// How long to wait before the next attempt: doubles from half a second, ends at ten, and is never the same for all.
fn pause(attempt: u32) -> Duration {
    let whole = Duration::from_millis(500).saturating_mul(1 << attempt.min(5)).min(Duration::from_secs(10));
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_ten_seconds() {
        for attempt in 0..40 {
            let pause = pause(attempt);
            assert!(pause <= Duration::from_secs(10) && pause >= Duration::from_millis(250), "{attempt}: {pause:?}");
        }
        assert!(pause(5) > pause(0));
    }
}
