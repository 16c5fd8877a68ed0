//! Replay values: what no two messages of an account share is remembered for ever, under which name it was seen.

use rusqlite::params;
use sealbridge_contract::{AccountName, DeliveryId, inbox};
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        Outcome,
        keys::{name_key, once_key},
    },
    Ledger,
};

/// A value that no two messages share.
pub(super) enum Once {
    /// A number within a series.
    Numbered {
        series: [u8; 16],
        place: i64,
        /// How the first version of the file would have kept it, if the file is that old.
        before: Option<[u8; 16]>,
    },
    /// The delivery in a parcel. A peer that tries again gives it another name; that is no replay.
    Delivery([u8; 16]),
}

impl Once {
    pub(super) fn numbered(ledger: &Ledger, account: &AccountName, once: &inbox::Once) -> Self {
        let before = || {
            let index = u32::try_from(once.index).ok()?;
            let digest = Sha256::new().chain_update(&once.series).chain_update(index.to_be_bytes()).finalize();
            Some(once_key(account, "once", &digest))
        };
        Self::Numbered {
            series: once_key(account, "series", &once.series),
            place: once.index.cast_signed(),
            before: if ledger.lone_values { before() } else { None },
        }
    }

    pub(super) fn delivery(account: &AccountName, delivery: DeliveryId) -> Self {
        Self::Delivery(once_key(account, "sealed", delivery.as_bytes()))
    }
}

/// Whether a value is new.
#[derive(PartialEq, Eq)]
pub(super) enum Fresh {
    Yes,
    /// It was seen under this very name.
    Again,
    /// It was seen under another name.
    Replayed,
}

/// Remembers a value, if there is one.
pub(super) fn remember(ledger: &Ledger, once: Option<&Once>, conversation: i64, id: &str) -> Outcome<Fresh> {
    let name = name_key(conversation, id);
    match once {
        None => Ok(Fresh::Yes),
        Some(Once::Numbered { series, place, before }) => {
            let before = before.map(|key| seen_alone(ledger, key)).transpose()?.flatten();
            if before.is_some() { Ok(judge(before, name)) } else { remember_numbered(ledger, *series, *place, name) }
        }
        Some(Once::Delivery(key)) => {
            let sql = "INSERT INTO once (key, seen) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
            Ok(if ledger.run(sql, params![key, name])? == 1 { Fresh::Yes } else { Fresh::Again })
        }
    }
}

fn remember_numbered(ledger: &Ledger, series: [u8; 16], place: i64, name: i64) -> Outcome<Fresh> {
    let known = ledger.one("SELECT id FROM series WHERE key = ?1", [series], |row| row.get::<_, i64>(0))?;
    let series = match known {
        Some(id) => id,
        None => {
            ledger.run("INSERT INTO series (key) VALUES (?1)", [series])?;
            ledger.connection.last_insert_rowid()
        }
    };
    let sql = "INSERT INTO numbered (series, place, seen) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    if ledger.run(sql, [series, place, name])? == 1 {
        return Ok(Fresh::Yes);
    }
    let sql = "SELECT seen FROM numbered WHERE series = ?1 AND place = ?2";
    Ok(judge(ledger.one(sql, [series, place], |row| row.get(0))?, name))
}

fn seen_alone(ledger: &Ledger, key: [u8; 16]) -> Outcome<Option<i64>> {
    ledger.one("SELECT seen FROM once WHERE key = ?1", [key], |row| row.get(0))
}

fn judge(seen: Option<i64>, name: i64) -> Fresh {
    if seen == Some(name) { Fresh::Again } else { Fresh::Replayed }
}
