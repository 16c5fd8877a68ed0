//! Links as rows.

use rusqlite::{Connection, OptionalExtension as _};
use sealbridge_contract::Vault;

use super::{
    Outcome,
    keys::{Keys, Place},
};
use crate::store::{JournalError, Link};

/// All links, by their names.
pub(super) fn all(connection: &Connection, keys: &Keys) -> Outcome<Vec<Link>> {
    let mut statement =
        connection.prepare_cached("SELECT name, content FROM link WHERE content IS NOT NULL ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    rows.map(|row| row.map_err(JournalError::from).and_then(|(name, content)| open(&keys.vault, &name, content)))
        .collect()
}

/// The link of a name; `None` if it was removed, or never made.
pub(super) fn one(connection: &Connection, keys: &Keys, name: &str) -> Outcome<Option<Link>> {
    let mut statement = connection.prepare_cached("SELECT content FROM link WHERE name = ?1")?;
    let content: Option<Vec<u8>> = statement.query_row([name], |row| row.get(0)).optional()?.flatten();
    content.map(|content| open(&keys.vault, name, content)).transpose()
}

fn open(vault: &Vault, name: &str, content: Vec<u8>) -> Outcome<Link> {
    let content = vault
        .unlock(Place::link(name).bytes(), &vault.from_row(content))
        .map_err(|_| JournalError::Damaged(format!("the link {name:?} does not open")))?;
    serde_json::from_slice(content.expose())
        .map_err(|_| JournalError::Damaged(format!("the link {name:?} was written by another version")))
}
