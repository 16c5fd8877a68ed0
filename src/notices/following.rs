//! A notice that was taken, followed until it is where it is to be, or for as long as its sender waits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sealbridge_contract::{Address, RemoteId, gate::Hold};
use tokio_util::sync::CancellationToken;

use super::{
    Origin,
    desk::{NotTaken, hopeless},
    standing::Standing,
};
use crate::{
    flow::outcomes::{Became, News, Waiter},
    store::{Fact, REPLACED},
};

/// What is known of one message at one conversation.
#[derive(Clone, Debug)]
enum Known {
    /// Nothing yet.
    OnItsWay,
    Became(Became),
}

/// With so many that are followed, those that are not any more are forgotten.
const MOST_FOLLOWED: usize = 4_096;

/// What has a name, is followed, and may still be taken back.
#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<HashMap<RemoteId, Weak<AtomicBool>>>);

impl Followed {
    /// A notice is followed from now on.
    pub(super) fn note(&self, following: &Following) {
        let Some(id) = following.ids.first().filter(|_| !following.names.is_empty()) else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_FOLLOWED {
            all.retain(|_, stays| stays.strong_count() > 0);
        }
        all.insert(id.clone(), Arc::downgrade(&following.stays));
    }

    /// Somebody else is told that it is kept, so it stays, though whoever brought it first still waits.
    pub(super) fn stays(&self, id: &RemoteId) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(id).and_then(Weak::upgrade).into_iter().for_each(|stays| stays.store(true, Ordering::Release));
    }
}

/// A notice that is followed.
#[derive(Debug)]
pub struct Following {
    origin: Origin,
    /// The names of its messages; it is called by the first.
    ids: Vec<RemoteId>,
    known: BTreeMap<Address, Vec<Known>>,
    waiter: Waiter,
    /// Under what its names are kept.
    names: Vec<String>,
    /// It was taken before.
    again: bool,
    /// It stays kept, whatever becomes of it.
    stays: Arc<AtomicBool>,
    /// The message of the same words that it changes.
    changes: Option<RemoteId>,
}

impl Following {
    /// One that was just taken. `stays`: whatever becomes of it, it is not taken back.
    pub(super) fn new(
        origin: Origin,
        ids: Vec<RemoteId>,
        to: Vec<Address>,
        waiter: Waiter,
        names: Vec<String>,
        stays: bool,
    ) -> Self {
        let known = to.into_iter().map(|at| (at, vec![Known::OnItsWay; ids.len()])).collect();
        Self { origin, ids, known, waiter, names, again: false, stays: Arc::new(AtomicBool::new(stays)), changes: None }
    }

    /// One that was taken before. Where it is to be said, the journal knows.
    pub(super) fn again(origin: Origin, ids: Vec<RemoteId>, waiter: Waiter) -> Self {
        let stays = Arc::new(AtomicBool::new(true));
        Self { origin, ids, known: BTreeMap::new(), waiter, names: Vec::new(), again: true, stays, changes: None }
    }

    /// The same of words that came again.
    pub(super) fn changing(self, changes: Option<RemoteId>) -> Self {
        Self { changes, ..self }
    }

    /// The message of the same words that it changes, if they came again.
    pub(super) fn changes(&self) -> Option<&RemoteId> {
        self.changes.as_ref()
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What its messages are called here.
    #[must_use]
    pub fn ids(&self) -> &[RemoteId] {
        &self.ids
    }

    /// What the notice is called here.
    #[must_use]
    pub fn id(&self) -> &str {
        self.ids.first().map_or("", RemoteId::as_str)
    }

    /// Whether it was taken before, under the same name.
    #[must_use]
    pub fn is_again(&self) -> bool {
        self.again
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes in what the journal knows of one of its messages.
    pub(super) fn learn(&mut self, id: &RemoteId, facts: &[Fact]) {
        let Some(place) = self.ids.iter().position(|known| known == id) else { return };
        for fact in facts {
            let Some(to) = &fact.to else { continue };
            let why = || fact.reason.clone().unwrap_or_else(|| fact.state.to_owned());
            let known = match (fact.state, &fact.delivered_as) {
                ("delivered" | "echo", Some(id)) => Known::Became(Became::Arrived(id.clone())),
                ("held", _) => Known::Became(Became::Waits(Hold::Paused)),
                ("queued" | "waiting" | "delivered" | "echo", _) => Known::OnItsWay,
                // What it said is on its way with what took its place.
                ("dropped", _) if fact.reason.as_deref() == Some(REPLACED) => Known::OnItsWay,
                _ => Known::Became(Became::Refused(why())),
            };
            let all = self.known.entry(to.clone()).or_insert_with(|| vec![Known::OnItsWay; self.ids.len()]);
            // What was told meanwhile is newer than what was asked.
            if matches!(all[place], Known::OnItsWay) {
                all[place] = known;
            }
        }
    }

    fn note(&mut self, news: News) {
        let Some(place) = self.ids.iter().position(|known| *known == news.id) else { return };
        if let Some(all) = self.known.get_mut(&news.at) {
            all[place] = Known::Became(news.became);
        }
    }

    /// Waits until it is certain everywhere what became of it, and no longer than `within` or until `stop`. Says how it
    /// stands then.
    pub async fn until_certain(&mut self, within: Duration, stop: &CancellationToken) -> Standing {
        let until = tokio::time::Instant::now() + within;
        while !self.standing().is_final() && !self.waits_in_vain() {
            let next = tokio::time::timeout_at(until, self.waiter.next());
            match stop.run_until_cancelled(next).await {
                Some(Ok(Some(news))) => self.note(news),
                Some(Ok(None) | Err(_)) | None => break,
            }
        }
        self.standing()
    }

    /// Whether all that is not certain waits for what may never come by itself.
    fn waits_in_vain(&self) -> bool {
        let may_come = |known: &Known| match known {
            Known::OnItsWay | Known::Became(Became::Tried(_)) => true,
            Known::Became(Became::Waits(hold)) => hopeless(*hold).is_none(),
            Known::Became(Became::Arrived(_) | Became::Refused(_)) => false,
        };
        !self.known.values().flatten().any(may_come)
    }

    /// Why it can nowhere be said, if all that it waits for may never come by itself. Not of one that stays kept: somebody
    /// was told that it is, or more rests on it than its messages.
    #[must_use]
    pub fn hopeless(&self) -> Option<NotTaken> {
        if self.stays.load(Ordering::Acquire) {
            return None;
        }
        let mut why = None;
        for known in self.known.values().flatten() {
            let Known::Became(Became::Waits(hold)) = known else { continue };
            why = Some(hopeless(*hold)?);
        }
        let waits = |known: &Vec<Known>| known.iter().any(|one| matches!(one, Known::Became(Became::Waits(_))));
        why.filter(|_| self.known.values().all(waits))
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for (at, all) in &self.known {
            let at = at.to_string();
            let refused = all.iter().find_map(|known| match known {
                Known::Became(Became::Refused(why)) => Some(why.clone()),
                _ => None,
            });
            let waits = all.iter().find_map(|known| match known {
                Known::OnItsWay => Some("it is on its way".to_owned()),
                Known::Became(Became::Waits(hold)) => Some(hold.to_string()),
                Known::Became(Became::Tried(cause)) => {
                    Some(format!("it was tried in vain, and is tried again: {cause}"))
                }
                Known::Became(_) => None,
            });
            match (waits, refused, all.first()) {
                (Some(why), ..) => drop(standing.waits.insert(at, why)),
                (None, Some(why), _) => drop(standing.refused.insert(at, why)),
                (None, None, Some(Known::Became(Became::Arrived(id)))) => {
                    standing.arrived.insert(at, id.as_str().to_owned());
                }
                (None, None, _) => {}
            }
        }
        standing
    }
}
