//! The accounts' own small stores, and the service's settings: the store of no account.

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
