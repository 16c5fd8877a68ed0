//! What sources are called, and where what they bring comes from.

use std::fmt;

use sealbridge_contract::{AccountName, Address, Author, ConversationId, PersonId, Text};
use serde::{Deserialize, Serialize};

use crate::store::LinkName;

/// The account from which notices come. No login may have this name.
pub const ACCOUNT: &str = "notices";
/// How the names of links begin that carry what a source brings.
pub const LINKS: &str = "notices-";

/// How conversations of that account begin from which the operator's own words come: `sealbridge send`.
const OPERATOR: &str = "send/";

/// How conversations of that account begin from which comes what a source says when nobody looks after it.
const NEXT: &str = "next/";

/// Whether the operator's own words come from a conversation.
#[must_use]
pub fn is_operator(at: &Address) -> bool {
    is_source(at) && at.conversation.as_str().starts_with(OPERATOR)
}

/// What a conversation of that account is to the operator.
#[must_use]
pub fn in_words(at: &Address) -> String {
    let name = at.conversation.as_str();
    match (name.strip_prefix(OPERATOR), name.strip_prefix(NEXT)) {
        (Some(to), _) => format!("`sealbridge send` to {to}"),
        (None, Some(source)) => format!("what source {source} tells when nobody looks after it"),
        (None, None) => format!("source {name}"),
    }
}

/// The source from which a conversation of that account comes, if one does.
#[must_use]
pub fn source_of(at: &Address) -> Option<SourceName> {
    let name = at.conversation.as_str();
    let name = name.strip_prefix(NEXT).unwrap_or(name);
    SourceName::parse(name).ok().filter(|_| is_source(at))
}

/// Where notices come from, and under which name they appear.
#[derive(Clone, Debug)]
pub struct Origin {
    address: Address,
    person: PersonId,
    name: Option<String>,
}

impl Origin {
    /// What a source brings, under the name that its operator gave it.
    #[must_use]
    pub fn source(source: &SourceName, name: Option<&str>) -> Self {
        let name = name.unwrap_or(source.as_str()).to_owned();
        Self { address: source.address(), person: source.person(), name: Some(name) }
    }

    /// What a source says where somebody else is told that nobody looks after it.
    #[must_use]
    pub fn next(source: &SourceName, name: Option<&str>) -> Self {
        Self { address: source.next_address(), ..Self::source(source, name) }
    }

    /// What the operator says in a conversation. It appears as the bridge's own.
    #[must_use]
    pub fn operator(to: &Address) -> Self {
        let conversation = ConversationId::new(format!("{OPERATOR}{to}"));
        let address = Address { account: account(), conversation };
        Self { address, person: PersonId::new(Author::BRIDGE), name: None }
    }

    /// The conversation from which they come.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Their author.
    #[must_use]
    pub fn author(&self) -> Author {
        Author { id: self.person.clone(), name: self.name.as_deref().map(Text::new) }
    }
}

/// The name of a source: `[sources.NAME]` in the config. It stands in addresses, so its alphabet is small.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(AccountName);

/// The account from which notices come.
#[must_use]
pub fn account() -> AccountName {
    AccountName::parse(ACCOUNT).expect("the name is one")
}

/// Whether a conversation is a source.
#[must_use]
pub fn is_source(at: &Address) -> bool {
    at.account.as_str() == ACCOUNT
}

impl SourceName {
    /// Parses a name.
    ///
    /// # Errors
    /// A sentence that says what a name is.
    pub fn parse(name: &str) -> Result<Self, String> {
        AccountName::parse(name).map(Self).map_err(|_| {
            "a source's name has 1 to 32 of the characters a-z, 0-9, - and _, and starts with a letter".into()
        })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As the conversation from which its notices come.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        ConversationId::new(self.as_str())
    }

    /// The same with its account.
    #[must_use]
    pub fn address(&self) -> Address {
        Address { account: account(), conversation: self.conversation() }
    }

    /// As the conversation from which comes what it says elsewhere when nobody looks after it.
    #[must_use]
    pub fn next_address(&self) -> Address {
        Address { account: account(), conversation: ConversationId::new(format!("{NEXT}{self}")) }
    }

    /// The source from whose conversations this is one.
    #[must_use]
    pub fn of_conversation(conversation: &str) -> Option<Self> {
        Self::parse(conversation.strip_prefix(NEXT).unwrap_or(conversation)).ok()
    }

    /// As the author of its notices. No network can give such an id to a person.
    #[must_use]
    pub fn person(&self) -> PersonId {
        PersonId::new(format!("{ACCOUNT}/{self}"))
    }

    /// The link that carries what it says elsewhere to the conversation with this number.
    #[must_use]
    pub fn next_link(&self, number: usize) -> LinkName {
        LinkName::parse(&format!("{LINKS}{self}.next{}", number + 1)).expect("a source's name is short and visible")
    }

    /// The link that carries its notices to its conversation with this number.
    #[must_use]
    pub fn link(&self, number: usize) -> LinkName {
        let name = if number == 0 { format!("{LINKS}{self}") } else { format!("{LINKS}{self}.{}", number + 1) };
        LinkName::parse(&name).expect("a source's name is short and visible")
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SourceName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name)
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0.into()
    }
}
