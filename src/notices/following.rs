//! A notice that was taken, followed until it is where it is to be, or for as long as its sender waits.

use std::{collections::BTreeMap, time::Duration};

use sealbridge_contract::{Address, RemoteId, gate::Hold};

use super::{
    Origin,
    desk::{NotTaken, hopeless},
    standing::Standing,
};
use crate::{
    flow::outcomes::{Became, News, Waiter},
    store::Fact,
};

/// What is known of one message at one conversation.
#[derive(Clone, Debug)]
enum Known {
    /// Nothing yet.
    OnItsWay,
    Became(Became),
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
}

impl Following {
    pub(super) fn new(
        origin: Origin,
        ids: Vec<RemoteId>,
        to: Vec<Address>,
        waiter: Waiter,
        names: Vec<String>,
    ) -> Self {
        let known = to.into_iter().map(|at| (at, vec![Known::OnItsWay; ids.len()])).collect();
        Self { origin, ids, known, waiter, names, again: false }
    }

    /// One that was taken before. Where it is to be said, the journal knows.
    pub(super) fn again(origin: Origin, ids: Vec<RemoteId>, waiter: Waiter) -> Self {
        Self { origin, ids, known: BTreeMap::new(), waiter, names: Vec::new(), again: true }
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

    /// Waits until it is certain everywhere what became of it, and no longer than `within`. Says how it stands then.
    pub async fn until_certain(&mut self, within: Duration) -> Standing {
        let until = tokio::time::Instant::now() + within;
        while !self.standing().is_final() && self.hopeless().is_none() {
            match tokio::time::timeout_at(until, self.waiter.next()).await {
                Ok(Some(news)) => self.note(news),
                Ok(None) | Err(_) => break,
            }
        }
        self.standing()
    }

    /// Why it can nowhere be said, if all that it waits for may never come by itself. Not of one that was taken before:
    /// its sender was told that it is kept.
    #[must_use]
    pub fn hopeless(&self) -> Option<NotTaken> {
        if self.again {
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
