//! How a notice stands.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::store::{Fact, REPLACED};

/// Where a notice is, where it waits and where it will not be, by conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Where it is, and what it is called there.
    pub arrived: BTreeMap<String, String>,
    /// Where it waits, and what for.
    pub waits: BTreeMap<String, String>,
    /// Where it will not arrive unless somebody retries it, and why.
    pub refused: BTreeMap<String, String>,
}

impl Standing {
    /// By what the journal knows.
    #[must_use]
    pub fn of(facts: &[Fact]) -> Self {
        let mut standing = Self::default();
        for fact in facts {
            let Some(to) = &fact.to else { continue };
            let why = || fact.reason.clone().unwrap_or_else(|| fact.state.to_owned());
            match (fact.state, &fact.delivered_as) {
                ("delivered" | "echo", id) => {
                    let id = id.as_ref().map_or(String::new(), |id| id.as_str().to_owned());
                    standing.arrived.insert(to.to_string(), id);
                }
                ("dropped", _) if fact.reason.as_deref() == Some(REPLACED) => {
                    drop(standing.waits.insert(to.to_string(), why()));
                }
                ("queued" | "held" | "waiting", _) => drop(standing.waits.insert(to.to_string(), why())),
                _ => drop(standing.refused.insert(to.to_string(), why())),
            }
        }
        standing
    }

    /// Whether nothing more becomes of it by itself.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.waits.is_empty()
    }
}
