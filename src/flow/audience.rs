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
    Address, PersonId, SecretBytes, Transport,
    audience::{Admission, Audience, Member, Standing},
    gate::NewMembers,
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
    newcomers::{Telling, Verdict, announced, is_the_operator, judge, listed},
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
/// That time doubles with each notice, up to this, until nobody came for a while.
const BETWEEN_AT_MOST: Duration = Duration::from_secs(60);
const LONG_AGO: Duration = Duration::from_secs(600);
/// Once a notice has been on its way for so long, the operator is told who waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
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
    /// When it was begun to tell of newcomers, and how soon that may be done again.
    told_at: Mutex<BTreeMap<Address, (Instant, Duration)>>,
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
            return self.settled(at).await;
        }
        let audience = match transport.common().audience(&at.conversation).await {
            Ok(Some(audience)) => audience,
            // Its network does not tell, or we are not in it.
            Ok(None) => return self.settled(at).await,
            Err(error) => {
                debug!(%error, conversation = %at, "Who reads there can't be said yet.");
                return Ok(false);
            }
        };
        match judge(&audience, &rules, is_admin) {
            Verdict::Settled => self.settled(at).await,
            Verdict::Tell { freeze } => {
                self.freeze(at, freeze);
                self.tell_and_admit(at, transport.common(), &audience).await
            }
            Verdict::Exclude
                if audience.standing(Standing::New).any(|member| is_the_operator(member, self.operator.as_ref())) =>
            {
                let operator =
                    audience.standing(Standing::New).filter(|member| is_the_operator(member, self.operator.as_ref()));
                self.admit(at, transport.common(), operator.map(Admission::unseen).collect()).await?;
                Ok(false)
            }
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

    /// Nobody is new there. Whoever was told of and went is told of again when they come back.
    async fn settled(&self, at: &Address) -> Result<bool, JournalError> {
        self.freeze(at, false);
        if self.telling(at).await?.is_some() {
            self.journal.set(&kept(at), SecretBytes::new(Vec::new())).await?;
        }
        Ok(true)
    }

    /// What is being told of a conversation's newcomers, if anything.
    async fn telling(&self, at: &Address) -> Result<Option<Telling>, JournalError> {
        let kept = self.journal.setting(&kept(at)).await?;
        Ok(kept.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()))
    }

    /// Begins to tell of these, under a name that nothing was ever told by. `None`: it is too soon after the last time.
    async fn begin(&self, at: &Address, newcomers: &[&Member], asks: bool) -> Result<Option<Telling>, JournalError> {
        {
            // Not by the clock, which may be set back.
            let (now, mut told_at) = (Instant::now(), self.told_at.lock().unwrap_or_else(PoisonError::into_inner));
            let pause = match told_at.get(at) {
                Some((before, pause)) if now.duration_since(*before) < *pause => return Ok(None),
                Some((before, pause)) if now.duration_since(*before) < LONG_AGO => (*pause * 2).min(BETWEEN_AT_MOST),
                _ => BETWEEN,
            };
            told_at.insert(at.clone(), (now, pause));
        }
        let telling = Telling::of(newcomers, asks);
        let bytes = serde_json::to_vec(&telling).expect("names and keys serialise");
        self.journal.set(&kept(at), SecretBytes::new(bytes)).await?;
        Ok(Some(telling))
    }

    /// Tells of newcomers everywhere, and admits those who were told of once that has arrived.
    async fn tell_and_admit(
        &self,
        at: &Address,
        transport: &dyn Transport,
        audience: &Audience,
    ) -> Result<bool, JournalError> {
        let newcomers: Vec<&Member> = audience.standing(Standing::New).collect();
        let known = self.telling(at).await?;
        let known = known.filter(|telling| !telling.asks && newcomers.iter().any(|member| telling.names(member)));
        let telling = match known {
            Some(telling) => telling,
            None => match self.begin(at, &newcomers, false).await? {
                Some(telling) => telling,
                None => return Ok(false),
            },
        };
        let told: Vec<&Member> = newcomers.iter().copied().filter(|member| telling.names(member)).collect();
        let places = self.places(at, audience).await;
        if places.is_empty() {
            let words = format!("Nobody could be told who came to {at}, since nobody reads there: {}.", listed(&told));
            self.desk.tell_operator(&words, Some(&telling.topic(at))).await?;
        }
        let mut waits = Vec::new();
        for place in &places {
            let words = announced(&told, &whereabouts(transport, at), place == at);
            self.desk.tell(place, &words, Some(&telling.topic(at))).await?;
            match self.journal.said(place, &telling.topic(at)).await? {
                Spoken::Arrived => {}
                Spoken::Never | Spoken::OnItsWay => waits.push(place),
                Spoken::Lost => {
                    self.say_waiting(at, &told, place, &telling, "could not be told").await?;
                    // It is told everywhere once more, after a while.
                    self.journal.set(&kept(at), SecretBytes::new(Vec::new())).await?;
                    return Ok(false);
                }
            }
        }
        if let Some(place) = waits.first() {
            let begun = self.told_at.lock().unwrap_or_else(PoisonError::into_inner).get(at).map(|(begun, _)| *begun);
            let begun = begun.unwrap_or_else(|| {
                let now = Instant::now();
                let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
                told_at.insert(at.clone(), (now, BETWEEN));
                now
            });
            if begun.elapsed() > PATIENCE {
                self.say_waiting(at, &told, place, &telling, "can't be told now").await?;
            }
            return Ok(false);
        }
        let all = told.len() == newcomers.len();
        let admitted = self.admit(at, transport, told.into_iter().map(Admission::unseen).collect()).await?;
        Ok(all && admitted && self.settled(at).await?)
    }

    /// Tells the operator who waits, since whom.
    async fn say_waiting(
        &self,
        at: &Address,
        told: &[&Member],
        place: &Address,
        telling: &Telling,
        why: &str,
    ) -> Result<(), JournalError> {
        let words = format!(
            "Newcomers to {at} read nothing yet: {}. Those in {place} {why}. `sealbridge approve {at} PERSON --key KEY` \
             lets them read all the same.",
            listed(told)
        );
        self.desk.tell_operator(&words, Some(&format!("{}/waits", telling.topic(at)))).await
    }

    async fn admit(&self, at: &Address, transport: &dyn Transport, who: Vec<Admission>) -> Result<bool, JournalError> {
        match transport.admit(&at.conversation, &who).await {
            Ok(()) => {
                info!(conversation = %at, people = who.len(), "Newcomers read from now on.");
                self.changes.send_modify(|count| *count += 1);
                Ok(true)
            }
            Err(error) => {
                debug!(%error, conversation = %at, "Newcomers are not admitted yet.");
                Ok(false)
            }
        }
    }

    /// Where newcomers are told of: all that is said here, and all that hears it. Nobody is told where nobody reads.
    async fn places(&self, at: &Address, audience: &Audience) -> BTreeSet<Address> {
        let table = self.table.now();
        let ends = table.links_of(at).flat_map(|(link, _)| &link.ends).map(|end| end.at.clone());
        let mut places: BTreeSet<_> = ends.collect();
        let read = |audience: &Audience| !audience.chooses || audience.standing(Standing::Reads).next().is_some();
        if !read(audience) {
            places.remove(at);
        }
        for place in places.clone().iter().filter(|place| *place != at) {
            let Some(transport) = table.transport(&place.account) else { continue };
            if let Ok(Some(there)) = transport.common().audience(&place.conversation).await
                && !read(&there)
            {
                places.remove(place);
            }
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
        let known = self.telling(at).await?;
        let telling = match known.filter(|telling| telling.asks && newcomers.iter().all(|one| telling.names(one))) {
            Some(telling) => telling,
            None => match self.begin(at, &newcomers, true).await? {
                Some(telling) => {
                    warn!(conversation = %at, people = newcomers.len(), "Somebody new waits until they are approved.");
                    telling
                }
                None => return Ok(()),
            },
        };
        let topic = telling.topic(at);
        let (who, link) = (listed(&newcomers), self.table.now().links_of(at).next().map(|(link, _)| link.name.clone()));
        if *verdict == Verdict::Exclude {
            let words = format!(
                "In the admin room there is now: {who}. They get nothing of what is said here, unless you say \
                 `sealbridge approve {at} PERSON --key KEY`."
            );
            return self.desk.tell_operator(&words, Some(&topic)).await;
        }
        let link = link.map_or_else(|| at.to_string(), |link| link.to_string());
        let words = format!(
            "Nothing is carried to {at} until you have looked: {who} came there. `sealbridge audience {link}` says who \
             they are and by which key, and `sealbridge approve {link} PERSON --key KEY` lets them read."
        );
        self.desk.tell_operator(&words, Some(&topic)).await?;
        let told = format!("Nothing is carried to {} for now: somebody new is there.", whereabouts(transport, at));
        for place in self.places(at, audience).await.iter().filter(|place| *place != at) {
            self.desk.tell(place, &told, Some(&topic)).await?;
        }
        Ok(())
    }
}

/// Nothing is carried to the conversations of links that freeze until each was looked at.
pub fn freeze_unlooked(table: &TableHandle) {
    let now = table.now();
    let freezes = |name| now.rule(name).is_some_and(|rule| rule.new_members == NewMembers::Freeze);
    for link in now.links().filter(|link| freezes(&link.name)) {
        for end in &link.ends {
            table.freeze(&end.at, true);
        }
    }
}

/// Under which name of the journal it is kept what is told of a conversation's newcomers.
fn kept(at: &Address) -> String {
    format!("newcomers/{at}")
}

/// What a conversation is called, for people elsewhere.
fn whereabouts(transport: &dyn Transport, at: &Address) -> String {
    let infos = transport.conversations();
    let name = infos.into_iter().find(|info| info.id == at.conversation).and_then(|info| info.name);
    called(name.as_deref(), at.conversation.as_str())
}

/// By its name, or by its id where it has none.
fn called(name: Option<&str>, conversation: &str) -> String {
    let name = name.map(names::inside).filter(|name| !name.is_empty());
    name.map_or_else(|| names::id(conversation), |name| format!("“{name}”"))
}
