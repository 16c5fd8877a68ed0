//! Links, and what the outbox has of each.

use rusqlite::params;
use sealbridge_contract::{Address, RemoteId};

use super::{
    super::{
        Outcome, delivery,
        keys::{self, Place},
        links,
    },
    Ledger, letters,
};
use crate::store::{JournalError, Link, LinkEnd, LinkName, Tripped};

/// Adds or replaces a link.
pub(in crate::store::sqlite) fn put_link(ledger: &mut Ledger, link: &Link) -> Outcome<()> {
    let content = serde_json::to_vec(link).map_err(|error| JournalError::Failed(error.to_string()))?;
    let name = link.name.as_str();
    let locked = ledger.keys.vault.lock(Place::link(name).bytes(), &content);
    ledger.run(
        "INSERT INTO link (name, content) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET content = excluded.content",
        params![name, ledger.keys.vault.to_row(&locked)],
    )?;
    put_ends(ledger, link)?;
    ledger.links_changed = true;
    Ok(())
}

/// Writes what a link joins a second time.
fn put_ends(ledger: &mut Ledger, link: &Link) -> Outcome<()> {
    let name = link.name.as_str();
    ledger.run("DELETE FROM link_end WHERE link = (SELECT id FROM link WHERE name = ?1)", [name])?;
    for end in &link.ends {
        let conversation = ledger.conversation(&end.at)?;
        let tag = ledger.keys.tag(&Place::link_end(name, end));
        ledger.run(
            "INSERT OR REPLACE INTO link_end (link, conversation, since, tag)
             SELECT id, ?2, ?3, ?4 FROM link WHERE name = ?1",
            params![name, conversation, end.since.0, tag],
        )?;
    }
    Ok(())
}

fn no_such(name: &LinkName) -> JournalError {
    JournalError::NoSuch(format!("there is no link named {name}"))
}

/// Removes a link; its number stays, since old lines name it.
pub(in crate::store::sqlite) fn remove_link(ledger: &mut Ledger, name: &LinkName) -> Outcome<()> {
    let id: Option<i64> = ledger.one(
        "UPDATE link SET content = NULL WHERE name = ?1 AND content IS NOT NULL RETURNING id",
        [name.as_str()],
        |row| row.get(0),
    )?;
    let id = id.ok_or_else(|| no_such(name))?;
    ledger.run("DELETE FROM link_end WHERE link = ?1", [id])?;
    ledger.run(
        "UPDATE delivery SET state = 2, reason = 'its link was removed', done_at = ?2
         WHERE link = ?1 AND state IN (0, 1)",
        params![id, ledger.now().0],
    )?;
    ledger.links_changed = true;
    Ok(())
}

/// Lets a link go on, with what is held of it.
pub(in crate::store::sqlite) fn resume(ledger: &mut Ledger, name: &LinkName) -> Outcome<usize> {
    match links::one(&ledger.connection, &ledger.keys, name.as_str())? {
        Some(link) if link.paused.is_some() => {
            let tripped = link.tripped.map(|tripped| Tripped { resume_at: None, ..tripped });
            put_link(ledger, &Link { paused: None, tripped, ..link })?;
        }
        _ => {}
    }
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

/// Whether the link of a delivery is there and not paused.
pub(super) fn goes_on(ledger: &Ledger, number: i64) -> Outcome<bool> {
    let name: Option<String> = ledger.one(
        "SELECT l.name FROM delivery d JOIN link l ON l.id = d.link WHERE d.number = ?1",
        [number],
        |row| row.get(0),
    )?;
    let link = name.map(|name| links::one(&ledger.connection, &ledger.keys, &name)).transpose()?.flatten();
    Ok(link.is_some_and(|link| link.paused.is_none()))
}

/// Puts a conversation in the place of another one of a link, with what was on its way there.
pub(in crate::store::sqlite) fn replace_end(
    ledger: &mut Ledger,
    name: &LinkName,
    old: &Address,
    new: &LinkEnd,
) -> Outcome<usize> {
    let mut link = links::one(&ledger.connection, &ledger.keys, name.as_str())?.ok_or_else(|| no_such(name))?;
    let end = link.ends.iter_mut().find(|end| end.at == *old);
    *end.ok_or_else(|| JournalError::NoSuch(format!("{old} is not in the link {name}")))? = new.clone();
    put_link(ledger, &link)?;
    let Some(from) = ledger.known_conversation(old)? else { return Ok(0) };
    let to = ledger.conversation(&new.at)?;
    let mut moved = 0;
    // Each state has its own index.
    for state in [delivery::QUEUED, delivery::HELD, delivery::DEAD] {
        for row in rows(ledger, name, from, to, state)? {
            moved += usize::from(row.move_on(ledger, name, old, (to, &new.at))?);
        }
    }
    letters::wake(ledger, vec![to])?;
    Ok(moved)
}

/// A delivery that is on its way to a conversation.
struct Row {
    number: i64,
    id: Vec<u8>,
    tag: Vec<u8>,
    state: i64,
    from: Option<(String, String, String)>,
    /// Another link carries the same message to where this one would go.
    doubled: bool,
}

fn rows(ledger: &Ledger, name: &LinkName, from: i64, to: i64, state: i64) -> Outcome<Vec<Row>> {
    let sql = format!(
        "SELECT d.number, d.id, d.tag, c.account, c.name, r.remote,
                EXISTS (SELECT 1 FROM delivery o WHERE o.source = d.source AND o.lane = ?3 AND o.state IN (0, 1, 2, 3))
         FROM delivery d JOIN link l ON l.id = d.link
         LEFT JOIN received r ON r.id = d.source LEFT JOIN conversation c ON c.id = r.conversation
         WHERE d.lane = ?1 AND l.name = ?2 AND d.state = {state} ORDER BY d.number"
    );
    ledger.all(&sql, params![from, name.as_str(), to], |row| {
        let from: (Option<String>, Option<String>, Option<String>) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let (number, id, tag, doubled) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(6)?);
        let from = from.0.zip(from.1).zip(from.2).map(|((account, name), remote)| (account, name, remote));
        Ok(Row { number, id, tag, state, from, doubled })
    })
}

impl Row {
    /// Bound to its new lane by a new tag, unless the old one does not fit: a changed row must not become a sound one.
    fn move_on(self, ledger: &mut Ledger, link: &LinkName, old: &Address, new: (i64, &Address)) -> Outcome<bool> {
        let from =
            self.from.and_then(|(account, name, remote)| Some((keys::address(&account, name)?, RemoteId::new(remote))));
        let origin = from.as_ref().map(|(at, remote)| (at, remote.as_str()));
        let place = |to| Place::delivery(self.number, &self.id, to, Some(link.as_str()), origin);
        if !ledger.keys.fits(&place(old), &self.tag) {
            if self.state != delivery::DEAD {
                letters::quarantine_delivery(ledger, self.number)?;
            }
            return Ok(false);
        }
        if self.doubled {
            ledger.run(
                "UPDATE delivery SET state = ?2, reason = 'another link carries it there', done_at = ?3 WHERE number = ?1",
                params![self.number, delivery::DEAD, ledger.now().0],
            )?;
            return Ok(false);
        }
        ledger.run(
            "UPDATE delivery SET lane = ?2, tag = ?3, attempts = 0, not_before = 0 WHERE number = ?1",
            params![self.number, new.0, ledger.keys.tag(&place(new.1))],
        )?;
        Ok(true)
    }
}
