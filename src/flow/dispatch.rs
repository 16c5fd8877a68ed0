//! One lane for each conversation that has something in the outbox: in order, one at a time, at the pace its network
//! allows. A slow lane holds up nobody else.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fail::fail_point;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sealbridge_contract::{Address, AnyTransport, Clock, Deduplication, gate::Hold};
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    attempt::{Attempt, Attempts, Outcome},
    outcomes::Outcomes,
    rest::Rest,
    table::TableHandle,
    telling,
};
use crate::{
    metrics::Meters,
    store::{JournalError, Pending, SharedJournal},
};

/// How many deliveries a lane takes into memory at first. Each time that all of them arrive, it takes twice as many.
const AT_FIRST: usize = 16;
/// The most that a lane takes into memory, so that one confirmation on the disk serves many.
const AT_MOST: usize = 128;
/// How many confirmations a lane has under way at once.
const SETTLING: usize = 64;
/// How often a delivery that breaks its transport is tried again.
const BREAKS: u32 = 3;
/// How long a lane that waits for its destination sleeps before it looks again, if nothing wakes it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often there is a sign of life while nothing is to be done.
const BEAT: Duration = Duration::from_secs(2);

/// What a lane waits for, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum LaneState {
    /// It delivers.
    Busy,
    /// Its network did not take the last one; it tries again soon.
    Retries(String),
    /// Something about its destination is missing.
    Waits(Hold),
}

/// Runs the lanes.
pub struct Dispatch {
    journal: SharedJournal,
    table: TableHandle,
    attempts: Attempts,
    outcomes: Arc<Outcomes>,
    meters: Arc<Meters>,
    beat: AtomicBool,
    clock: Clock,
    states: Mutex<BTreeMap<Address, LaneState>>,
    delivered: std::sync::atomic::AtomicU64,
}

impl Dispatch {
    /// A dispatcher for `journal`'s outbox.
    #[must_use]
    pub fn new(journal: SharedJournal, table: TableHandle, attempts: Attempts, clock: Clock) -> Arc<Self> {
        let (states, delivered) = (Mutex::new(BTreeMap::new()), std::sync::atomic::AtomicU64::new(0));
        Arc::new(Self {
            journal,
            table,
            attempts,
            outcomes: Arc::default(),
            meters: Arc::new(Meters::new()),
            beat: AtomicBool::new(true),
            clock,
            states,
            delivered,
        })
    }

    /// What is counted of deliveries.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    /// Whether the lanes were looked after since this was asked last.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.beat.swap(false, Ordering::Relaxed)
    }

    /// Those who wait for what becomes of a message.
    #[must_use]
    pub fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.outcomes)
    }

    /// What each lane that exists is doing.
    #[must_use]
    pub fn lanes(&self) -> BTreeMap<Address, LaneState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many deliveries arrived since the start.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Notes what a lane does; true if that is new.
    fn note(&self, lane: &Address, state: Option<LaneState>) -> bool {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match (state, states.get_mut(lane)) {
            (None, _) => states.remove(lane).is_some(),
            (Some(state), Some(known)) => std::mem::replace(known, state.clone()) != state,
            (Some(state), None) => states.insert(lane.clone(), state).is_none(),
        }
    }

    /// A lane begins an attempt. One that waits goes on waiting until something gets through.
    fn begins(&self, lane: &Address) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.entry(lane.clone()).or_insert(LaneState::Busy);
    }

    /// Runs until `stop`; `changed` says that the table changed, so that waiting lanes look again.
    ///
    /// # Errors
    /// [`JournalError`]: the journal failed, and nothing more can be carried.
    pub async fn run(
        self: Arc<Self>,
        changed: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Result<(), JournalError> {
        let mut lanes: HashMap<Address, Arc<Notify>> = HashMap::new();
        let mut running = JoinSet::new();
        let mut awake = self.journal.lanes().await?;
        loop {
            for lane in awake.drain(..) {
                if let Some(bell) = lanes.get(&lane) {
                    bell.notify_one();
                    continue;
                }
                let bell = Arc::new(Notify::new());
                lanes.insert(lane.clone(), Arc::clone(&bell));
                let run = Lane {
                    dispatch: Arc::clone(&self),
                    at: lane,
                    changed: changed.clone(),
                    bell,
                    stray: None,
                    rests: Rest::default(),
                };
                running.spawn(run.run(stop.child_token()));
            }
            self.beat.store(true, Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => break,
                // So that it can be told that nothing hangs here.
                () = tokio::time::sleep(BEAT) => {}
                woken = self.journal.woken() => awake = woken,
                Some(ended) = running.join_next() => match ended {
                    Ok((lane, result)) => {
                        result?;
                        self.note(&lane, None);
                        let bell = lanes.remove(&lane);
                        // A ring that came while the lane was ending is kept in the bell, and must not be lost.
                        let rung = bell.is_some_and(|bell| bell.notified().now_or_never().is_some());
                        awake = rung.then_some(lane).into_iter().collect();
                    }
                    // A panic stays in its lane: the others go on, and this one starts anew from the journal.
                    Err(panic) => {
                        warn!(error = %panic, "A lane broke and starts anew.");
                        lanes.clear();
                        running.shutdown().await;
                        tokio::time::sleep(LOOK_AGAIN).await;
                        awake = self.journal.lanes().await?;
                    }
                },
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatch")
    }
}

struct Lane {
    dispatch: Arc<Dispatch>,
    at: Address,
    changed: watch::Receiver<u64>,
    /// Rings when something came for this lane.
    bell: Arc<Notify>,
    /// A delivery that was found here after its link had led elsewhere.
    stray: Option<i64>,
    rests: Rest,
}

/// Confirmations that the journal was asked for. They are looked after when the lane has time, so nobody is woken for each.
type Settling = FuturesUnordered<BoxFuture<'static, Result<(), JournalError>>>;

/// What a lane does next.
enum Next {
    /// The delivery behind this one.
    GoOn,
    /// Look anew at what stands at the head.
    LookAgain,
    /// Sleep, and look anew.
    Sleep {
        pause: Duration,
        /// A change of the table ends the sleep too.
        or_change: bool,
    },
}

impl Lane {
    async fn run(mut self, stop: CancellationToken) -> (Address, Result<(), JournalError>) {
        let dispatch = Arc::clone(&self.dispatch);
        let mut settling = Settling::new();
        let mut result = self.carry(&dispatch, &mut settling, &stop).await;
        // What came meanwhile does not wait until the last confirmation has had company.
        while result.is_ok() && !stop.is_cancelled() && self.bell.notified().now_or_never().is_some() {
            result = self.carry(&dispatch, &mut settling, &stop).await;
        }
        let settled = drain(&mut settling, 0).await;
        (self.at, result.and(settled))
    }

    /// Delivers until there is nothing left. What is still being confirmed goes into `settling`.
    async fn carry(
        &mut self,
        dispatch: &Dispatch,
        settling: &mut Settling,
        stop: &CancellationToken,
    ) -> Result<(), JournalError> {
        let mut at_once = AT_FIRST;
        while !stop.is_cancelled() {
            // What was delivered is written down first: a reply is taken out only when its counterpart is known, and
            // what is released or retried in its old place is at the head again.
            catch_up(dispatch, settling).await?;
            let erasures = dispatch.journal.erasures();
            let head = dispatch.journal.head(&self.at, 0, at_once).await?;
            let nothing_behind = head.last().is_none_or(|pending| pending.last);
            match self.deliver(dispatch, head, erasures, settling, stop).await? {
                // What came since has rung the bell.
                Next::GoOn if nothing_behind => return Ok(()),
                Next::GoOn => at_once = (at_once * 2).min(AT_MOST),
                Next::LookAgain => at_once = AT_FIRST,
                Next::Sleep { pause, or_change } => {
                    // What waits is unlocked at each look, so only the one that decides is.
                    at_once = 1;
                    catch_up(dispatch, settling).await?;
                    self.sleep(pause, stop, or_change).await;
                }
            }
        }
        Ok(())
    }

    /// Delivers one after the other, until one has to wait. None stays in memory while the lane sleeps.
    async fn deliver(
        &mut self,
        dispatch: &Dispatch,
        head: Vec<Pending>,
        erasures: u64,
        settling: &mut Settling,
        stop: &CancellationToken,
    ) -> Result<Next, JournalError> {
        for pending in head {
            if dispatch.journal.erasures() != erasures {
                // One of these may be what was erased.
                return Ok(Next::LookAgain);
            }
            let early = self.rests.left(&pending, dispatch.clock.now());
            if !early.is_zero() {
                return Ok(Next::Sleep { pause: early, or_change: false });
            }
            dispatch.begins(&self.at);
            let attempt = AssertUnwindSafe(dispatch.attempts.attempt(&self.at, &pending)).catch_unwind();
            let Attempt { outcome, lost } = tokio::select! {
                attempt = attempt => attempt.unwrap_or_else(|_| broke(&pending).into()),
                // A transport keeps its word to be cut off at any time; the delivery is simply tried again.
                () = stop.cancelled() => return Ok(Next::LookAgain),
            };
            if matches!(outcome, Outcome::Delivered(_) | Outcome::LeftOut(_) | Outcome::Dead(_)) {
                for word in telling::of_losses(&pending, &self.at, &lost) {
                    let notice = || word.notice(dispatch.clock.now());
                    written(stop, || async {
                        dispatch.journal.say(&word.at, notice(), Some(&word.topic)).await.map(drop)
                    })
                    .await?;
                }
            }
            dispatch.outcomes.note(&pending, &self.at, &outcome);
            let since = dispatch.clock.now().since(pending.enqueued_at);
            dispatch.meters.attempted(&self.at.account, &outcome, since);
            match self.conclude(dispatch, pending, outcome, settling, stop).await? {
                Next::GoOn => {}
                next => return Ok(next),
            }
        }
        Ok(Next::GoOn)
    }

    /// Writes down what came of an attempt.
    async fn conclude(
        &mut self,
        dispatch: &Dispatch,
        pending: Pending,
        outcome: Outcome,
        settling: &mut Settling,
        stop: &CancellationToken,
    ) -> Result<Next, JournalError> {
        let Pending { number, delivery, attempt, .. } = pending;
        let journal = &dispatch.journal;
        match outcome {
            Outcome::Delivered(id) => {
                dispatch.delivered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                debug!(%delivery, attempt, "Delivered.");
                dispatch.note(&self.at, Some(LaneState::Busy));
                // Where the network would show a second attempt, nothing more is sent before this one is written down.
                let goes_on = self.deduplicates();
                let (journal, stop) = (Arc::clone(journal), stop.clone());
                let mut settled = async move {
                    written(&stop, || async {
                        if goes_on { journal.settle_soon(number, &id).await } else { journal.settle(number, &id).await }
                    })
                    .await?;
                    fail_point!("flow::after-settle", |_| Ok(()));
                    Ok(())
                }
                .boxed();
                match (&mut settled).now_or_never() {
                    Some(settled) => settled?,
                    None => settling.push(settled),
                }
                drain(settling, if goes_on { SETTLING } else { 0 }).await?;
                Ok(Next::GoOn)
            }
            Outcome::Later(pause, cause) => {
                warn!(%delivery, attempt, %cause, "Not delivered yet.");
                dispatch.note(&self.at, Some(LaneState::Retries(cause.clone())));
                catch_up(dispatch, settling).await?;
                let pause = self.rests.begin(number, pause);
                let not_before = dispatch.clock.now().plus(pause);
                written(stop, || journal.postpone(number, not_before, &cause)).await?;
                Ok(Next::Sleep { pause, or_change: false })
            }
            Outcome::LaneWaits(why) => {
                if dispatch.note(&self.at, Some(LaneState::Waits(why))) {
                    warn!(at = ?self.at, %why, "A conversation has to wait.");
                }
                Ok(Next::Sleep { pause: LOOK_AGAIN, or_change: true })
            }
            Outcome::Held(why) => {
                written(stop, || journal.hold(number, why)).await?;
                // It may not be held, if its link went on meanwhile; then it is at the head again.
                Ok(Next::LookAgain)
            }
            Outcome::LeftOut(why) => {
                debug!(%delivery, %why, "Left out.");
                written(stop, || journal.leave_out(number, &why)).await?;
                Ok(Next::GoOn)
            }
            // A link's outbox moves before its table does, so what is still here when looked for again was left behind.
            Outcome::NotHere(_) if self.stray.replace(number) != Some(number) => Ok(Next::LookAgain),
            Outcome::NotHere(reason) | Outcome::Dead(reason) => {
                warn!(%delivery, %reason, "Dead letter.");
                written(stop, || journal.bury(number, &reason)).await?;
                Ok(Next::GoOn)
            }
        }
    }

    fn deduplicates(&self) -> bool {
        let table = self.dispatch.table.now();
        table
            .transport(&self.at.account)
            .map(AnyTransport::common)
            .is_some_and(|transport| transport.abilities().deduplication != Deduplication::Never)
    }

    /// Sleeps until then, or until `stop`; with `or_change`, until the table changes.
    async fn sleep(&mut self, pause: Duration, stop: &CancellationToken, or_change: bool) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = self.changed.changed(), if or_change => {}
            () = stop.cancelled() => {}
        }
    }
}

/// A panic in a transport or a library: it stays with its delivery, which is tried a few times more and then buried, so
/// that one message can't stop a lane for ever.
fn broke(pending: &Pending) -> Outcome {
    error!(delivery = %pending.delivery, attempt = pending.attempt, "A delivery broke its transport.");
    let cause = "the transport broke while it was delivered; its log says where";
    if pending.attempt < BREAKS { Outcome::Later(LOOK_AGAIN, cause.into()) } else { Outcome::Dead(cause.into()) }
}

/// Writes to the journal, however long the disk is full. What somebody else concluded meanwhile, such as the echo that
/// came before the answer, or an operator, is concluded.
async fn written<F, W>(stop: &CancellationToken, write: F) -> Result<(), JournalError>
where
    F: Fn() -> W,
    W: Future<Output = Result<(), JournalError>>,
{
    loop {
        match write().await {
            Err(JournalError::NoSuch(_)) => return Ok(()),
            Err(JournalError::Full) if !stop.is_cancelled() => tokio::time::sleep(LOOK_AGAIN).await,
            // It stays where it is, and is found there at the next start.
            Err(JournalError::Full) => return Ok(()),
            other => return other,
        }
    }
}

/// Has every confirmation written down now.
async fn catch_up(dispatch: &Dispatch, settling: &mut Settling) -> Result<(), JournalError> {
    if settling.is_empty() {
        return Ok(());
    }
    let (hurried, settled) = tokio::join!(dispatch.journal.hurry(), drain(settling, 0));
    match hurried {
        // Whoever waits for room waits in their own confirmation.
        Ok(()) | Err(JournalError::Full) => settled,
        Err(error) => Err(error),
    }
}

/// Waits until no more than `most` confirmations are under way.
async fn drain(settling: &mut Settling, most: usize) -> Result<(), JournalError> {
    while settling.len() > most {
        match settling.next().await {
            Some(settled) => settled?,
            None => break,
        }
    }
    Ok(())
}
