//! `[links.NAME]`: links that commands can't remove.

use schemars::JsonSchema;
use sealbridge_contract::{AccountName, Address, ConversationId, Rule, abilities::Reactions, gate::NewMembers};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::units::Size;

/// A link that is declared here, so that commands can pause it but not remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedLink {
    /// The conversations, two or more: `account/conversation`.
    #[schemars(with = "Vec<String>")]
    #[serde(with = "as_text")]
    pub ends: Vec<Address>,
    /// Whether messages cross whose key came from a backup, so that nobody can tell who wrote them. They cross marked.
    #[serde(default)]
    pub accept_not_proven: bool,
    /// A message that this many bridges carried goes no further.
    #[serde(default = "most_hops")]
    pub most_hops: usize,
    /// The largest message that crosses, in bytes of words.
    #[serde(default = "most_bytes")]
    pub most_bytes: Size,
    /// The largest file that crosses. Whoever sends a larger one is told.
    #[serde(default = "most_file")]
    pub most_file: Size,
    /// What becomes of reactions: "native" as each network has them (on Matrix servers can read them, so only emoji
    /// cross that way), "text" as encrypted words, "off" not at all.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reactions: Reactions,
    /// Whether typing and read receipts cross.
    #[serde(default)]
    pub signals: bool,
    /// What becomes of people who come to a conversation that is linked already: with "tell-first" everybody is told of
    /// them, in every conversation of the link, before they get anything; with "freeze" nothing is said there until you
    /// approve them, with `sealbridge approve`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub new_members: NewMembers,
}

fn most_hops() -> usize {
    Rule::default().most_hops
}

fn most_bytes() -> Size {
    Size(u64::try_from(Rule::default().most_bytes).unwrap_or(u64::MAX))
}

fn most_file() -> Size {
    Size(Rule::default().most_file)
}

impl FixedLink {
    /// A link of these conversations, with everything else as it is by default.
    #[must_use]
    pub fn of(ends: Vec<Address>) -> Self {
        Self {
            ends,
            accept_not_proven: false,
            most_hops: most_hops(),
            most_bytes: most_bytes(),
            most_file: most_file(),
            reactions: Reactions::default(),
            signals: false,
            new_members: NewMembers::default(),
        }
    }

    /// What the gate is told of it.
    #[must_use]
    pub fn rule(&self, paused: bool) -> Rule {
        Rule {
            paused,
            accept_not_proven: self.accept_not_proven,
            most_hops: self.most_hops,
            most_bytes: usize::try_from(self.most_bytes.0).unwrap_or(usize::MAX),
            most_file: self.most_file.0,
            reactions: self.reactions,
            signals: self.signals,
            new_members: self.new_members,
        }
    }
}

/// Parses `account/conversation`.
///
/// # Errors
/// A sentence that says what it must look like.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let form = "a conversation is written account/conversation, such as home/!room:example.org";
    let (account, conversation) = text.split_once('/').ok_or(form)?;
    if conversation.is_empty() {
        return Err(form.into());
    }
    let account = AccountName::parse(account).map_err(|error| format!("{form}; {error}"))?;
    Ok(Address { account, conversation: ConversationId::new(conversation) })
}

/// Conversations as people write them.
pub(super) mod as_text {
    use super::{Address, Deserialize, Deserializer, Serializer, de, parse_address};

    pub(in crate::config) fn serialize<S: Serializer>(ends: &[Address], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ends.iter().map(ToString::to_string))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Address>, D::Error> {
        /// One of them, so that what is wrong with it is told with its place in the list.
        struct Written(Address);

        impl<'de> Deserialize<'de> for Written {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                parse_address(&String::deserialize(from)?).map(Self).map_err(de::Error::custom)
            }
        }

        Ok(Vec::<Written>::deserialize(from)?.into_iter().map(|written| written.0).collect())
    }
}

/// Something for each of several conversations, by how people write them.
pub(super) mod by_address {
    use std::collections::BTreeMap;

    use super::{Address, Deserialize, Deserializer, Serialize, Serializer, de, parse_address};

    pub(in crate::config) fn serialize<V: Serialize, S: Serializer>(
        of: &BTreeMap<Address, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(of.iter().map(|(at, value)| (at.to_string(), value)))
    }

    pub(in crate::config) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<Address, V>, D::Error> {
        let written = BTreeMap::<String, V>::deserialize(from)?;
        let each = |(at, value): (String, V)| Ok((parse_address(&at).map_err(de::Error::custom)?, value));
        written.into_iter().map(each).collect()
    }
}
