//! The trait, method by method: what is asked of which thread.

use std::{collections::HashSet, sync::atomic::Ordering};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Address, Cleartext, PersonId, RemoteId, SecretBytes, SpoolId, Timestamp,
    gate::Hold,
    inbox::{Batch, Filling, Keep, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor},
};

use super::{
    SqliteJournal, read,
    write::{self, Ask, nothing},
};
use crate::store::{
    Command, Counts, DeadLetter, Died, Fact, Journal, JournalError, LaneReport, Link, LinkEnd, LinkName, Pending,
    Share, Spoken, Swept, Unread,
};

/// The service's own settings are the store of no account: no account can be named so.
const NO_ACCOUNT: &str = "";

#[async_trait]
impl Journal for SqliteJournal {
    async fn accept(&self, account: &AccountName, mut batch: Batch) -> Result<(), JournalError> {
        let account = account.clone();
        let weight = 1 + batch.arrivals.len() + batch.echoes.len() + batch.store.len();
        match self.writer.ask(Ask::of(weight, move |ledger| write::batch(ledger, &account, &mut batch))).await? {
            true => Ok(()),
            false => Err(JournalError::ShareTaken),
        }
    }

    async fn accept_sealed(
        &self,
        account: &AccountName,
        parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), JournalError> {
        let account = account.clone();
        let weight = 1 + parcels.len() + cursor.len();
        self.writer.ask(Ask::of(weight, move |ledger| write::parcels(ledger, &account, &parcels, &cursor))).await
    }

    async fn open_gaps(&self, account: &AccountName) -> Result<Vec<OpenGap>, JournalError> {
        let account = account.clone();
        self.lists.ask(read::ask(move |reader| read::open_gaps(reader, &account))).await
    }

    async fn fill(&self, account: &AccountName, mut filling: Filling) -> Result<(), JournalError> {
        let account = account.clone();
        let weight = 1 + filling.arrivals.len();
        self.writer.ask(Ask::of(weight, move |ledger| write::fill(ledger, &account, &mut filling))).await
    }

    async fn waiting(
        &self,
        account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, JournalError> {
        loop {
            let (account, filter) = (account.clone(), filter.clone());
            let question = move |reader: &read::Reader| read::waiting(reader, &account, &filter, after, limit);
            let (events, broken) = self.lists.ask(read::ask(question)).await?;
            if broken.is_empty() || !events.is_empty() {
                return Ok(events);
            }
            self.set_aside(broken, write::quarantine_unreadable).await?;
        }
    }

    async fn resolve(
        &self,
        account: &AccountName,
        waiting: i64,
        mut resolution: Resolution,
    ) -> Result<(), JournalError> {
        let account = account.clone();
        self.writer.ask(Ask::of(2, move |ledger| write::resolve(ledger, &account, waiting, &mut resolution))).await
    }

    async fn expire(&self) -> Result<Option<Timestamp>, JournalError> {
        self.writer.ask(Ask::of(64, write::expire)).await
    }

    async fn sweep(&self) -> Result<usize, JournalError> {
        self.writer.ask(Ask::of(512, write::sweep)).await
    }

    async fn read(&self, account: &AccountName, key: &str) -> Result<Option<SecretBytes>, JournalError> {
        let (account, key) = (account.clone(), key.to_owned());
        self.heads.ask(read::ask(move |reader| read::read(reader, account.as_str(), &key))).await
    }

    async fn read_all(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, JournalError> {
        let (account, prefix) = (account.clone(), prefix.to_owned());
        self.lists.ask(read::ask(move |reader| read::read_all(reader, account.as_str(), &prefix))).await
    }

    async fn write(&self, account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), JournalError> {
        let account = account.clone();
        self.writer.ask(Ask::of(writes.len(), move |ledger| write::write(ledger, account.as_str(), &writes))).await
    }

    async fn tally(&self, account: &AccountName, prefix: &str) -> Result<Vec<(String, usize)>, JournalError> {
        let (account, prefix) = (account.clone(), prefix.to_owned());
        self.lists.ask(read::ask(move |reader| read::tally(reader, account.as_str(), &prefix))).await
    }

    async fn prune(&self, account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, JournalError> {
        let (account, prefix) = (account.clone(), prefix.to_owned());
        self.writer.ask(Ask::of(256, move |ledger| write::prune(ledger, account.as_str(), &prefix, keep))).await
    }

    async fn links(&self) -> Result<Vec<Link>, JournalError> {
        self.lists.ask(read::ask(read::links)).await
    }

    async fn put_link(&self, link: Link) -> Result<(), JournalError> {
        self.writer.ask(Ask::last(move |ledger| write::put_link(ledger, &link))).await
    }

    async fn remove_link(&self, name: &LinkName) -> Result<(), JournalError> {
        let name = name.clone();
        self.writer.ask(Ask::last(move |ledger| write::remove_link(ledger, &name))).await
    }

    async fn replace_end(&self, link: &LinkName, old: &Address, new: LinkEnd) -> Result<usize, JournalError> {
        let (link, old) = (link.clone(), old.clone());
        self.writer.ask(Ask::last(move |ledger| write::replace_end(ledger, &link, &old, &new))).await
    }

    async fn resume(&self, link: &LinkName) -> Result<usize, JournalError> {
        let link = link.clone();
        self.writer.ask(Ask::last(move |ledger| write::resume(ledger, &link))).await
    }

    async fn say(&self, to: &Address, message: Cleartext, once: Option<&str>) -> Result<bool, JournalError> {
        let (to, once) = (to.clone(), once.map(str::to_owned));
        self.writer.ask(Ask::of(1, move |ledger| write::say(ledger, &to, &message, once.as_deref()))).await
    }

    async fn said(&self, to: &Address, once: &str) -> Result<Spoken, JournalError> {
        let (to, once) = (to.clone(), once.to_owned());
        self.lists.ask(read::ask(move |reader| read::said(reader, &to, &once))).await
    }

    async fn lanes(&self) -> Result<Vec<Address>, JournalError> {
        self.lists.ask(read::ask(read::lanes)).await
    }

    async fn lane_reports(&self) -> Result<Vec<LaneReport>, JournalError> {
        self.lists.ask(read::ask(read::lane_reports)).await
    }

    async fn woken(&self) -> Vec<Address> {
        self.woken.take().await
    }

    async fn head(&self, lane: &Address, after: i64, limit: usize) -> Result<Vec<Pending>, JournalError> {
        loop {
            let lane = lane.clone();
            let head = self.heads.ask(read::ask(move |reader| read::head(reader, &lane, after, limit))).await?;
            let nothing_broken = head.broken.is_empty();
            self.set_aside(head.broken, write::quarantine_delivery).await?;
            // An empty answer means an empty lane, so it is not given because of broken rows alone.
            if nothing_broken || !head.pending.is_empty() {
                return Ok(head.pending);
            }
        }
    }

    async fn settle(&self, number: i64, as_id: &RemoteId) -> Result<(), JournalError> {
        let as_id = as_id.clone();
        self.writer.ask(Ask::of(1, move |ledger| write::settle(ledger, number, &as_id))).await
    }

    async fn settle_soon(&self, number: i64, as_id: &RemoteId) -> Result<(), JournalError> {
        let as_id = as_id.clone();
        self.writer.ask(Ask::patient(move |ledger| write::settle(ledger, number, &as_id))).await
    }

    async fn hurry(&self) -> Result<(), JournalError> {
        self.writer.ask(nothing()).await
    }

    async fn leave_out(&self, number: i64, why: &str) -> Result<(), JournalError> {
        let why = why.to_owned();
        self.writer.ask(Ask::of(1, move |ledger| write::leave_out(ledger, number, &why))).await
    }

    fn erasures(&self) -> u64 {
        self.woken.erasures.load(Ordering::Acquire)
    }

    async fn called(&self, from: &Address, id: &RemoteId, at: &Address) -> Result<Option<RemoteId>, JournalError> {
        let (from, id, at) = (from.clone(), id.clone(), at.clone());
        self.heads.ask(read::ask(move |reader| read::called(reader, &from, &id, &at))).await
    }

    async fn files(&self) -> Result<HashSet<SpoolId>, JournalError> {
        self.lists.ask(read::ask(read::files)).await
    }

    async fn postpone(&self, number: i64, not_before: Timestamp, cause: &str) -> Result<(), JournalError> {
        let cause = cause.to_owned();
        self.writer.ask(Ask::of(1, move |ledger| write::postpone(ledger, number, not_before, &cause))).await
    }

    async fn hold(&self, number: i64, why: Hold) -> Result<(), JournalError> {
        self.writer.ask(Ask::of(1, move |ledger| write::hold(ledger, number, why))).await
    }

    async fn bury(&self, number: i64, reason: &str) -> Result<(), JournalError> {
        let reason = reason.to_owned();
        self.writer.ask(Ask::of(1, move |ledger| write::bury(ledger, number, &reason))).await
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, JournalError> {
        self.lists.ask(read::ask(move |reader| read::dead_letters(reader, after, limit))).await
    }

    async fn died_since(&self, since: Timestamp) -> Result<Vec<Died>, JournalError> {
        self.lists.ask(read::ask(move |reader| read::died_since(reader, since))).await
    }

    async fn retry(&self, number: i64) -> Result<(), JournalError> {
        self.writer.ask(Ask::of(1, move |ledger| write::retry(ledger, number))).await
    }

    async fn drop_letter(&self, number: i64) -> Result<(), JournalError> {
        self.writer.ask(Ask::of(1, move |ledger| write::drop_letter(ledger, number))).await
    }

    async fn retry_letters(&self, after: i64) -> Result<Swept, JournalError> {
        self.writer.ask(Ask::of(write::LETTERS_AT_ONCE, move |ledger| write::retry_letters(ledger, after))).await
    }

    async fn drop_letters(&self, after: i64) -> Result<Swept, JournalError> {
        self.writer.ask(Ask::of(write::LETTERS_AT_ONCE, move |ledger| write::drop_letters(ledger, after))).await
    }

    async fn why(&self, at: &Address, id: &RemoteId) -> Result<Vec<Fact>, JournalError> {
        let (at, id) = (at.clone(), id.clone());
        self.lists.ask(read::ask(move |reader| read::why(reader, &at, &id))).await
    }

    async fn wrote(&self, by: &PersonId, at: &Address, id: &RemoteId) -> Result<bool, JournalError> {
        let (by, at, id) = (by.clone(), at.clone(), id.clone());
        self.lists.ask(read::ask(move |reader| read::wrote(reader, &by, &at, &id))).await
    }

    async fn commands(&self, limit: usize) -> Result<Vec<Command>, JournalError> {
        let (found, broken) = self.lists.ask(read::ask(move |reader| read::commands(reader, limit))).await?;
        for number in broken {
            tracing::error!(number, "What was said to the bridge does not open, and is passed over.");
            self.finish(number, None, None).await?;
        }
        Ok(found)
    }

    async fn commanded(&self) {
        self.woken.commanded.notified().await;
    }

    async fn begin(&self, number: i64) -> Result<(), JournalError> {
        self.writer.ask(Ask::of(1, move |ledger| write::begin(ledger, number))).await
    }

    async fn finish(&self, number: i64, answer: Option<Cleartext>, once: Option<&str>) -> Result<bool, JournalError> {
        let once = once.map(str::to_owned);
        self.writer.ask(Ask::of(2, move |ledger| write::finish(ledger, number, answer.as_ref(), once.as_deref()))).await
    }

    async fn unread(&self) -> Result<Vec<Unread>, JournalError> {
        self.lists.ask(read::ask(read::unread)).await
    }

    async fn shares(&self) -> Result<Vec<Share>, JournalError> {
        let limits = self.limits;
        self.lists.ask(read::ask(move |reader| read::shares(reader, &limits))).await
    }

    async fn counts(&self) -> Result<Counts, JournalError> {
        self.lists.ask(read::ask(read::counts)).await
    }

    async fn setting(&self, key: &str) -> Result<Option<SecretBytes>, JournalError> {
        let key = key.to_owned();
        self.heads.ask(read::ask(move |reader| read::read(reader, NO_ACCOUNT, &key))).await
    }

    async fn set(&self, key: &str, value: SecretBytes) -> Result<(), JournalError> {
        let writes = vec![StoreWrite::put(key, value)];
        self.writer.ask(Ask::of(1, move |ledger| write::write(ledger, NO_ACCOUNT, &writes))).await
    }

    async fn forget_settings(&self, prefix: &str, except: HashSet<String>) -> Result<usize, JournalError> {
        let prefix = prefix.to_owned();
        self.writer.ask(Ask::of(64, move |ledger| write::forget(ledger, NO_ACCOUNT, &prefix, &except))).await
    }

    async fn close(&self) {
        let (heads, lists, writer) = (self.heads.clone(), self.lists.clone(), self.writer.clone());
        let checkup = self.checkup.clone();
        let ended = tokio::task::spawn_blocking(move || {
            // The writer last: the last connection to close folds the write-ahead log into the file.
            if let Some(checkup) = checkup {
                checkup.shut();
            }
            heads.shut();
            lists.shut();
            writer.shut();
        });
        let _ended = ended.await;
    }
}

impl SqliteJournal {
    /// Sets rows aside that do not open.
    async fn set_aside(
        &self,
        broken: Vec<i64>,
        aside: fn(&mut write::Ledger, i64) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        for number in broken {
            self.writer.ask(Ask::of(1, move |ledger| aside(ledger, number))).await?;
        }
        Ok(())
    }
}
