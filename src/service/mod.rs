//! The service, assembled: journal, accounts, links and journey.

mod host;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use sealbridge_contract::{
    AccountName, Address, AnyTransport, Clock, Context, Fatal, Inbox, Intake, OperatorRun, RootKey, Rule, SealedInbox,
    Signal, Timestamp, Vault, inbox::AccountStore, names::Tags, trail::MarkKey, transport::StoreKey,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    backup::Restored,
    config::{Config, FixedLink},
    flow::{
        Desk, Dispatch, JourneyRouter, TableHandle, attempt::Attempts, breaker::Loop, cooldown, signals,
        upkeep::unless_full,
    },
    notices,
    operator::{Failure, FailureKind, admin, host::Assembled},
    spool::SpoolFolder,
    store::{JournalError, Link, LinkEnd, LinkName, SharedJournal, sqlite::SqliteJournal},
};

/// Milliseconds of a day.
const DAY: i64 = 24 * 3_600_000;
/// How long a broken account rests before it is started anew.
const REST: Duration = Duration::from_secs(5);
/// How often the rests of paused links are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Told once in every conversation in which nothing but notices is said.
const NOTICED: &str = "Programs of the bridge's operator write into this conversation. What is said here is end-to-end \
                       encrypted up to the bridge, and readable on the host of the operator who runs it.";
/// Told once in every linked conversation.
const READABLE: &str = "This conversation is bridged. Messages are end-to-end encrypted up to the bridge on each side, \
                        and they are readable on the host of the operator who runs it.";
/// Told once in every conversation from which something goes to a server that the operator runs.
const READ_BY_SERVER: &str =
    "What is said here is also posted to a server that the bridge's operator runs, which reads it.";

/// The service. Opened once in a process; the journal's lock sees to it that there is no second one.
pub struct Service {
    config: Arc<Config>,
    journal: SharedJournal,
    clock: Clock,
    keys: Keys,
    desk: Arc<Desk>,
    table: TableHandle,
    changes: watch::Sender<u64>,
    router: Arc<JourneyRouter>,
    signalled: Mutex<Option<mpsc::Receiver<(Address, Signal)>>>,
    dispatch: Arc<Dispatch>,
    notices: Arc<notices::Desk>,
    /// Where sources are heard, once the service runs.
    brought: Arc<OnceLock<Arc<notices::Intake>>>,
    spool: SpoolFolder,
    accounts: Mutex<HashMap<AccountName, Opened>>,
    started_at: Timestamp,
    /// Itself, for what outlives a call.
    this: OnceLock<Weak<Self>>,
    /// What conversations were told of being bridged.
    told: tokio::sync::Mutex<HashSet<(Address, &'static str)>>,
}

/// The rule of a link, by the config.
fn rule(config: &Config, fixed: &BTreeMap<LinkName, FixedLink>, link: &Link) -> Rule {
    let rule = fixed.get(&link.name).map_or_else(Rule::default, |fixed| fixed.rule(false));
    let marks = link.ends.iter().filter_map(|end| config.accounts.get(&end.at.account));
    let accept_not_proven = rule.accept_not_proven || marks.into_iter().any(|a| a.accepts_not_proven());
    Rule { accept_not_proven, ..rule }
}

/// Keys derived from the root key for others than the journal.
struct Keys {
    stores: HashMap<AccountName, zeroize::Zeroizing<[u8; 32]>>,
}

#[derive(Clone)]
struct Opened {
    transport: Option<AnyTransport>,
    stopped: Option<Failure>,
}

impl Service {
    /// Opens the journal and brings the links up to date with the config. Logs in nowhere.
    ///
    /// # Errors
    /// [`Failure`]: the journal does not open, with the way out in words.
    pub async fn open(config: Arc<Config>, root: RootKey) -> Result<Arc<dyn Assembled>, Failure> {
        let clock = Clock::system();
        #[cfg(feature = "failpoints")]
        crate::testing::follow_clock_file(&clock);
        let vault = Vault::new(root);
        let [for_router, for_attempts] = [(); 2].map(|()| MarkKey::new(vault.key_for("loop marks v1")));
        let for_notices = vault.key_for("notices v1");
        let tags = Tags::new(vault.key_for("name tags v1"));
        let stores = config.accounts.keys().map(|name| (name.clone(), vault.key_for(&format!("account store {name}"))));
        let keys = Keys { stores: stores.collect() };
        let (rules, fixed) = (Arc::clone(&config), config.fixed_links());
        let table = TableHandle::new(Arc::new(move |link: &Link| rule(&rules, &fixed, link)));
        let router = Arc::new(JourneyRouter::new(table.clone(), for_router, config.operator.clone(), clock.clone()));
        let spool = config.service.state.join("spool");
        let spool = SpoolFolder::open(&spool, vault.key_for("spool v1"), config.journal.most_files.0)
            .map_err(|error| Failure::new(FailureKind::Config, format!("the spool can't be used: {error}")))?;
        let journal = SqliteJournal::open(
            &config.service.state,
            vault,
            Arc::clone(&router) as Arc<dyn crate::store::Router>,
            config.journal.limits(),
            clock.clone(),
        )?;
        let journal: SharedJournal = Arc::new(journal);
        let restored = Restored::of(&*journal).await?;
        let doubt = restored.map_or(Timestamp(i64::MIN), |restored| restored.at);
        router.doubts(doubt);
        let attempts = Attempts::new(table.clone(), Arc::clone(&journal), for_attempts, tags, doubt, clock.clone());
        let (signals, signalled) = signals::line();
        let desk = Desk::new(Arc::clone(&journal), table.clone(), signals, config.operator.clone(), clock.clone());
        let dispatch = Dispatch::new(Arc::clone(&journal), table.clone(), attempts, clock.clone());
        dispatch.meters().count_of(config.accounts.keys(), config.sources.keys().map(notices::SourceName::as_str));
        let notices = notices::Desk::new(
            Arc::clone(&desk) as Arc<dyn Intake>,
            Arc::clone(&journal),
            table.clone(),
            dispatch.outcomes(),
            for_notices,
            doubt,
            clock.clone(),
        );
        let service = Arc::new(Self {
            config,
            journal,
            started_at: clock.now(),
            clock,
            keys,
            desk,
            table,
            changes: watch::Sender::new(0),
            router,
            signalled: Mutex::new(Some(signalled)),
            dispatch,
            notices: Arc::new(notices),
            brought: Arc::default(),
            spool,
            accounts: Mutex::default(),
            this: OnceLock::new(),
            told: tokio::sync::Mutex::default(),
        });
        let _ = service.this.set(Arc::downgrade(&service));
        service.follow_config().await?;
        crate::store::Router::links_are(&*service.router, service.journal.links().await?);
        service.follow_accounts();
        service.follow_links().await?;
        Ok(service)
    }

    /// What the transport of an account is given.
    fn context(&self, account: &AccountName) -> Result<Context, Failure> {
        let missing = || Failure::new(FailureKind::Config, format!("there is no account {account} in the config"));
        let key = self.keys.stores.get(account).ok_or_else(missing)?;
        let folder = self.config.account_folder(account);
        private_folder(&folder).map_err(|error| {
            Failure::new(FailureKind::Config, format!("the account's folder can't be made: {error}"))
        })?;
        Ok(Context {
            account: account.clone(),
            folder,
            store_key: StoreKey::new(key.clone()),
            store: self.store_of(account),
            spool: Arc::new(self.spool.clone()),
            clock: self.clock.clone(),
        })
    }

    fn intake(&self) -> Arc<dyn Intake> {
        Arc::clone(&self.desk) as Arc<dyn Intake>
    }

    fn store_of(&self, account: &AccountName) -> AccountStore {
        AccountStore::new(account.clone(), self.intake())
    }

    /// Writes the config's links into the journal, if they may be. An end that was linked before keeps its moment.
    async fn follow_config(&self) -> Result<(), Failure> {
        // What an operator says in the admin room is for the bridge alone.
        let admin = admin::room(&*self.journal).await?;
        let declared = self.config.fixed_links();
        for (name, fixed) in &declared {
            if let Some(room) = fixed.ends.iter().find(|at| Some(*at) == admin.as_ref()) {
                let sources = self.config.sources.iter().find(|(_, source)| source.speaks_in(room));
                let section = match (self.config.links.contains_key(name), sources) {
                    (false, Some((source, _))) => format!("sources.{source}"),
                    _ => format!("links.{name}"),
                };
                return Err(Failure::refused(format!(
                    "{room} is the admin room, and what is said there goes nowhere else: take it out of [{section}]"
                )));
            }
        }
        let known = self.journal.links().await?;
        for gone in known.iter().filter(|link| link.fixed && !declared.contains_key(&link.name)) {
            self.journal.remove_link(&gone.name).await?;
        }
        for (name, fixed) in &declared {
            let before = known.iter().find(|link| link.name == *name);
            let since =
                |at: &Address| before.and_then(|link| link.ends.iter().find(|end| end.at == *at)).map(|end| end.since);
            let ends = fixed.ends.iter();
            let ends = ends.map(|at| LinkEnd { at: at.clone(), since: since(at).unwrap_or_else(|| self.clock.now()) });
            let paused = before.and_then(|link| link.paused.clone());
            let tripped = before.and_then(|link| link.tripped);
            let link = Link { name: name.clone(), ends: ends.collect(), paused, fixed: true, tripped };
            if before != Some(&link) {
                self.journal.put_link(link).await?;
            }
        }
        Ok(())
    }

    /// Tells conversations that are linked for the first time, and wakes who waits for a change. The journal itself has
    /// put the links into the table.
    async fn follow_links(&self) -> Result<(), JournalError> {
        let mut told = self.told.lock().await;
        let table = self.table.now();
        let ends: HashSet<_> = table.links().flat_map(|link| &link.ends).map(|end| &end.at).collect();
        let is_program = |at: &Address| notices::is_source(at) || self.is_read_in_clear(at);
        let new = ends.into_iter().filter(|at| !is_program(at)).flat_map(|at| {
            let links = || table.links_of(at).map(|(link, _)| link);
            let only_notices = links().all(|link| link.ends.iter().any(|end| notices::is_source(&end.at)));
            let bridged = if only_notices { (NOTICED, "noticed-on-host") } else { (READABLE, "readable-on-host") };
            let read_there = links().any(|link| link.ends.iter().any(|end| self.is_read_in_clear(&end.at)));
            let read_there = read_there.then_some((READ_BY_SERVER, "read-by-server"));
            [Some(bridged), read_there].into_iter().flatten().map(move |(words, topic)| (at, words, topic))
        });
        let new: Vec<_> = new.filter(|(at, _, topic)| !told.contains(&((*at).clone(), *topic))).collect();
        // All at once, so that they share their commits: at the start every end is new.
        let words = new.iter().map(|(at, words, topic)| self.desk.tell(at, words, Some(topic)));
        futures_util::future::try_join_all(words).await?;
        told.extend(new.into_iter().map(|(at, _, topic)| (at.clone(), topic)));
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Whether a server that the operator runs reads what is carried there.
    fn is_read_in_clear(&self, at: &Address) -> bool {
        self.config.accounts.get(&at.account).is_some_and(|account| account.is_read_in_clear(&at.conversation))
    }

    /// Puts the accounts that run into the table, and wakes who waits for one.
    fn follow_accounts(&self) {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let transports = self.config.accounts.keys().map(|name| {
            let transport = accounts.get(name).and_then(|opened| opened.transport.clone());
            (name.clone(), transport)
        });
        let names = self.config.sources.keys().cloned().collect();
        let sources: Arc<dyn OperatorRun> = Arc::new(notices::Account::new(names, Arc::clone(&self.brought)));
        let sources = (notices::account(), Some(AnyTransport::OperatorRun(sources)));
        self.table.accounts_are(transports.chain([sources]).collect());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Puts back what a link held that is not paused: a crash may fall between the two halves of pausing or resuming.
    async fn release_held(&self) -> Result<(), JournalError> {
        if self.journal.counts().await?.held == 0 {
            return Ok(());
        }
        let table = self.table.now();
        for link in table.links().filter(|link| link.paused.is_none()) {
            self.journal.resume(&link.name).await?;
        }
        Ok(())
    }

    /// Opens every account that has been set up and is not open yet.
    async fn open_accounts(&self) -> Result<(), Failure> {
        for (name, account) in &self.config.accounts {
            let open = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
            if open || !account.is_set_up(&self.store_of(name)).await? {
                continue;
            }
            let opened = match account.open(self.context(name)?).await {
                Ok(transport) => Opened { transport: Some(transport), stopped: None },
                Err(fatal) => {
                    error!(account = %name, error = %fatal, "Account does not open.");
                    Opened { transport: None, stopped: Some(fatal.into()) }
                }
            };
            self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), opened);
        }
        self.follow_accounts();
        Ok(())
    }

    /// Runs one account until `stop`, or until a person must act.
    async fn run_account(&self, name: &AccountName, transport: AnyTransport, stop: CancellationToken) -> Option<Fatal> {
        let inbox = || Inbox::new(name.clone(), self.intake());
        while !stop.is_cancelled() {
            let (transport, stop) = (transport.clone(), stop.clone());
            let (inbox, sealed) = (inbox(), SealedInbox::new(name.clone(), self.intake()));
            let run = tokio::spawn(async move {
                match transport {
                    AnyTransport::EndToEnd(t) => t.run(inbox, stop).await,
                    AnyTransport::OperatorRun(t) => t.run(inbox, stop).await,
                    AnyTransport::Carrier(t) => t.run(sealed, stop).await,
                }
            });
            match run.await {
                Ok(Ok(())) => return None,
                Ok(Err(fatal)) => return Some(fatal),
                // What a library's panic left half done is made good from the journal, as after a crash.
                Err(panic) => {
                    error!(account = %name, error = %panic, "Account broke and starts anew.");
                    tokio::time::sleep(REST).await;
                }
            }
        }
        None
    }

    async fn account_stopped(&self, name: &AccountName, why: Failure) -> Result<(), JournalError> {
        error!(account = %name, error = %why, "Account stopped: a person must act.");
        // A service that is started again and again says the same once a day.
        let topic = format!("account-stopped/{name}/{why}/{}", self.clock.now().0 / DAY);
        if let Some(opened) = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            opened.stopped = Some(why.clone());
            opened.transport = None;
        }
        self.follow_accounts();
        self.desk.tell_operator(&format!("The account {name} stopped: {why}"), Some(&topic)).await
    }

    /// Pauses a link whose circuit breaker tripped, and says so at all its ends.
    async fn pause_tripped(&self, name: &LinkName, seen: &Loop) -> Result<(), JournalError> {
        let links = self.journal.links().await?;
        let Some(link) = links.into_iter().find(|link| link.name == *name && link.paused.is_none()) else {
            return Ok(());
        };
        warn!(link = %name, %seen, "Circuit breaker: link paused.");
        let (paused, words) = cooldown::pause(link, seen, self.clock.now());
        let ends = paused.ends.clone();
        self.journal.put_link(paused).await?;
        self.desk.tell_operator(&words, None).await?;
        for end in ends {
            self.desk.tell(&end.at, "This bridge paused itself: another bridge sends its messages back.", None).await?;
        }
        Ok(())
    }

    /// Lets links go on that rested long enough after their circuit breaker tripped.
    async fn resume_rested(&self) -> Result<(), JournalError> {
        let (table, now) = (self.table.now(), self.clock.now());
        for link in table.links().filter(|link| cooldown::is_over(link, now)) {
            self.journal.resume(&link.name).await?;
            info!(link = %link.name, "Link goes on after its circuit breaker had tripped.");
            self.follow_links().await?;
            self.desk.tell_operator(&format!("The link {} goes on.", link.name), None).await?;
        }
        Ok(())
    }

    async fn watch_breaker(&self, stop: &CancellationToken) -> Result<(), JournalError> {
        let mut tripped = self.router.tripped();
        while !stop.is_cancelled() {
            let seen = tripped.borrow_and_update().clone();
            for (name, seen) in &seen {
                unless_full(self.pause_tripped(name, seen).await)?;
            }
            unless_full(self.resume_rested().await)?;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = tripped.changed() => {}
            }
        }
        Ok(())
    }

    /// Runs every open account; ends when `stop` is given or all have stopped.
    async fn run_accounts(&self, stop: &CancellationToken) -> Result<(), Failure> {
        let open: Vec<_> = {
            let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.iter().filter_map(|(name, opened)| Some((name.clone(), opened.transport.clone()?))).collect()
        };
        let mut running = futures_util::stream::FuturesUnordered::new();
        for (name, transport) in open {
            running.push(async move {
                let fatal = self.run_account(&name, transport, stop.child_token()).await;
                (name, fatal)
            });
        }
        let mut last = None;
        while let Some((name, fatal)) = futures_util::StreamExt::next(&mut running).await {
            if let Some(fatal) = fatal {
                let is_final = matches!(fatal, Fatal::Journal | Fatal::RolledBack(_));
                let failure = Failure::from(fatal);
                self.account_stopped(&name, failure.clone()).await?;
                if is_final {
                    return Err(failure);
                }
                last = Some(failure);
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        Err(last.unwrap_or_else(|| {
            Failure::new(FailureKind::Config, "no account is set up: run `sealbridge init`".to_owned())
        }))
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

fn private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}
