//! The service as its operator's commands see it, and its run from beginning to end.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use sealbridge_contract::{AccountName, Address, Clock, Flow, Spool, Timestamp};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Service;
use crate::{
    backup::Restored,
    config::Config,
    flow::{LaneState, Upkeep, audience, namesakes, signals, upkeep::unless_full},
    metrics::Meters,
    notices,
    operator::{
        Failure, FailureKind, admin,
        chat::Chat,
        host::{Account, Assembled, Host},
    },
    store::{JournalError, SharedJournal},
};

/// At the end no account is waited for longer.
const FAREWELL: Duration = Duration::from_secs(10);
/// Told to the operator, once.
const RESTORED: &str = "This bridge goes on from a backup. What was said between the backup and its restoring, and what \
                        waited when it was made, may have been carried already: it becomes a dead letter where nobody \
                        can tell. `sealbridge dead-letters list` shows it.";

#[async_trait]
impl Host for Service {
    fn config(&self) -> &Config {
        &self.config
    }

    fn journal(&self) -> SharedJournal {
        Arc::clone(&self.journal)
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn started_at(&self) -> Timestamp {
        self.started_at
    }

    fn accounts(&self) -> Vec<Account> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let open = accounts.iter();
        open.map(|(name, opened)| Account {
            name: name.clone(),
            transport: opened.transport.clone(),
            stopped: opened.stopped.clone(),
        })
        .collect()
    }

    fn lanes(&self) -> BTreeMap<Address, LaneState> {
        self.dispatch.lanes()
    }

    fn meters(&self) -> Arc<Meters> {
        self.dispatch.meters()
    }

    fn beats(&self) -> bool {
        self.dispatch.beats()
    }

    fn trouble(&self) -> Option<String> {
        self.desk.trouble().map(str::to_owned)
    }

    async fn export(&self, account: &AccountName) -> Result<Option<PathBuf>, Failure> {
        let section = self.config.accounts.get(account);
        let open = self.accounts().into_iter().find(|open| open.name == *account).and_then(|open| open.transport);
        let exported = match (open, section) {
            (Some(transport), _) => transport.common().export().await,
            (None, Some(section)) if section.is_set_up(&self.store_of(account)).await? => {
                section.export(self.context(account)?).await
            }
            (None, _) => Ok(None),
        };
        Ok(exported?)
    }

    fn notices(&self) -> Option<Arc<notices::Desk>> {
        Some(Arc::clone(&self.notices))
    }

    fn sources(&self) -> Option<Arc<notices::Intake>> {
        self.brought.get().map(Arc::clone)
    }

    fn spool(&self) -> Option<Arc<dyn Spool>> {
        Some(Arc::new(self.spool.clone()))
    }

    async fn links_changed(&self) -> Result<(), JournalError> {
        self.follow_links().await
    }
}

/// The sources, and the addresses at which they are heard.
type Heard = (Arc<notices::Intake>, Option<notices::Server>, Option<notices::mail::Server>);

impl Service {
    /// Reads the secrets and templates of the sources, and binds the addresses at which they are heard, if there are any.
    async fn hear_sources(&self) -> Result<Heard, Failure> {
        let (desk, spool): (_, Arc<dyn Spool>) = (Arc::clone(&self.notices), Arc::new(self.spool.clone()));
        let intake = notices::Intake::new(&self.config, desk, spool, self.dispatch.meters())?;
        let intake = Arc::clone(self.brought.get_or_init(|| Arc::new(intake)));
        let section = &self.config.notices;
        let server = match section.listen {
            Some(at) => Some(notices::Server::bind(at, section.most_body.0).await?),
            None => None,
        };
        let mail = match section.listen_mail {
            Some(at) => Some(notices::mail::Server::bind(at, section.most_body.0).await?),
            None => None,
        };
        Ok((intake, server, mail))
    }
}

#[async_trait]
impl Assembled for Service {
    async fn is_set_up(&self, account: &AccountName) -> Result<bool, Failure> {
        match self.config.accounts.get(account) {
            Some(section) => Ok(section.is_set_up(&self.store_of(account)).await?),
            None => Ok(false),
        }
    }

    async fn setup(&self, account: &AccountName) -> Result<Box<dyn Flow>, Failure> {
        let context = self.context(account)?;
        let missing = || Failure::new(FailureKind::Config, format!("there is no account {account} in the config"));
        Ok(self.config.accounts.get(account).ok_or_else(missing)?.setup(context))
    }

    async fn run(&self, up: oneshot::Sender<()>, stop: CancellationToken) -> Result<(), Failure> {
        if let Some(room) = admin::room(self.journal.as_ref()).await? {
            self.desk.set_admin(room);
        }
        self.open_accounts().await?;
        self.release_held().await?;
        namesakes::forget_unlinked(self.journal.as_ref(), &self.table.now()).await?;
        info!(accounts = self.config.accounts.len(), links = self.table.now().links().count(), "Running.");
        if let Some(restored) = Restored::of(&*self.journal).await? {
            let topic = format!("restored/{}", restored.at.0);
            unless_full(self.desk.tell_operator(RESTORED, Some(&topic)).await)?;
        }
        let stop = stop.child_token();
        audience::freeze_unlooked(&self.table);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.dispatch).run(self.changes.subscribe(), stop.clone()));
        let most = self.config.journal.most_payload.0;
        let (journal, desk) = (Arc::clone(&self.journal), Arc::clone(&self.desk));
        let upkeep = Upkeep::new(journal, self.spool.clone(), desk, self.clock.clone(), most);
        tasks.spawn(upkeep.run(stop.clone()));
        if let Some(signalled) = self.signalled.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let (table, journal) = (self.table.clone(), Arc::clone(&self.journal));
            tasks.spawn(signals::pass_on(signalled, table, journal, self.clock.clone(), stop.clone()));
        }
        let (journal, desk) = (Arc::clone(&self.journal), Arc::clone(&self.desk));
        let operator = self.config.admin.as_ref().map(|admin| admin.person.clone());
        let watch = audience::Watch::new(journal, self.table.clone(), desk, self.changes.clone(), operator);
        tasks.spawn(watch.run(stop.clone()));
        if let Some(host) = self.this.get().and_then(Weak::upgrade) {
            tasks.spawn(Chat::new(host).run(stop.clone()));
        }
        let (intake, heard, mail) = self.hear_sources().await?;
        if let Some(server) = heard {
            let (intake, stop) = (Arc::clone(&intake), stop.clone());
            tasks.spawn(async move {
                server.serve(intake, stop).await;
                Ok(())
            });
        }
        if let Some(server) = mail {
            let (intake, stop) = (Arc::clone(&intake), stop.clone());
            tasks.spawn(async move {
                intake.take_mail(server, stop).await;
                Ok(())
            });
        }
        let (watching, watched) = (Arc::clone(&intake), stop.clone());
        tasks.spawn(async move {
            watching.keep_vigil(watched).await;
            Ok(())
        });
        let tidied = stop.clone();
        tasks.spawn(async move {
            intake.tidy(tidied).await;
            Ok(())
        });
        // Without an account that runs it ends at once.
        if self.accounts().iter().any(|account| account.transport.is_some()) {
            let _ = up.send(());
        }
        let (breaker, accounts) = (self.watch_breaker(&stop), self.run_accounts(&stop));
        tokio::pin!(accounts);
        let mut all_ended = false;
        let result = tokio::select! {
            result = &mut accounts => {
                all_ended = true;
                result
            }
            Some(ended) = tasks.join_next() => match ended {
                Ok(ended) => ended.map_err(Failure::from),
                Err(panic) => Err(Failure::new(FailureKind::Other, format!("a part of the service broke: {panic}"))),
            },
            Err(error) = breaker => Err(error.into()),
        };
        stop.cancel();
        // Each account may have something to write down and to say before the journal is closed.
        if !all_ended && tokio::time::timeout(FAREWELL, accounts).await.is_err() {
            warn!("An account did not end in time.");
        }
        while tasks.join_next().await.is_some() {}
        result
    }

    async fn close(&self) {
        self.journal.close().await;
    }

    fn as_host(self: Arc<Self>) -> Arc<dyn Host> {
        self
    }
}
