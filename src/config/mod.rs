//! The config: one struct a section, read from a file, the environment and flags, in this order.
//!
//! It holds no secrets: those come from files and credentials, or are asked once by `init` and kept locked.

pub mod edit;
mod load;
#[cfg(test)]
mod fuzz;
pub mod root_key;
pub mod secrets;
mod sections;
mod show;
mod units;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use sealbridge_contract::AccountName;
use serde::Serialize;

pub use load::{
    Flags, Kind, Known, PREFIX, Place, Position, Problem, Problems, Sources, check_keys, load, load_as, load_text,
    nearest, read, schema, variable_for,
};
pub use sections::{
    Acknowledging, Admin, Commander, Conversation, FixedLink, Format, Journal, Level, Listener, Log, Notices, Operator,
    Service, Source, parse_address,
};
pub use show::{redacted, redacted_toml, sounds_secret};
pub use units::{Period, Size};

use crate::{notices::SourceName, store::LinkName, transports::AccountConfig};

/// Everything the operator decides.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service keeps what it keeps.
    #[schemars(default)]
    pub service: Service,
    /// Who is told what needs a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Who may tell the bridge what to do from within a conversation.
    #[schemars(default)]
    pub operator: Operator,
    /// Our logins.
    #[schemars(with = "BTreeMap<String, AccountConfig>", default)]
    pub accounts: BTreeMap<AccountName, AccountConfig>,
    /// Links that commands can't remove.
    #[schemars(with = "BTreeMap<String, FixedLink>", default)]
    pub links: BTreeMap<LinkName, FixedLink>,
    /// Where programs are heard.
    #[schemars(default)]
    pub notices: Notices,
    /// Programs that bring notices, and where these are said.
    #[schemars(with = "BTreeMap<String, Source>", default)]
    pub sources: BTreeMap<SourceName, Source>,
    /// Where machines ask whether the service is alive and ready: `/healthz` and `/readyz`.
    #[schemars(default)]
    pub health: Listener,
    /// Where machines ask what the service counts: `/metrics`.
    #[schemars(default)]
    pub metrics: Listener,
    /// How much is kept, and for how long.
    #[schemars(default)]
    pub journal: Journal,
    /// What the service says of itself.
    #[schemars(default)]
    pub log: Log,
}

impl Config {
    /// The root key's file.
    #[must_use]
    pub fn root_key_path(&self) -> PathBuf {
        self.service.root_key_file.clone().unwrap_or_else(|| self.service.state.join("root.key"))
    }

    /// The socket on which commands talk to the running service.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.service.control_socket.clone().unwrap_or_else(|| self.service.state.join("control.sock"))
    }

    /// The journal's file.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.service.state.join("journal.db")
    }

    /// Whether there is a journal already: then its key must be there too.
    #[must_use]
    pub fn journal_exists(&self) -> bool {
        self.journal_path().exists()
    }

    /// The folder of an account, for stores that a library insists on keeping itself.
    #[must_use]
    pub fn account_folder(&self, account: &AccountName) -> PathBuf {
        self.service.state.join("accounts").join(account.as_str())
    }

    /// The links that commands can't remove: those that are written as such, and those that carry what a source brings.
    #[must_use]
    pub fn fixed_links(&self) -> BTreeMap<LinkName, FixedLink> {
        let carrying = self.sources.iter().flat_map(|(name, source)| {
            let ends = source.to.iter().map(|to| vec![name.address(), to.clone()]);
            let links = ends.map(|ends| FixedLink { new_members: source.new_members, ..FixedLink::of(ends) });
            let next = source.escalate_to.iter().map(|to| vec![name.next_address(), to.clone()]);
            let next = next.map(|ends| FixedLink { new_members: source.new_members, ..FixedLink::of(ends) });
            let next = next.enumerate().map(|(number, link)| (name.next_link(number), link));
            links.enumerate().map(|(number, link)| (name.link(number), link)).chain(next)
        });
        self.links.clone().into_iter().chain(carrying).collect()
    }

    fn make_paths_absolute(&mut self, folder: &Path) {
        let service = &mut self.service;
        service.state = folder.join(&service.state);
        for path in [&mut service.root_key_file, &mut service.control_socket].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        for source in self.sources.values_mut() {
            for path in source.secret_files.iter_mut().chain(&mut source.template) {
                *path = folder.join(&*path);
            }
        }
    }
}
