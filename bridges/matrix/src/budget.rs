//! One account's allowance at its homeserver, shared fairly between its rooms.
//!
//! While the homeserver takes everything, nobody waits. Once it says "too many", one message is tried at a time, rooms
//! taking turns; each that gets through widens the window again. A send that hangs keeps its place only for a moment,
//! so one room's trouble is not another's.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use ruma::{OwnedRoomId, RoomId};
use tokio::{sync::Notify, time::Instant};

/// How long an unanswered send counts.
const COUNTS_FOR: Duration = Duration::from_secs(3);
/// How long the others let a room go first that was told to come back.
const COURTESY: Duration = Duration::from_millis(500);
/// How long a room keeps its place in the line when nobody waits for it.
const PLACE_KEPT: Duration = Duration::from_secs(60);
/// A window as wide as this is no limit any more.
const OPEN: usize = 64;
const MOST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Budget {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug)]
struct State {
    /// How many sends may be unanswered at once; `OPEN`: any number.
    window: usize,
    not_before: Option<Instant>,
    flights: Vec<(u64, Instant)>,
    next_flight: u64,
    line: VecDeque<Place>,
    limited: u64,
    last_pause: Option<Duration>,
}

#[derive(Debug)]
struct Place {
    room: OwnedRoomId,
    waiting: bool,
    /// Until when the others let it go first though nobody waits for it.
    expected_until: Instant,
}

impl Place {
    fn goes_first(&self, now: Instant) -> bool {
        self.waiting || now < self.expected_until
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            window: OPEN,
            not_before: None,
            flights: Vec::new(),
            next_flight: 0,
            line: VecDeque::new(),
            limited: 0,
            last_pause: None,
        }
    }
}

/// A room's turn to send one message.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    budget: &'a Budget,
    room: OwnedRoomId,
    flight: u64,
}

/// What the homeserver's limits have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How often it said "too many".
    pub(crate) limited: u64,
    /// How long it last asked to wait.
    pub(crate) pause: Option<Duration>,
}

impl Budget {
    /// Waits for the room's turn, at most `patience`. `None`: not yet; the room keeps its place for a while.
    pub(crate) async fn turn(&self, room: &RoomId, patience: Duration) -> Option<Turn<'_>> {
        let give_up = Instant::now() + patience;
        let waiting = Waiting { budget: self, room };
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let wake = match self.lock().try_take(room) {
                Ok(flight) => {
                    std::mem::forget(waiting);
                    return Some(Turn { budget: self, room: room.to_owned(), flight });
                }
                Err(wake) => wake,
            };
            if Instant::now() >= give_up {
                return None;
            }
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(wake.min(give_up)) => {}
            }
        }
    }

    /// The homeserver said "too many" to something else of ours than a message.
    pub(crate) fn limited(&self, retry_after: Option<Duration>) {
        self.lock().slow_down(retry_after);
    }

    pub(crate) fn seen(&self) -> Seen {
        let state = self.lock();
        Seen { limited: state.limited, pause: state.last_pause }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl State {
    /// One message is tried at a time from now on, and none before the pause is over. Gives the pause, and its end.
    fn slow_down(&mut self, retry_after: Option<Duration>) -> (Duration, Instant) {
        let pause = retry_after.unwrap_or(Duration::from_secs(2)).min(MOST_PAUSE);
        self.window = 1;
        self.limited += 1;
        self.last_pause = Some(pause);
        let until = Instant::now() + pause;
        let until = self.not_before.map_or(until, |at| at.max(until));
        self.not_before = Some(until);
        (pause, until)
    }

    /// Takes a turn, or says when to ask again.
    fn try_take(&mut self, room: &RoomId) -> Result<u64, Instant> {
        let now = Instant::now();
        if self.window < OPEN {
            match self.line.iter_mut().find(|place| place.room == room) {
                Some(place) => place.waiting = true,
                None => self.line.push_back(Place { room: room.to_owned(), waiting: true, expected_until: now }),
            }
            self.line.retain(|place| place.waiting || now < place.expected_until + PLACE_KEPT);
            if let Some(at) = self.not_before.filter(|at| *at > now) {
                return Err(at);
            }
            let first = self.line.iter().find(|place| place.goes_first(now));
            if let Some(expected) = first.filter(|place| !place.waiting).map(|place| place.expected_until) {
                return Err(expected);
            }
            let first = first.is_some_and(|place| place.room == room);
            let counting = self.flights.iter().filter(|(_, since)| now.duration_since(*since) < COUNTS_FOR);
            if !first || counting.count() >= self.window {
                let oldest = self.flights.iter().map(|(_, since)| *since + COUNTS_FOR).filter(|at| *at > now).min();
                return Err(oldest.unwrap_or(now + COUNTS_FOR));
            }
        }
        self.line.retain(|place| place.room != room);
        self.next_flight += 1;
        self.flights.push((self.next_flight, now));
        Ok(self.next_flight)
    }
}

/// Marks the room's place as unattended when the wait is given up.
struct Waiting<'a> {
    budget: &'a Budget,
    room: &'a RoomId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        if let Some(place) = state.line.iter_mut().find(|place| place.room == self.room) {
            place.waiting = false;
            place.expected_until = Instant::now() + COURTESY;
        }
        drop(state);
        self.budget.moved.notify_waiters();
    }
}

impl Turn<'_> {
    /// The homeserver took it.
    pub(crate) fn took(&self) {
        let mut state = self.budget.lock();
        state.window = (state.window + 1).min(OPEN);
    }

    /// The homeserver said "too many"; says how long to wait.
    pub(crate) fn limited(&self, retry_after: Option<Duration>) -> Duration {
        let mut state = self.budget.lock();
        let (pause, until) = state.slow_down(retry_after);
        // Its turn brought it nothing, so it is the next.
        let place = Place { room: self.room.clone(), waiting: false, expected_until: until + COURTESY };
        state.line.push_front(place);
        pause
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.budget.lock().flights.retain(|(flight, _)| *flight != self.flight);
        self.budget.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3600);

    fn room(n: usize) -> OwnedRoomId {
        RoomId::parse(format!("!{n}:x")).expect("it is a room id")
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_nothing_is_limited() {
        let budget = Budget::default();
        let mut turns = Vec::new();
        for n in 0..200 {
            turns.push(budget.turn(&room(n), Duration::ZERO).await.expect("there is no limit"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn limited_rooms_take_turns() {
        let budget = Arc::new(Budget::default());
        budget.turn(&room(0), PATIENCE).await.expect("free").limited(Some(Duration::from_secs(5)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for n in 0..4 {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                for _ in 0..3 {
                    // Every other try is one too many.
                    let refused = budget.turn(&room(n), PATIENCE).await.expect("its turn comes");
                    let pause = refused.limited(Some(Duration::from_secs(5)));
                    drop(refused);
                    tokio::time::sleep(pause).await;
                    let turn = budget.turn(&room(n), PATIENCE).await.expect("its turn comes");
                    order.lock().expect("nobody panicked").push(n);
                    turn.took();
                }
            }));
        }
        for task in tasks {
            task.await.expect("it ends");
        }
        let order = order.lock().expect("nobody panicked").clone();
        for round in order.chunks(4) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3], "{order:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn send_that_hangs_in_one_room_does_not_stop_the_others() {
        let budget = Budget::default();
        budget.turn(&room(0), PATIENCE).await.expect("free").limited(Some(Duration::ZERO));
        let _hanging = budget.turn(&room(1), PATIENCE).await.expect("its turn");
        assert!(budget.turn(&room(2), Duration::from_secs(1)).await.is_none(), "one probe at a time");
        assert!(budget.turn(&room(2), Duration::from_secs(5)).await.is_some(), "and then the next");
    }

    #[tokio::test(start_paused = true)]
    async fn window_widens_with_success() {
        let budget = Budget::default();
        budget.turn(&room(0), PATIENCE).await.expect("free").limited(Some(Duration::ZERO));
        for _ in 0..OPEN {
            budget.turn(&room(0), PATIENCE).await.expect("its turn").took();
        }
        let mut turns = Vec::new();
        for n in 0..100 {
            turns.push(budget.turn(&room(n), Duration::ZERO).await.expect("open again"));
        }
        assert_eq!(budget.seen().limited, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_on_keys_holds_messages_too() {
        let budget = Budget::default();
        budget.limited(Some(Duration::from_secs(9)));
        assert!(budget.turn(&room(1), Duration::from_secs(1)).await.is_none());
        assert!(budget.turn(&room(1), Duration::from_secs(10)).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_wait_lets_the_next_room_go() {
        let budget = Budget::default();
        budget.turn(&room(0), PATIENCE).await.expect("free").limited(Some(Duration::from_secs(9)));
        assert!(budget.turn(&room(1), Duration::from_secs(1)).await.is_none());
        assert!(budget.turn(&room(2), PATIENCE).await.is_some());
    }
}
