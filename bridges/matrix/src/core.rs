//! What all parts of one account share.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sealbridge_contract::{
    Clock, Context, ConversationId, DeliveryError, Fatal, Inbox, NotAccepted, PersonId, RemoteId, Spool,
    audience::Book,
    inbox::{AccountStore, Audience, Incident},
    names,
    transport::{Health, StoreKey},
};
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, mpsc, watch},
    time::Instant,
};
use tracing::warn;

use crate::{
    age::Ages,
    budget::Budget,
    config::{BackupKeys, Settings, Trust},
    deeds::Showing,
    direct::Direct,
    engine::{Engine, EngineError, Http, HttpErrorKind, OpenError, SenderTrust, Session},
    ephemeral::Writing,
    finding::Histories,
    notices::{Notices, Telling},
    portraits::Portraits,
    readers::Seen,
    register::Admissions,
    rooms::Rooms,
    session_store::Keeper,
};

/// What all parts of one account share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) store: AccountStore,
    pub(crate) clock: Clock,
    pub(crate) http: Http,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) showing: Showing,
    pub(crate) rooms: Rooms,
    pub(crate) book: Book,
    pub(crate) seen: Seen,
    pub(crate) direct: Direct,
    pub(crate) budget: Budget,
    pub(crate) ages: Ages,
    pub(crate) histories: Histories,
    pub(crate) portraits: Portraits,
    pub(crate) writing: Writing,
    pub(crate) notices: Notices,
    pub(crate) health: Mutex<Health>,
    pub(crate) signals: Signals,
    /// Of whom it was said already that they can't read, so that it is not said with every message.
    unreading: Mutex<BTreeSet<(OwnedRoomId, OwnedUserId)>>,
    /// Live places that were told of, each with the event by which: it moves every few seconds.
    live: Mutex<BTreeMap<(OwnedRoomId, OwnedUserId, RemoteId), RemoteId>>,
    online: watch::Sender<bool>,
    /// When the last sync answer was asked for that was taken in with all that it brought.
    pub(crate) answered: watch::Sender<Option<Instant>>,
    session: Session,
    folder: PathBuf,
    pub(crate) store_key: StoreKey,
    engine: OnceLock<Engine>,
    inbox: OnceLock<Inbox>,
    opening: AsyncMutex<()>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// How the tasks of one account wake each other.
#[derive(Debug)]
pub(crate) struct Signals {
    /// There may be gaps to fill.
    pub(crate) gaps: Notify,
    /// There may be invitations to follow.
    pub(crate) invites: Notify,
    /// There may be verifications to look at.
    pub(crate) verifications: Notify,
    /// There may be events to complete.
    pub(crate) fetch: Notify,
    news: mpsc::UnboundedSender<News>,
    /// Held by the one task that reads them.
    pub(crate) heard: AsyncMutex<mpsc::UnboundedReceiver<News>>,
    telling: mpsc::UnboundedSender<Incident>,
    /// What sending found that a person must be told. Held by the one task that tells it.
    pub(crate) told: AsyncMutex<mpsc::UnboundedReceiver<Incident>>,
    moves: mpsc::UnboundedSender<OwnedRoomId>,
    /// Rooms whose readers may have changed. Held by the one task that says so.
    pub(crate) moved: AsyncMutex<mpsc::UnboundedReceiver<OwnedRoomId>>,
    steps: mpsc::UnboundedSender<(OwnedRoomId, Box<RawValue>)>,
    /// Steps of verifications seen in rooms. Held by the one task that takes them in.
    pub(crate) observed: AsyncMutex<mpsc::UnboundedReceiver<(OwnedRoomId, Box<RawValue>)>>,
    /// So many of them were not taken in yet.
    unobserved: watch::Sender<usize>,
    /// So many requests to verify are on their way into rooms.
    asking: watch::Sender<usize>,
}

/// Why events that wait may be readable now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// A key arrived, or will not arrive, or may have arrived just before its event was put down as unreadable.
    Session { room: OwnedRoomId, session_id: String },
    /// An event was not trusted: its sender's devices may only not be known yet.
    Distrusted { room: OwnedRoomId, sender: OwnedUserId },
    /// Somebody's devices were read anew.
    Devices { user: OwnedUserId },
    /// An event waits for something that is to be fetched.
    Fetch,
}

impl Default for Signals {
    fn default() -> Self {
        let (news, heard) = mpsc::unbounded_channel();
        let (steps, observed) = mpsc::unbounded_channel();
        let (telling, told) = mpsc::unbounded_channel();
        let (moves, moved) = mpsc::unbounded_channel();
        let moved = AsyncMutex::new(moved);
        let [gaps, invites, verifications, fetch] = std::array::from_fn(|_| Notify::new());
        let (heard, observed, told) = (AsyncMutex::new(heard), AsyncMutex::new(observed), AsyncMutex::new(told));
        let [unobserved, asking] = std::array::from_fn(|_| watch::Sender::new(0));
        Self {
            gaps,
            invites,
            verifications,
            fetch,
            news,
            heard,
            telling,
            told,
            moves,
            moved,
            steps,
            observed,
            unobserved,
            asking,
        }
    }
}

impl Signals {
    pub(crate) fn tell(&self, news: impl IntoIterator<Item = News>) {
        for news in news {
            if news == News::Fetch {
                self.fetch.notify_one();
                continue;
            }
            // The receiver lives as long as we do.
            let _ = self.news.send(news);
        }
    }

    pub(crate) fn tell_people(&self, incident: Incident) {
        let _ = self.telling.send(incident);
    }

    pub(crate) fn moved(&self, room: OwnedRoomId) {
        let _ = self.moves.send(room);
    }

    pub(crate) fn observe(&self, steps: impl IntoIterator<Item = (OwnedRoomId, Box<RawValue>)>) {
        for step in steps {
            self.unobserved.send_modify(|count| *count += 1);
            let _ = self.steps.send(step);
        }
    }

    /// One of those steps is taken in until this is dropped; then it was, or never will be.
    pub(crate) fn observing(&self) -> Counted<'_> {
        Counted(&self.unobserved)
    }

    /// Waits until every step that came so far was taken in.
    pub(crate) async fn all_observed(&self) {
        // The sender lives as long as we do.
        let _ = self.unobserved.subscribe().wait_for(|count| *count == 0).await;
    }

    /// A request to verify is on its way into a room until this is dropped.
    pub(crate) fn asking(&self) -> Counted<'_> {
        self.asking.send_modify(|count| *count += 1);
        Counted(&self.asking)
    }

    /// Waits until none is: an answer can be here before it is known what the request is called.
    pub(crate) async fn all_asked(&self) {
        let _ = self.asking.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One of what is counted there, until this is dropped.
pub(crate) struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Core {
    pub(crate) async fn new(context: Context, settings: Settings, session: Session) -> Result<Self, Fatal> {
        let http = session.http().map_err(|error| Fatal::Broken(error.to_string()))?;
        http.set_keeper(std::sync::Arc::new(Keeper::new(context.store.clone(), session.clone())));
        let rooms = Rooms::load(&context.store).await.map_err(|_| Fatal::Journal)?;
        let book = Book::load(&context.store).await.map_err(|_| Fatal::Journal)?;
        let direct = Direct::load(&context.store).await.map_err(|_| Fatal::Journal)?;
        let identity = Some(session.user_id.to_string());
        Ok(Self {
            settings,
            store: context.store,
            clock: context.clock,
            http,
            spool: context.spool,
            showing: Showing::default(),
            rooms,
            book,
            seen: Seen::default(),
            direct,
            budget: Budget::default(),
            ages: Ages::default(),
            histories: Histories::default(),
            portraits: Portraits::default(),
            writing: Writing::default(),
            notices: Notices::default(),
            health: Mutex::new(Health { identity, ..Health::default() }),
            signals: Signals::default(),
            unreading: Mutex::default(),
            live: Mutex::default(),
            online: watch::Sender::new(false),
            answered: watch::Sender::new(None),
            session,
            folder: context.folder,
            store_key: context.store_key,
            engine: OnceLock::new(),
            inbox: OnceLock::new(),
            opening: AsyncMutex::default(),
        })
    }

    pub(crate) fn me(&self) -> &UserId {
        &self.session.user_id
    }

    /// What comes is handed in there. The first word stands: each run has the same one.
    pub(crate) fn hands_in_to(&self, inbox: Inbox) {
        let _ = self.inbox.set(inbox);
    }

    /// Whether what is said in a room is carried anywhere.
    pub(crate) fn is_linked(&self, room: &RoomId) -> bool {
        self.inbox.get().is_none_or(|inbox| inbox.is_linked(&conversation(room)))
    }

    /// Whether somebody may tell the bridge what to do, so that it counts which identity is behind their words.
    pub(crate) fn attends(&self, user: &UserId) -> bool {
        self.inbox.get().is_some_and(|inbox| inbox.attends(&PersonId::new(user.as_str())))
    }

    /// The engine, once the homeserver was reached.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.get()
    }

    /// The engine, or a reason to deliver later.
    pub(crate) fn engine_or_later(&self) -> Result<&Engine, DeliveryError> {
        self.engine().ok_or_else(|| DeliveryError::retry("the homeserver was not reached yet"))
    }

    /// Opens the crypto store and makes sure that the device is ours.
    pub(crate) async fn open(self: &Arc<Self>) -> Result<&Engine, OpenError> {
        let _single = self.opening.lock().await;
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = open_engine(&self.session, self.http.clone(), &self.folder, &self.store_key).await?;
        engine.set_readers(self.settings.trust.readers());
        engine.set_register(Arc::new(Admissions::of(self)));
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Whose messages are read.
    pub(crate) fn sender_trust(&self) -> SenderTrust {
        SenderTrust {
            unsigned_devices: self.settings.trust == Trust::AnyDevice,
            backup_keys: self.settings.backup_keys == BackupKeys::Mark,
        }
    }

    /// Whether an event is the first that says where somebody is who shares that for a while.
    pub(crate) fn begins_to_share(&self, room: &RoomId, by: &UserId, place: RemoteId, event: &RemoteId) -> bool {
        const MOST: usize = 1000;
        let mut live = self.live.lock().unwrap_or_else(|lock| lock.into_inner());
        if live.len() >= MOST {
            live.clear();
        }
        live.entry((room.to_owned(), by.to_owned(), place)).or_insert_with(|| event.clone()) == event
    }

    /// Tells a room, once, that somebody's devices are not trusted: their messages do not cross, and they get no keys.
    pub(crate) fn tell_distrust(&self, room: &RoomId, user: &UserId) {
        let mut known = self.unreading.lock().unwrap_or_else(|lock| lock.into_inner());
        if !known.insert((room.to_owned(), user.to_owned())) {
            return;
        }
        match self.notices.next(&format!("not-trusted/{room}"), self.clock.now()) {
            Telling::Each => self.signals.tell_people(distrusted(room, user)),
            Telling::Summary => self.signals.tell_people(tell_room(
                room,
                format!("not-trusted-more/{}", self.clock.now().0),
                "There are more people here whose device is not verified by themselves. They are not named one by one.",
            )),
            Telling::Nothing => {}
        }
    }

    /// Notes whether the homeserver answers.
    pub(crate) fn set_online(&self, online: bool) {
        self.online.send_if_modified(|known| std::mem::replace(known, online) != online);
        self.note(|health| health.connected = online);
    }

    /// Waits a moment for the homeserver to answer. What is sent while it does not would be in doubt.
    pub(crate) async fn is_online(&self, patience: Duration) -> bool {
        let mut online = self.online.subscribe();
        let waited = online.wait_for(|online| *online);
        tokio::time::timeout(patience, waited).await.is_ok()
    }

    /// Notes how the account is doing.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(|lock| lock.into_inner()));
    }
}

/// Keeps the device lists of these people up to date from now on. What fails is made up for when a key is shared.
pub(crate) async fn track(engine: &Engine, users: BTreeSet<OwnedUserId>) {
    let users: Vec<&UserId> = users.iter().map(|user| &**user).collect();
    if let Err(error) = engine.track(users).await {
        warn!(%error, "New members' devices are not tracked yet.");
    }
}

/// Where the engine keeps its keys, in the transport's folder.
const CRYPTO: &str = "crypto";

/// Opens the engine in the transport's folder.
pub(crate) async fn open_engine(
    session: &Session,
    http: Http,
    folder: &std::path::Path,
    key: &StoreKey,
) -> Result<Engine, OpenError> {
    let key = crate::engine::StoreKey::from_bytes(key.expose());
    Engine::open(session, http, &folder.join(CRYPTO), &key).await
}

/// Forgets the keys of a device that is no more.
pub(crate) fn forget_keys(folder: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder.join(CRYPTO)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether opening may succeed later without anybody doing anything.
pub(crate) fn opens_later(error: &OpenError) -> bool {
    match error {
        OpenError::Http(error) | OpenError::Engine(EngineError::Http(error)) => {
            // A page in place of an answer is a gateway's, or a captive portal's.
            error.is_transient() || error.kind == HttpErrorKind::Malformed
        }
        _ => false,
    }
}

/// Why the account can't go on.
pub(crate) fn fatal_open(error: &OpenError) -> Fatal {
    match error {
        OpenError::Http(error) | OpenError::Engine(EngineError::Http(error)) => {
            fatal_http(&error.kind).unwrap_or_else(|| Fatal::Broken(error.to_string()))
        }
        OpenError::ForeignDevice | OpenError::DeviceGone | OpenError::OtherDevice => {
            Fatal::Policy(format!("{error}; `sealbridge init` does"))
        }
        error => Fatal::Broken(error.to_string()),
    }
}

/// A homeserver's answer that no waiting will change.
pub(crate) fn fatal_http(kind: &HttpErrorKind) -> Option<Fatal> {
    match kind {
        HttpErrorKind::UnknownToken { soft_logout } => {
            let why = if *soft_logout { "has let our session expire" } else { "does not know our session any more" };
            Some(Fatal::Auth(format!("the homeserver {why}; `sealbridge init` logs in again as a new device")))
        }
        HttpErrorKind::NotKept => Some(Fatal::Journal),
        _ => None,
    }
}

pub(crate) fn fatal_journal(error: NotAccepted) -> Option<Fatal> {
    (error == NotAccepted::Failed).then_some(Fatal::Journal)
}

pub(crate) fn conversation(room: &RoomId) -> ConversationId {
    ConversationId::new(room.as_str())
}

/// Who somebody is, as it stands in a sentence of ours. An id is what its homeserver made it.
pub(crate) fn shown(user: &UserId) -> String {
    names::id(user.as_str())
}

/// Why somebody's messages do not cross, for those who can change it.
fn distrusted(room: &RoomId, user: &UserId) -> Incident {
    let words = format!(
        "Messages of {} are not carried, and they can't read what the bridge sends: their device is not verified by \
         themselves. They can do that in their client's security settings.",
        shown(user)
    );
    tell_room(room, format!("not-trusted/{user}"), words)
}

/// Something to tell the operator about a room.
pub(crate) fn tell_operator(room: &RoomId, topic: impl Into<String>, words: impl Into<String>) -> Incident {
    let conversation = Some(conversation(room));
    Incident { conversation, topic: topic.into(), words: words.into(), audience: Audience::Operator }
}

/// Something to tell the people in a room, and the operator.
pub(crate) fn tell_room(room: &RoomId, topic: impl Into<String>, words: impl Into<String>) -> Incident {
    Incident { audience: Audience::Conversation, ..tell_operator(room, topic, words) }
}
