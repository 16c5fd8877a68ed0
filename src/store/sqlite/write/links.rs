//! Links, and what the outbox has of each.

use rusqlite::params;

use super::{
    super::{Outcome, keys::Place},
    Ledger, letters,
};
use crate::store::{JournalError, Link, LinkName};

/// Adds or replaces a link.
pub(in crate::store::sqlite) fn put_link(ledger: &mut Ledger, link: &Link) -> Outcome<()> {
    let content = serde_json::to_vec(link).map_err(|error| JournalError::Failed(error.to_string()))?;
    let name = link.name.as_str();
    let locked = ledger.keys.vault.lock(Place::link(name).bytes(), &content);
    ledger.run(
        "INSERT INTO link (name, content) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET content = excluded.content",
        params![name, ledger.keys.vault.to_row(&locked)],
    )?;
    Ok(())
}

/// Removes a link; its number stays, since old lines name it.
pub(in crate::store::sqlite) fn remove_link(ledger: &mut Ledger, name: &LinkName) -> Outcome<()> {
    let id: Option<i64> = ledger.one(
        "UPDATE link SET content = NULL WHERE name = ?1 AND content IS NOT NULL RETURNING id",
        [name.as_str()],
        |row| row.get(0),
    )?;
    let id = id.ok_or_else(|| JournalError::NoSuch(format!("there is no link named {name}")))?;
    ledger.run(
        "UPDATE delivery SET state = 2, reason = 'its link was removed', done_at = ?2
         WHERE link = ?1 AND state IN (0, 1)",
        params![id, ledger.now().0],
    )?;
    Ok(())
}

/// Puts what is held of a link back into the outbox.
pub(in crate::store::sqlite) fn release(ledger: &mut Ledger, name: &LinkName) -> Outcome<usize> {
    let lanes: Vec<i64> = ledger.all(
        "UPDATE delivery SET state = 0, reason = NULL, not_before = 0
         WHERE state = 1 AND link = (SELECT id FROM link WHERE name = ?1) RETURNING lane",
        [name.as_str()],
        |row| row.get(0),
    )?;
    let released = lanes.len();
    letters::wake(ledger, lanes)?;
    Ok(released)
}
