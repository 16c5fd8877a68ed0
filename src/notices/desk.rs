//! Where notices become messages: committed durably with their deliveries, once for each name that their sender gave
//! them, and followed until they are where they are to be.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sealbridge_contract::{
    AccountName, Address, Arrival, Arrived, Batch, Cleartext, Clock, DeliveryId, Destination, Intake, Kind, Message,
    NotAccepted, RemoteId, SecretBytes, SenderTrust, Target, Timestamp,
    gate::{Encryption, Hold, Refusal},
    inbox::{Incoming, Keep, StoreWrite},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Origin, account,
    brought::{INCIDENTS, ROOTS},
    digest::DIGESTS,
    following::{Followed, Following},
    standing::Standing,
};
use crate::{
    flow::{Outcomes, TableHandle, table::Table},
    store::SharedJournal,
};

/// For how long the same name is the same notice.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// After this long without news the journal is asked.
const SOON: Duration = Duration::from_millis(250);
/// As many names are remembered at most, of all sources.
const MOST_REMEMBERED: usize = 200_000;
/// For how long, and of how many digests, it is known of which incidents they told.
const DIGESTS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_DIGESTS: usize = 10_000;
/// Where they are kept in the account's own store.
const NAMES: &str = "name/";

/// Why nothing is kept of a notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nothing can be kept now, or its conversation can't be spoken to now: it may be sent again.
    #[error("{0}")]
    NotNow(String),
    /// It may be said in none of its conversations.
    #[error("{0}")]
    ByPolicy(String),
    /// Its sender gave the same name to something else.
    #[error("this idempotency key was used for something else")]
    Conflict,
}

/// What a sender gave a name to.
#[derive(Serialize, Deserialize)]
struct Remembered {
    ids: Vec<RemoteId>,
    /// A digest of all of it, under a key.
    what: String,
}

/// What a notice is called by whoever brings it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    /// The name that its sender gave.
    pub name: Option<&'a str>,
    /// What its proof has in it that no other request has, so that whoever copied it says nothing with it.
    pub once: Option<&'a str>,
    /// All of it, so that another thing under the same name is seen.
    pub what: &'a [u8],
    /// The digest in which some of it will be said, or all.
    pub held: Option<&'a RemoteId>,
}

/// A message, with the conversation of ours from which it comes and its name.
pub(super) type Said = (Address, RemoteId, Message);

/// Takes notices.
pub struct Desk {
    intake: Arc<dyn Intake>,
    journal: SharedJournal,
    table: TableHandle,
    outcomes: Arc<Outcomes>,
    account: AccountName,
    key: Zeroizing<[u8; 32]>,
    /// Those whose names begin alike go one by one, so that the same name twice at once is seen.
    naming: [tokio::sync::Mutex<()>; 64],
    /// What has a name, is followed, and may still be taken back, by its own name.
    followed: Followed,
    /// What was gathered before this may have been said by the service of which a backup was made.
    doubt: Timestamp,
    clock: Clock,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("notices::Desk")
    }
}

/// So many incidents are kept, of all sources together, and so long after they were told of last.
const MOST_INCIDENTS: usize = 5_000;
const INCIDENTS_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

impl Desk {
    /// A desk that commits through `intake`. What was gathered before `doubt` came out of a backup.
    #[must_use]
    pub fn new(
        intake: Arc<dyn Intake>,
        journal: SharedJournal,
        table: TableHandle,
        outcomes: Arc<Outcomes>,
        key: Zeroizing<[u8; 32]>,
        doubt: Timestamp,
        clock: Clock,
    ) -> Self {
        Self {
            intake,
            journal,
            table,
            outcomes,
            account: account(),
            key,
            naming: [(); 64].map(|()| tokio::sync::Mutex::default()),
            followed: Followed::default(),
            doubt,
            clock,
        }
    }

    /// The clock by which notices are dated.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What was to be said before this moment may have been said already.
    pub(super) fn doubt(&self) -> Timestamp {
        self.doubt
    }

    /// As of when something is said that a backup brought and that was perhaps said at that moment already: as of then, so
    /// that it is not said a second time by itself. Where nobody was reached then, it is new.
    pub(super) fn dated(&self, origin: &Origin, said_at: Timestamp) -> Timestamp {
        let was_reached = self.table.now().listeners(origin.address(), said_at).next().is_some();
        if said_at < self.doubt && was_reached { said_at } else { self.clock.now() }
    }

    /// All that is kept under keys that begin so.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: the journal does not say now.
    pub(super) async fn kept_before(&self, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotTaken> {
        self.intake.read_all(&self.account, prefix).await.map_err(not_now)
    }

    /// What a message is called that is still to be taken.
    #[must_use]
    pub fn fresh_id() -> RemoteId {
        RemoteId::new(DeliveryId::random().to_string())
    }

    /// Commits the messages of a notice, with `writes` into the account's own store, and follows them. One of the same
    /// name that was taken before is followed in its place.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was kept.
    pub async fn take(
        &self,
        origin: &Origin,
        messages: Vec<(RemoteId, Message)>,
        named: Named<'_>,
        writes: Vec<StoreWrite>,
    ) -> Result<Following, NotTaken> {
        self.take_with(origin, messages, named, writes, Vec::new()).await
    }

    /// The same, and commits with them what is said `beside` by other origins, which is not followed.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was kept.
    pub(super) async fn take_with(
        &self,
        origin: &Origin,
        messages: Vec<(RemoteId, Message)>,
        named: Named<'_>,
        mut writes: Vec<StoreWrite>,
        beside: Vec<Said>,
    ) -> Result<Following, NotTaken> {
        let what = self.digest("what", origin, named.what);
        let mut names: Vec<_> =
            named.name.map(|name| (self.name_key("name", origin, name), true)).into_iter().collect();
        names.extend(named.once.map(|once| (self.name_key("once", origin, once), false)));
        names.sort();
        let _turns = self.name_turns(names.iter().map(|(key, _)| key)).await;
        for (key, is_given) in &names {
            if let Some(known) = self.remembered(key).await? {
                if *is_given && known.what != what {
                    return Err(NotTaken::Conflict);
                }
                return Ok(self.follow_again(origin, known.ids).await);
            }
        }
        let ids: Vec<_> = messages.iter().map(|(id, _)| id).chain(named.held).cloned().collect();
        let known = serde_json::to_vec(&Remembered { ids: ids.clone(), what }).expect("texts");
        // What an incident is by now, or is told of elsewhere, is not undone with the message.
        let stays = !writes.is_empty() || !beside.is_empty();
        let keys: Vec<_> = names.into_iter().map(|(key, _)| key).collect();
        writes.extend(keys.iter().map(|key| StoreWrite::put(key, SecretBytes::new(known.clone()))));
        let table = self.table.now();
        let to = self.may_be_said(&table, origin.address())?;
        // Before the commit, since what becomes of it may be known at once.
        let waiter = self.outcomes.wait_for(origin.address().clone(), ids.clone());
        self.hand_in(origin, messages, beside, writes).await?;
        let following = Following::new(origin.clone(), ids, to, waiter, keys, stays);
        self.followed.note(&following);
        Ok(following)
    }

    /// Waits until nobody else takes, or takes back, what has one of these names.
    async fn name_turns(&self, keys: impl Iterator<Item = &String>) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let shards: BTreeSet<_> = keys.map(|key| self.shard(key)).collect();
        let mut turns = Vec::new();
        // In one order, so that no two wait for each other.
        for shard in shards {
            turns.push(self.naming[shard].lock().await);
        }
        turns
    }

    /// Whether something of this origin may be said anywhere, as far as that is known now.
    ///
    /// # Errors
    /// [`NotTaken`]: why not.
    pub fn may_be_taken(&self, origin: &Origin) -> Result<(), NotTaken> {
        self.may_be_said(&self.table.now(), origin.address()).map(drop)
    }

    /// Commits messages that somebody was told are kept, whatever is known of where they go: what may not be said there is
    /// held or becomes a dead letter.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: nothing was kept.
    pub(super) async fn say(
        &self,
        origin: &Origin,
        messages: Vec<(RemoteId, Message)>,
        writes: Vec<StoreWrite>,
    ) -> Result<(), NotTaken> {
        if self.table.now().listeners(origin.address(), self.clock.now()).next().is_none() {
            return Err(NotTaken::NotNow("the source leads nowhere yet".into()));
        }
        self.hand_in(origin, messages, Vec::new(), writes).await
    }

    /// Commits what is to be remembered, where nothing is said.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: nothing was kept.
    pub(super) async fn remember(&self, writes: Vec<StoreWrite>) -> Result<(), NotTaken> {
        self.intake.write(&self.account, writes).await.map_err(not_now)
    }

    async fn hand_in(
        &self,
        origin: &Origin,
        messages: Vec<(RemoteId, Message)>,
        beside: Vec<Said>,
        store: Vec<StoreWrite>,
    ) -> Result<(), NotTaken> {
        let said = messages.into_iter().map(|(id, message)| (origin.address().clone(), id, message));
        let arrival = |(from, id, message): Said| {
            let message = Cleartext::new(message);
            // It is the operator's own source, and its secret was asked for.
            let incoming = Incoming { id, message, trust: SenderTrust::Proven, identity: None, once: None };
            Arrival { conversation: from.conversation, what: Arrived::Message(incoming) }
        };
        let arrivals = said.chain(beside).map(arrival).collect();
        let batch = Batch { arrivals, store, ..Batch::default() };
        self.intake.accept(&self.account, batch).await.map_err(not_now)
    }

    /// Takes a notice back that waits for what may never come: whoever brought it is told so, and may bring it again.
    /// What of it is under way all the same is deleted where it arrives. `None`: it stays, since somebody was told that it
    /// is kept.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: it was not taken back.
    pub async fn take_back(&self, following: &Following) -> Result<Option<NotTaken>, NotTaken> {
        let _turns = self.name_turns(following.names().iter()).await;
        let Some(why) = following.hopeless() else { return Ok(None) };
        let origin = following.origin();
        let deletion = |id: &RemoteId| {
            let kind = Kind::Redaction(Target::new(id.clone()));
            (Self::fresh_id(), Message::of(origin.author(), self.clock.now(), kind))
        };
        let deletions = following.ids().iter().map(deletion).collect();
        let forgotten = following.names().iter().map(StoreWrite::delete).collect();
        self.hand_in(origin, deletions, Vec::new(), forgotten).await.map(|()| Some(why))
    }

    /// Follows a notice until it is certain everywhere what became of it, and no longer than `within` or until `stop`. One
    /// that waits everywhere for what may never come is taken back.
    ///
    /// # Errors
    /// [`NotTaken`]: it was taken back.
    pub async fn follow(
        &self,
        following: &mut Following,
        within: Duration,
        stop: &CancellationToken,
    ) -> Result<Standing, NotTaken> {
        let early = within.min(SOON);
        let mut standing = following.until_certain(early, stop).await;
        if !standing.is_final() && following.hopeless().is_none() {
            // What was refused or held in the moment of its commit makes no attempt that would be told of.
            self.learn(following).await;
            standing = following.until_certain(within - early, stop).await;
        }
        if following.hopeless().is_some()
            && let Some(why) = self.take_back(following).await?
        {
            return Err(why);
        }
        Ok(standing)
    }

    async fn learn(&self, following: &mut Following) {
        for id in following.ids().to_vec() {
            if let Ok(facts) = self.journal.why(following.origin().address(), &id).await {
                following.learn(&id, &facts);
            }
        }
    }

    /// Where a notice of a source may be said, or is worth waiting for.
    fn may_be_said(&self, table: &Table, from: &Address) -> Result<Vec<Address>, NotTaken> {
        let now = self.clock.now();
        let to: Vec<_> = table.listeners(from, now).map(|(_, to, _)| to.clone()).collect();
        let mut refused = None;
        for at in &to {
            match may_speak(table, at) {
                Ok(()) => return Ok(to),
                // What may be mended by waiting is said rather than what may not.
                Err(why @ NotTaken::NotNow(_)) => refused = Some(why),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_else(|| NotTaken::NotNow("the source leads nowhere yet".into())))
    }

    /// How a notice stands by the journal. `None`: it is not known, or not any more.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: the journal does not say now.
    pub async fn standing(&self, origin: &Origin, id: &RemoteId) -> Result<Option<Standing>, NotTaken> {
        let facts = self.journal.why(origin.address(), id).await;
        let facts = facts.map_err(|_| NotTaken::NotNow("the journal does not answer".into()))?;
        Ok((!facts.is_empty()).then(|| Standing::of(&facts)))
    }

    async fn follow_again(&self, origin: &Origin, ids: Vec<RemoteId>) -> Following {
        ids.first().into_iter().for_each(|id| self.followed.stays(id));
        let waiter = self.outcomes.wait_for(origin.address().clone(), ids.clone());
        let mut following = Following::again(origin.clone(), ids, waiter);
        self.learn(&mut following).await;
        following
    }

    /// Forgets names that are too old.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub async fn prune(&self) -> Result<usize, NotAccepted> {
        let digests = Keep { most: MOST_DIGESTS, within: DIGESTS_FOR };
        self.intake.prune(&self.account, DIGESTS, digests).await?;
        // What nobody told of for so long is told of as new when it is told of again.
        self.intake.prune(&self.account, INCIDENTS, Keep { most: MOST_INCIDENTS, within: INCIDENTS_FOR }).await?;
        self.intake.prune(&self.account, ROOTS, Keep { most: MOST_REMEMBERED, within: INCIDENTS_FOR }).await?;
        self.intake.prune(&self.account, NAMES, Keep { most: MOST_REMEMBERED, within: REMEMBERED }).await
    }

    async fn remembered(&self, key: &str) -> Result<Option<Remembered>, NotTaken> {
        let known = self.intake.read(&self.account, key).await.map_err(not_now)?;
        // What can't be read names nothing any more.
        Ok(known.and_then(|known| serde_json::from_slice(known.expose()).ok()))
    }

    /// What is kept under a key of the account's own store.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: the journal does not say now.
    pub(super) async fn kept(&self, key: &str) -> Result<Option<SecretBytes>, NotTaken> {
        self.intake.read(&self.account, key).await.map_err(not_now)
    }

    fn name_key(&self, sort: &str, origin: &Origin, name: &str) -> String {
        format!("{NAMES}{}", self.digest(sort, origin, name.as_bytes()))
    }

    fn shard(&self, key: &str) -> usize {
        key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % self.naming.len()
    }

    /// A digest that nobody can make without our key, so that what is kept says nothing of what was sent.
    pub(super) fn digest(&self, about: &str, origin: &Origin, what: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("HMAC takes a key of any length");
        for part in [about, origin.address().conversation.as_str()] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        mac.update(what);
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

fn not_now(error: NotAccepted) -> NotTaken {
    NotTaken::NotNow(match error {
        NotAccepted::Full => "the journal is full; there is no room until something is delivered".into(),
        NotAccepted::Stopping | NotAccepted::Failed => error.to_string(),
    })
}

/// Whether a conversation may be spoken to, as far as that is known now.
fn may_speak(table: &Table, at: &Address) -> Result<(), NotTaken> {
    let Some(destination) = table.destination(at, false) else {
        return Err(NotTaken::NotNow(Hold::AccountNotRunning.to_string()));
    };
    match destination {
        Destination::EndToEnd(encryption) => match encryption {
            // Where somebody has to look at who reads, it is kept until they did.
            Encryption::Pinned | Encryption::Frozen => Ok(()),
            Encryption::Unknown => Err(NotTaken::NotNow(Hold::EncryptionUnknown.to_string())),
            Encryption::Absent => Err(NotTaken::ByPolicy(Refusal::NotEncrypted.to_string())),
            Encryption::Violated => Err(NotTaken::ByPolicy(Hold::EncryptionViolated.to_string())),
            Encryption::Replaced => Err(NotTaken::ByPolicy(Hold::ConversationReplaced.to_string())),
            Encryption::Left => Err(NotTaken::ByPolicy(Hold::NotInConversation.to_string())),
            Encryption::Muted => Err(NotTaken::ByPolicy(Hold::NotAllowedToSpeak.to_string())),
        },
        Destination::OperatorRun(_) | Destination::Carrier(_) => Ok(()),
    }
}

/// Whether what a notice waits for may never come by itself, and how its sender is told.
#[must_use]
pub fn hopeless(hold: Hold) -> Option<NotTaken> {
    match hold {
        Hold::Paused | Hold::AudienceChanged => None,
        Hold::EncryptionUnknown | Hold::AccountNotRunning | Hold::PeerKeyMissing | Hold::ChannelNotPrivate => {
            Some(NotTaken::NotNow(hold.to_string()))
        }
        Hold::EncryptionViolated | Hold::ConversationReplaced | Hold::NotInConversation | Hold::NotAllowedToSpeak => {
            Some(NotTaken::ByPolicy(hold.to_string()))
        }
    }
}
