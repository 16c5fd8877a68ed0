//! What is known of the account while it runs, and the way to its engine.

use std::{
    collections::HashMap,
    fmt,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sealbridge_child::CallError;
use sealbridge_contract::{
    Abilities, Clock, Context, ConversationId, DeliveryError, Fatal, NotAccepted, PersonId, Spool,
    audience::Book,
    gate::Encryption,
    inbox::{AccountStore, StoreWrite},
    transport::{ConversationInfo, Health},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, broadcast, mpsc, watch};

use crate::{
    config::Settings,
    engine::{
        Engine,
        servers::{Purpose, Refused},
        types::{Chat, SELF},
    },
    ids,
    last_told::LastTold,
    readers::Rolls,
};

/// Keys of the account's own store.
pub(crate) const CURSOR: &str = "cursor";
pub(crate) const IDENTITY: &str = "identity";
const CONVERSATION: &str = "conversation:";

/// Who we are: written when the account was set up, and never again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) address: String,
    pub(crate) fingerprint: PersonId,
}

/// What is known of a conversation's encryption. A pin is for ever, whatever comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) pinned: bool,
    pub(crate) now: Encryption,
}

impl Known {
    const VIOLATED: Self = Self { pinned: true, now: Encryption::Violated };

    /// What is known after the engine was asked about a chat.
    pub(crate) fn after(before: Option<Self>, chat: &Chat) -> Self {
        let pinned = before.is_some_and(|known| known.pinned);
        let now = match before {
            Some(Self { now: Encryption::Violated, .. }) => Encryption::Violated,
            _ if !chat.is_encrypted && pinned => Encryption::Violated,
            _ if !chat.is_encrypted => Encryption::Absent,
            _ if !chat.can_send || (chat.chat_type != "Single" && !chat.self_in_group) => Encryption::Left,
            _ => Encryption::Pinned,
        };
        Self { pinned: pinned || now == Encryption::Pinned, now }
    }
}

/// What people call a chat, and how many are in it.
#[derive(Clone, Debug)]
struct Facts {
    name: String,
    members: usize,
}

pub(crate) struct Core {
    pub(crate) abilities: &'static Abilities,
    pub(crate) settings: Settings,
    pub(crate) folder: PathBuf,
    pub(crate) store: AccountStore,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) clock: Clock,
    pub(crate) me: PersonId,
    pub(crate) book: Book,
    pub(crate) rolls: Rolls,
    pub(crate) last_told: LastTold,
    moved: mpsc::UnboundedSender<ConversationId>,
    /// Conversations whose readers may be others now. Held by the one task that says so.
    pub(crate) moves: AsyncMutex<mpsc::UnboundedReceiver<ConversationId>>,
    /// Contacts that followed an invitation of ours to its end.
    pub(crate) joined: broadcast::Sender<u32>,
    engine: watch::Sender<Option<Arc<Engine>>>,
    known: Mutex<HashMap<ConversationId, Known>>,
    facts: Mutex<HashMap<ConversationId, Facts>>,
    people: Mutex<HashMap<u32, PersonId>>,
    lanes: Mutex<HashMap<ConversationId, Arc<AsyncMutex<()>>>>,
    /// The highest number of a message that is known to be there.
    highest: Mutex<u32>,
    /// The login that a mail server refused last, unless it took one since.
    refused: Mutex<Option<Refused>>,
    /// What is to be said of the engine's version.
    newer: Mutex<Option<String>>,
    health: Mutex<Health>,
}

impl Core {
    pub(crate) async fn connect(context: Context, settings: Settings) -> Result<Self, Fatal> {
        settings.check().map_err(Fatal::Policy)?;
        let identity = identity(&context.store).await.map_err(|_| Fatal::Journal)?;
        let Some(identity) = identity else {
            return Err(Fatal::Auth("the account is not set up yet; say `sealbridge init`".to_owned()));
        };
        if !identity.address.eq_ignore_ascii_case(settings.address()) {
            let words = format!("the account was set up for {}, and `address` is another", identity.address);
            return Err(Fatal::Policy(words));
        }
        keep_private(&context.folder)?;
        let known = context.store.read_all(CONVERSATION).await.map_err(|_| Fatal::Journal)?;
        let known = known.into_iter().filter_map(|(key, value)| {
            let conversation = ConversationId::new(key.strip_prefix(CONVERSATION)?);
            // What can't be read was pinned once, and is not to be trusted less for that.
            Some((conversation, serde_json::from_slice(value.expose()).unwrap_or(Known::VIOLATED)))
        });
        let (moved, moves) = mpsc::unbounded_channel();
        let book = Book::load(&context.store).await.map_err(|_| Fatal::Journal)?;
        let health = Health { identity: Some(identity.address), ..Health::default() };
        Ok(Self {
            abilities: &crate::ABILITIES,
            settings,
            folder: context.folder,
            store: context.store,
            spool: context.spool,
            clock: context.clock,
            me: identity.fingerprint,
            book,
            rolls: Rolls::default(),
            last_told: LastTold::default(),
            moved,
            moves: AsyncMutex::new(moves),
            joined: broadcast::Sender::new(16),
            engine: watch::Sender::new(None),
            known: Mutex::new(known.collect()),
            facts: Mutex::default(),
            people: Mutex::default(),
            lanes: Mutex::default(),
            highest: Mutex::default(),
            refused: Mutex::default(),
            newer: Mutex::default(),
            health: Mutex::new(health),
        })
    }

    /// The engine, if it runs and reaches the mail server.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>, DeliveryError> {
        let engine = self.engine.borrow().clone();
        engine.ok_or_else(|| DeliveryError::retry("the engine is not running; it is started again by itself"))
    }

    /// The engine, as soon as it runs.
    pub(crate) async fn engine_within(&self, patience: Duration) -> Option<Arc<Engine>> {
        let mut engine = self.engine.subscribe();
        let running = tokio::time::timeout(patience, engine.wait_for(Option::is_some)).await;
        running.ok()?.ok()?.clone()
    }

    pub(crate) fn put_engine(&self, engine: Option<Arc<Engine>>) {
        if engine.is_none() {
            self.is(false, "the engine is not running; it is started again by itself".to_owned());
        }
        self.rolls.moved();
        self.engine.send_replace(engine);
    }

    /// The readers of a conversation may be others now.
    pub(crate) fn moved(&self, conversation: ConversationId) {
        let _ = self.moved.send(conversation);
    }

    pub(crate) fn encryption(&self, conversation: &ConversationId) -> Encryption {
        lock(&self.known).get(conversation).map_or(Encryption::Unknown, |known| known.now)
    }

    /// Nothing is said there any more until a person has looked. Counts from now on; the caller writes it down.
    pub(crate) fn violated(&self, conversation: &ConversationId) -> StoreWrite {
        lock(&self.known).insert(conversation.clone(), Known::VIOLATED);
        remember(conversation, Known::VIOLATED)
    }

    /// Learns what the engine says of a chat. What forbids speaking counts at once, what allows it only when it is
    /// written down.
    pub(crate) async fn learn(&self, chat: &Chat) -> Result<Known, NotAccepted> {
        if chat.is_nobodys() {
            return Ok(Known { pinned: false, now: Encryption::Absent });
        }
        let conversation = ids::conversation(chat.id, &self.me);
        let others = chat.contact_ids.iter().filter(|contact| **contact != SELF).count();
        let own = usize::from(chat.chat_type == "Single" || chat.self_in_group);
        let facts = Facts { name: chat.name.as_str().to_owned(), members: others + own };
        lock(&self.facts).insert(conversation.clone(), facts);
        let before = lock(&self.known).get(&conversation).copied();
        let after = Known::after(before, chat);
        if before == Some(after) {
            return Ok(after);
        }
        if after.now != Encryption::Pinned {
            lock(&self.known).insert(conversation.clone(), after);
        }
        self.store.write(vec![remember(&conversation, after)]).await?;
        lock(&self.known).insert(conversation, after);
        Ok(after)
    }

    pub(crate) fn conversations(&self) -> Vec<ConversationInfo> {
        let known = lock(&self.known);
        let facts = lock(&self.facts);
        let info = |(id, facts): (&ConversationId, &Facts)| ConversationInfo {
            id: id.clone(),
            name: Some(facts.name.clone()),
            encryption: known.get(id).map_or(Encryption::Unknown, |known| known.now),
            members: facts.members,
        };
        facts.iter().map(info).collect()
    }

    /// Who a contact is, as their key proves it. A contact's key never changes: another key is another contact.
    pub(crate) async fn person(&self, engine: &Engine, contact: u32) -> Result<Option<PersonId>, CallError> {
        if let Some(known) = lock(&self.people).get(&contact) {
            return Ok(Some(known.clone()));
        }
        let person = match engine.keys(contact).await {
            Ok(words) => ids::other(&words, &self.me),
            Err(CallError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(person) = &person {
            lock(&self.people).insert(contact, person.clone());
        }
        Ok(person)
    }

    /// One delivery at a time in each conversation, also when the one who asked for it has gone.
    pub(crate) fn lane(&self, conversation: &ConversationId) -> Arc<AsyncMutex<()>> {
        Arc::clone(lock(&self.lanes).entry(conversation.clone()).or_default())
    }

    /// A message with this number is there.
    pub(crate) fn reached(&self, message: u32) {
        let mut highest = lock(&self.highest);
        *highest = (*highest).max(message);
    }

    pub(crate) fn highest(&self) -> u32 {
        *lock(&self.highest)
    }

    /// The engine is newer than those that were tried, or is not.
    pub(crate) fn newer(&self, words: Option<String>) {
        *lock(&self.newer) = words;
    }

    pub(crate) fn is_newer(&self) -> Option<String> {
        lock(&self.newer).clone()
    }

    /// A mail server refused the login.
    pub(crate) fn refused(&self, refused: Refused) {
        *lock(&self.refused) = Some(refused);
    }

    /// A mail server took the login for this purpose.
    pub(crate) fn logged_in(&self, purpose: Purpose) {
        lock(&self.refused).take_if(|refused| refused.purpose == purpose);
    }

    /// The mail server is reached, or is not.
    pub(crate) fn heard(&self, connected: bool) {
        let refused = lock(&self.refused).map(|refused| format!("{}; it is tried again", refused.words()));
        let trouble = refused.unwrap_or_else(|| "the mail server can't be reached; it is tried again".to_owned());
        self.is(connected, trouble);
    }

    fn is(&self, connected: bool, trouble: String) {
        let mut health = lock(&self.health);
        health.connected = connected;
        health.trouble = (!connected).then_some(trouble);
        if connected {
            health.last_heard = Some(self.clock.now().0);
        }
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }
}

/// Who we are, if the account was set up.
pub(crate) async fn identity(store: &AccountStore) -> Result<Option<Identity>, NotAccepted> {
    let Some(bytes) = store.read(IDENTITY).await? else { return Ok(None) };
    serde_json::from_slice(bytes.expose()).map(Some).map_err(|_| NotAccepted::Failed)
}

fn remember(conversation: &ConversationId, known: Known) -> StoreWrite {
    let value = serde_json::to_vec(&known).expect("it has only words of ours");
    StoreWrite::put(format!("{CONVERSATION}{}", conversation.as_str()), value)
}

/// The engine keeps messages, keys and the mail password in this folder as they are: nobody else may look into it.
pub(crate) fn keep_private(folder: &std::path::Path) -> Result<(), Fatal> {
    let private = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)));
    private.map_err(|error| Fatal::Broken(format!("the account's folder can't be kept private: {error}")))
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}
