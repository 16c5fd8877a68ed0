//! THE list of transports. A new one is a line in each of the matches here, and nothing elsewhere.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use config::{ConfigError, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sealbridge_contract::{
    Abilities, Answer, AnyTransport, Context, ConversationId, DeliveryError, Fatal, Flow, FlowError, LoginSheet, Step,
    Timestamp,
    inbox::{AccountStore, StoreWrite},
};
use serde::Serialize;

use crate::config::Commander;

/// One account's section: its network, and the settings of that network's transport.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "network", rename_all = "snake_case")]
pub enum AccountConfig {
    /// Matrix.
    Matrix(sealbridge_matrix::Settings),
    /// Delta Chat.
    #[serde(rename = "deltachat")]
    DeltaChat(sealbridge_deltachat::Settings),
    /// Endpoints that are posted to.
    Webhook(sealbridge_webhook::Settings),
    /// A network in memory, for tests.
    Loopback(sealbridge_loopback::Settings),
}

/// The networks, as the config names them.
pub const NETWORKS: &[&str] = &["matrix", "deltachat", "webhook", "loopback"];

/// The transports' crates, as a trace names where it comes from.
pub const CRATES: &[&str] = &["sealbridge_matrix", "sealbridge_deltachat", "sealbridge_webhook", "sealbridge_loopback"];

/// What each network can do.
#[must_use]
pub fn datasheets() -> Vec<Abilities> {
    vec![
        sealbridge_matrix::ABILITIES,
        sealbridge_deltachat::ABILITIES,
        sealbridge_webhook::ABILITIES,
        sealbridge_loopback::Settings::default().abilities(),
    ]
}

/// What an account had of its own in a backup lies under this name in its folder, until it is logged in anew.
pub const IMPORT: &str = sealbridge_deltachat::IMPORT;

/// What whoever adds an account is asked, by network. Where nobody logs in, the section is written by hand.
pub const SHEETS: &[LoginSheet] = &[sealbridge_matrix::SHEET, sealbridge_deltachat::SHEET];

/// What whoever adds an account of this network is asked.
#[must_use]
pub fn sheet(network: &str) -> Option<&'static LoginSheet> {
    SHEETS.iter().find(|sheet| sheet.network == network)
}

impl AccountConfig {
    /// Reads a section.
    ///
    /// # Errors
    /// What is missing, unknown or of the wrong kind, with its key.
    pub fn read(section: Value) -> Result<Self, ConfigError> {
        let mut table = section.into_table()?;
        let network = table.remove("network").ok_or_else(|| ConfigError::NotFound("network".into()))?.into_string()?;
        let settings = Value::new(None, table);
        match network.as_str() {
            "matrix" => settings.try_deserialize().map(Self::Matrix),
            "deltachat" => settings.try_deserialize().map(Self::DeltaChat),
            "webhook" => settings.try_deserialize().map(Self::Webhook),
            "loopback" => settings.try_deserialize().map(Self::Loopback),
            _ => {
                let words = format!("expected one of the networks {}", NETWORKS.join(", "));
                Err(ConfigError::At {
                    error: Box::new(ConfigError::Message(words)),
                    origin: None,
                    key: Some("network".into()),
                })
            }
        }
    }

    /// Says what can't be right, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Matrix(settings) => settings.check(),
            Self::DeltaChat(settings) => settings.check(),
            Self::Webhook(settings) => settings.check(),
            Self::Loopback(settings) => settings.check().map_err(|error| error.to_string()),
        }
    }

    /// Says what can't be right about somebody who may tell the bridge what to do: the key of their section, and why.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_commander(&self, who: &Commander) -> Result<(), (&'static str, String)> {
        let person = who.person.as_str();
        match (self, &who.key) {
            (Self::Matrix(_), _) if !sealbridge_matrix::is_user(person) => {
                Err(("person", "a person on Matrix is written @name:server".into()))
            }
            (Self::Matrix(_), Some(key)) if !sealbridge_matrix::is_master_key(key) => {
                Err(("key", "a master key is 43 letters of base64; `!seal help` shows yours".into()))
            }
            (Self::DeltaChat(_), _) if !sealbridge_deltachat::is_person(person) => Err((
                "person",
                "a person on Delta Chat is the fingerprint of their key: 40 or 64 of 0-9 and A-F, in capitals and without spaces".into(),
            )),
            (Self::Webhook(_), _) => Err(("account", "nobody speaks at an endpoint that is posted to".into())),
            (Self::DeltaChat(_) | Self::Loopback(_), Some(_)) => {
                Err(("key", "on this network a person has no key beside their id".into()))
            }
            _ if person.is_empty() || person.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                Err(("person", "a person is written as their network names them, without spaces".into()))
            }
            _ => Ok(()),
        }
    }

    /// Says why a conversation can't be one of this account's, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_conversation(&self, conversation: &ConversationId) -> Result<(), String> {
        match self {
            Self::Matrix(settings) => settings.check_conversation(conversation),
            Self::DeltaChat(settings) => settings.check_conversation(conversation),
            Self::Webhook(settings) => settings.check_conversation(conversation),
            Self::Loopback(_) => Ok(()),
        }
    }

    /// Whether a server that the operator runs reads what is carried to a conversation.
    #[must_use]
    pub fn is_read_in_clear(&self, conversation: &ConversationId) -> bool {
        match self {
            Self::Webhook(settings) => settings.is_read_in_clear(conversation),
            Self::Matrix(_) | Self::DeltaChat(_) | Self::Loopback(_) => false,
        }
    }

    /// The network, as the config names it.
    #[must_use]
    pub fn network(&self) -> &'static str {
        match self {
            Self::Matrix(_) => "matrix",
            Self::DeltaChat(_) => "deltachat",
            Self::Webhook(_) => "webhook",
            Self::Loopback(_) => "loopback",
        }
    }

    /// Whether messages whose sender is not proven cross, marked, by this account's own word.
    #[must_use]
    pub fn accepts_not_proven(&self) -> bool {
        match self {
            Self::Matrix(settings) => settings.accepts_not_proven(),
            Self::DeltaChat(_) | Self::Webhook(_) | Self::Loopback(_) => false,
        }
    }

    /// The program that its engine is, by its path or by a name in `PATH`.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        match self {
            Self::DeltaChat(settings) => Some(&settings.engine),
            Self::Matrix(_) | Self::Webhook(_) | Self::Loopback(_) => None,
        }
    }

    /// The files outside of the state folder that it reads.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Webhook(settings) => settings.files().collect(),
            Self::Matrix(_) | Self::DeltaChat(_) | Self::Loopback(_) => Vec::new(),
        }
    }

    /// Those of them that have a secret in them.
    #[must_use]
    pub fn secret_files(&self) -> Vec<&Path> {
        match self {
            Self::Webhook(settings) => settings.secret_files().collect(),
            Self::Matrix(_) | Self::DeltaChat(_) | Self::Loopback(_) => Vec::new(),
        }
    }

    /// A folder outside of the state folder in which it writes.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Loopback(settings) => settings.directory.as_deref(),
            Self::Matrix(_) | Self::DeltaChat(_) | Self::Webhook(_) => None,
        }
    }

    /// Whether it has been logged in.
    ///
    /// # Errors
    /// [`Fatal::Journal`].
    pub async fn is_set_up(&self, store: &AccountStore) -> Result<bool, Fatal> {
        match self {
            Self::Matrix(_) => sealbridge_matrix::is_set_up(store).await.map_err(|_| Fatal::Journal),
            Self::DeltaChat(_) => sealbridge_deltachat::is_set_up(store).await.map_err(|_| Fatal::Journal),
            Self::Webhook(_) | Self::Loopback(_) => Ok(true),
        }
    }

    /// What is to be written into its store when that came out of a backup: it is to be logged in anew, and what it had
    /// until `at` may be of an older moment than what its network has. `in_place`: its folder is where it was.
    #[must_use]
    pub fn restored(&self, at: Timestamp, in_place: bool) -> Vec<StoreWrite> {
        match self {
            Self::Matrix(_) => sealbridge_matrix::restored(),
            Self::DeltaChat(_) => sealbridge_deltachat::restored(at, in_place),
            Self::Webhook(_) | Self::Loopback(_) => Vec::new(),
        }
    }

    /// The same as [`Transport::export`](sealbridge_contract::Transport::export) for an account that is not open.
    ///
    /// # Errors
    /// [`DeliveryError`]: there is no such file.
    pub async fn export(&self, context: Context) -> Result<Option<PathBuf>, DeliveryError> {
        match self {
            Self::DeltaChat(settings) => sealbridge_deltachat::export(&context, settings).await,
            Self::Matrix(_) | Self::Webhook(_) | Self::Loopback(_) => Ok(None),
        }
    }

    /// What somebody can do about messages that wait to be read, for the reason that the transport gave.
    #[must_use]
    pub fn way_out(&self, reason: &str) -> Option<&'static str> {
        match self {
            Self::Matrix(_) => sealbridge_matrix::way_out(reason),
            Self::DeltaChat(_) | Self::Webhook(_) | Self::Loopback(_) => None,
        }
    }

    /// The flow that logs it in. Drop it before [`open`](Self::open).
    #[must_use]
    pub fn setup(&self, context: Context) -> Box<dyn Flow> {
        match self {
            Self::Matrix(settings) => Box::new(sealbridge_matrix::Setup::new(context, settings.clone())),
            Self::DeltaChat(settings) => Box::new(sealbridge_deltachat::Setup::new(context, settings.clone())),
            Self::Webhook(_) | Self::Loopback(_) => Box::new(NothingToDo),
        }
    }

    /// Makes the transport, for running.
    ///
    /// # Errors
    /// [`Fatal`]: a person must act.
    pub async fn open(&self, context: Context) -> Result<AnyTransport, Fatal> {
        match self {
            Self::Matrix(settings) => sealbridge_matrix::connect(context, settings.clone()).await,
            Self::DeltaChat(settings) => sealbridge_deltachat::connect(context, settings.clone()).await,
            Self::Webhook(settings) => sealbridge_webhook::connect(context, settings.clone()).await,
            Self::Loopback(settings) => sealbridge_loopback::connect(context, settings.clone()).await,
        }
    }
}

/// The login flow of a network on which nobody logs in.
struct NothingToDo;

#[async_trait]
impl Flow for NothingToDo {
    async fn next(&mut self, _answer: Option<Answer>) -> Result<Step, FlowError> {
        Ok(Step::Done("There is nobody to log in as.".into()))
    }
}

impl JsonSchema for AccountConfig {
    fn schema_name() -> Cow<'static, str> {
        "AccountConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // Written by hand: the derived one refers to the settings' own schema, which allows no `network` in it.
        let of = |network: &str, mut settings: Schema| {
            let object = settings.ensure_object();
            let properties = object.entry("properties").or_insert_with(|| serde_json::json!({}));
            properties["network"] = serde_json::json!({
                "description": "The network that it is a login on.", "type": "string", "const": network,
            });
            let required = object.entry("required").or_insert_with(|| serde_json::json!([]));
            if let Some(required) = required.as_array_mut() {
                required.push("network".into());
            }
            settings
        };
        let matrix = of("matrix", sealbridge_matrix::Settings::json_schema(generator));
        let deltachat = of("deltachat", sealbridge_deltachat::Settings::json_schema(generator));
        let webhook = of("webhook", sealbridge_webhook::Settings::json_schema(generator));
        let loopback = of("loopback", sealbridge_loopback::Settings::json_schema(generator));
        json_schema!({ "description": "One account's section.", "oneOf": [matrix, deltachat, webhook, loopback] })
    }
}
