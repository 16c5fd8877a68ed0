//! What the operator can set for a Matrix account: `[accounts.NAME]` with `network = "matrix"`.

use std::{fmt, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use schemars::JsonSchema;
use sealbridge_contract::ConversationId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::engine::{Readers, address};

/// The settings of one Matrix account. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who we are: `@bot:example.org`. It must be the one that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The homeserver: its name (`example.org`) or its address (`https://matrix.example.org`). By default the server
    /// in `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homeserver: Option<String>,
    /// Whose devices are given keys and are read.
    pub trust: Trust,
    /// What becomes of a message whose key came from the key backup, so that nobody can tell who wrote it.
    pub backup_keys: BackupKeys,
    /// Whose invitations are followed.
    pub invites: Invites,
    /// The largest file that is taken from a room, in MiB. Of a larger one only the words cross, and its sender is told.
    pub most_file_mib: u32,
    /// How long the homeserver may wait for something new before it answers: `"30 s"`.
    pub sync_timeout: Span,
    /// After how long without any answer the account counts as stalled: `"2 min"`.
    pub stall_after: Span,
}

/// Whose devices are given keys and are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Devices that their owner has signed. A homeserver can't slip in one of its own.
    #[default]
    CrossSigned,
    /// Any device that the homeserver names. A lying homeserver can read along and write in anybody's name.
    AnyDevice,
}

impl Trust {
    pub(crate) fn readers(self) -> Readers {
        match self {
            Self::CrossSigned => Readers::CrossSigned,
            Self::AnyDevice => Readers::AnyDevice,
        }
    }
}

/// What becomes of a message whose key came from the key backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BackupKeys {
    /// It is a dead letter.
    #[default]
    Refuse,
    /// It crosses, marked "sender not proven".
    Mark,
}

/// Whose invitations are followed. Others are told to the operator and left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Invites {
    /// People (`@ann:example.org`) and whole servers (`example.org`).
    pub from: Vec<Inviter>,
}

/// A person or a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inviter {
    /// One person.
    User(OwnedUserId),
    /// Everybody on a server.
    Server(OwnedServerName),
}

impl Invites {
    /// Whether an invitation by `user` is followed.
    #[must_use]
    pub fn allow(&self, user: &UserId) -> bool {
        self.from.iter().any(|inviter| match inviter {
            Inviter::User(allowed) => allowed == user,
            Inviter::Server(server) => server == user.server_name(),
        })
    }
}

impl fmt::Display for Inviter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.write_str(user.as_str()),
            Self::Server(server) => f.write_str(server.as_str()),
        }
    }
}

impl std::str::FromStr for Inviter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('@') {
            return UserId::parse(text).map(Self::User).map_err(|_| "not a Matrix user id, such as @ann:example.org");
        }
        ServerName::parse(text)
            .map(Self::Server)
            .map_err(|_| "neither a user id, such as @ann:example.org, nor a server name, such as example.org")
    }
}

impl Serialize for Inviter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Inviter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Inviter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Inviter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "@user:server or a server name" })
    }
}

/// A length of time: a number of seconds, or words such as `"30 s"`, `"2 min"`, `"1 h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "not a length of time, such as \"30 s\", \"2 min\" or \"1 h\"";
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        let milliseconds = match unit.trim() {
            "ms" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return Err(WRONG),
        };
        number.checked_mul(milliseconds).map(|ms| Self(Duration::from_millis(ms))).ok_or(WRONG)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds, or a length of time such as \"30 s\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_secs(seconds)))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                let seconds = u64::try_from(seconds).map_err(|_| E::custom("a length of time is not negative"))?;
                self.visit_u64(seconds)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "description": "seconds, or \"30 s\", \"2 min\", \"1 h\"" })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: None,
            homeserver: None,
            trust: Trust::default(),
            backup_keys: BackupKeys::default(),
            invites: Invites::default(),
            most_file_mib: 512,
            sync_timeout: Span(Duration::from_secs(30)),
            stall_after: Span(Duration::from_secs(120)),
        }
    }
}

impl Settings {
    /// Says what can't be right, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(&self) -> Result<(), String> {
        if let Some(user) = &self.user {
            if !user.starts_with('@') {
                return Err("`user`: write the whole user id, such as @bridge:example.org".into());
            }
            UserId::parse(user).map_err(|_| format!("`user`: {user:?} is not a Matrix user id"))?;
        }
        if let Some(homeserver) = &self.homeserver {
            address(homeserver.trim()).map_err(|why| format!("`homeserver`: {why}"))?;
        }
        if self.sync_timeout.0.is_zero() {
            return Err("`sync_timeout`: longer than nothing".into());
        }
        if self.sync_timeout.0 > Duration::from_secs(300) {
            return Err("`sync_timeout`: at most 5 min".into());
        }
        if self.stall_after.0 < self.sync_timeout.0 {
            return Err("`stall_after`: not shorter than `sync_timeout`".into());
        }
        Ok(())
    }

    /// Says why a conversation can't be one of this account's, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_conversation(&self, conversation: &ConversationId) -> Result<(), String> {
        let room = conversation.as_str();
        if room.starts_with('#') {
            return Err("an alias, which can lead elsewhere tomorrow; write the room's id".into());
        }
        RoomId::parse(room).map(drop).map_err(|_| "not a room id, such as !room:example.org".into())
    }

    /// The largest file that is taken from a room, in bytes.
    pub(crate) fn most_file(&self) -> u64 {
        u64::from(self.most_file_mib) << 20
    }

    /// Whether messages whose sender is not proven cross, marked: the gate must let them through too.
    #[must_use]
    pub fn accepts_not_proven(&self) -> bool {
        self.backup_keys == BackupKeys::Mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Settings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn lengths_of_time_are_words_or_seconds() {
        for (text, seconds) in [("\"30 s\"", 30), ("\"2min\"", 120), ("45", 45), ("\"1 h\"", 3600)] {
            let settings = read(&format!("{{\"stall_after\": {text}}}")).expect("it is a length of time");
            assert_eq!(settings.stall_after.0, Duration::from_secs(seconds), "{text}");
        }
        for text in ["\"soon\"", "-1", "\"\"", "\"5 weeks\""] {
            assert!(read(&format!("{{\"stall_after\": {text}}}")).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_key_is_refused() {
        assert!(read(r#"{"trusst": "cross-signed"}"#).is_err());
        assert!(read(r#"{"invites": {"form": []}}"#).is_err());
    }

    #[test]
    fn invitation_is_followed_only_from_the_list() {
        let settings = read(r#"{"invites": {"from": ["@ann:a.test", "b.test"]}}"#).expect("both are inviters");
        let allowed = |user| settings.invites.allow(&UserId::parse(user).expect("it is a user id"));
        assert!(allowed("@ann:a.test"));
        assert!(allowed("@anybody:b.test"));
        assert!(!allowed("@bob:a.test"));
        assert!(!allowed("@ann:evil.test"));
        assert!(!Settings::default().invites.allow(&UserId::parse("@ann:a.test").expect("it is a user id")));
        assert!(read(r#"{"invites": {"from": ["@no server"]}}"#).is_err());
    }

    #[test]
    fn settings_survive_being_written() {
        let settings = read(r#"{"user": "@b:a.test", "trust": "any-device", "invites": {"from": ["a.test"]}}"#);
        let settings = settings.expect("it is in order");
        let written = serde_json::to_string(&settings).expect("settings serialise");
        assert_eq!(read(&written).expect("what was written is read"), settings);
    }
}
