//! Group commit: one fsync for everybody who waits, and nobody's failure is another's.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Runtime},
    sync::{
        mpsc::{self, error::TryRecvError},
        oneshot,
    },
};

use super::{
    super::{Woken, checkup::Found, links},
    Ledger, order,
};
use crate::store::{JournalError, sqlite::Outcome};

/// One caller's wish. It may be run again when a commit fails that others were part of.
trait Job: Send {
    fn run(&mut self, ledger: &mut Ledger) -> Outcome<()>;
    fn answer(self: Box<Self>, outcome: Outcome<()>);
}

/// A wish on its way to the writer.
pub(in crate::store::sqlite) struct Asked {
    job: Box<dyn Job>,
    weight: usize,
    patient: bool,
}

/// A wish and where its answer goes.
pub(in crate::store::sqlite) struct Ask<T, W> {
    work: W,
    done: Option<T>,
    reply: oneshot::Sender<Outcome<T>>,
}

impl<T, W> Ask<T, W>
where
    T: Send + 'static,
    W: FnMut(&mut Ledger) -> Outcome<T> + Send + 'static,
{
    /// `weight` is about how many rows it writes.
    pub(in crate::store::sqlite) fn of(weight: usize, work: W) -> impl FnOnce(oneshot::Sender<Outcome<T>>) -> Asked {
        move |reply| Asked { job: Box::new(Self { work, done: None, reply }), weight, patient: false }
    }

    /// What may wait a moment for company in its commit, since nobody on a network waits for it.
    pub(in crate::store::sqlite) fn patient(work: W) -> impl FnOnce(oneshot::Sender<Outcome<T>>) -> Asked {
        move |reply| Asked { patient: true, ..Self::of(1, work)(reply) }
    }

    /// What nothing may come after in the same commit: a change of the links, since the router learns of it only then.
    pub(in crate::store::sqlite) fn last(work: W) -> impl FnOnce(oneshot::Sender<Outcome<T>>) -> Asked {
        Self::of(HEAVIEST_GROUP, work)
    }
}

/// Nothing, at once: what is patient waits no longer.
pub(in crate::store::sqlite) fn nothing() -> impl FnOnce(oneshot::Sender<Outcome<()>>) -> Asked {
    Ask::of(0, |_| Ok(()))
}

impl<T, W> Job for Ask<T, W>
where
    T: Send + 'static,
    W: FnMut(&mut Ledger) -> Outcome<T> + Send + 'static,
{
    fn run(&mut self, ledger: &mut Ledger) -> Outcome<()> {
        self.done = Some((self.work)(ledger)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Outcome<()>) {
        let Self { done, reply, .. } = *self;
        let answer = outcome.and_then(|()| done.ok_or(JournalError::Closed));
        // A caller who went away needs no answer; what it asked for is done all the same.
        let _gone = reply.send(answer);
    }
}

/// One group takes no more than this, so that the first of it does not wait for long.
const HEAVIEST_GROUP: usize = 2048;

/// What is patient waits no longer than this for somebody who is not, or for so many of its kind: a commit costs more than
/// all that is written in it. Where more than so many come at once there is company anyway.
const PATIENCE: Duration = Duration::from_millis(150);
const COMPANY: usize = 32;

/// The log is folded into the file after so many changed rows, a few pages each, or after so many commits, since a
/// commit of a single message touches as many pages as one of many. It keeps its length and is written over, which is
/// cheaper than making it grow again.
const FOLDED_AFTER: u64 = 8192;
const COMMITS: u32 = 128;

/// What found no room is tried again so often, and after so many groups of other things.
const REST: Duration = Duration::from_millis(500);
const GROUPS: u32 = 64;
/// Meanwhile the writer looks so often whether it is asked for something.
const LOOK: Duration = Duration::from_millis(10);

/// A log that grew longer than this, as one of large rows does, is cut.
const LONGEST_LOG: u64 = 96 << 20;

/// What the writer does next.
enum Next {
    Asked(Asked),
    /// Nobody asks for anything, and there is more to be routed.
    GoOn,
    End,
}

/// The one that writes.
pub(in crate::store::sqlite) struct Writer {
    ledger: Ledger,
    log: PathBuf,
    woken: Arc<Woken>,
    /// After a failed fsync nobody knows what is on the disk, so nothing more is promised.
    broken: Option<JournalError>,
    found: Found,
    /// Routing on found no room; so many groups ago, if so.
    stuck: Option<u32>,
    /// The log could not be folded the last time.
    unfolded: bool,
    /// How many rows were changed when the log was folded last, and how many commits ago that was.
    folded_at: u64,
    commits: u32,
    /// How many were committed together the last time.
    last: usize,
    /// Tells the time to what is patient.
    clock: Option<Runtime>,
}

impl Writer {
    pub(in crate::store::sqlite) fn new(ledger: Ledger, file: PathBuf, woken: Arc<Woken>, found: Found) -> Self {
        let mut log = file.into_os_string();
        log.push("-wal");
        let (broken, stuck, unfolded, folded_at, commits, last) = (None, None, false, 0, 0, 0);
        // Without it there is no patience, and nothing else is missing.
        let clock = runtime::Builder::new_current_thread().enable_time().build().ok();
        Self { ledger, log: log.into(), woken, broken, found, stuck, unfolded, folded_at, commits, last, clock }
    }

    /// Serves until nobody can ask any more, then folds the log and closes.
    pub(in crate::store::sqlite) fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        loop {
            let mut next = match self.next(&mut asked) {
                Next::Asked(first) => Some(first),
                Next::GoOn => None,
                Next::End => break,
            };
            let (mut jobs, mut weight, mut patient) = (Vec::new(), 0, self.last < COMPANY);
            let mut until = None;
            while let Some(asked_for) = next {
                weight += asked_for.weight;
                patient &= asked_for.patient;
                jobs.push(asked_for.job);
                next = if weight < HEAVIEST_GROUP { asked.try_recv().ok() } else { None };
                if next.is_none() && patient && jobs.len() < COMPANY {
                    next = self.company(&mut asked, *until.get_or_insert_with(|| Instant::now() + PATIENCE));
                }
            }
            self.last = jobs.len();
            self.serve(jobs);
        }
        self.fold("TRUNCATE");
        self.ledger.count.close();
    }

    /// Waits for what is to be done next.
    fn next(&self, asked: &mut mpsc::Receiver<Asked>) -> Next {
        if self.ledger.unfinished.is_empty() {
            return asked.blocking_recv().map_or(Next::End, Next::Asked);
        }
        if self.stuck.is_some_and(|groups| groups >= GROUPS) {
            return Next::GoOn;
        }
        let mut rested = Duration::ZERO;
        loop {
            match asked.try_recv() {
                Ok(first) => return Next::Asked(first),
                // What is left is taken up at the next start.
                Err(TryRecvError::Disconnected) => return Next::End,
                Err(TryRecvError::Empty) if self.stuck.is_none() || rested >= REST => return Next::GoOn,
                Err(TryRecvError::Empty) => {
                    thread::sleep(LOOK);
                    rested += LOOK;
                }
            }
        }
    }

    /// Waits for one more.
    fn company(&self, asked: &mut mpsc::Receiver<Asked>, until: Instant) -> Option<Asked> {
        let waited = async { tokio::time::timeout_at(until.into(), asked.recv()).await.ok().flatten() };
        self.clock.as_ref()?.block_on(waited)
    }

    fn serve(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        self.broken = self.broken.take().or_else(|| self.found.nothing().err());
        let outcomes = if let Some(error) = &self.broken {
            self.ledger.unfinished.clear();
            vec![Err(error.clone()); jobs.len()]
        } else if self.is_foldable() {
            self.commit(&mut jobs)
        } else {
            // Routing rests too, and is tried again with the next fold.
            self.stuck = Some(0);
            vec![Err(JournalError::Full); jobs.len()]
        };
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            job.answer(outcome);
        }
        let changed = self.ledger.connection.total_changes();
        self.commits += 1;
        if changed - self.folded_at >= FOLDED_AFTER || self.commits >= COMMITS {
            (self.folded_at, self.commits) = (changed, 0);
            self.fold(if self.log_length() > LONGEST_LOG { "TRUNCATE" } else { "PASSIVE" });
        }
    }

    /// Runs all jobs in one transaction, or each in its own if they can't be committed together.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Vec<Outcome<()>> {
        let goes_on = self.stuck.is_none() || jobs.is_empty();
        match self.together(jobs, goes_on) {
            Ok(outcomes) => {
                self.stuck = if goes_on { None } else { self.stuck.map(|groups| groups.saturating_add(1)) };
                outcomes
            }
            // Perhaps only routing on found no room. What erases makes some, and must not fail with it.
            Err(JournalError::Full) if goes_on && !self.ledger.unfinished.is_empty() => {
                self.stuck = Some(0);
                self.fold("TRUNCATE");
                if jobs.is_empty() { Vec::new() } else { self.commit(jobs) }
            }
            Err(JournalError::Full) if jobs.len() > 1 => {
                // Folding may give room, and what erases needs little: a full disk must not stop that.
                self.fold("TRUNCATE");
                jobs.iter_mut().map(|job| self.alone(job)).collect()
            }
            Err(error) => {
                self.fail(&error);
                vec![Err(error); jobs.len()]
            }
        }
    }

    fn alone(&mut self, job: &mut Box<dyn Job>) -> Outcome<()> {
        match self.together(std::slice::from_mut(job), false) {
            Ok(mut outcomes) => outcomes.pop().unwrap_or(Err(JournalError::Closed)),
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn fail(&mut self, error: &JournalError) {
        if matches!(error, JournalError::Full) {
            self.fold("TRUNCATE");
        } else {
            tracing::error!(%error, "The journal failed and accepts nothing more.");
            self.broken = Some(error.clone());
        }
    }

    /// One transaction. `Err`: none of it was kept, for nobody.
    fn together(&mut self, jobs: &mut [Box<dyn Job>], goes_on: bool) -> Outcome<Vec<Outcome<()>>> {
        let (totals, unfinished) = (self.ledger.totals, self.ledger.unfinished.clone());
        let outcome = self.transaction(jobs, goes_on);
        match &outcome {
            Ok(_) => {
                self.ledger.new_names.conversations.clear();
                self.ledger.new_names.links.clear();
                // Counted before the lanes are woken, and only once it is durable.
                let erased = std::mem::take(&mut self.ledger.erased);
                self.woken.erasures.fetch_add(u64::from(erased), Ordering::Release);
                if std::mem::take(&mut self.ledger.commanded) {
                    self.woken.commanded.notify_one();
                }
                if std::mem::take(&mut self.ledger.links_changed) {
                    self.ledger.router.links_are(links::all(&self.ledger.connection, &self.ledger.keys)?);
                }
                self.woken.add(self.ledger.woken.drain());
            }
            Err(_) => {
                if !self.ledger.connection.is_autocommit() {
                    // If even this fails, the next BEGIN does too, and says so.
                    let _failed = self.ledger.connection.execute_batch("ROLLBACK");
                }
                self.ledger.totals = totals;
                self.ledger.unfinished = unfinished;
                self.ledger.links_changed = false;
                self.ledger.forget_new_names();
                self.ledger.woken.clear();
                self.ledger.erased = false;
                self.ledger.commanded = false;
            }
        }
        outcome
    }

    /// First without savepoints, which cost as much as the work itself; with them if a job fails, so that it alone does.
    fn transaction(&mut self, jobs: &mut [Box<dyn Job>], goes_on: bool) -> Outcome<Vec<Outcome<()>>> {
        let before = (self.ledger.totals, self.ledger.unfinished.clone());
        self.ledger.run("BEGIN IMMEDIATE", [])?;
        let changed_before = self.ledger.connection.total_changes();
        let all = jobs.iter_mut().try_for_each(|job| guarded(&mut self.ledger, |ledger| job.run(ledger)));
        let outcomes = match all {
            Ok(()) => jobs.iter().map(|_| Ok(())).collect(),
            // SQLite gave up the whole, as it does when the disk is full.
            Err(error) if self.ledger.connection.is_autocommit() => return Err(error),
            Err(_) => {
                self.ledger.run("ROLLBACK", [])?;
                (self.ledger.totals, self.ledger.unfinished) = before.clone();
                self.ledger.forget_new_names();
                self.ledger.run("BEGIN IMMEDIATE", [])?;
                let mut outcomes = Vec::with_capacity(jobs.len());
                for job in jobs {
                    outcomes.push(savepoint(&mut self.ledger, |ledger| job.run(ledger))?);
                }
                outcomes
            }
        };
        if goes_on && !self.ledger.links_changed {
            self.go_on()?;
        }
        let counted = self.ledger.write_totals(changed_before)?;
        fail::fail_point!("journal::before-commit");
        self.ledger.run("COMMIT", [])?;
        fail::fail_point!("journal::after-commit");
        self.ledger.counted(counted);
        Ok(outcomes)
    }

    /// Routes on where more could be routed than one commit takes.
    fn go_on(&mut self) -> Outcome<()> {
        let mut routed = 0;
        for conversation in self.ledger.unfinished.clone() {
            if routed >= HEAVIEST_GROUP {
                break;
            }
            match savepoint(&mut self.ledger, |ledger| order::go_on(ledger, conversation))? {
                Ok(more) => routed += more,
                Err(error) => {
                    // The next [`order::expire`] tries again; a loop without an end would help nobody.
                    tracing::error!(%error, "Messages that could be routed still wait.");
                    self.ledger.unfinished.remove(&conversation);
                }
            }
        }
        Ok(())
    }

    /// Tries again to fold a log that could not be. Room that somebody made is for that first: a commit would only make
    /// the log longer, until it has taken all of it.
    fn is_foldable(&mut self) -> bool {
        if self.unfolded {
            self.fold("TRUNCATE");
        }
        !self.unfolded
    }

    fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |file| file.len())
    }

    /// Folds the log into the file. A reader may be in the way, though not for long; then the next time will do.
    fn fold(&mut self, how: &str) {
        let sql = format!("PRAGMA wal_checkpoint({how})");
        let folded = self.ledger.connection.query_row(&sql, [], |_| Ok(()));
        let failed_before = std::mem::replace(&mut self.unfolded, folded.is_err());
        match folded {
            Err(error) if !failed_before => tracing::warn!(%error, "The journal's log was not folded into its file."),
            _ => {}
        }
    }
}

/// Runs one job so that its failure undoes its own doing alone. `Err`: the whole transaction is lost.
fn savepoint<T>(ledger: &mut Ledger, work: impl FnOnce(&mut Ledger) -> Outcome<T>) -> Outcome<Outcome<T>> {
    ledger.run("SAVEPOINT job", [])?;
    let (totals, unfinished) = (ledger.totals, ledger.unfinished.clone());
    let outcome = guarded(ledger, work);
    match &outcome {
        Ok(_) => {}
        // SQLite gave up the whole transaction, as it does when the disk is full.
        Err(error) if ledger.connection.is_autocommit() => return Err(error.clone()),
        Err(_) => {
            ledger.run("ROLLBACK TO job", [])?;
            ledger.totals = totals;
            ledger.unfinished = unfinished;
            ledger.forget_new_names();
        }
    }
    ledger.run("RELEASE job", [])?;
    Ok(outcome)
}

/// A panic in a step is its failure, and nobody else's.
fn guarded<T>(ledger: &mut Ledger, work: impl FnOnce(&mut Ledger) -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(|| work(ledger)))
        .unwrap_or_else(|_| Err(JournalError::Failed("a step panicked".into())))
}
