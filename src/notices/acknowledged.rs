//! Who looks after an incident: known by their id, since anybody may call themselves as they like.

use sealbridge_contract::Timestamp;
use serde::{Deserialize, Serialize};

/// Who said that they look after an incident. A server could have made a reaction up, so it changes nothing but words, and
/// whether somebody else is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Under which name they appear.
    pub by: String,
    /// By what their network knows them, whatever they call themselves.
    #[serde(default)]
    pub id: Option<String>,
    /// When.
    pub at: Timestamp,
    /// It is proven that it was them.
    #[serde(default)]
    pub proven: bool,
}

/// Somebody who says that they look after something, or no longer.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// By what their network knows them.
    pub id: &'a str,
    /// Under which name they appear.
    pub name: &'a str,
}

impl Who<'_> {
    /// They look after it since then.
    #[must_use]
    pub fn acknowledges(self, at: Timestamp, proven: bool) -> Acknowledged {
        Acknowledged { by: self.name.to_owned(), id: Some(self.id.to_owned()), at, proven }
    }

    /// Whether it is they who look after it.
    pub(super) fn is(self, known: &Acknowledged) -> bool {
        known.id.as_deref().map_or(known.by == self.name, |id| id == self.id)
    }
}
