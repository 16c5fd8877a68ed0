//! Before anything is used: links and gaps that do not open are set aside by name, so that the rest can go on.
//!
//! A link whose row does not open is known by its ends, and is paused: what comes in is held, and goes nowhere until
//! somebody has looked. A gap that does not open can't be filled any more; what waits behind it crosses.

use rusqlite::params;
use sealbridge_contract::Timestamp;

use super::{
    super::{
        Outcome,
        keys::{Place, address},
        links,
    },
    Ledger, gaps,
    letters::DOES_NOT_OPEN,
    links as linked,
};
use crate::store::{JournalError, Link, LinkEnd, LinkName};

/// Looks at every link and gap.
pub(in crate::store::sqlite) fn mend(ledger: &mut Ledger) -> Outcome<()> {
    ledger.run("BEGIN IMMEDIATE", [])?;
    let changed_before = ledger.connection.total_changes();
    mend_links(ledger)?;
    mend_gaps(ledger)?;
    let counted = ledger.write_totals(changed_before)?;
    ledger.run("COMMIT", [])?;
    ledger.counted(counted);
    // Whoever opened the journal reads the links anyway.
    ledger.links_changed = false;
    Ok(())
}

fn mend_links(ledger: &mut Ledger) -> Outcome<()> {
    let rows: Vec<(i64, String)> =
        ledger.all("SELECT id, name FROM link WHERE content IS NOT NULL", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, name) in rows {
        match links::one(&ledger.connection, &ledger.keys, &name) {
            Ok(Some(link)) => {
                let ends =
                    ledger.one("SELECT count(*) FROM link_end WHERE link = ?1", [id], |row| row.get::<_, usize>(0))?;
                if ends != Some(link.ends.len()) {
                    linked::put_link(ledger, &link)?;
                }
            }
            Ok(None) => {}
            Err(JournalError::Damaged(_)) => hold_link(ledger, id, &name)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a link anew from its ends, paused.
fn hold_link(ledger: &mut Ledger, id: i64, name: &str) -> Outcome<()> {
    let unknown = || JournalError::Damaged(format!("neither the link {name:?} nor what it joins opens"));
    let rows: Vec<(String, String, i64, Vec<u8>)> = ledger.all(
        "SELECT c.account, c.name, e.since, e.tag FROM link_end e JOIN conversation c ON c.id = e.conversation
         WHERE e.link = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let ends = rows.into_iter().map(|(account, conversation, since, tag)| {
        let end = LinkEnd { at: address(&account, conversation)?, since: Timestamp(since) };
        ledger.keys.fits(&Place::link_end(name, &end), &tag).then_some(end)
    });
    let ends: Vec<_> = ends.collect::<Option<_>>().filter(|ends: &Vec<_>| ends.len() >= 2).ok_or_else(unknown)?;
    let paused = Some("its row in the journal was damaged: look at what it joins before you resume it".to_owned());
    let name = LinkName::parse(name).map_err(|_| unknown())?;
    tracing::error!(link = %name, "A link does not open. It is set aside and held.");
    set_aside(ledger, &format!("link {name}"), None)?;
    linked::put_link(ledger, &Link { name, ends, paused, fixed: false, tripped: None })
}

fn mend_gaps(ledger: &mut Ledger) -> Outcome<()> {
    let rows: Vec<(i64, i64, i64, Vec<u8>)> =
        ledger.all("SELECT id, conversation, low, content FROM gap", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    for (id, conversation, low, content) in rows {
        let at = ledger.address(conversation)?;
        if gaps::unlock(ledger, &at, low, content).is_none() {
            tracing::error!(?at, "A gap does not open. It is set aside, and what is missing there stays missing.");
            set_aside(ledger, "a gap, so messages before this may be missing", Some(conversation))?;
            ledger.run("DELETE FROM gap WHERE id = ?1", [id])?;
        }
    }
    Ok(())
}

fn set_aside(ledger: &mut Ledger, name: &str, conversation: Option<i64>) -> Outcome<()> {
    let number = ledger.next_number();
    ledger.run(
        "INSERT INTO quarantine (number, name, origin, reason, since) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![number, name, conversation, DOES_NOT_OPEN, ledger.now().0],
    )?;
    Ok(())
}
