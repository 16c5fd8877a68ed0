//! How long a request may take and how much may come back.

use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// How long a request may take and how much may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Short,
    /// Key queries and claims, where the server may wait for other servers.
    Keys,
    /// Pages of history and member lists.
    Page,
    /// A sync that the server may hold this long.
    LongPoll(Duration),
}

impl Class {
    pub(super) fn time(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(15),
            Self::Keys => Duration::from_secs(15),
            Self::Page => Duration::from_secs(30),
            Self::LongPoll(held) => held + Duration::from_secs(10),
        }
    }

    pub(super) fn size(self) -> usize {
        match self {
            Self::Short => 8 * MIB,
            Self::Keys => 32 * MIB,
            Self::Page => 16 * MIB,
            Self::LongPoll(_) => 64 * MIB,
        }
    }
}
