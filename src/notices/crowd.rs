//! What those who bring notices share, and of which there is only so much: connections, and memory for what they send.
//!
//! When there is none left, whoever holds most of it gives way, and of what is theirs what has been coming longest. So
//! nobody takes it from the others by holding much, by being slow, or by beginning again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// What was in time until now is waited for so long before it gives way.
const PATIENCE: Duration = Duration::from_secs(1);

/// All who share something.
#[derive(Clone, Debug)]
pub(super) struct Crowd(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// There is so much of it, and so much of that for one party at most.
    most: usize,
    share: usize,
    members: Mutex<Members>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Members {
    last: u64,
    all: BTreeMap<u64, Member>,
    /// What they hold together, and those of each party.
    taken: usize,
    parties: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Member {
    party: String,
    holds: usize,
    since: Instant,
    /// It comes to its end by itself.
    stays: bool,
    gives_way: CancellationToken,
}

/// One of them. Whatever it holds is given back with it.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    id: u64,
    gives_way: CancellationToken,
}

impl Crowd {
    pub(super) fn new(most: usize, share: usize) -> Self {
        let members = Mutex::default();
        Self(Arc::new(Shared { most, share, members, freed: Notify::new() }))
    }

    /// A place of a party, which holds nothing yet.
    pub(super) fn enter(&self, party: String) -> Place {
        let gives_way = CancellationToken::new();
        let mut members = self.members();
        members.last += 1;
        let id = members.last;
        let member = Member { party, holds: 0, since: Instant::now(), stays: false, gives_way: gives_way.clone() };
        members.all.insert(id, member);
        Place { crowd: self.clone(), id, gives_way }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place so much more. `Err`: that is tried again when somebody has given way, or at this time.
    fn give(&self, id: u64, more: usize) -> Result<(), Option<Instant>> {
        let mut members = self.members();
        let Some(own) = members.all.get(&id).map(|member| member.party.clone()) else { return Ok(()) };
        let is_coming = |(other, member): &(&u64, &Member)| **other != id && member.holds > 0 && !member.stays;
        let party = match () {
            () if members.of(&own) + more > self.0.share => own,
            () if members.taken + more > self.0.most => {
                let coming = members.all.iter().filter(is_coming).map(|(_, member)| &member.party);
                let Some(largest) = coming.max_by_key(|party| members.of(party)) else { return Err(None) };
                largest.clone()
            }
            () => {
                members.add(id, more);
                return Ok(());
            }
        };
        let coming = members.all.iter().filter(is_coming).filter(|(_, member)| member.party == party);
        let Some((_, oldest)) = coming.min_by_key(|(_, member)| member.since) else { return Err(None) };
        let due = oldest.since + PATIENCE;
        if due > Instant::now() {
            return Err(Some(due));
        }
        // Only when it has does another.
        oldest.gives_way.cancel();
        Err(None)
    }
}

impl Members {
    fn of(&self, party: &str) -> usize {
        self.parties.get(party).copied().unwrap_or_default()
    }

    fn add(&mut self, id: u64, more: usize) {
        let Some(member) = self.all.get_mut(&id) else { return };
        member.holds += more;
        self.taken += more;
        *self.parties.entry(member.party.clone()).or_default() += more;
    }

    /// Takes everything from a member.
    fn empty(&mut self, id: u64) -> usize {
        let Some(member) = self.all.get_mut(&id) else { return 0 };
        let held = std::mem::take(&mut member.holds);
        self.taken -= held;
        if let Some(all) = self.parties.get_mut(&member.party) {
            *all -= held;
            if *all == 0 {
                self.parties.remove(&member.party);
            }
        }
        held
    }
}

impl Place {
    /// Waits until it can hold so much more.
    pub(super) async fn take(&self, more: usize) {
        loop {
            let mut freed = std::pin::pin!(self.crowd.0.freed.notified());
            freed.as_mut().enable();
            match self.crowd.give(self.id, more) {
                Ok(()) => return,
                Err(None) => freed.await,
                Err(Some(at)) => tokio::select! {
                    () = freed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Says whose it is from now on. It begins to come.
    pub(super) fn is(&self, party: String) {
        let mut members = self.crowd.members();
        let held = members.empty(self.id);
        if let Some(member) = members.all.get_mut(&self.id) {
            (member.party, member.stays, member.since) = (party, false, Instant::now());
        }
        members.add(self.id, held);
        self.crowd.0.freed.notify_waiters();
    }

    /// Says that it comes to its end by itself, so that it need not give way.
    pub(super) fn stays(&self) {
        self.crowd.members().all.get_mut(&self.id).into_iter().for_each(|member| member.stays = true);
    }

    /// Ends when it is to give way.
    pub(super) async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.crowd.members();
        members.empty(self.id);
        members.all.remove(&self.id);
        self.crowd.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_most_gives_way_and_first_what_has_been_coming_longest() {
        let crowd = Crowd::new(10, 8);
        let places: Vec<_> = (0..8).map(|_| crowd.enter("slow".to_owned())).collect();
        for place in &places {
            place.take(1).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let other = crowd.enter("other".to_owned());
        other.take(2).await;
        let begun = Instant::now();
        let late = crowd.enter("late".to_owned());
        let mut waits = Box::pin(late.take(1));
        assert!(poll!(&mut waits).is_pending());
        tokio::select! {
            () = &mut waits => panic!("nobody gave way yet"),
            () = places[0].gives_way() => {}
        }
        assert!(begun.elapsed() <= PATIENCE && places[1..].iter().all(|place| !place.gives_way.is_cancelled()));
        assert!(!other.gives_way.is_cancelled());
        // It is waited for until it has.
        assert!(poll!(&mut waits).is_pending() && !places[1].gives_way.is_cancelled());
        drop(places);
        waits.await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_party_has_no_more_than_its_share_and_what_is_being_answered_stays() {
        let crowd = Crowd::new(10, 4);
        let [answered, coming, third] = [(); 3].map(|()| crowd.enter("one".to_owned()));
        answered.take(2).await;
        answered.stays();
        coming.take(2).await;
        tokio::time::advance(PATIENCE).await;
        let mut waits = Box::pin(third.take(1));
        assert!(poll!(&mut waits).is_pending());
        assert!(!answered.gives_way.is_cancelled() && coming.gives_way.is_cancelled());
        crowd.enter("two".to_owned()).take(4).await;
        drop(coming);
        waits.await;
    }
}
