//! Accounts on the homeserver under test.

use std::error::Error;

use sealbridge_lab::{Lab, Synapse};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    behind: &'static Synapse,
}

pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// The homeserver under test; where none can be installed the test counts as skipped, and says so.
pub(crate) async fn server() -> Option<Server> {
    let lab = Lab::shared().await.expect("the lab's homeservers start")?;
    Some(Server { url: lab.a.url().to_owned(), behind: &lab.a })
}

impl Server {
    /// The same server behind a proxy.
    pub(crate) fn through(&self, proxy: &str) -> Self {
        Self { url: proxy.to_owned(), behind: self.behind }
    }

    /// Makes an account nobody had before.
    pub(crate) async fn account(&self, role: &str) -> Outcome<Account> {
        let user = self.behind.register_unique(role).await?;
        Ok(Account { name: user.localpart, password: user.password })
    }
}
