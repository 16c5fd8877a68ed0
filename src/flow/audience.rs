//! Who can read: tells everybody in a link of those who come to one of its conversations, and only then lets them read;
//! where the operator wants to approve them, nothing is said there until then.
//!
//! The transport keeps who was admitted, and gives nothing to anybody else. What is here decides, from what the transport
//! shows, whom to tell and whom to admit; a death at any moment leaves the newcomers outside, and the next look goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use sealbridge_contract::{
    Address, Clock, Timestamp, Transport,
    audience::{Admission, Audience, Member, Standing},
    gate::NewMembers,
    names,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Desk, table::TableHandle};
use crate::store::{JournalError, Said, SharedJournal};

/// How soon a conversation is looked at again where somebody waits.
const SOON: Duration = Duration::from_millis(200);
/// The longest pause between two such looks.
const LATER: Duration = Duration::from_secs(2);
/// After a notice about newcomers, those who come within this time wait for the next one, so that a server that lets
/// people join all the time fills no conversation.
const BETWEEN: Duration = Duration::from_secs(3);
/// So many conversations are looked at at once: the keys of a newcomer may be on a slow server.
const AT_ONCE: usize = 8;
/// So many newcomers are named one by one.
const NAMED: usize = 5;

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

/// What is to be done about the newcomers of a conversation.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// There are none.
    Settled,
    /// Everybody is told, and then they are admitted.
    Tell {
        /// Nothing is said there until then, since they would get it.
        freeze: bool,
    },
    /// The operator approves them, or does not; nothing is said there until then.
    Ask,
    /// Only the operator can let anybody in; the others go on without them.
    Exclude,
}

/// Judges by what the transport shows of a conversation.
fn judge(audience: &Audience, rules: &[NewMembers], is_admin: bool) -> Verdict {
    match audience.standing(Standing::New).next() {
        None => Verdict::Settled,
        // What the operator is told is for nobody that a server lets in.
        Some(_) if is_admin && audience.chooses => Verdict::Exclude,
        Some(_) if is_admin || rules.contains(&NewMembers::Freeze) => Verdict::Ask,
        Some(_) => Verdict::Tell { freeze: !audience.chooses },
    }
}

/// Watches who can read.
pub struct Watch {
    journal: SharedJournal,
    table: TableHandle,
    desk: Arc<Desk>,
    moved: Arc<Moved>,
    changes: watch::Sender<u64>,
    clock: Clock,
    /// Where somebody waits, and how long until the next look.
    waiting: BTreeMap<Address, Duration>,
    told_at: Mutex<BTreeMap<Address, Timestamp>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch over what `desk` hears; `changes` wakes lanes.
    #[must_use]
    pub fn new(
        journal: SharedJournal,
        table: TableHandle,
        desk: Arc<Desk>,
        changes: watch::Sender<u64>,
        clock: Clock,
    ) -> Self {
        let (moved, waiting, told_at) = (desk.moved(), BTreeMap::new(), Mutex::default());
        Self { journal, table, desk, moved, changes, clock, waiting, told_at }
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
            let now = self.clock.now();
            let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
            if told_at.get(at).is_some_and(|before| now.since(*before) < BETWEEN) {
                return Ok(false);
            }
            told_at.insert(at.clone(), now);
        }
        for place in &places {
            let words = announced(&newcomers, &whereabouts(transport, at), place == at);
            self.desk.tell(place, &words, Some(&topic)).await?;
        }
        for place in &places {
            if self.journal.said(place, &topic).await? == Said::OnItsWay {
                return Ok(false);
            }
        }
        let admitted: Vec<Admission> = newcomers.into_iter().map(Admission::from).collect();
        match transport.admit(&at.conversation, &admitted).await {
            Ok(()) => {
                info!(conversation = %at, people = admitted.len(), "Everybody was told, and newcomers read from now on.");
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
            if self.journal.said(place, topic).await? != Said::Never {
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
        let (who, link) = (listed(&newcomers), self.table.now().links_of(at).next().map(|(link, _)| link.name.clone()));
        if *verdict == Verdict::Exclude {
            let words = format!("In the admin room there is now: {who}. They get nothing of what is said here.");
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

/// What is said of newcomers: in their own conversation, and elsewhere.
fn announced(newcomers: &[&Member], whereabouts: &str, here: bool) -> String {
    let who = listed(newcomers);
    let they = if newcomers.len() == 1 { "They" } else { "All of them" };
    match here {
        true => format!("Now here: {who}. {they} can read what the bridge brings from this message on."),
        false => format!("Now in {whereabouts}: {who}. {they} can read what is said here from this message on."),
    }
}

/// Names people with what is known of them.
fn listed(people: &[&Member]) -> String {
    let mut words = String::new();
    for (place, member) in people.iter().take(NAMED).enumerate() {
        let comma = if place == 0 { "" } else { "; " };
        let _ = write!(words, "{comma}{}", named(member));
    }
    if people.len() > NAMED {
        let _ = write!(words, "; and {} more", people.len() - NAMED);
    }
    words
}

fn named(member: &Member) -> String {
    let id = names::own(member.person.as_str());
    let name = member.name.as_deref().map(names::own).filter(|name| !name.is_empty() && *name != id);
    let who = name.map_or_else(|| id.clone(), |name| format!("{id}, who calls themselves “{name}”"));
    format!("{who} ({})", member.proof.words())
}

/// What makes a readership of newcomers another one: which of the conversation it is, who they are, by which key.
fn topic(at: &Address, turn: u64, newcomers: &[&Member]) -> String {
    let mut digest = Sha256::new();
    for member in newcomers {
        let key = member.identity.as_ref().map_or("", |identity| identity.as_str());
        for part in [member.person.as_str(), key] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    let digest = digest.finalize();
    let digest = digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("audience/{at}/{turn}/{digest}")
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::{
        PersonId,
        audience::{Identity, Proof},
    };

    use super::*;

    fn member(person: &str, standing: Standing) -> Member {
        Member {
            person: PersonId::new(person),
            name: Some("Ann\u{202e}".into()),
            identity: Some(Identity::new("key")),
            pinned: None,
            proof: Proof::CrossSigned,
            since: None,
            standing,
            devices: Vec::new(),
        }
    }

    fn audience(standings: &[Standing], chooses: bool) -> Audience {
        let members = standings.iter().enumerate().map(|(n, standing)| member(&format!("@p{n}:x"), *standing));
        Audience { members: members.collect(), turn: 1, chooses }
    }

    #[test]
    fn newcomers_are_told_of_or_asked_for_as_the_strictest_link_says() {
        use NewMembers::{Freeze, TellFirst};
        let (settled, new) = (audience(&[Standing::Reads, Standing::Invited], true), [Standing::Reads, Standing::New]);
        assert_eq!(judge(&settled, &[Freeze], false), Verdict::Settled);
        assert_eq!(judge(&audience(&new, true), &[TellFirst], false), Verdict::Tell { freeze: false });
        assert_eq!(judge(&audience(&new, false), &[TellFirst], false), Verdict::Tell { freeze: true });
        assert_eq!(judge(&audience(&new, true), &[TellFirst, Freeze], false), Verdict::Ask);
        assert_eq!(judge(&audience(&new, true), &[], true), Verdict::Exclude);
        assert_eq!(judge(&audience(&new, false), &[], true), Verdict::Ask);
        // Whose identity changed is the transport's to stop, and nobody's to admit by itself.
        assert_eq!(judge(&audience(&[Standing::Changed], true), &[TellFirst], false), Verdict::Settled);
    }

    #[test]
    fn who_is_told_of_is_named_harmlessly_and_a_crowd_by_its_number() {
        let crowd = audience(&[Standing::New; 8], true);
        let crowd: Vec<_> = crowd.members.iter().collect();
        let words = announced(&crowd[..1], "“Room”", false);
        assert_eq!(
            words,
            "Now in “Room”: @p0:x, who calls themselves “Ann” (cross-signed, not verified). They can read what is said \
             here from this message on."
        );
        let words = announced(&crowd, "“Room”", true);
        assert!(words.contains("@p4:x") && !words.contains("@p5:x") && words.contains("and 3 more"), "{words}");
    }

    #[test]
    fn same_newcomers_are_told_once_and_others_or_the_same_at_another_time_again() {
        let at = Address {
            account: sealbridge_contract::AccountName::parse("home").expect("it is a name"),
            conversation: sealbridge_contract::ConversationId::new("!a"),
        };
        let (one, two) = (member("@a:x", Standing::New), member("@b:x", Standing::New));
        let changed = Member { identity: Some(Identity::new("other")), ..one.clone() };
        let first = topic(&at, 1, &[&one]);
        assert_eq!(first, topic(&at, 1, &[&one]));
        for other in [topic(&at, 2, &[&one]), topic(&at, 1, &[&one, &two]), topic(&at, 1, &[&changed])] {
            assert_ne!(first, other);
        }
    }
}
