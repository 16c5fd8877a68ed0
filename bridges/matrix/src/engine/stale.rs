//! Which users' device lists may be out of date, so that a send asks only when it must.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ruma::{OwnedUserId, UserId};

/// Users whose devices must be queried before a key is shared with them, and a count that moves whenever anything about
/// any device may have changed.
#[derive(Debug, Default)]
pub(super) struct Stale {
    users: Mutex<BTreeMap<OwnedUserId, u64>>,
    moves: AtomicU64,
}

impl Stale {
    /// Something about devices, identities or sessions may have changed.
    pub(super) fn moved(&self) -> u64 {
        self.moves.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    pub(super) fn mark<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) {
        let at = self.moved();
        let mut stale = self.users.lock().unwrap_or_else(|lock| lock.into_inner());
        stale.extend(users.into_iter().map(|user| (user.to_owned(), at)));
    }

    pub(super) fn is_any<'a>(&self, users: impl IntoIterator<Item = &'a OwnedUserId>) -> bool {
        let stale = self.users.lock().unwrap_or_else(|lock| lock.into_inner());
        !stale.is_empty() && users.into_iter().any(|user| stale.contains_key(user))
    }

    pub(super) fn contains(&self, user: &UserId) -> bool {
        self.users.lock().unwrap_or_else(|lock| lock.into_inner()).contains_key(user)
    }

    /// Forgets those marked up to `at`, save the ones the server could not answer for.
    pub(super) fn settle(&self, at: u64, unanswered: &[OwnedUserId]) {
        let mut stale = self.users.lock().unwrap_or_else(|lock| lock.into_inner());
        stale.retain(|user, marked| *marked > at || unanswered.contains(user));
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn change_during_a_query_is_not_forgotten_by_its_answer() {
        let stale = Stale::default();
        let (alice, bob) = (user_id!("@alice:a"), user_id!("@bob:b"));
        stale.mark([alice, bob]);
        let asked = stale.moves();
        stale.mark([alice]);
        stale.settle(asked, &[]);
        assert!(stale.contains(alice));
        assert!(!stale.contains(bob));
    }

    #[test]
    fn user_without_an_answer_stays_stale() {
        let stale = Stale::default();
        let alice = user_id!("@alice:a");
        stale.mark([alice]);
        stale.settle(stale.moves(), &[alice.to_owned()]);
        assert!(stale.contains(alice));
    }
}
