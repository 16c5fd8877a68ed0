//! Finds rows by what a network calls them. Names are indexed by the time they came, and the latest is asked first:
//! who answers a message mostly answers a late one.

use rusqlite::params;
use sealbridge_contract::Address;

use super::{
    super::{Outcome, keys::name_key},
    Reader,
};

impl Reader {
    /// A conversation's number.
    pub(super) fn conversation(&self, at: &Address) -> Outcome<Option<i64>> {
        self.one(
            "SELECT id FROM conversation WHERE account = ?1 AND name = ?2",
            [at.account.as_str(), at.conversation.as_str()],
            |row| row.get(0),
        )
    }

    /// The place of a message that was received under this name.
    pub(super) fn received_as(&self, conversation: i64, name: &str) -> Outcome<Option<i64>> {
        self.newest_first(
            "SELECT (SELECT min(era) FROM received), (SELECT max(era) FROM received)",
            "SELECT id FROM received WHERE era = ?1 AND key = ?2 AND conversation = ?3 AND remote = ?4",
            conversation,
            name,
        )
    }

    /// The number of a delivery of ours that has this name at its destination.
    pub(super) fn delivered_as(&self, lane: i64, name: &str) -> Outcome<Option<i64>> {
        self.newest_first(
            "SELECT (SELECT min(number) FROM delivery) >> 12, (SELECT max(number) FROM delivery) >> 12",
            "SELECT number FROM delivery
             WHERE number >> 12 = ?1 AND settled_key = ?2 AND settled_key IS NOT NULL AND lane = ?3 AND settled_as = ?4",
            lane,
            name,
        )
    }

    fn newest_first(&self, range: &str, find: &str, conversation: i64, name: &str) -> Outcome<Option<i64>> {
        let range = self.one(range, [], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        let Some((Some(first), Some(last))) = range else { return Ok(None) };
        let key = name_key(conversation, name);
        let mut statement = self.connection.prepare_cached(find)?;
        for era in (first..=last).rev() {
            let mut rows = statement.query(params![era, key, conversation, name])?;
            if let Some(row) = rows.next()? {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }
}
