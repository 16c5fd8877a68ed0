//! Reading the config: the file, over it the environment, over that the flags. Names that nobody knows are told all at once.

mod document;
mod known;
mod names;
mod owner;
mod problems;
mod programs;
mod telling;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{ConfigError, Environment, File, FileFormat, Value};
use sealbridge_contract::AccountName;
use serde::Deserialize;

use self::document::Document;
pub(super) use self::document::too_deep;
pub use self::{
    known::{Kind, Known, nearest, schema},
    names::variable_for,
    problems::{Place, Position, Problem, Problems},
};
use super::{Admin, Config, FixedLink, Format, Journal, Level, Listener, Log, Notices, Operator, Service, Source};
use crate::{
    notices::{self, SourceName},
    store::LinkName,
    transports::AccountConfig,
};

/// What every variable of the config starts with.
pub const PREFIX: &str = "SEALBRIDGE_";
/// Variables that start like those of the config and are read elsewhere: the config's own path, and the log's filter.
const RESERVED: &[&str] = &["SEALBRIDGE_CONFIG", "SEALBRIDGE_LOG"];

/// Where a config is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: PathBuf,
    /// The environment; those that do not start with [`PREFIX`] are passed over.
    pub environment: Vec<(String, String)>,
    /// What the command line says.
    pub flags: Flags,
}

/// What the command line says of the config.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--state`
    pub state: Option<PathBuf>,
    /// `--log-format`
    pub log_format: Option<Format>,
    /// How often `-v`.
    pub verbose: u8,
}

/// Every section, before accounts and links are known by their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    service: Service,
    admin: Option<Admin>,
    #[serde(default)]
    operator: Operator,
    #[serde(default)]
    accounts: BTreeMap<String, Value>,
    #[serde(default)]
    links: BTreeMap<String, FixedLink>,
    #[serde(default)]
    notices: Notices,
    #[serde(default)]
    sources: BTreeMap<String, Source>,
    #[serde(default)]
    health: Listener,
    #[serde(default)]
    metrics: Listener,
    #[serde(default)]
    journal: Journal,
    #[serde(default)]
    log: Log,
}

/// Reads a config. Every path in it is absolute afterwards.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    load_as(sources, &read(&sources.file)?)
}

/// The text of a config that nobody but its owner and root can write.
///
/// # Errors
/// Who else can, or that it can't be read.
pub fn read(file: &Path) -> Result<String, Problems> {
    owner::read(file).map_err(|words| {
        let at = Place::File { path: file.to_owned(), position: None };
        Problems(vec![Problem { at, words }])
    })
}

/// The same, as if this were the file's text.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn load_as(sources: &Sources, text: &str) -> Result<Config, Problems> {
    Loading::start(sources, text)?.finish(text)
}

/// Reads a config from its text alone, as `path` would be read.
///
/// # Errors
/// Everything that is wrong. Places are left out, since the text is in no file yet.
pub fn load_text(path: &Path, text: &str) -> Result<Config, Problems> {
    let sources = Sources { file: path.to_owned(), ..Sources::default() };
    let mut loaded = Loading::start(&sources, text).and_then(|loading| loading.finish(text));
    for problem in loaded.as_mut().err().map(|problems| &mut problems.0).into_iter().flatten() {
        problem.at = Place::File { path: path.to_owned(), position: None };
    }
    loaded
}

/// Looks for keys that are neither the config's nor, in an account of a network, let through by `is_reply`.
///
/// # Errors
/// Each of them, with its place.
pub fn check_keys(path: &Path, text: &str, is_reply: &dyn Fn(Option<&str>, &str) -> bool) -> Result<(), Problems> {
    let sources = Sources { file: path.to_owned(), ..Sources::default() };
    let mut loading = Loading::start(&sources, text)?;
    let replies = loading.document.keys().iter().filter(|key| {
        let [section, account, name] = key.path.as_slice() else { return false };
        section == "accounts" && is_reply(loading.network_of(account).as_deref(), name)
    });
    let replies: Vec<_> = replies.map(|key| key.path.clone()).collect();
    loading.document.forget(&replies);
    loading.check_names();
    if loading.problems.is_empty() { Ok(()) } else { Err(Problems(loading.problems)) }
}

/// A config half read.
struct Loading<'a> {
    sources: &'a Sources,
    document: Document,
    known: Known,
    variables: Vec<(&'a str, &'a str)>,
    problems: Vec<Problem>,
}

impl<'a> Loading<'a> {
    fn start(sources: &'a Sources, text: &str) -> Result<Self, Problems> {
        let document = Document::parse(text).map_err(|(position, words)| {
            let at = Place::File { path: sources.file.clone(), position: Some(position) };
            Problems(vec![Problem { at, words }])
        })?;
        let all = sources.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let ours = all.filter(|(name, _)| name.starts_with(PREFIX) && !RESERVED.contains(name));
        Ok(Self { sources, document, known: Known::default(), variables: ours.collect(), problems: Vec::new() })
    }

    fn finish(mut self, text: &str) -> Result<Config, Problems> {
        let lists = self.check_names();
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let raw = match self.layer(text, &lists) {
            Ok(raw) => raw,
            Err(error) => {
                self.tell(&error, "");
                return Err(Problems(self.problems));
            }
        };
        let config = self.assemble(raw);
        self.check_links(&config);
        self.check_bounds(&config);
        if self.problems.is_empty() { Ok(config) } else { Err(Problems(self.problems)) }
    }

    fn layer(&self, text: &str, lists: &[String]) -> Result<Raw, ConfigError> {
        let variables = self.variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            // Without any key named, every text would be taken for a list.
            .with_list_parse_key("-")
            .source(Some(variables.collect()));
        for list in lists {
            environment = environment.with_list_parse_key(list);
        }
        let flags = &self.sources.flags;
        let state = flags.state.as_ref().map(|path| path.to_string_lossy().into_owned());
        let format = flags.log_format.map(|format| if format == Format::Json { "json" } else { "text" });
        config::Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .set_override_option("service.state", state)?
            .set_override_option("log.format", format)?
            .build()?
            .try_deserialize()
    }

    fn assemble(&mut self, raw: Raw) -> Config {
        let mut accounts = BTreeMap::new();
        for (name, section) in raw.accounts {
            let path = format!("accounts.{name}");
            let account = match AccountConfig::read(section) {
                Ok(account) => account,
                Err(error) => {
                    self.tell(&error, &path);
                    continue;
                }
            };
            if let Err(words) = account.check() {
                // What is wrong with one key begins with it.
                let key = words.strip_prefix('`').and_then(|words| words.split_once('`'));
                let path = key.map_or_else(|| path.clone(), |(key, _)| format!("{path}.{key}"));
                self.problem(&path, words);
            }
            match AccountName::parse(&name) {
                Ok(name) if name == notices::account() => {
                    self.problem(&path, "this is the name under which notices come: name the account otherwise".into());
                }
                Ok(name) => drop(accounts.insert(name, account)),
                Err(error) => self.problem(&path, error.to_string()),
            }
        }
        let mut links = BTreeMap::new();
        for (name, link) in raw.links {
            match LinkName::chosen(&name) {
                Ok(name) => drop(links.insert(name, link)),
                Err(words) => self.problem(&format!("links.{name}"), words),
            }
        }
        let mut sources = BTreeMap::new();
        for (name, source) in raw.sources {
            match SourceName::parse(&name) {
                Ok(name) => drop(sources.insert(name, source)),
                Err(words) => self.problem(&format!("sources.{name}"), words),
            }
        }
        let mut log = raw.log;
        log.level = Level::louder(log.level, self.sources.flags.verbose);
        let Raw { service, admin, operator, notices, health, metrics, journal, .. } = raw;
        let mut config =
            Config { service, admin, operator, accounts, links, notices, sources, health, metrics, journal, log };
        // The file's own path is made absolute, since the parent of a bare name is an empty path.
        let file = std::path::absolute(&self.sources.file).unwrap_or_else(|_| self.sources.file.clone());
        config.make_paths_absolute(file.parent().unwrap_or(Path::new("/")));
        config
    }

    fn check_links(&mut self, config: &Config) {
        let names: Vec<_> = config.accounts.keys().map(AccountName::as_str).collect();
        let no_such = |account: &AccountName| {
            let meant =
                nearest(account.as_str(), &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            format!("there is no account `{account}`{meant}")
        };
        let links = config.links.iter().map(|(name, link)| (format!("links.{name}.ends"), &link.ends));
        let sources = config.sources.iter().flat_map(|(name, source)| {
            [(format!("sources.{name}.to"), &source.to), (format!("sources.{name}.escalate_to"), &source.escalate_to)]
        });
        for (path, ends) in links.chain(sources) {
            for (index, end) in ends.iter().enumerate() {
                let path = format!("{path}[{index}]");
                match config.accounts.get(&end.account).map(|account| account.check_conversation(&end.conversation)) {
                    None => self.problem(&path, no_such(&end.account)),
                    Some(Err(why)) => self.problem(&path, format!("{why}; `sealbridge conversations list` shows it")),
                    Some(Ok(())) => {}
                }
                if ends[..index].contains(end) {
                    self.problem(&path, "this conversation is in the list already".into());
                }
            }
        }
        for (name, link) in &config.links {
            if link.ends.len() < 2 {
                self.problem(&format!("links.{name}.ends"), "a link has two ends or more".into());
            }
            if name.as_str().starts_with(notices::LINKS) {
                let words = "links with such a name are those of sources: name this one otherwise";
                self.problem(&format!("links.{name}"), words.into());
            }
        }
        self.check_notices(config);
        if let Some(admin) = &config.admin
            && !config.accounts.contains_key(&admin.account)
        {
            self.problem("admin.account", no_such(&admin.account));
        }
        for (name, admin) in &config.operator.admins {
            match config.accounts.get(&admin.account) {
                None => self.problem(&format!("operator.admins.{name}.account"), no_such(&admin.account)),
                Some(account) => {
                    if let Err((key, words)) = account.check_commander(admin) {
                        self.problem(&format!("operator.admins.{name}.{key}"), words);
                    }
                }
            }
        }
        if let Err(words) = config.operator.check_level() {
            self.problem("operator.level", words);
        }
    }

    /// Looks for bounds under which nothing could be carried, or nothing be told apart.
    fn check_bounds(&mut self, config: &Config) {
        if config.service.root_key_in_keyring && config.service.root_key_file.is_some() {
            let words = "the root key is in the keyring or in a file: take `root_key_file` away".to_owned();
            self.problem("service.root_key_in_keyring", words);
        }
        let journal = &config.journal;
        let sizes = [("most_payload", journal.most_payload), ("most_files", journal.most_files)];
        let periods = [("unreadable_for", journal.unreadable_for), ("keep_lines_for", journal.keep_lines_for)];
        let sizes = sizes.map(|(key, size)| (format!("journal.{key}"), size.0 == 0, "more than nothing"));
        let periods =
            periods.map(|(key, period)| (format!("journal.{key}"), period.0.is_zero(), "longer than nothing"));
        let links = config.links.iter().flat_map(|(name, link)| {
            let bounds = [("most_hops", link.most_hops == 0), ("most_bytes", link.most_bytes.0 == 0)];
            bounds.map(|(key, is_zero)| (format!("links.{name}.{key}"), is_zero, "more than nothing"))
        });
        for (path, is_zero, wanted) in sizes.into_iter().chain(periods).chain(links) {
            if is_zero {
                self.problem(&path, wanted.to_owned());
            }
        }
    }
}
