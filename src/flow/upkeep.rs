//! What happens by the clock: waits that end, events that are given up, lines and dead letters that are let go, and a look
//! at how full the journal is.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Desk,
    fullness::{Crowded, Fullness},
    obituaries::Obituaries,
};
use crate::{
    spool::SpoolFolder,
    store::{JournalError, SharedJournal},
};

/// The longest pause between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How often old lines are looked for when there were none.
const SWEEP: Duration = Duration::from_secs(600);
/// How often files are looked for that nobody needs any more.
const FILES: Duration = Duration::from_secs(3);
/// How often it is looked for what became a dead letter.
const DIED: Duration = Duration::from_secs(2);
/// How often the journal is measured, if nothing was refused.
const MEASURE: Duration = Duration::from_secs(10);

/// Keeps the journal in hand.
pub struct Upkeep {
    journal: SharedJournal,
    spool: SpoolFolder,
    desk: Arc<Desk>,
    clock: Clock,
    most_payload: u64,
    fullness: Fullness,
    crowded: Crowded,
    /// How many rows were set aside, as far as the operator was told.
    quarantined: u64,
    /// What the operator could not be told yet, since there was no room for it.
    untold: Vec<String>,
    obituaries: Obituaries,
    died_at: Timestamp,
    sweep_at: Timestamp,
    measure_at: Timestamp,
    files_at: Timestamp,
}

impl Upkeep {
    /// Of this journal, which takes so much payload at most, and of the files that belong to it.
    #[must_use]
    pub fn new(journal: SharedJournal, spool: SpoolFolder, desk: Arc<Desk>, clock: Clock, most_payload: u64) -> Self {
        let now = clock.now();
        Self {
            journal,
            spool,
            desk,
            clock,
            most_payload,
            fullness: Fullness::default(),
            crowded: Crowded::default(),
            quarantined: 0,
            untold: Vec::new(),
            obituaries: Obituaries::from(now),
            died_at: now,
            sweep_at: now,
            measure_at: now,
            files_at: now,
        }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// [`JournalError`]: the journal failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        while !stop.is_cancelled() {
            let due = self.look().await?;
            let pause = due.map_or(LOOK, |due| due.since(self.clock.now()).clamp(Duration::from_millis(10), LOOK));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Does what is due. Says when there will be more, if that is known.
    async fn look(&mut self) -> Result<Option<Timestamp>, JournalError> {
        // A full journal lets nothing new in, but what waits can wait a little longer.
        let due = unless_full(self.journal.expire().await)?.flatten();
        if self.sweep_at.has_come(self.clock.now(), SWEEP) {
            let forgotten = unless_full(self.journal.sweep().await)?.unwrap_or(0);
            if forgotten == 0 {
                self.sweep_at = self.clock.now().plus(SWEEP);
            } else {
                info!(forgotten, "Forgot old lines.");
            }
        }
        if self.spool.used() > 0 && self.files_at.has_come(self.clock.now(), FILES) {
            sweep_files(&self.journal, &self.spool).await?;
            self.files_at = self.clock.now().plus(FILES);
        }
        self.measure().await?;
        if self.died_at.has_come(self.clock.now(), DIED) {
            self.died_at = self.clock.now().plus(DIED);
            self.tell_what_died().await?;
        }
        Ok(due)
    }

    /// Dead letters of every origin are told here, so that none can be made that is told to nobody.
    async fn tell_what_died(&mut self) -> Result<(), JournalError> {
        for died in self.journal.died_since(self.obituaries.since(self.clock.now())).await? {
            if let Some(obituary) = self.obituaries.of(&died) {
                warn!(from = ?died.from, reason = %died.reason, count = died.count, "Dead letters.");
                let told = self.desk.tell_operator(&obituary.words, Some(&obituary.topic)).await;
                if unless_full(told)?.is_none() {
                    return Ok(());
                }
            }
            self.obituaries.told(&died);
        }
        Ok(())
    }

    async fn measure(&mut self) -> Result<(), JournalError> {
        let refused = self.desk.refused_since();
        if refused || self.fullness.trouble().is_some() || self.measure_at.has_come(self.clock.now(), MEASURE) {
            self.measure_at = self.clock.now().plus(MEASURE);
            let counts = self.journal.counts().await?;
            if let Some(words) = self.fullness.look(counts.payload_bytes, self.most_payload, refused) {
                warn!("{words}");
                self.untold.push(words);
            }
            self.desk.set_trouble(self.fullness.trouble());
            for words in self.crowded.look(&self.journal.shares().await?) {
                warn!("{words}");
                self.untold.push(words);
            }
            if counts.quarantined > self.quarantined {
                self.untold.push(format!(
                    "{} rows of the journal do not open and are set aside. `sealbridge dead-letters list` names them; a \
                     link among them is held until you resume it.",
                    counts.quarantined
                ));
            }
            self.quarantined = counts.quarantined;
        }
        while let Some(words) = self.untold.first() {
            if unless_full(self.desk.tell_operator(words, None).await)?.is_none() {
                break;
            }
            self.untold.remove(0);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upkeep")
    }
}

/// `None` if there was no room for it.
///
/// # Errors
/// [`JournalError`]: another one.
pub fn unless_full<T>(result: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(JournalError::Full) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes files that no message needs any more. The order is what makes it safe: the journal is asked after the leases.
async fn sweep_files(journal: &SharedJournal, spool: &SpoolFolder) -> Result<(), JournalError> {
    let swept = match spool.unleased().await {
        Ok(files) if files.is_empty() => return Ok(()),
        Ok(files) => spool.remove(files, &journal.files().await?).await,
        Err(error) => Err(error),
    };
    match swept {
        Ok(0) => {}
        Ok(removed) => info!(removed, "Removed files that crossed."),
        Err(error) => warn!(%error, "Files that crossed were not removed; they are locked, and it is tried again."),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{
        AccountName, Address, Arrival, Arrived, Batch, Cleartext, ConversationId, DeliveryId, Intake as _, PersonId,
        RemoteId, RootKey, Rule, SecretBytes, SenderTrust, Vault,
        inbox::{Parcel, Unreadable},
    };

    use super::*;
    use crate::flow::TableHandle;
    use crate::store::{Limits, Link, Routed, Router, sqlite::SqliteJournal};

    /// Everything is linked, and nothing is carried anywhere.
    struct Nowhere;

    impl Router for Nowhere {
        fn linked_since(&self, _: &Address) -> Option<Timestamp> {
            Some(Timestamp(0))
        }
        fn route(&self, _: &Address, _: &RemoteId, _: &Cleartext, _: SenderTrust) -> Vec<Routed> {
            Vec::new()
        }
        fn open(&self, _: &Address, _: &Parcel) -> Option<(DeliveryId, Cleartext)> {
            None
        }
        fn links_are(&self, _: Vec<Link>) {}
    }

    /// An event of `number` that can't be read.
    fn event(number: usize) -> Batch {
        let raw = SecretBytes::new(vec![0; 2000]);
        let what = Arrived::Unreadable(Unreadable {
            id: RemoteId::new(format!("${number}")),
            sender: PersonId::new(format!("@{number}")),
            raw,
            hint: "a key".into(),
            reason: "its key is missing".into(),
            holds_sender: false,
        });
        Batch { arrivals: vec![Arrival { conversation: ConversationId::new("!r"), what }], ..Batch::default() }
    }

    #[tokio::test]
    async fn operator_is_told_once_when_the_journal_is_nearly_full_full_and_has_room_again() {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let limits = Limits { payload_bytes: 100_000, ..Limits::default() };
        let (clock, vault) = (Clock::system(), Vault::new(RootKey::random()));
        let journal = SqliteJournal::open(folder.path(), vault, Arc::new(Nowhere), limits, clock.clone());
        let journal: SharedJournal = Arc::new(journal.expect("a new journal opens"));
        let account = AccountName::parse("a").expect("it is a name");
        let admin = Address { account: account.clone(), conversation: ConversationId::new("!admin") };
        let (signals, _) = tokio::sync::mpsc::channel(1);
        let table = TableHandle::new(Arc::new(|_: &Link| Rule::default()));
        let desk = Desk::new(Arc::clone(&journal), table, signals, Default::default(), clock.clone());
        let spool = SpoolFolder::open(&folder.path().join("spool"), zeroize::Zeroizing::new([7; 32]), 1 << 20);
        let spool = spool.expect("the folder can be used");
        desk.set_admin(admin.clone());
        let mut upkeep =
            Upkeep::new(Arc::clone(&journal), spool, Arc::clone(&desk), clock.clone(), limits.payload_bytes);
        let mut told = Vec::new();
        for number in 0..60 {
            let refused = desk.accept(&account, event(number)).await.is_err();
            clock.shift(10_000);
            upkeep.look().await.expect("the journal answers");
            let said = journal.head(&admin, 0, 10).await.expect("the journal reads").len();
            told.push((said, refused, desk.trouble().is_some()));
        }
        assert_eq!(told[20], (0, false, false));
        assert_eq!(told[44], (1, false, false), "nearly full");
        assert_eq!(told[59], (2, true, true), "full: {told:?}");
        clock.shift(8 * 24 * 3_600_000);
        upkeep.look().await.expect("the journal answers");
        clock.shift(31 * 24 * 3_600_000);
        upkeep.look().await.expect("the journal answers");
        let said = journal.head(&admin, 0, 10).await.expect("the journal reads").len();
        assert_eq!(said, 4, "what was given up, and that there is room again");
        assert_eq!(desk.trouble(), None);
    }
}
