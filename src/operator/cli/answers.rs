//! What `init` and `account add` are told by an answers file: a config, or a part of one, and kept apart from it the answers
//! to what a login asks.

use std::{collections::BTreeMap, fs, path::Path};

use sealbridge_contract::Text;
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::{
    config::{self, Problems, secrets},
    operator::{Failure, FailureKind},
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
    let asked = |network: &str| transports::sheet(network).is_some_and(|sheet| sheet.secrets.contains(&name));
    let known = network.map_or_else(|| transports::NETWORKS.iter().any(|network| asked(network)), asked);
    known.then_some(name)
}

/// Beside the config, so that both can be moved; a config of the whole system has its state where a system keeps it.
fn default_state(config: &Path) -> &'static str {
    if config.starts_with("/etc") { "/var/lib/sealbridge" } else { "sealbridge-state" }
}
