//! `[admin]`: who is told what needs a person.

use schemars::JsonSchema;
use sealbridge_contract::{AccountName, PersonId};
use serde::{Deserialize, Serialize};

/// Who is told what needs a person, and through which account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The account that opens the encrypted admin room.
    #[schemars(with = "String")]
    pub account: AccountName,
    /// The operator, as that account's network names them: `@you:example.org`.
    #[schemars(with = "String")]
    pub person: PersonId,
}
