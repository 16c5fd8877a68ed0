//! Where notices become messages: committed durably with their deliveries, once for each name that their sender gave
//! them, and followed until they are where they are to be.

use std::{sync::Arc, time::Duration};

use sealbridge_contract::{
    AccountName, Address, Arrival, Arrived, Batch, Cleartext, Clock, DeliveryId, Destination, Intake, Kind, Message,
    NotAccepted, RemoteId, SecretBytes, SenderTrust, Target, Timestamp,
    gate::{Encryption, Hold, Refusal},
    inbox::{Incoming, StoreWrite},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Origin, account,
    fold::Repeat,
    following::{Followed, Following},
    remembering::Remembered,
    standing::Standing,
};
use crate::{
    flow::{Outcomes, TableHandle, table::Table},
    store::SharedJournal,
};

/// After this long without news the journal is asked.
const SOON: Duration = Duration::from_millis(250);
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
    /// Words of it that may come again, or came again.
    pub repeat: Option<&'a Repeat>,
}

/// A message, with the conversation of ours from which it comes and its name.
pub(super) type Said = (Address, RemoteId, Message);

/// Takes notices.
pub struct Desk {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) journal: SharedJournal,
    table: TableHandle,
    outcomes: Arc<Outcomes>,
    pub(super) account: AccountName,
    pub(super) key: Zeroizing<[u8; 32]>,
    /// Those whose names begin alike go one by one, so that the same name twice at once is seen.
    pub(super) naming: [tokio::sync::Mutex<()>; 64],
    /// What has a name, is followed, and may still be taken back, by its own name.
    pub(super) followed: Followed,
    /// What was gathered before this may have been said by the service of which a backup was made.
    doubt: Timestamp,
    clock: Clock,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("notices::Desk")
    }
}

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
        let repeated = named.repeat.map(|repeat| &repeat.key);
        let _turns = self.name_turns(names.iter().map(|(key, _)| key).chain(repeated)).await;
        // The name that its sender gave first, since it alone tells of something else under it.
        for (key, is_given) in &names {
            if let Some(known) = self.remembered(key).await? {
                if *is_given && known.what != what {
                    return Err(NotTaken::Conflict);
                }
                return Ok(self.follow_again(origin, known).await);
            }
        }
        if let Some(repeat) = named.repeat {
            self.must_stay(repeat).await?;
        }
        let ids: Vec<_> = messages.iter().map(|(id, _)| id).chain(named.held).cloned().collect();
        let changes = named.repeat.and_then(|repeat| repeat.of.clone());
        let known =
            serde_json::to_vec(&Remembered { ids: ids.clone(), what, changes: changes.clone() }).expect("texts");
        // What an incident is by now, or is told of elsewhere, is not undone with the message.
        let stays = !writes.is_empty() || !beside.is_empty() || changes.is_some();
        let mut keys: Vec<_> = names.into_iter().map(|(key, _)| key).collect();
        writes.extend(keys.iter().map(|key| StoreWrite::put(key, SecretBytes::new(known.clone()))));
        writes.extend(named.repeat.map(Repeat::write));
        // Words that nobody is told are forgotten with their message.
        keys.extend(repeated.filter(|_| changes.is_none()).cloned());
        let table = self.table.now();
        let to = self.may_be_said(&table, origin.address())?;
        // Before the commit, since what becomes of it may be known at once.
        let waiter = self.outcomes.wait_for(origin.address().clone(), ids.clone());
        self.hand_in(origin, messages, beside, writes).await?;
        let following = Following::new(origin.clone(), ids, to, waiter, keys, stays).changing(changes);
        self.followed.note(&following);
        Ok(following)
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
        let taken = self.intake.accept(&self.account, batch).await;
        if taken == Err(NotAccepted::Full) {
            self.must_have_room(origin).await?;
        }
        taken.map_err(not_now)
    }

    /// Whether a source may have more waiting than it has.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: it may not, or the journal does not say.
    pub(super) async fn must_have_room(&self, origin: &Origin) -> Result<(), NotTaken> {
        let shares = self.journal.shares().await;
        let shares = shares.map_err(|_| NotTaken::NotNow("the journal does not answer".into()))?;
        match shares.iter().find(|share| share.at == *origin.address() && share.is_taken) {
            None => Ok(()),
            Some(share) => Err(NotTaken::NotNow(format!(
                "{} messages of this source wait already, as many as may; there is room once some of them are delivered",
                share.messages
            ))),
        }
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

    async fn follow_again(&self, origin: &Origin, known: Remembered) -> Following {
        let Remembered { ids, changes, .. } = known;
        ids.first().into_iter().for_each(|id| self.followed.stays(id));
        let waiter = self.outcomes.wait_for(origin.address().clone(), ids.clone());
        let mut following = Following::again(origin.clone(), ids, waiter).changing(changes);
        self.learn(&mut following).await;
        following
    }

    /// What is kept under a key of the account's own store.
    ///
    /// # Errors
    /// [`NotTaken::NotNow`]: the journal does not say now.
    pub(super) async fn kept(&self, key: &str) -> Result<Option<SecretBytes>, NotTaken> {
        self.intake.read(&self.account, key).await.map_err(not_now)
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
