//! What the engine says, as far as it is looked at.

use std::{collections::HashMap, path::PathBuf};

use sealbridge_contract::Text;
use serde::{Deserialize, Deserializer, Serialize};

/// The engine's own contact: ourselves.
pub(crate) const SELF: u32 = 1;

/// A message's states, as the engine numbers them.
pub(crate) mod state {
    /// Handed in, and not yet taken by a mail server.
    pub(crate) const PENDING: u32 = 20;
    /// No mail server takes it.
    pub(crate) const FAILED: u32 = 24;
    /// A mail server took it.
    pub(crate) const DELIVERED: u32 = 26;
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
    String::deserialize(from).map(Text::from)
}

fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Text>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Text::from))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) chat_id: u32,
    pub(crate) from_id: u32,
    #[serde(deserialize_with = "text")]
    pub(crate) text: Text,
    /// In seconds since the epoch.
    pub(crate) timestamp: i64,
    pub(crate) show_padlock: bool,
    pub(crate) is_info: bool,
    pub(crate) is_bot: bool,
    pub(crate) is_edited: bool,
    pub(crate) has_html: bool,
    pub(crate) has_location: bool,
    pub(crate) state: u32,
    pub(crate) view_type: String,
    /// What the engine's word about a chat is about.
    pub(crate) system_message_type: String,
    /// Whom it is about.
    pub(crate) info_contact_id: Option<u32>,
    pub(crate) download_state: Download,
    /// Where its file lies.
    pub(crate) file: Option<String>,
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) file_name: Option<Text>,
    pub(crate) file_mime: Option<String>,
    /// What the mail server said when it refused it.
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) error: Option<Text>,
    /// In milliseconds; nothing if it is not known, or if it does not play.
    pub(crate) duration: i64,
    pub(crate) dimensions_width: i64,
    pub(crate) dimensions_height: i64,
    pub(crate) reactions: Option<Reactions>,
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) override_sender_name: Option<Text>,
    pub(crate) quote: Option<Quote>,
    pub(crate) sender: Contact,
}

/// How much of a message is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Download {
    Done,
    Available,
    InProgress,
    Failure,
    #[serde(other)]
    Undecipherable,
}

/// Who reacts to a message with what.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reactions {
    /// By the number of the contact, which is a text here.
    pub(crate) reactions_by_contact: HashMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contact {
    #[serde(deserialize_with = "text")]
    pub(crate) auth_name: Text,
    #[serde(deserialize_with = "text")]
    pub(crate) display_name: Text,
    /// Where their picture lies.
    pub(crate) profile_image: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Quote {
    /// Absent if the message is not here.
    pub(crate) message_id: Option<u32>,
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) text: Option<Text>,
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) author_display_name: Option<Text>,
    #[serde(default, deserialize_with = "maybe_text")]
    pub(crate) override_sender_name: Option<Text>,
}

/// What became of a message that was asked for.
#[derive(Debug, Deserialize)]
#[serde(from = "Answered")]
pub(crate) enum Loaded {
    There(Box<Message>),
    /// It was deleted.
    Gone,
    /// The engine has it and can't give it out, since its file or the database can't be read.
    Withheld,
}

/// The same, as the engine says it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Answered {
    Message(Box<Message>),
    LoadingError { error: String },
}

impl From<Answered> for Loaded {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Message(message) => Self::There(message),
            Answered::LoadingError { error } if error == GONE => Self::Gone,
            Answered::LoadingError { .. } => Self::Withheld,
        }
    }
}

/// What the engine says of a message that it does not have; everything else is about one that it has.
const GONE: &str = "Message does not exist";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageInfo {
    pub(crate) rfc724_mid: String,
    pub(crate) ephemeral_timer: Timer,
}

/// After how long messages disappear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Timer {
    Disabled,
    Enabled {
        /// In seconds.
        duration: u32,
    },
}

/// A place that somebody named.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) msg_id: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chat {
    pub(crate) id: u32,
    #[serde(deserialize_with = "text")]
    pub(crate) name: Text,
    pub(crate) chat_type: String,
    pub(crate) is_encrypted: bool,
    pub(crate) is_device_chat: bool,
    pub(crate) is_self_talk: bool,
    pub(crate) self_in_group: bool,
    pub(crate) can_send: bool,
    pub(crate) contact_ids: Vec<u32>,
}

impl Chat {
    /// Whether it is an encrypted group that we are in.
    pub(crate) fn is_our_group(&self) -> bool {
        self.chat_type == "Group" && self.is_encrypted && self.self_in_group
    }

    /// Whether nobody else is in it: the engine's own words, or notes to ourselves.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.is_device_chat || self.is_self_talk
    }
}

/// A message to be sent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outgoing {
    #[serde(serialize_with = "shown")]
    pub(crate) text: Text,
    #[serde(serialize_with = "maybe_shown")]
    pub(crate) override_sender_name: Option<Text>,
    pub(crate) quoted_message_id: Option<u32>,
    pub(crate) viewtype: Option<&'static str>,
    /// Where its file lies. The engine makes a copy.
    pub(crate) file: Option<PathBuf>,
    /// What its file is called.
    #[serde(serialize_with = "maybe_shown")]
    pub(crate) filename: Option<Text>,
}

fn shown<S: serde::Serializer>(text: &Text, into: S) -> Result<S::Ok, S::Error> {
    into.serialize_str(text.as_str())
}

fn maybe_shown<S: serde::Serializer>(text: &Option<Text>, into: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(Text::as_str).serialize(into)
}

/// What the mail server is, and who we are there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login<'a> {
    pub(crate) addr: &'a str,
    pub(crate) password: &'a str,
    pub(crate) certificate_checks: &'static str,
    pub(crate) imap_server: Option<&'a str>,
    pub(crate) imap_port: Option<u16>,
    pub(crate) imap_security: Option<&'static str>,
    pub(crate) smtp_server: Option<&'a str>,
    pub(crate) smtp_port: Option<u16>,
    pub(crate) smtp_security: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) event: Happened,
}

/// What happened, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub(crate) enum Happened {
    IncomingMsg,
    MsgsChanged {
        /// Nought, if several are meant.
        msg_id: u32,
    },
    MsgDeleted {
        msg_id: u32,
    },
    ReactionsChanged {
        msg_id: u32,
        contact_id: u32,
    },
    IncomingMsgBunch,
    MsgDelivered,
    MsgFailed,
    ChatModified {
        chat_id: u32,
    },
    ChatDeleted,
    ChatlistChanged,
    ConnectivityChanged,
    /// It logged in to read.
    ImapConnected,
    /// It logged in to send.
    SmtpConnected,
    /// Something that it could not do.
    Warning {
        #[serde(deserialize_with = "text")]
        msg: Text,
    },
    /// How far a login has come: nought, if it failed.
    ConfigureProgress {
        progress: u32,
    },
    ContactsChanged,
    SecurejoinInviterProgress {
        contact_id: u32,
        progress: u32,
    },
    EventChannelOverflow,
    #[serde(other)]
    Other,
}

/// How well the engine reaches the mail server.
pub(crate) const WORKING: u32 = 3000;
/// It reaches it, and neither fetches nor sends anything.
pub(crate) const IDLE: u32 = 4000;
