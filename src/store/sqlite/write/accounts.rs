//! The accounts' own small stores, and the service's settings: the store of no account.

use std::collections::HashSet;

use rusqlite::params;
use sealbridge_contract::inbox::{Keep, StoreWrite};

use super::{
    super::{Outcome, keys::Place},
    Ledger,
};

/// Writes, in this order.
pub(in crate::store::sqlite) fn write(ledger: &mut Ledger, account: &str, writes: &[StoreWrite]) -> Outcome<()> {
    for write in writes {
        match &write.value {
            Some(value) => {
                let locked = ledger.keys.vault.lock(Place::entry(account, &write.key).bytes(), value.expose());
                ledger.run(
                    "INSERT INTO entry (account, key, value, at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (account, key) DO UPDATE SET value = excluded.value, at = excluded.at",
                    params![account, write.key, ledger.keys.vault.to_row(&locked), ledger.now().0],
                )?;
            }
            None => {
                ledger.run("DELETE FROM entry WHERE account = ?1 AND key = ?2", [account, write.key.as_str()])?;
            }
        }
    }
    Ok(())
}

/// Forgets entries whose key starts with `prefix`, except these.
pub(in crate::store::sqlite) fn forget(
    ledger: &mut Ledger,
    account: &str,
    prefix: &str,
    except: &HashSet<String>,
) -> Outcome<usize> {
    let keys: Vec<String> = ledger.all(
        "SELECT key FROM entry WHERE account = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2",
        [account, prefix],
        |row| row.get(0),
    )?;
    let gone: Vec<StoreWrite> = keys.into_iter().filter(|key| !except.contains(key)).map(StoreWrite::delete).collect();
    write(ledger, account, &gone)?;
    Ok(gone.len())
}

/// As many entries are forgotten in one go.
const PRUNED_AT_ONCE: usize = 512;

/// Forgets entries whose key starts with `prefix` and that are too old or too many.
pub(in crate::store::sqlite) fn prune(ledger: &mut Ledger, account: &str, prefix: &str, keep: Keep) -> Outcome<usize> {
    let now = ledger.now();
    // What an earlier version wrote counts from now on.
    ledger.run(
        "UPDATE entry SET at = ?3
         WHERE account = ?1 AND key >= ?2 AND key < ?2 || char(1114111) AND at IS NULL",
        params![account, prefix, now.0],
    )?;
    let too_old = ledger.run(
        "DELETE FROM entry WHERE id IN
         (SELECT id FROM entry WHERE account = ?1 AND key >= ?2 AND key < ?2 || char(1114111) AND at < ?3 LIMIT ?4)",
        params![account, prefix, now.minus(keep.within).0, PRUNED_AT_ONCE],
    )?;
    // Counting takes the index alone, and sorting is left to those who have too many.
    let left = ledger.one(
        "SELECT count(*) FROM entry WHERE account = ?1 AND key >= ?2 AND key < ?2 || char(1114111)",
        [account, prefix],
        |row| row.get::<_, usize>(0),
    )?;
    let too_many = left.unwrap_or(0).saturating_sub(keep.most).min(PRUNED_AT_ONCE);
    if too_many > 0 {
        ledger.run(
            "DELETE FROM entry WHERE id IN
             (SELECT id FROM entry WHERE account = ?1 AND key >= ?2 AND key < ?2 || char(1114111)
              ORDER BY at, id LIMIT ?3)",
            params![account, prefix, too_many],
        )?;
    }
    Ok(too_old + too_many)
}
