//! What the service's journal says of its deliveries, read by somebody else once the service has stopped.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};

use super::Bridge;

impl Bridge {
    /// When each message of people that an account was to deliver was written into the journal, in the order of its
    /// lane, to the millisecond.
    ///
    /// The moment stands in the delivery's own row, which stays as a line without content. It is read from the clock
    /// within the transaction that makes the delivery durable, just before its commit: so nothing can have been
    /// delivered before it, and what is measured from it has that commit in it.
    pub fn committed(&self, account: &str) -> Result<Vec<SystemTime>> {
        let file = self.folder().join("state/journal.db");
        let journal =
            Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).context("Open the journal")?;
        let mut rows = journal.prepare(
            "SELECT enqueued_at FROM delivery JOIN conversation ON conversation.id = lane
             WHERE account = ?1 AND source IS NOT NULL ORDER BY number",
        )?;
        let moments = rows.query_map([account], |row| row.get::<_, u64>(0))?;
        moments.map(|moment| Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(moment?))).collect()
    }
}
