//! Reading the config: the file, over it the environment, over that the flags. Everything wrong is told at once.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use config::{ConfigError, Environment, File, FileFormat, Value};
use sealbridge_contract::AccountName;
use serde::Deserialize;

use super::{
    Admin, Config, FixedLink, Format, Journal, Level, Log, Service,
    document::Document,
    known::{Kind, Known, Unknown, nearest},
    problems::{Place, Problem, Problems},
    show::sounds_secret,
};
use crate::{store::LinkName, transports::AccountConfig};

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
    accounts: BTreeMap<String, Value>,
    #[serde(default)]
    links: BTreeMap<String, FixedLink>,
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
    let text = fs::read_to_string(&sources.file).map_err(|error| {
        let at = Place::File { path: sources.file.clone(), position: None };
        Problems(vec![Problem { at, words: format!("can't be read: {error}") }])
    })?;
    Loading::start(sources, &text)?.finish(&text)
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
        if self.problems.is_empty() { Ok(config) } else { Err(Problems(self.problems)) }
    }

    /// The network of an account, which says what else its section may hold.
    fn network_of(&self, account: &str) -> Option<String> {
        let variable = self.variables.iter().find(|(name, _)| path_of(name) == ["accounts", account, "network"]);
        let from_file = || self.document.text_at(&["accounts", account, "network"]).map(str::to_owned);
        variable.map(|(_, value)| (*value).to_owned()).or_else(from_file)
    }

    /// Looks for keys and variables that are not known. Gives the variables that are lists.
    fn check_names(&mut self) -> Vec<String> {
        let network_of = |account: &str| self.network_of(account);
        let mut found = Vec::new();
        for key in self.document.keys() {
            // What lies in an unknown section is not told again.
            if let Err(unknown) = self.known.find(&key.path, &network_of)
                && unknown.path == key.path
            {
                let at = Place::File { path: self.sources.file.clone(), position: Some(key.position) };
                found.push(Problem { at, words: say_unknown_key(&unknown) });
            }
        }
        let mut lists = Vec::new();
        for (name, _) in &self.variables {
            let path = path_of(name);
            match self.known.find(&path, &network_of) {
                Ok(Kind::List) => lists.push(path.join(".")),
                Ok(Kind::Single) => {}
                Ok(Kind::Section) => {
                    let words = "names a section, not a key: go on with two underscores and the key".to_owned();
                    found.push(Problem { at: Place::Variable((*name).to_owned()), words });
                }
                Err(_) => found.push(self.unknown_variable(name)),
            }
        }
        self.problems.extend(found);
        lists
    }

    fn unknown_variable(&self, name: &str) -> Problem {
        let path = path_of(name);
        // The names of accounts and links are the operator's own, so they are put into the names that are known.
        let named = |mut known: Vec<String>| {
            if let (Some(slot), Some(own)) = (known.iter().position(|part| part == "NAME"), path.get(1)) {
                known[slot] = own.clone();
            }
            variable_for(&known)
        };
        let known: Vec<_> = self.known.paths(None).into_iter().map(named).collect();
        let meant = nearest(name, &known).map_or(String::new(), |known| format!("; did you mean {known}?"));
        Problem { at: Place::Variable(name.to_owned()), words: format!("is not known{meant}") }
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
                self.problem(&path, words);
            }
            match AccountName::parse(&name) {
                Ok(name) => drop(accounts.insert(name, account)),
                Err(error) => self.problem(&path, error.to_string()),
            }
        }
        let mut links = BTreeMap::new();
        for (name, link) in raw.links {
            match LinkName::parse(&name) {
                Ok(name) => drop(links.insert(name, link)),
                Err(words) => self.problem(&format!("links.{name}"), words),
            }
        }
        let mut log = raw.log;
        log.level = Level::louder(log.level, self.sources.flags.verbose);
        let mut config = Config { service: raw.service, admin: raw.admin, accounts, links, journal: raw.journal, log };
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
        for (name, link) in &config.links {
            let path = format!("links.{name}");
            if link.ends.len() < 2 {
                self.problem(&format!("{path}.ends"), "a link has two ends or more".into());
            }
            for (index, end) in link.ends.iter().enumerate() {
                let path = format!("{path}.ends[{index}]");
                if !config.accounts.contains_key(&end.account) {
                    self.problem(&path, no_such(&end.account));
                }
                if link.ends[..index].contains(end) {
                    self.problem(&path, "this conversation is in the link already".into());
                }
            }
        }
        if let Some(admin) = &config.admin
            && !config.accounts.contains_key(&admin.account)
        {
            self.problem("admin.account", no_such(&admin.account));
        }
    }

    /// Finds the place of what the layers say is wrong. Never passes a value on: it may be a secret.
    fn tell(&mut self, error: &ConfigError, above: &str) {
        let mut path = above.to_owned();
        let words = match error {
            ConfigError::Type { unexpected, expected, key, .. } => {
                extend(&mut path, key.as_deref());
                format!("expected {expected}, found {}", kind_of(&unexpected.to_string()))
            }
            ConfigError::NotFound(key) => {
                extend(&mut path, Some(key));
                format!("`{path}` is missing")
            }
            ConfigError::At { error, key, .. } => {
                extend(&mut path, key.as_deref());
                return self.tell(error, &path);
            }
            ConfigError::Message(words) => without_value(words),
            _ => "can't be read".into(),
        };
        self.problem(&path, words);
    }

    fn problem(&mut self, path: &str, words: String) {
        let variable = self.variables.iter().find(|(name, _)| {
            let joined = path_of(name).join(".");
            path == joined || path.strip_prefix(&joined).is_some_and(|rest| rest.starts_with('['))
        });
        let at = match variable {
            Some((name, _)) => Place::Variable((*name).to_owned()),
            None => Place::File { path: self.sources.file.clone(), position: self.document.position(path) },
        };
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let named = if words.contains(leaf) || leaf.is_empty() { words } else { format!("`{path}`: {words}") };
        self.problems.push(Problem { at, words: named });
    }
}

fn say_unknown_key(unknown: &Unknown) -> String {
    let name = unknown.path.last().map_or("", String::as_str);
    if sounds_secret(name) {
        return format!(
            "unknown key `{name}`: a secret is never written into the config. `sealbridge init` asks for it, or takes it \
             from an answers file"
        );
    }
    let meant = match &unknown.nearest {
        Some(near) => format!("did you mean `{near}`?"),
        None if unknown.known.is_empty() => "nothing is expected here".into(),
        None => format!("known here: {}", unknown.known.join(", ")),
    };
    format!("unknown key `{name}`; {meant}")
}

fn path_of(variable: &str) -> Vec<String> {
    variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase().split("__").map(str::to_owned).collect()
}

/// The variable that sets the key at `path`.
#[must_use]
pub fn variable_for(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_uppercase())
}

fn extend(path: &mut String, key: Option<&str>) {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return };
    if !path.is_empty() && !key.starts_with('[') {
        path.push('.');
    }
    path.push_str(key);
}

/// What was found, by the first word of a description that goes on with the value itself.
fn kind_of(described: &str) -> &'static str {
    match described.split_whitespace().next() {
        Some("boolean") => "true or false",
        Some("string") => "text",
        Some("sequence") => "a list",
        Some("map") => "a section",
        Some("unit") | None => "nothing",
        Some(_) => "a number",
    }
}

/// Cuts the value out of messages of the form "invalid type: string "x", expected y".
fn without_value(words: &str) -> String {
    if !words.starts_with("invalid ") {
        return words.to_owned();
    }
    match words.rsplit_once("expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "has a value that does not fit".into(),
    }
}
