//! What `init` is told: by an answers file, or by a person at a terminal. Both become a config and, kept apart from it,
//! the answers to what a login asks.

use std::{collections::BTreeMap, fs, path::Path};

use sealbridge_contract::{AccountName, Text};
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::{
    config::{self, Problems, secrets},
    operator::{Failure, FailureKind, output::Output},
    transports,
};

/// What the first lines of a new config say.
const HEADER: &str =
    "# Written by `sealbridge init`. Every key there is: config.example.toml, or `sealbridge config schema`.\n\n";

/// What `init` was told.
#[derive(Default)]
pub(super) struct Answers {
    /// The config, as TOML.
    pub(super) config: Table,
    /// Answers to what the login of an account asks, by the question's name.
    pub(super) replies: BTreeMap<String, BTreeMap<String, Text>>,
}

impl Answers {
    /// Reads an answers file.
    ///
    /// # Errors
    /// [`FailureKind::Config`], with every unknown key and its place.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            Failure::new(FailureKind::Config, format!("the answers file {} can't be read: {error}", path.display()))
        })?;
        let is_reply = |network: Option<&str>, key: &str| reply_name(network, key).is_some();
        config::check_keys(path, &text, &is_reply)?;
        let mut config: Table = toml::from_str(&text).map_err(|_| {
            Failure::new(FailureKind::Config, format!("the answers file {} is not TOML", path.display()))
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut answers = Self::default();
        let mut holds_secret = false;
        for (name, section) in config.get_mut("accounts").and_then(Value::as_table_mut).into_iter().flatten() {
            let Some(section) = section.as_table_mut() else { continue };
            let network = section.get("network").and_then(Value::as_str).map(str::to_owned);
            let keys: Vec<_> = section.keys().cloned().collect();
            for key in keys {
                let Some(reply) = reply_name(network.as_deref(), &key) else { continue };
                let value = section.remove(&key);
                let value = value.as_ref().and_then(Value::as_str).ok_or_else(|| {
                    let words = format!("{}: `accounts.{name}.{key}` is text", path.display());
                    Failure::new(FailureKind::Config, words)
                })?;
                let value = if key == reply {
                    holds_secret = true;
                    Text::new(value)
                } else {
                    Text::new(secrets::read_file(&folder.join(value))?.as_str())
                };
                answers.replies.entry(name.clone()).or_default().insert(reply.to_owned(), value);
            }
        }
        if holds_secret {
            secrets::refuse_if_others_read(path, 0o077)?;
        }
        answers.config = config;
        Ok(answers)
    }

    /// Asks a person.
    pub(super) fn ask(output: Output) -> Result<Self, Failure> {
        let mut accounts = Table::new();
        let mut first = None;
        loop {
            let default = if accounts.is_empty() { "home" } else { "" };
            let name = ask_or(output, "A short name for the account", default)?;
            if name.is_empty() {
                break;
            }
            AccountName::parse(&name).map_err(|error| Failure::usage(error.to_string()))?;
            let mut section = Table::new();
            section.insert("network".into(), "matrix".into());
            let user =
                ask_or(output, "The bot's own Matrix user id, such as @bot:example.org (an ordinary account)", "")?;
            section.insert("user".into(), user.into());
            let homeserver = ask_or(output, "Its homeserver's address, if the user id is not enough to find it", "")?;
            if !homeserver.is_empty() {
                section.insert("homeserver".into(), homeserver.into());
            }
            first.get_or_insert_with(|| name.clone());
            accounts.insert(name, section.into());
            if ask_or(output, "Another account, to carry messages between? (yes/no)", "no")? != "yes" {
                break;
            }
        }
        let Some(first) = first else { return Err(Failure::usage("without an account there is nothing to do")) };
        let person =
            ask_or(output, "You, the operator, on the same network as the first account: @you:example.org", "")?;
        for (_, section) in &mut accounts {
            let from = Table::from_iter([("from".to_owned(), Value::from(vec![Value::from(person.as_str())]))]);
            section.as_table_mut().map(|section| section.insert("invites".into(), from.into()));
        }
        let admin = Table::from_iter([("account".to_owned(), first.into()), ("person".to_owned(), person.into())]);
        let config = Table::from_iter([("accounts".to_owned(), accounts.into()), ("admin".to_owned(), admin.into())]);
        Ok(Self { config, replies: BTreeMap::new() })
    }

    /// Says where the state is to be, over what was answered.
    ///
    /// # Errors
    /// [`FailureKind::Usage`] if the path is not one.
    pub(super) fn set_state(&mut self, state: &Path) -> Result<(), Failure> {
        let state = std::path::absolute(state).map_err(|error| Failure::usage(format!("--state: {error}")))?;
        let state = state.into_os_string().into_string().map_err(|_| Failure::usage("--state: not text"))?;
        let service = self.config.entry("service").or_insert_with(|| Table::new().into());
        if let Some(service) = service.as_table_mut() {
            service.insert("state".into(), state.into());
        }
        Ok(())
    }

    /// The text of the config, for a file at `path`.
    ///
    /// # Errors
    /// [`Problems`] of what the answers make together.
    pub(super) fn config_text(&self, path: &Path) -> Result<String, Problems> {
        let mut config = self.config.clone();
        let service = config.entry("service").or_insert_with(|| Table::new().into());
        if let Some(service) = service.as_table_mut() {
            service.entry("state").or_insert_with(|| default_state(path).into());
        }
        let text = format!("{HEADER}{}", toml::to_string(&config).expect("it came from TOML, so it goes back"));
        config::load_text(path, &text)?;
        Ok(text)
    }
}

/// The question that a key of an answers file answers, if it is not a key of the config.
fn reply_name<'k>(network: Option<&str>, key: &'k str) -> Option<&'k str> {
    let name = key.strip_suffix("_file").unwrap_or(key);
    let asked = |network: &str| transports::secret_questions(network).contains(&name);
    let known = network.map_or_else(|| transports::NETWORKS.iter().any(|network| asked(network)), asked);
    known.then_some(name)
}

/// Beside the config, so that both can be moved; a config of the whole system has its state where a system keeps it.
fn default_state(config: &Path) -> &'static str {
    if config.starts_with("/etc") { "/var/lib/sealbridge" } else { "sealbridge-state" }
}

fn ask_or(output: Output, label: &str, default: &str) -> Result<String, Failure> {
    let shown = if default.is_empty() { label.to_owned() } else { format!("{label} [{default}]") };
    let typed = output.ask(&shown, false)?;
    let typed = typed.as_str().trim();
    Ok(if typed.is_empty() { default.to_owned() } else { typed.to_owned() })
}
