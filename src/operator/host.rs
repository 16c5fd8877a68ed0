//! What the service offers to actions, and to the command line that drives it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sealbridge_contract::{AccountName, Address, AnyTransport, Clock, Flow, RootKey, Spool, Timestamp};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::{
    config::Config,
    flow::LaneState,
    metrics::Meters,
    notices::{Desk, Intake},
    store::{JournalError, SharedJournal},
};

/// What the running service offers to an action. Everything but the journal answers from memory.
#[async_trait]
pub trait Host: Send + Sync {
    /// The config it runs with.
    fn config(&self) -> &Config;
    /// Its journal.
    fn journal(&self) -> SharedJournal;
    /// Its clock.
    fn clock(&self) -> &Clock;
    /// Since when it runs.
    fn started_at(&self) -> Timestamp;
    /// Its accounts that are open.
    fn accounts(&self) -> Vec<Account>;
    /// What the lanes are doing that have something to do.
    fn lanes(&self) -> BTreeMap<Address, LaneState>;
    /// What is counted while it happens.
    fn meters(&self) -> Arc<Meters> {
        Arc::default()
    }
    /// Whether what runs the lanes gave a sign of life since this was asked last.
    fn beats(&self) -> bool {
        true
    }
    /// What is wrong with the service as a whole.
    fn trouble(&self) -> Option<String>;
    /// Writes what a backup needs of an account and the journal does not have: see
    /// [`Transport::export`](sealbridge_contract::Transport::export). Also for one that is not open.
    ///
    /// # Errors
    /// [`Failure`]: there is no such file.
    async fn export(&self, account: &AccountName) -> Result<Option<PathBuf>, Failure>;
    /// Where the operator's own words are taken, to be carried like every other.
    fn notices(&self) -> Option<Arc<Desk>> {
        None
    }
    /// Where sources are heard.
    fn sources(&self) -> Option<Arc<Intake>> {
        None
    }
    /// Where files lie on their way.
    fn spool(&self) -> Option<Arc<dyn Spool>> {
        None
    }
    /// Does what a change of the links brings with it. Called after each, when it is in force already.
    ///
    /// # Errors
    /// [`JournalError`]: not all of that was done.
    async fn links_changed(&self) -> Result<(), JournalError>;
}

/// One account of the running service.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: AccountName,
    /// Its transport; `None` once it stopped.
    pub transport: Option<AnyTransport>,
    /// Why it stopped, if it did.
    pub stopped: Option<Failure>,
}

/// The assembled service, as the command line drives it: open, perhaps set up, run, close.
#[async_trait]
pub trait Assembled: Host {
    /// Whether the account has been logged in.
    ///
    /// # Errors
    /// [`Failure`] if the journal does not answer.
    async fn is_set_up(&self, account: &AccountName) -> Result<bool, Failure>;
    /// The flow that logs it in. It is dropped before `run`.
    ///
    /// # Errors
    /// [`Failure`] if there is no such account.
    async fn setup(&self, account: &AccountName) -> Result<Box<dyn Flow>, Failure>;
    /// Carries messages until `stop`, and says `up` once accounts are open and sources are heard. The control socket is
    /// the command line's business.
    ///
    /// # Errors
    /// [`Failure`]: a person must act.
    async fn run(&self, up: oneshot::Sender<()>, stop: CancellationToken) -> Result<(), Failure>;
    /// Finishes what was asked and closes the journal. Called last.
    async fn close(&self);
    /// The same as what actions see.
    fn as_host(self: Arc<Self>) -> Arc<dyn Host>;
}

/// Opens the service: its journal, and nothing that makes a request yet.
pub type Open = fn(Arc<Config>, RootKey) -> BoxFuture<'static, Result<Arc<dyn Assembled>, Failure>>;
