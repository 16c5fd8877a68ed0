//! The accounts' own small stores.

use sealbridge_contract::SecretBytes;

use super::{
    super::{Outcome, keys::Place},
    Reader,
};

/// One entry. One that does not open is an error, never "there is none": a lost session must not become a new one.
pub(in crate::store::sqlite) fn read(reader: &Reader, account: &str, key: &str) -> Outcome<Option<SecretBytes>> {
    reader
        .one("SELECT value FROM entry WHERE account = ?1 AND key = ?2", [account, key], |row| row.get(0))?
        .map(|value| open(reader, account, key, value))
        .transpose()
}

fn open(reader: &Reader, account: &str, key: &str, value: Vec<u8>) -> Outcome<SecretBytes> {
    reader.unlock(&Place::entry(account, key), value, || format!("the entry {key:?} of account {account:?}"))
}

/// Every entry whose key starts with `prefix`.
pub(in crate::store::sqlite) fn read_all(
    reader: &Reader,
    account: &str,
    prefix: &str,
) -> Outcome<Vec<(String, SecretBytes)>> {
    let mut statement = reader
        .connection
        .prepare_cached("SELECT key, value FROM entry WHERE account = ?1 AND key >= ?2 ORDER BY key")?;
    let mut rows = statement.query([account, prefix])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, value): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if !key.starts_with(prefix) {
            break;
        }
        let value = open(reader, account, &key, value)?;
        entries.push((key, value));
    }
    Ok(entries)
}

/// How many entries there are whose key starts with `prefix`, by what stands behind it up to the next slash. The index has
/// all that this takes.
pub(in crate::store::sqlite) fn tally(reader: &Reader, account: &str, prefix: &str) -> Outcome<Vec<(String, usize)>> {
    reader.all(
        "SELECT substr(key, length(?2) + 1, instr(substr(key, length(?2) + 1), '/') - 1) AS part, count(*) FROM entry
         WHERE account = ?1 AND key >= ?2 AND key < ?2 || char(1114111) AND instr(substr(key, length(?2) + 1), '/') > 0
         GROUP BY part",
        [account, prefix],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}
