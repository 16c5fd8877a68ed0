//! What both kinds of transport here share: the line to the network, and what is known of its conversations.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbridge_contract::{
    Abilities, Clock, Context, ConversationId, DeliveryError, Fatal, Found, NotAccepted, PersonId, Receipt, Slip,
    Spool,
    audience::Roll,
    gate::Encryption,
    inbox::AccountStore,
    transport::{ConversationInfo, Finding, Health},
};

use crate::{
    config::{NetworkKind, Settings},
    disk::Disk,
    hub::{After, Cargo, Cursor, Faults, LoopbackHub, Put, Says, Server, lock},
    translate::Known,
};

/// Keys of the account's own store.
pub(crate) const CURSOR: &str = "cursor";
pub(crate) const CONVERSATION: &str = "conversation:";
pub(crate) const KEY: &str = "key:";

pub(crate) struct Core {
    pub(crate) abilities: Abilities,
    pub(crate) server: Arc<dyn Server>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) batch: usize,
    pub(crate) spool: Arc<dyn Spool>,
    store: AccountStore,
    kind: NetworkKind,
    clock: Clock,
    timeout: Duration,
    delay: Duration,
    known: Mutex<HashMap<ConversationId, Known>>,
    /// What forbids speaking and is not committed yet.
    ahead: Mutex<HashMap<ConversationId, Encryption>>,
    rolls: Mutex<HashMap<ConversationId, Arc<Roll>>>,
    health: Mutex<Health>,
}

impl Core {
    pub(crate) async fn connect(context: Context, settings: Settings) -> Result<Self, Fatal> {
        settings.check()?;
        let (server, faults) = open(&context, &settings).await?;
        if settings.rate_per_second > 0.0 {
            faults.set_rate(settings.rate_per_second, settings.burst);
        }
        if settings.lose_every > 0 {
            faults.set_lose_every(settings.lose_every);
        }
        let known = context.store.read_all(CONVERSATION).await.map_err(|_| Fatal::Journal)?;
        let known = known.into_iter().filter_map(|(key, value)| {
            let conversation = ConversationId::new(key.strip_prefix(CONVERSATION)?);
            // What can't be read was pinned once, and is not to be trusted less for that.
            let known = serde_json::from_slice(value.expose()).unwrap_or(Known::VIOLATED);
            Some((conversation, known))
        });
        let health = Health { identity: Some(server.identity().as_str().to_owned()), ..Health::default() };
        Ok(Self {
            abilities: settings.abilities(),
            batch: settings.batch,
            kind: settings.kind,
            clock: context.clock,
            timeout: Duration::from_millis(settings.timeout_ms),
            delay: Duration::from_millis(settings.delay_ms),
            known: Mutex::new(known.collect()),
            ahead: Mutex::default(),
            rolls: Mutex::default(),
            health: Mutex::new(health),
            store: context.store,
            spool: context.spool,
            server,
            faults,
        })
    }

    pub(crate) async fn cursor(&self) -> Result<Cursor, NotAccepted> {
        let Some(bytes) = self.store.read(CURSOR).await? else { return Ok(Cursor::default()) };
        serde_json::from_slice(bytes.expose()).map_err(|_| NotAccepted::Failed)
    }

    pub(crate) fn store(&self) -> &AccountStore {
        &self.store
    }

    pub(crate) fn encryption(&self, conversation: &ConversationId) -> Encryption {
        if let Some(worse) = lock(&self.ahead).get(conversation) {
            return *worse;
        }
        self.known(conversation).map_or(Encryption::Unknown, |known| known.now)
    }

    pub(crate) fn known(&self, conversation: &ConversationId) -> Option<Known> {
        lock(&self.known).get(conversation).copied()
    }

    /// What forbids speaking counts from now on, even while the journal is full.
    pub(crate) fn fear(&self, news: &[(ConversationId, Known)]) {
        let worse = news.iter().filter(|(_, known)| known.now != Encryption::Pinned);
        lock(&self.ahead).extend(worse.map(|(conversation, known)| (conversation.clone(), known.now)));
    }

    /// Learns what was committed.
    pub(crate) fn learn(&self, news: &[(ConversationId, Known)]) {
        for (conversation, now) in news {
            lock(&self.known).insert(conversation.clone(), *now);
            lock(&self.ahead).remove(conversation);
        }
    }

    /// Who is in a conversation: the same roll while it says the same.
    pub(crate) fn roll(&self, of: &ConversationId) -> Option<Arc<Roll>> {
        let (now, mut rolls) = (Roll(self.server.people(of)?), lock(&self.rolls));
        Some(match rolls.get(of) {
            Some(known) if **known == now => Arc::clone(known),
            _ => {
                let now = Arc::new(now);
                rolls.insert(of.clone(), Arc::clone(&now));
                now
            }
        })
    }

    /// The network answered, or can't be reached.
    pub(crate) fn heard(&self, connected: bool) {
        let mut health = lock(&self.health);
        health.connected = connected;
        health.trouble = (!connected).then(|| "the network can't be reached".to_owned());
        if connected {
            health.last_heard = Some(self.clock.now().0);
        }
    }

    pub(crate) fn stopped(&self) {
        lock(&self.health).connected = false;
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        if *self.faults.reachable().borrow() {
            return Vec::new();
        }
        let words = "The network can't be reached. It is tried again by itself.".to_owned();
        vec![Finding { grave: true, topic: "unreachable", words }]
    }

    pub(crate) fn conversations(&self) -> Vec<ConversationInfo> {
        let known: Vec<_> = lock(&self.known).iter().map(|(id, known)| (id.clone(), known.now)).collect();
        let info = |(id, encryption)| {
            let (name, members) = self.server.about(&id);
            let encryption = if self.kind == NetworkKind::Carrier { Encryption::Absent } else { encryption };
            ConversationInfo { id, name, encryption, members }
        };
        known.into_iter().map(info).collect()
    }

    /// Delivers: bounded in time, and in doubt if nothing was answered by then.
    pub(crate) async fn send(&self, slip: &Slip, cargo: Cargo) -> Result<Receipt, DeliveryError> {
        let attempt = async {
            let after = self.faults.before(&slip.to).await?;
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            let put = Put { conversation: slip.to.clone(), delivery: slip.delivery, cargo };
            let id = self.server.put(put).await?;
            match after {
                After::Answer => Ok(Receipt { id }),
                After::Lose => Err(DeliveryError::unknown("the connection broke before the answer")),
                After::Hang => std::future::pending().await,
            }
        };
        let late = || Err(DeliveryError::unknown("the network did not answer in time"));
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or_else(|_| late())
    }

    pub(crate) async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        if !*self.faults.reachable().borrow() {
            return Err(DeliveryError::retry("the network can't be reached"));
        }
        Ok(self.server.find(slip.delivery).await?.map_or(Found::NotThere, Found::There))
    }

    pub(crate) async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        if self.kind == NetworkKind::Carrier {
            return Err(DeliveryError::give_up("a carrier has no encrypted conversations of its own"));
        }
        self.server.open_direct(with).await
    }
}

async fn open(context: &Context, settings: &Settings) -> Result<(Arc<dyn Server>, Arc<Faults>), Fatal> {
    if let Some(directory) = &settings.directory {
        let disk = Disk::open(directory, &context.account, settings).await;
        let disk = disk.map_err(|error| Fatal::Broken(format!("the directory can't be used: {error}")))?;
        return Ok((Arc::new(disk), Arc::default()));
    }
    let name = settings.hub.as_deref().unwrap_or_default();
    let hub = LoopbackHub::named_with_clock(name, context.clock.clone());
    for conversation in &settings.conversations {
        hub.join(&context.account, &hub.conversation(conversation, Says::Encrypted));
    }
    Ok((Arc::new(hub.seat(&context.account, settings.remembers())), hub.faults(&context.account)))
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("identity", &lock(&self.health).identity).finish_non_exhaustive()
    }
}
