//! What both kinds of account share: the endpoints, and whether they can be reached.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::Client;
use sealbridge_contract::PersonId;
use sealbridge_contract::{
    Abilities, Ability, Clock, Context, ConversationId, Deduplication, DeliveryError, Fatal, Spool, Timestamp, Verb,
    audience::{Audience, Identity, Member, Proof, Standing},
    gate::Encryption,
    transport::{ConversationInfo, Health},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Declared, Reader, Settings},
    document::{MOST_FILE, MOST_WORDS},
    door::{Door, Names},
    sign::Secret,
};

const FILES: Ability = Ability::Within("of at most 4 MiB, inside of the document; larger ones stay behind");

/// What can be posted.
pub const ABILITIES: Abilities = Abilities {
    network: "webhook",
    verbs: &[
        (Verb::Text, Ability::Full),
        (Verb::Formatting, Ability::Full),
        (Verb::Emote, Ability::Full),
        (Verb::Notice, Ability::Full),
        (Verb::Reply, Ability::Full),
        (Verb::Thread, Ability::Full),
        (Verb::Edit, Ability::Full),
        (Verb::Redaction, Ability::Full),
        (Verb::Reaction, Ability::Full),
        (Verb::Image, FILES),
        (Verb::Video, FILES),
        (Verb::Audio, FILES),
        (Verb::Voice, FILES),
        (Verb::File, FILES),
        (Verb::Sticker, FILES),
        (Verb::Location, Ability::Full),
        (Verb::Poll, Ability::Full),
    ],
    // By the id that stays the same at every attempt, as Standard Webhooks has it.
    deduplication: Deduplication::Always,
    finds: false,
    carries_marks: false,
    most_bytes: MOST_WORDS,
    most_file: MOST_FILE,
    reactions_in_clear: false,
};

/// How soon an endpoint that could not be reached is looked for again: first, and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

pub(crate) struct Endpoint {
    pub(crate) declared: Declared,
    pub(crate) client: Client,
    pub(crate) secrets: Vec<Secret>,
    door: Door,
}

pub(crate) struct Core {
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) clock: Clock,
    endpoints: HashMap<ConversationId, Endpoint>,
    /// What is wrong with an endpoint; nothing if it was reached last.
    troubles: Mutex<HashMap<ConversationId, String>>,
    last_heard: Mutex<Option<Timestamp>>,
    /// Something new is wrong.
    wrong: Notify,
}

impl Core {
    pub(crate) fn connect(context: &Context, settings: &Settings, names: &Arc<dyn Names>) -> Result<Self, Fatal> {
        let mut endpoints = HashMap::new();
        for declared in settings.declared().map_err(Fatal::Policy)? {
            let about = |why: String| Fatal::Policy(format!("the endpoint {}: {why}", declared.name.as_str()));
            let secrets = declared.secret_files.iter().map(|file| Secret::read(file)).collect::<Result<_, _>>();
            let secrets = secrets.map_err(about)?;
            let door = Door::new(Arc::clone(names), declared.rules.clone());
            let client = door.client(&declared).map_err(about)?;
            endpoints.insert(declared.name.clone(), Endpoint { declared, client, secrets, door });
        }
        // Nobody was reached yet.
        let troubles = endpoints.keys().map(|name| (name.clone(), "it was not reached yet".to_owned())).collect();
        Ok(Self {
            spool: Arc::clone(&context.spool),
            clock: context.clock.clone(),
            endpoints,
            troubles: Mutex::new(troubles),
            last_heard: Mutex::default(),
            wrong: Notify::new(),
        })
    }

    pub(crate) fn endpoint(&self, name: &ConversationId) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }

    /// Looks after those that can't be reached, until it is told to stop.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let (first, most) = LOOK_AGAIN;
        let mut wait = first;
        while stop.run_until_cancelled(self.knock()).await.is_some() {
            let is_well = self.troubles().is_empty();
            let pause = async {
                match is_well {
                    true => self.wrong.notified().await,
                    false => tokio::time::sleep(wait).await,
                }
            };
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            wait = if is_well { first } else { (wait * 2).min(most) };
        }
    }

    async fn knock(&self) {
        let wrong: Vec<_> = self.troubles().keys().cloned().collect();
        for name in wrong {
            let Some(endpoint) = self.endpoints.get(&name) else { continue };
            match endpoint.door.knock(&endpoint.declared).await {
                Ok(()) => self.reached(&name),
                Err(why) => drop(self.troubles().insert(name, why)),
            }
        }
    }

    /// It answered.
    pub(crate) fn reached(&self, name: &ConversationId) {
        self.troubles().remove(name);
        *lock(&self.last_heard) = Some(self.clock.now());
    }

    /// It did not.
    pub(crate) fn out_of_reach(&self, name: &ConversationId, why: String) {
        if self.troubles().insert(name.clone(), why).is_none() {
            self.wrong.notify_one();
        }
    }

    fn troubles(&self) -> MutexGuard<'_, HashMap<ConversationId, String>> {
        lock(&self.troubles)
    }

    pub(crate) fn health(&self) -> Health {
        let troubles = self.troubles();
        let first = troubles.iter().min_by_key(|(name, _)| name.as_str());
        Health {
            connected: troubles.is_empty(),
            last_heard: lock(&self.last_heard).map(|at| at.0),
            trouble: first.map(|(name, why)| format!("{}: {why}", name.as_str())),
            ..Health::default()
        }
    }

    pub(crate) fn conversations(&self) -> Vec<ConversationInfo> {
        let mut all: Vec<_> = self.endpoints.values().map(|endpoint| info(&endpoint.declared)).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// What is known of the encryption towards an endpoint, beside that of the connection.
    pub(crate) fn encryption(&self, of: &ConversationId) -> Encryption {
        self.endpoint(of).map_or(Encryption::Absent, |endpoint| encryption(&endpoint.declared))
    }

    pub(crate) fn audience(&self, of: &ConversationId) -> Option<Audience> {
        let declared = &self.endpoint(of)?.declared;
        let member = |person: String, identity: Option<Identity>, proof| Member {
            person: PersonId::new(person),
            name: None,
            identity,
            pinned: None,
            as_pinned: true,
            proof,
            since: None,
            standing: Standing::Reads,
            devices: Vec::new(),
        };
        let members = match &declared.reader {
            Reader::Operator => vec![member(declared.origin(), None, Proof::ReadsInClear)],
            Reader::Recipients(recipients) => {
                let reads = |key: String| member(key.clone(), Some(Identity::new(key)), Proof::Named);
                recipients.names().map(reads).collect()
            }
        };
        Some(Audience { members, turn: 0, chooses: true, open: false })
    }
}

fn info(declared: &Declared) -> ConversationInfo {
    let readers = match &declared.reader {
        Reader::Operator => 1,
        Reader::Recipients(recipients) => recipients.names().count(),
    };
    ConversationInfo {
        id: declared.name.clone(),
        name: Some(declared.origin()),
        encryption: encryption(declared),
        members: readers + 1,
    }
}

fn encryption(declared: &Declared) -> Encryption {
    match declared.reader {
        Reader::Operator => Encryption::Absent,
        Reader::Recipients(_) => Encryption::Pinned,
    }
}

pub(crate) fn nobody_to_talk_to() -> DeliveryError {
    DeliveryError::give_up("an endpoint is nobody to talk to")
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("endpoints", &self.endpoints.len()).finish_non_exhaustive()
    }
}
