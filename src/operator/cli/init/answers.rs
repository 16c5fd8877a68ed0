//! What `init` is told: by an answers file, or by a person at a terminal. Both become a config and, kept apart from it,
//! the answers to what a login asks.

use std::{collections::BTreeMap, fs, path::Path};

use sealbridge_contract::{AccountName, Text};
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::{
    config::{self, Problems, secrets},
    operator::{Failure, FailureKind, control::StepFrame, output::Output},
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
        let mut accounts: Vec<(String, String, String)> = Vec::new();
        loop {
            let default = if accounts.is_empty() { "home" } else { "" };
            let name = ask_until(output, "A short name for the account", default, |name| {
                let taken = accounts.iter().any(|(taken, ..)| taken == name);
                let sound = AccountName::parse(name).map(drop).map_err(|error| error.to_string());
                if taken { Err(format!("there is an account `{name}` already")) } else { sound }
            })?;
            let label = "The bot's own Matrix user id, such as @bot:example.org (an ordinary account)";
            let user = ask_until(output, label, "", is_matrix_id)?;
            let homeserver = ask_or(output, "Its homeserver's address, if the user id is not enough to find it", "")?;
            accounts.push((name, user, homeserver));
            if !ask_yes(output, "Another account, to carry messages between?")? {
                break;
            }
        }
        let (first, bot, _) = &accounts[0];
        let label = format!("You, the operator: your own user id on the network of {bot}, such as @you:example.org");
        let person = ask_until(output, &label, "", is_matrix_id)?;
        let admin = [("account", first.as_str()), ("person", person.as_str())];
        let admin = Table::from_iter(admin.map(|(key, value)| (key.to_owned(), value.into())));
        let mut sections = Table::new();
        for (name, user, homeserver) in &accounts {
            // Where the operator has no user, somebody of the bot's own server has to invite it.
            let default = if server_of(user) == server_of(&person) { &person } else { server_of(user) };
            let label = format!("Who may invite {user} into rooms: user ids or server names, separated by commas");
            let from = ask_until(output, &label, default, are_inviters)?;
            let from = from.split(',').map(|who| Value::from(who.trim())).collect::<Vec<_>>();
            let mut section = Table::from_iter([
                ("network".to_owned(), "matrix".into()),
                ("user".to_owned(), user.as_str().into()),
                ("invites".to_owned(), Table::from_iter([("from".to_owned(), Value::from(from))]).into()),
            ]);
            if !homeserver.is_empty() {
                section.insert("homeserver".into(), homeserver.as_str().into());
            }
            sections.insert(name.clone(), section.into());
        }
        let config = Table::from_iter([("accounts".to_owned(), sections.into()), ("admin".to_owned(), admin.into())]);
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

/// Asks again until the answer is one.
fn ask_until(
    output: Output,
    label: &str,
    default: &str,
    sound: impl Fn(&str) -> Result<(), String>,
) -> Result<String, Failure> {
    loop {
        let given = ask_or(output, label, default)?;
        match sound(&given) {
            Ok(()) => return Ok(given),
            Err(words) => output.step(&StepFrame::Show { words: format!("That is none: {words}.") }),
        }
    }
}

fn ask_yes(output: Output, label: &str) -> Result<bool, Failure> {
    let sound = |given: &str| match given.to_ascii_lowercase().as_str() {
        "y" | "yes" | "n" | "no" => Ok(()),
        _ => Err("answer yes or no".to_owned()),
    };
    let given = ask_until(output, &format!("{label} (yes/no)"), "no", sound)?;
    Ok(given.to_ascii_lowercase().starts_with('y'))
}

fn is_matrix_id(given: &str) -> Result<(), String> {
    let parts = given.strip_prefix('@').and_then(|id| id.split_once(':'));
    let sound = parts.is_some_and(|(name, server)| !name.is_empty() && is_server(server));
    if sound { Ok(()) } else { Err("a Matrix user id is written like @name:example.org".into()) }
}

fn are_inviters(given: &str) -> Result<(), String> {
    let wrong = given.split(',').map(str::trim).find(|who| is_matrix_id(who).is_err() && !is_server(who));
    wrong.map_or(Ok(()), |who| Err(format!("`{who}` is neither like @name:example.org nor like example.org")))
}

fn is_server(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "@/,".contains(c))
}

fn server_of(user: &str) -> &str {
    user.split_once(':').map_or(user, |(_, server)| server)
}

fn ask_or(output: Output, label: &str, default: &str) -> Result<String, Failure> {
    let shown = if default.is_empty() { label.to_owned() } else { format!("{label} [{default}]") };
    let typed = output.ask(&shown, false)?;
    let typed = typed.as_str().trim();
    Ok(if typed.is_empty() { default.to_owned() } else { typed.to_owned() })
}
