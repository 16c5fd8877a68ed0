//! Names of things. Only the transport that made one looks inside it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadName {
    /// Account names go into file names and metrics, so their alphabet is small.
    #[error("an account name has 1 to 32 of the characters a-z, 0-9, - and _, and starts with a letter")]
    Account,
    /// Deliveries and files are named by 16 random bytes, in unpadded URL-safe base64.
    #[error("a delivery or a file is named by 22 characters of URL-safe base64")]
    Random,
}

/// The name of one login of ours: `[accounts.NAME]` in the config.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

impl AccountName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`BadName::Account`] unless it has 1 to 32 of `a-z 0-9 - _` and starts with a letter.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        let starts_well = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        let all_well = name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
        if starts_well && all_well && name.len() <= 32 { Ok(Self(name.to_owned())) } else { Err(BadName::Account) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::parse(&name)
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> Self {
        name.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps what the network calls it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// What the network calls it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            // Ids are metadata, yet a log is read by more people than a room: its first characters tell two apart.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let head: String = self.0.chars().take(6).collect();
                write!(f, "{head}…")
            }
        }
    };
}

opaque! {
    /// A room, group or chat on an account.
    ConversationId
}
opaque! {
    /// A person as the network proves them: a Matrix user id, an OpenPGP fingerprint.
    PersonId
}
opaque! {
    /// A message as the network names it.
    RemoteId
}

/// A conversation on one of our accounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Our login.
    pub account: AccountName,
    /// The conversation, as that account's network names it.
    pub conversation: ConversationId,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.conversation.as_str())
    }
}

/// A name of 128 random bits; its text form is 22 characters of URL-safe base64.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new one, from the system's randomness.
            ///
            /// # Panics
            /// If the system has no randomness to give, without which nothing here is safe.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the system's random generator answers");
                Self(bytes)
            }

            /// From its bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// From its text form.
            ///
            /// # Errors
            /// [`BadName::Random`](crate::ids::BadName::Random) unless it is 22 characters of URL-safe base64.
            pub fn parse(text: &str) -> Result<Self, $crate::ids::BadName> {
                let bytes = $crate::ids::from_text(text)?;
                Ok(Self(bytes))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::ids::to_text(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use random_id;

pub(crate) fn from_text(text: &str) -> Result<[u8; 16], BadName> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadName::Random)?;
    bytes.try_into().map_err(|_| BadName::Random)
}

pub(crate) fn to_text(bytes: &[u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

random_id! {
    /// One message on its way to one conversation: 128 random bits, made once, at enqueue, and carried inside the
    /// ciphertext. On Matrix it is also the transaction id.
    DeliveryId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_name_with_a_path_in_it_is_refused() {
        for bad in ["", "A", "a/b", "..", "9a", "a b", &"a".repeat(33)] {
            assert_eq!(AccountName::parse(bad), Err(BadName::Account), "{bad:?}");
        }
        assert!(AccountName::parse("work-2_b").is_ok());
    }

    #[test]
    fn delivery_id_survives_its_text_form() {
        let id = DeliveryId::random();
        assert_eq!(DeliveryId::parse(&id.to_string()), Ok(id));
        assert_eq!(DeliveryId::parse("short"), Err(BadName::Random));
    }
}
