//! What links are called.

use sealbridge_contract::names;
use serde::{Deserialize, Serialize};

/// A link's name: 1 to 64 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// Parses a name.
    ///
    /// # Errors
    /// A sentence that says what a name is.
    pub fn parse(name: &str) -> Result<Self, String> {
        let well = !name.is_empty() && name.chars().count() <= 64 && !name.chars().any(char::is_control);
        if well {
            Ok(Self(name.to_owned()))
        } else {
            Err("a link's name has 1 to 64 characters, none of them control characters".into())
        }
    }

    /// Parses a name that somebody chooses now: nothing in it hides or turns what is shown.
    ///
    /// # Errors
    /// A sentence that says what a name is.
    pub fn chosen(name: &str) -> Result<Self, String> {
        let name = Self::parse(name)?;
        match names::hidden_in(&name.0) {
            None => Ok(name),
            Some(c) => Err(format!(
                "a link's name has no characters that can't be seen or that turn what stands beside them; U+{:04X} is in it",
                u32::from(c)
            )),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name)
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl std::fmt::Display for LinkName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
