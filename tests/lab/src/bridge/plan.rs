//! What an operator would answer to `sealbridge init`.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};

use crate::{Synapse, synapse::User};

/// One account of the bridge.
#[derive(Debug, Clone)]
pub struct AccountPlan {
    /// Its name in the config.
    pub name: String,
    /// The homeserver's address; a proxy's, perhaps.
    pub homeserver: String,
    /// The bridge's own user there.
    pub user: User,
    /// Who may invite it: user ids and server names.
    pub invites: Vec<String>,
    /// Further lines of the account's section.
    pub extra: String,
}

impl AccountPlan {
    /// An account on `server` that everybody of that server may invite.
    pub async fn on(server: &Synapse, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            homeserver: server.url().to_owned(),
            user: server.register_unique("bridge").await?,
            invites: vec![server.server_name().to_owned()],
            extra: String::new(),
        })
    }
}

/// A whole setup.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The accounts.
    pub accounts: Vec<AccountPlan>,
    /// Account and person of the admin room.
    pub admin: Option<(String, String)>,
    /// Further lines, such as `[journal]`.
    pub extra: String,
}

impl Plan {
    /// Writes `answers.toml` and the files it names.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut answers = String::new();
        if let Some((account, person)) = &self.admin {
            answers += &format!("[admin]\naccount = {account:?}\nperson = {person:?}\n\n");
        }
        for account in &self.accounts {
            let file = format!("{}.password", account.name);
            private(&folder.join(&file), &account.user.password)?;
            answers += &format!(
                "[accounts.{}]\nnetwork = \"matrix\"\nhomeserver = {:?}\nuser = {:?}\npassword_file = {file:?}\n\
                 invites = {{ from = {:?} }}\n{}\n",
                account.name, account.homeserver, account.user.id, account.invites, account.extra
            );
        }
        let state = folder.join("state");
        answers += &format!("[service]\nstate = {state:?}\n{}", self.extra);
        private(&folder.join("answers.toml"), &answers)
    }
}

pub(crate) fn private(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("Write {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}
