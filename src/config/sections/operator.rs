//! `[operator]`: who may tell the bridge what to do from within a conversation, by `!seal help` and the like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use sealbridge_contract::{AccountName, PersonId};
use serde::{Deserialize, Deserializer, Serialize};

/// Who may tell the bridge what to do from within a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Operator {
    /// With this power level in a room, people may ask for what changes nothing: `help`, `status`, `audience` and `why`.
    /// By default that of moderators.
    pub level: i64,
    /// Who may ask for everything.
    pub admins: BTreeMap<String, Commander>,
}

/// Somebody who may ask for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commander {
    /// The account to which they speak.
    #[schemars(with = "String")]
    pub account: AccountName,
    /// Who they are, as that account's network proves them.
    #[schemars(with = "String")]
    pub person: PersonId,
    /// The key of their identity, on a network where an id does not name it: without this, whoever can replace their
    /// identity, such as their homeserver, is obeyed too. It may stand in groups, as it is shown.
    #[serde(default, deserialize_with = "ungrouped", skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn ungrouped<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let key = Option::<String>::deserialize(from)?;
    Ok(key.map(|key| key.split_whitespace().collect()))
}

impl Default for Operator {
    fn default() -> Self {
        Self { level: 50, admins: BTreeMap::new() }
    }
}

impl Operator {
    /// Those who are this person, whatever proves them.
    pub fn named<'a>(
        &'a self,
        account: &'a AccountName,
        person: &'a PersonId,
    ) -> impl Iterator<Item = (&'a str, &'a Commander)> {
        let all = self.admins.iter().map(|(name, admin)| (name.as_str(), admin));
        all.filter(move |(_, admin)| admin.account == *account && admin.person == *person)
    }

    /// Whether somebody may be an admin, whatever proves them.
    #[must_use]
    pub fn attends(&self, account: &AccountName, person: &PersonId) -> bool {
        self.named(account, person).next().is_some()
    }

    /// Whether somebody is an admin whose identity is proven by `identity`.
    #[must_use]
    pub fn obeys(&self, account: &AccountName, person: &PersonId, identity: Option<&str>) -> bool {
        self.named(account, person).any(|(_, admin)| admin.key.is_none() || admin.key.as_deref() == identity)
    }

    /// Whether somebody is an admin whose key the config names, and who has it: their homeserver can't speak for them.
    #[must_use]
    pub fn knows(&self, account: &AccountName, person: &PersonId, identity: Option<&str>) -> bool {
        self.named(account, person).any(|(_, admin)| admin.key.is_some() && admin.key.as_deref() == identity)
    }

    /// What can't be right about the level.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_level(&self) -> Result<(), String> {
        if self.level >= 1 { Ok(()) } else { Err("a level below 1 is everybody's".into()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(name: &str) -> AccountName {
        AccountName::parse(name).expect("it is a name")
    }

    fn operator(key: Option<&str>) -> Operator {
        let commander =
            Commander { account: account("a"), person: PersonId::new("@ann:x"), key: key.map(str::to_owned) };
        Operator { admins: BTreeMap::from([("ann".to_owned(), commander)]), ..Operator::default() }
    }

    #[test]
    fn admin_is_obeyed_over_their_account_and_with_their_key_alone() {
        let obeys = |operator: &Operator, at: &str, who: &str, identity: Option<&str>| {
            operator.obeys(&account(at), &PersonId::new(who), identity)
        };
        let (keyed, named) = (operator(Some("k")), operator(None));
        assert!(obeys(&keyed, "a", "@ann:x", Some("k")) && obeys(&named, "a", "@ann:x", Some("any")));
        for (at, who, identity) in [
            ("a", "@ann:x", Some("other")),
            ("a", "@ann:x", None),
            ("b", "@ann:x", Some("k")),
            ("a", "@ben:x", Some("k")),
        ] {
            assert!(!obeys(&keyed, at, who, identity), "{at} {who} {identity:?}");
        }
        assert!(!obeys(&named, "b", "@ann:x", None), "another homeserver may call anybody so");
        assert!(keyed.attends(&account("a"), &PersonId::new("@ann:x")), "what they say is looked at");
    }

    proptest! {
        #[test]
        fn nobody_else_is_obeyed(who in "\\PC{0,20}", identity in proptest::option::of("\\PC{0,45}")) {
            prop_assume!(who != "@ann:x" || identity.as_deref() != Some("k"));
            prop_assert!(!operator(Some("k")).obeys(&account("a"), &PersonId::new(who), identity.as_deref()));
        }
    }
}
