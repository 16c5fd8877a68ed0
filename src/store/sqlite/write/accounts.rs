//! The accounts' own small stores, and the service's settings: the store of no account.

use std::collections::HashSet;

use rusqlite::params;
use sealbridge_contract::inbox::StoreWrite;

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
                    "INSERT INTO entry (account, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT (account, key) DO UPDATE SET value = excluded.value",
                    params![account, write.key, ledger.keys.vault.to_row(&locked)],
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
