//! Who can read: tells everybody in a link of those who come to one of its conversations, and only then lets them read;
//! where the operator wants to approve them, nothing is said there until then.
//!
//! The transport keeps who was admitted, and gives nothing to anybody else. `newcomers` decides whom to tell and what; a
//! death at any moment leaves the newcomers outside, and the next look goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use sealbridge_contract::{
    Address, PersonId, Transport,
    audience::{Admission, Audience, Member, Standing},
    names,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Desk,
    newcomers::{Verdict, announced, judge, listed, topic},
    table::TableHandle,
};
use crate::store::{JournalError, SharedJournal, Spoken};

/// How soon a conversation is looked at again where somebody waits.
const SOON: Duration = Duration::from_millis(200);
/// The longest pause between two such looks.
const LATER: Duration = Duration::from_secs(2);
/// After a notice about newcomers, those who come within this time wait for the next one, so that a server that lets
/// people join all the time fills no conversation.
const BETWEEN: Duration = Duration::from_secs(3);
/// So many conversations are looked at at once: the keys of a newcomer may be on a slow server.
const AT_ONCE: usize = 8;

/// Conversations whose readers may have changed.
#[derive(Debug, Default)]
pub struct Moved {
    conversations: Mutex<BTreeSet<Address>>,
    bell: Notify,
}

impl Moved {
    /// Readers of `at` may have changed.
    pub fn note(&self, at: Address) {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeSet<Address> {
        std::mem::take(&mut *self.conversations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches who can read.
pub struct Watch {
    journal: SharedJournal,
    table: TableHandle,
    desk: Arc<Desk>,
    moved: Arc<Moved>,
    changes: watch::Sender<u64>,
    /// Whom the admin room is for.
    operator: Option<PersonId>,
    /// Where somebody waits, and how long until the next look.
    waiting: BTreeMap<Address, Duration>,
    told_at: Mutex<BTreeMap<Address, Instant>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch over what `desk` hears; `changes` wakes lanes. The admin room is for `operator`.
    #[must_use]
    pub fn new(
        journal: SharedJournal,
        table: TableHandle,
        desk: Arc<Desk>,
        changes: watch::Sender<u64>,
        operator: Option<PersonId>,
    ) -> Self {
        let (moved, waiting, told_at) = (desk.moved(), BTreeMap::new(), Mutex::default());
        Self { journal, table, desk, moved, changes, operator, waiting, told_at }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// [`JournalError`]: the journal failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        let mut changed = self.changes.subscribe();
        changed.mark_changed();
        loop {
            let pause = self.waiting.values().min().copied().unwrap_or(Duration::from_secs(3600));
            let all = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.moved.bell.notified() => false,
                () = tokio::time::sleep(pause) => false,
                Ok(()) = changed.changed() => true,
            };
            let mut due = self.moved.take();
            if all {
                due.extend(self.table.now().links().flat_map(|link| &link.ends).map(|end| end.at.clone()));
                due.extend(self.desk.admin().cloned());
            }
            let quiet = due.is_empty();
            due.extend(self.waiting.keys().cloned());
            let looks = stream::iter(due).map(async |at| (self.look(&at).await, at)).buffer_unordered(AT_ONCE);
            let looked: Vec<_> = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = looks.collect() => looked,
            };
            for (settled, at) in looked {
                let pause = self.waiting.get(&at).map_or(SOON, |pause| if quiet { *pause * 2 } else { SOON });
                match settled {
                    Ok(true) => drop(self.waiting.remove(&at)),
                    // A full journal says later what it can't take now.
                    Ok(false) | Err(JournalError::Full) => drop(self.waiting.insert(at, pause.min(LATER))),
                    Err(JournalError::Closed) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Looks at one conversation. True: nobody waits there.
    async fn look(&self, at: &Address) -> Result<bool, JournalError> {
        let table = self.table.now();
        let rules: Vec<_> = table.links_of(at).map(|(_, rule)| rule.new_members).collect();
        let is_admin = self.desk.admin() == Some(at);
        if rules.is_empty() && !is_admin {
            self.freeze(at, false);
            return Ok(true);
        }
        let Some(transport) = table.transport(&at.account) else { return Ok(true) };
        if !transport.common().may_have_moved(&at.conversation) {
            self.freeze(at, false);
            return Ok(true);
        }
        let audience = match transport.common().audience(&at.conversation).await {
            Ok(Some(audience)) => audience,
            Ok(None) => return Ok(true),
            Err(error) => {
                debug!(%error, conversation = %at, "Who reads there can't be said yet.");
                return Ok(false);
            }
        };
        match judge(&audience, &rules, is_admin) {
            Verdict::Settled => {
                self.freeze(at, false);
                Ok(true)
            }
            Verdict::Tell { freeze } => {
                self.freeze(at, freeze);
                self.tell_and_admit(at, transport.common(), &audience).await
            }
            Verdict::Exclude if self.is_the_operator(&audience) => self.admit(at, transport.common(), &audience).await,
            verdict @ (Verdict::Ask | Verdict::Exclude) => {
                self.freeze(at, verdict == Verdict::Ask);
                self.ask(at, transport.common(), &audience, &verdict).await?;
                Ok(false)
            }
        }
    }

    fn freeze(&self, at: &Address, frozen: bool) {
        if self.table.freeze(at, frozen) {
            warn!(conversation = %at, frozen, "Nothing is carried there for a while, or again.");
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Tells of newcomers everywhere, and admits them once that is out.
    async fn tell_and_admit(
        &self,
        at: &Address,
        transport: &dyn Transport,
        audience: &Audience,
    ) -> Result<bool, JournalError> {
        let newcomers: Vec<&Member> = audience.standing(Standing::New).collect();
        let topic = topic(at, audience.turn, &newcomers);
        let places = self.places(at, audience);
        if self.is_new(&places, &topic).await? {
            // Not by the clock, which may be set back.
            let now = Instant::now();
            let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
            if told_at.get(at).is_some_and(|before| now.duration_since(*before) < BETWEEN) {
                return Ok(false);
            }
            told_at.insert(at.clone(), now);
        }
        for place in &places {
            let words = announced(&newcomers, &whereabouts(transport, at), place == at);
            self.desk.tell(place, &words, Some(&topic)).await?;
        }
        for place in &places {
            if self.journal.said(place, &topic).await? == Spoken::OnItsWay {
                return Ok(false);
            }
        }
        self.admit(at, transport, audience).await
    }

    /// Whether all who are new are the one whom the admin room is for: who went and came back.
    fn is_the_operator(&self, audience: &Audience) -> bool {
        audience.standing(Standing::New).all(|member| Some(&member.person) == self.operator.as_ref())
    }

    async fn admit(&self, at: &Address, transport: &dyn Transport, audience: &Audience) -> Result<bool, JournalError> {
        let admitted: Vec<Admission> = audience.standing(Standing::New).map(Admission::from).collect();
        match transport.admit(&at.conversation, &admitted).await {
            Ok(()) => {
                info!(conversation = %at, people = admitted.len(), "Newcomers read from now on.");
                self.freeze(at, false);
                self.changes.send_modify(|count| *count += 1);
                Ok(true)
            }
            Err(error) => {
                debug!(%error, conversation = %at, "Newcomers are not admitted yet.");
                Ok(false)
            }
        }
    }

    async fn is_new(&self, places: &BTreeSet<Address>, topic: &str) -> Result<bool, JournalError> {
        for place in places {
            if self.journal.said(place, topic).await? != Spoken::Never {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where newcomers are told of: all that is said here, and all that hears it. Nobody is told where nobody reads.
    fn places(&self, at: &Address, audience: &Audience) -> BTreeSet<Address> {
        let table = self.table.now();
        let ends = table.links_of(at).flat_map(|(link, _)| &link.ends).map(|end| end.at.clone());
        let mut places: BTreeSet<_> = ends.collect();
        if audience.chooses && audience.standing(Standing::Reads).next().is_none() {
            places.remove(at);
        }
        places
    }

    /// Tells the operator of newcomers who wait for a word of theirs, and the others that nothing is carried there.
    async fn ask(
        &self,
        at: &Address,
        transport: &dyn Transport,
        audience: &Audience,
        verdict: &Verdict,
    ) -> Result<(), JournalError> {
        let newcomers: Vec<&Member> = audience.standing(Standing::New).collect();
        let topic = topic(at, audience.turn, &newcomers);
        if self.is_new(&BTreeSet::from_iter(self.desk.admin().cloned()), &topic).await? {
            warn!(conversation = %at, people = newcomers.len(), "Somebody new waits until the operator approves them.");
        }
        let (who, link) = (listed(&newcomers), self.table.now().links_of(at).next().map(|(link, _)| link.name.clone()));
        if *verdict == Verdict::Exclude {
            let words = format!(
                "In the admin room there is now: {who}. They get nothing of what is said here, unless you say \
                 `sealbridge approve {at} PERSON`."
            );
            return self.desk.tell_operator(&words, Some(&topic)).await;
        }
        let link = link.map_or_else(|| at.to_string(), |link| link.to_string());
        let words = format!(
            "Nothing is carried to {at} until you have looked: {who} came there. `sealbridge audience {link}` says who \
             they are, and `sealbridge approve {link} PERSON` lets them read."
        );
        self.desk.tell_operator(&words, Some(&topic)).await?;
        let told = format!("Nothing is carried to {} for now: somebody new is there.", whereabouts(transport, at));
        for place in self.places(at, audience).iter().filter(|place| *place != at) {
            self.desk.tell(place, &told, Some(&topic)).await?;
        }
        Ok(())
    }
}

/// What a conversation is called, for people elsewhere.
fn whereabouts(transport: &dyn Transport, at: &Address) -> String {
    let infos = transport.conversations();
    let name = infos.into_iter().find(|info| info.id == at.conversation).and_then(|info| info.name);
    let name = name.map(|name| names::own(&name)).filter(|name| !name.is_empty());
    name.map_or_else(|| names::own(at.conversation.as_str()), |name| format!("“{name}”"))
}
