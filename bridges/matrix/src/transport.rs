//! One Matrix account as a transport.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Ability, Cleared, Context, ConversationId, Deduplication, DeliveryError, EndToEnd, Fatal, Flow, Found,
    Inbox, PersonId, Picture, PictureId, Receipt, Screen, Signal, Slip, Transport, Verb,
    audience::{Admission, Audience, Roll},
    gate::Encryption,
    transport::{ConversationInfo, Finding, Health},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, instrument, warn};

use crate::{
    age,
    config::Settings,
    core::{Core, fatal_http, fatal_open, opens_later, track},
    direct,
    engine::{Engine, EngineError, IdentityError, OpenError, Stop},
    ephemeral, fetch, finding, gaps, incoming, invites, latekeys, outgoing, portraits, prune, readers, session_store,
    traffic, translate,
    verify::Comparison,
};

/// One Matrix account.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) core: Arc<Core>,
}

/// What Matrix can do.
pub const ABILITIES: Abilities = Abilities {
    network: "matrix",
    verbs: &[
        (Verb::Text, Ability::Within("up to 43 KiB with few line breaks, quotation marks and backslashes")),
        (Verb::Formatting, Ability::Within("very long words cross without it")),
        (Verb::Emote, Ability::Full),
        (Verb::Notice, Ability::Full),
        (Verb::Mention, Ability::Within("only people who are in the room are called")),
        (Verb::Reply, Ability::Full),
        (Verb::Thread, Ability::Full),
        (Verb::Edit, Ability::Full),
        (Verb::Redaction, Ability::Within("of others' messages only with the power to; the server sees which")),
        (Verb::Reaction, Ability::Within("emoji of Unicode's own list, in clear; one account shows those of all")),
        (Verb::Image, Ability::Full),
        (Verb::Video, Ability::Full),
        (Verb::Audio, Ability::Full),
        (Verb::Voice, Ability::Full),
        (Verb::File, Ability::Full),
        (Verb::Sticker, Ability::Full),
        (Verb::Location, Ability::Full),
        (Verb::Portrait, Ability::Within("PNG, JPEG, GIF or WebP of at most 256 KiB, in programs that know MSC4144")),
        (Verb::Typing, Ability::Within("in clear; one account writes as long as anybody elsewhere does")),
        (Verb::Receipt, Ability::Within("in clear; one account has read what anybody elsewhere has read")),
    ],
    // Synapse remembers a transaction for 24 hours.
    deduplication: Deduplication::For(Duration::from_secs(20 * 3600)),
    finds: true,
    carries_marks: true,
    most_bytes: translate::MOST_BYTES,
    // The homeserver's own limit is asked for before a file is sent.
    most_file: 2 << 30,
    reactions_in_clear: true,
};

/// How long a crypto store may still be in use by the one that had it before.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// How long the engine may ask for our device before it starts anew: it waits longer and longer, and we would notice
/// late that the homeserver is back.
const OPENING: Duration = Duration::from_secs(8);

impl Matrix {
    /// Opens the account that [`Setup`](crate::Setup) logged in. Asks nobody: the homeserver is reached, and the crypto
    /// store opened, by `run`.
    ///
    /// # Errors
    /// [`Fatal::Auth`] if nobody logged in yet, or another than `settings` says.
    pub async fn connect(context: Context, settings: Settings) -> Result<Arc<Self>, Fatal> {
        settings.check().map_err(Fatal::Broken)?;
        let session = match session_store::session_at(&context.store, &settings).await {
            Ok(Some(session)) => session,
            Ok(None) => {
                return Err(Fatal::Auth("nobody has logged in yet; run `sealbridge init`".into()));
            }
            Err(session_store::SessionUnread::Journal(_)) => return Err(Fatal::Journal),
            Err(error) => return Err(Fatal::Broken(error.to_string())),
        };
        if session_store::is_device_lost(&context.store).await.map_err(|_| Fatal::Journal)? {
            let words = "the keys of this account's device can't be used any more; say `sealbridge init`, which logs in as a \
                         new device";
            return Err(Fatal::Auth(words.into()));
        }
        if let Some(user) = &settings.user
            && *user != session.user_id
        {
            let words = format!("the config says {user}, and {} is logged in", session.user_id);
            return Err(Fatal::Auth(words));
        }
        let core = Core::new(context, settings, session).await?;
        Ok(Arc::new(Self { core: Arc::new(core) }))
    }

    /// Opens the engine, however long the homeserver is away. `None`: we are to stop.
    async fn open(&self, stop: &CancellationToken) -> Result<Option<Engine>, Fatal> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                opened = tokio::time::timeout(OPENING, self.try_open()) => opened,
            };
            let failed = match opened.unwrap_or_else(|_| Err(Opening::Later("the homeserver does not answer".into()))) {
                Ok(engine) => return Ok(Some(engine)),
                Err(Opening::Fatal(fatal)) => return Err(fatal),
                Err(Opening::Busy) if began.elapsed() > BUSY_FOR => {
                    return Err(Fatal::Policy(OpenError::Busy.to_string()));
                }
                Err(Opening::Busy) => OpenError::Busy.to_string(),
                Err(Opening::Later(words)) => words,
            };
            warn!(error = failed, "The account can't be opened yet.");
            self.core.note(|health| health.trouble = Some(format!("not connected yet: {failed}")));
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        }
    }

    async fn try_open(&self) -> Result<Engine, Opening> {
        let engine = match self.core.open().await {
            Ok(engine) => engine.clone(),
            Err(OpenError::Busy) => return Err(Opening::Busy),
            Err(error) if opens_later(&error) => return Err(Opening::Later(error.to_string())),
            Err(error) => return Err(Opening::Fatal(fatal_open(&error))),
        };
        match engine.require_cross_signed().await {
            Ok(()) => match age::begin(&self.core, &engine).await {
                Ok(()) => Ok(engine),
                Err(Fatal::Broken(words)) => Err(Opening::Later(words)),
                Err(fatal) => Err(Opening::Fatal(fatal)),
            },
            Err(IdentityError::Engine(EngineError::Http(error))) => match fatal_http(&error.kind) {
                Some(fatal) => Err(Opening::Fatal(fatal)),
                None => Err(Opening::Later(error.to_string())),
            },
            Err(error) => {
                let words = format!("{error}; run `sealbridge init` again to sign it");
                Err(Opening::Fatal(Fatal::Policy(words)))
            }
        }
    }
}

enum Opening {
    Busy,
    Later(String),
    Fatal(Fatal),
}

#[async_trait]
impl Transport for Matrix {
    fn abilities(&self) -> &Abilities {
        &ABILITIES
    }

    fn health(&self) -> Health {
        let mut health = self.core.health.lock().unwrap_or_else(|lock| lock.into_inner()).clone();
        if let Some(heard) = health.last_heard {
            let silent = self.core.clock.now().since(sealbridge_contract::Timestamp(heard));
            if health.connected && silent > self.core.settings.stall_after.0 {
                health.trouble.get_or_insert_with(|| format!("nothing was heard for {} s", silent.as_secs()));
            }
        }
        let seen = self.core.http.watch().stopped;
        health.stopped = Stop::ALL.iter().map(|stop| (stop.name(), seen.get(stop).copied().unwrap_or(0))).collect();
        health
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        self.core.rooms.infos()
    }

    fn standing(&self, conversation: &ConversationId, person: &PersonId) -> Option<i64> {
        self.core.rooms.standing(conversation, person)
    }

    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        finding::find(&self.core, slip).await
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        direct::open(&self.core, with).await
    }

    fn comparison(&self, with: Option<&PersonId>, screen: Screen) -> Option<Box<dyn Flow>> {
        Some(Box::new(Comparison::new(Arc::clone(&self.core), with, screen)))
    }

    async fn signal(&self, to: &ConversationId, signal: &Signal) {
        ephemeral::show(&self.core, to, signal).await;
    }

    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        portraits::look_up(&self.core, of).await
    }

    async fn audience(&self, of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
        readers::audience(&self.core, of).await
    }

    async fn roll(&self, of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
        Ok(self.core.rooms.roll(of))
    }

    fn may_have_moved(&self, of: &ConversationId) -> bool {
        self.core.may_have_moved(of)
    }

    async fn admit(&self, to: &ConversationId, who: &[Admission]) -> Result<(), DeliveryError> {
        readers::admit(&self.core, to, who).await
    }

    async fn forget_person(&self, person: &PersonId) -> Result<bool, DeliveryError> {
        readers::forget(&self.core, person).await
    }

    async fn doctor(&self) -> Vec<Finding> {
        Self::doctor(self).await
    }
}

#[async_trait]
impl EndToEnd for Matrix {
    #[instrument(skip_all, fields(account = %self.core.me()))]
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        self.core.hands_in_to(inbox.clone());
        let Some(engine) = self.open(&stop).await? else { return Ok(()) };
        track(&engine, self.core.rooms.correspondents()).await;
        self.core.signals.gaps.notify_one();
        self.core.signals.invites.notify_one();
        let ended = self.run_tasks(&engine, &inbox, &stop).await;
        if ended.is_ok() {
            age::end(&self.core, &engine).await;
        }
        let looked = self.core.http.watch();
        let mean = looked.took.as_micros() / u128::from(looked.passed.max(1));
        info!(
            requests = looked.passed,
            mean_us = mean,
            median_us = looked.median.as_micros(),
            p95_us = looked.p95.as_micros(),
            longest_us = looked.longest.as_micros(),
            "The egress guard looked."
        );
        let words = ended.as_ref().err().map(Fatal::to_string);
        self.core.set_online(false);
        self.core.note(|health| health.trouble = words);
        ended
    }

    fn encryption(&self, conversation: &ConversationId) -> Encryption {
        match ruma::RoomId::parse(conversation.as_str()) {
            Ok(room) => match self.core.rooms.encryption(&room) {
                Encryption::Pinned if self.core.is_frozen(&room) => Encryption::Frozen,
                known => known,
            },
            Err(_) => Encryption::Unknown,
        }
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        outgoing::deliver(&self.core, message, slip).await
    }
}

/// The tasks of a running account. Receiving stands apart from all that may be slow.
#[derive(Clone, Copy, Debug)]
enum Task {
    Receive,
    Keys,
    Gaps,
    Late,
    Fetch,
    Invites,
    Verifications,
    Forget,
    Guard,
    Age,
}

impl Task {
    const ALL: [Self; 10] = [
        Self::Receive,
        Self::Keys,
        Self::Gaps,
        Self::Late,
        Self::Fetch,
        Self::Invites,
        Self::Verifications,
        Self::Forget,
        Self::Guard,
        Self::Age,
    ];

    async fn run(
        self,
        core: &Arc<Core>,
        engine: &Engine,
        inbox: &Inbox,
        stop: &CancellationToken,
    ) -> Result<(), Fatal> {
        match self {
            Self::Receive => incoming::pump(core, engine, inbox, stop).await,
            Self::Keys => traffic::flush_keys(core, engine, inbox).await,
            Self::Gaps => gaps::fill_gaps(core, inbox).await,
            Self::Late => latekeys::read_late(core, engine, inbox).await,
            Self::Fetch => fetch::complete(core, inbox).await,
            Self::Invites => invites::follow(core, inbox).await,
            Self::Verifications => traffic::observe(core, engine, inbox).await,
            Self::Forget => prune::forget(core).await,
            Self::Guard => traffic::tell_what_was_stopped(core).await,
            Self::Age => age::keep(core, engine).await,
        }
    }
}

impl Matrix {
    async fn run_tasks(&self, engine: &Engine, inbox: &Inbox, stop: &CancellationToken) -> Result<(), Fatal> {
        let mut tasks = JoinSet::new();
        let mut running = HashMap::new();
        let start = |tasks: &mut JoinSet<_>, task: Task, after: Duration| {
            let (core, engine, inbox, stop) = (Arc::clone(&self.core), engine.clone(), inbox.clone(), stop.clone());
            let started = async move {
                tokio::time::sleep(after).await;
                task.run(&core, &engine, &inbox, &stop).await
            };
            tasks.spawn(started.in_current_span()).id()
        };
        for task in Task::ALL {
            running.insert(start(&mut tasks, task, Duration::ZERO), task);
        }
        loop {
            match tasks.join_next_with_id().await {
                // Only receiving ends without a failure: when it is to stop.
                Some(Ok((_, ended))) => return ended,
                Some(Err(failed)) if failed.is_panic() => {
                    let Some(task) = running.remove(&failed.id()) else { return Ok(()) };
                    error!(?task, "A task panicked and is started again.");
                    running.insert(start(&mut tasks, task, Duration::from_secs(1)), task);
                }
                _ => return Ok(()),
            }
        }
    }
}
