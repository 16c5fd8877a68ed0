//! Gaps: what is missing between what came before and what came after.

use rusqlite::params;
use sealbridge_contract::inbox::{Arrived, Filling};
use sealbridge_contract::{AccountName, Address};
use serde::{Deserialize, Serialize};

use super::{
    super::{Outcome, keys::Place},
    Ledger,
    accept::{self, Standing},
    order,
};
use crate::store::JournalError;

/// As many places a gap gets. No gap has as many messages, and there is room for two thousand million gaps.
const WIDTH: i64 = 1 << 32;

/// What only the transport understands, locked, since a changed byte in it would lose messages in silence.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Bounds {
    /// Where it began: by this it is known when it is offered again.
    began: String,
    pub(in crate::store::sqlite) from: String,
    pub(in crate::store::sqlite) until: Option<String>,
}

/// Opens a gap at the end of a conversation.
pub(super) fn open(ledger: &mut Ledger, standing: &mut Standing, from: &str, until: Option<&str>) -> Outcome<()> {
    standing.blocked = true;
    if is_open(ledger, standing, from, until)? {
        return Ok(());
    }
    let low = ledger.next_places(WIDTH)?;
    insert(ledger, standing, low, low + WIDTH - 1, from, until)
}

/// The same answer of a network may be offered twice.
fn is_open(ledger: &Ledger, standing: &Standing, from: &str, until: Option<&str>) -> Outcome<bool> {
    let gaps: Vec<(i64, Vec<u8>)> =
        ledger.all("SELECT low, content FROM gap WHERE conversation = ?1", [standing.id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(gaps.into_iter().any(|(low, content)| {
        unlock(ledger, &standing.at, low, content).is_some_and(|b| b.began == from && b.until.as_deref() == until)
    }))
}

pub(super) fn unlock(ledger: &Ledger, at: &Address, low: i64, content: Vec<u8>) -> Option<Bounds> {
    let locked = ledger.keys.vault.from_row(content);
    let bytes = ledger.keys.vault.unlock(Place::gap(at, low).bytes(), &locked).ok()?;
    serde_json::from_slice(bytes.expose()).ok()
}

fn lock(ledger: &Ledger, at: &Address, low: i64, bounds: &Bounds) -> Outcome<Vec<u8>> {
    let bytes = serde_json::to_vec(bounds).map_err(|error| JournalError::Failed(error.to_string()))?;
    let locked = ledger.keys.vault.lock(Place::gap(at, low).bytes(), &bytes);
    Ok(ledger.keys.vault.to_row(&locked).to_vec())
}

fn insert(ledger: &Ledger, standing: &Standing, low: i64, high: i64, from: &str, until: Option<&str>) -> Outcome<()> {
    let bounds = Bounds { began: from.to_owned(), from: from.to_owned(), until: until.map(str::to_owned) };
    ledger.run(
        "INSERT INTO gap (conversation, low, high, next_place, content) VALUES (?1, ?2, ?3, ?3, ?4)",
        params![standing.id, low, high, lock(ledger, &standing.at, low, &bounds)?],
    )?;
    Ok(())
}

/// Commits a piece of a gap.
pub(in crate::store::sqlite) fn fill(ledger: &mut Ledger, account: &AccountName, filling: &mut Filling) -> Outcome<()> {
    let none = || JournalError::NoSuch(format!("there is no open gap with the number {}", filling.gap));
    let (conversation, low, mut place, content) = ledger
        .one("SELECT conversation, low, next_place, content FROM gap WHERE id = ?1", [filling.gap], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?
        .ok_or_else(none)?;
    let at = ledger.address(conversation)?;
    if at.account != *account {
        return Err(none());
    }
    let since = ledger.router.linked_since(&at);
    let mut standing = Standing { id: conversation, at, blocked: true, unreadables: true };
    for what in &mut filling.arrivals {
        let Some(since) = since else { break };
        if place <= low {
            return Err(JournalError::Failed("a gap has more messages than places".into()));
        }
        if let Arrived::Gap { from, until } = what {
            if is_open(ledger, &standing, from, until.as_deref())? {
                continue;
            }
            // What is missing within lies before what was read so far: it gets a part of the places that are left.
            let width = (place - low) / 4;
            insert(ledger, &standing, place - width, place, from, until.as_deref())?;
            place -= width + 1;
        } else if accept::put(ledger, &mut standing, what, place, Some(since))? {
            place -= 1;
        }
    }
    match &filling.next {
        Some(next) => {
            let bounds = unlock(ledger, &standing.at, low, content)
                .ok_or_else(|| JournalError::Damaged("an open gap does not open".into()))?;
            let content = lock(ledger, &standing.at, low, &Bounds { from: next.clone(), ..bounds })?;
            ledger.run(
                "UPDATE gap SET next_place = ?2, content = ?3 WHERE id = ?1",
                params![filling.gap, place, content],
            )?;
        }
        None => {
            ledger.run("DELETE FROM gap WHERE id = ?1", [filling.gap])?;
            order::go_on(ledger, conversation)?;
        }
    }
    Ok(())
}
