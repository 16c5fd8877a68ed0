//! Messages about messages: what a deletion erases, what a newer edit or reaction makes needless, and edits that are
//! nobody's to make.

use rusqlite::params;
use sealbridge_contract::{Address, Cleartext, PersonId, RemoteId, Verb};

use crate::store::REPLACED;

use super::{
    super::{
        Outcome, delivery,
        keys::{Place, about_key, name_key},
        received,
    },
    Ledger, accept, commands, order, unreadable,
};

/// Why there is only a line of a message that was taken back.
pub(super) const TAKEN_BACK: &str = "deleted where it was written";
/// Why an edit does not cross.
pub(super) const NOT_THEIRS: &str = "an edit of somebody else's message";

/// What is noted beside a message, so that it can be found again: who wrote it, what it does to what, its files.
pub(super) struct Notes {
    pub(super) author: [u8; 16],
    pub(super) about: Option<i64>,
    pub(super) spool: Option<String>,
}

impl Notes {
    pub(super) fn of(ledger: &Ledger, conversation: i64, at: &Address, message: &Cleartext) -> Self {
        let verb = message.verb();
        let about = message.about();
        let files: Vec<String> = message.spooled().map(|id| id.to_string()).collect();
        Self {
            author: ledger.keys.tag(&Place::author(at, message.author())),
            about: about.map(|id| about_key(conversation, verb, id.as_str())),
            spool: (!files.is_empty()).then(|| files.join(" ")),
        }
    }
}

/// Makes good in the journal what a message means for earlier ones. Done when it comes in, whatever it may wait for.
pub(super) fn follow(ledger: &mut Ledger, conversation: i64, notes: &Notes, message: &Cleartext) -> Outcome<()> {
    if let Some(target) = message.takes_back() {
        take_back(ledger, conversation, target)?;
    }
    match notes.about {
        Some(about) if message.takes_back().is_none() => replace(ledger, conversation, about, &notes.author),
        _ => Ok(()),
    }
}

/// Whether something that is read backwards was taken back by what came before it, or what it is about was.
pub(super) fn is_taken_back(
    ledger: &Ledger,
    conversation: i64,
    id: &RemoteId,
    message: Option<&Cleartext>,
) -> Outcome<bool> {
    for target in [Some(id), message.and_then(Cleartext::about)].into_iter().flatten() {
        let about = about_key(conversation, Verb::Redaction, target.as_str());
        if !rows(ledger, conversation, about, None)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it edits, deletes or reacts to what was said to the bridge itself: that is known nowhere else, and only what
/// was said first is done.
pub(super) fn is_about_a_command(ledger: &Ledger, conversation: i64, message: &Cleartext) -> Outcome<bool> {
    let Some(target) = message.about() else { return Ok(false) };
    let Some((place, _)) = accept::seen(ledger, conversation, target)? else { return Ok(false) };
    let taken = ledger.one("SELECT note = ?2 FROM received WHERE id = ?1", params![place, commands::TAKEN], |row| {
        row.get::<_, Option<bool>>(0)
    })?;
    Ok(taken.flatten() == Some(true))
}

/// Whether a deletion is of something that was taken back here before it went anywhere.
pub(super) fn deletes_nothing(ledger: &Ledger, conversation: i64, message: &Cleartext) -> Outcome<bool> {
    let Some(target) = message.takes_back() else { return Ok(false) };
    let Some((place, _)) = accept::seen(ledger, conversation, target)? else { return Ok(false) };
    let went_nowhere = ledger.one(
        "SELECT note = ?2 AND NOT EXISTS (SELECT 1 FROM delivery WHERE source = ?1) FROM received WHERE id = ?1",
        params![place, TAKEN_BACK],
        |row| row.get::<_, Option<bool>>(0),
    )?;
    Ok(went_nowhere.flatten() == Some(true))
}

/// Erases whatever is still kept of a message, and of edits and reactions to it.
fn take_back(ledger: &mut Ledger, conversation: i64, target: &RemoteId) -> Outcome<()> {
    if let Some((place, state)) = accept::seen(ledger, conversation, target)? {
        erase(ledger, conversation, place, state, TAKEN_BACK)?;
    }
    for verb in [Verb::Edit, Verb::Reaction] {
        let about = about_key(conversation, verb, target.as_str());
        for (place, state) in rows(ledger, conversation, about, None)? {
            erase(ledger, conversation, place, state, TAKEN_BACK)?;
        }
    }
    Ok(())
}

/// What the same author said before about the same, and what is still queued, is not needed any more.
fn replace(ledger: &mut Ledger, conversation: i64, about: i64, author: &[u8; 16]) -> Outcome<()> {
    for (place, state) in rows(ledger, conversation, about, Some(author))? {
        erase(ledger, conversation, place, state, REPLACED)?;
    }
    Ok(())
}

fn rows(ledger: &Ledger, conversation: i64, about: i64, author: Option<&[u8; 16]>) -> Outcome<Vec<(i64, i64)>> {
    let all = ledger.all(
        "SELECT id, state, author FROM received WHERE about = ?1 AND conversation = ?2",
        params![about, conversation],
        |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<Vec<u8>>>(2)?)),
    )?;
    let theirs = |tag: &Option<Vec<u8>>| author.is_none_or(|author| tag.as_deref() == Some(author.as_slice()));
    Ok(all.into_iter().filter(|(.., tag)| theirs(tag)).map(|(place, state, _)| (place, state)).collect())
}

/// Makes a received message a line without content, and each delivery of it that has not arrived.
fn erase(ledger: &mut Ledger, conversation: i64, place: i64, state: i64, why: &str) -> Outcome<()> {
    match state {
        received::UNREADABLE => {
            let waiting = ledger.one(
                "SELECT number, sender, length(raw) FROM unreadable WHERE received = ?1",
                [place],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, usize>(2)?)),
            )?;
            if let Some((number, sender, raw)) = waiting {
                unreadable::forget(ledger, number, conversation, &PersonId::new(sender), raw)?;
                ledger.run("DELETE FROM quarantine WHERE number = ?1", [number])?;
            }
        }
        received::WAITING | received::ROUTED => {
            ledger.run(
                "DELETE FROM quarantine WHERE number IN (SELECT number FROM delivery WHERE source = ?1 AND state = 5)",
                [place],
            )?;
            ledger.run(
                "UPDATE delivery SET state = ?2, reason = ?3, done_at = ?4 WHERE source = ?1 AND state IN (0, 1, 2, 5)",
                params![place, delivery::DROPPED, why, ledger.now().0],
            )?;
            ledger.erased = true;
        }
        _ => return Ok(()),
    }
    ledger.close_line(place, Some(why))?;
    if state == received::UNREADABLE {
        // What waited for it waits no more.
        order::go_on(ledger, conversation)?;
    }
    Ok(())
}

/// Whether an edit is of a message that its author did not write.
pub(super) fn is_a_strangers_edit(
    ledger: &Ledger,
    conversation: i64,
    at: &Address,
    message: &Cleartext,
) -> Outcome<bool> {
    let Some(target) = message.about().filter(|_| message.verb() == Verb::Edit) else { return Ok(false) };
    let mine = ledger.keys.tag(&Place::author(at, message.author()));
    if let Some((place, _)) = accept::seen(ledger, conversation, target)? {
        let author =
            ledger.one("SELECT author FROM received WHERE id = ?1", [place], |row| row.get::<_, Option<Vec<u8>>>(0))?;
        // Of a line that an earlier version wrote nobody knows any more.
        return Ok(author.flatten().is_some_and(|author| author != mine));
    }
    // What we brought there ourselves is nobody else's to edit.
    brought(ledger, conversation, target)
}

/// Whether we brought something to a conversation that is called so there. The latest names are asked first.
fn brought(ledger: &Ledger, lane: i64, name: &RemoteId) -> Outcome<bool> {
    let range = ledger.one(
        "SELECT (SELECT min(number) FROM delivery) >> 12, (SELECT max(number) FROM delivery) >> 12",
        [],
        |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
    )?;
    let Some((Some(first), Some(last))) = range else { return Ok(false) };
    let key = name_key(lane, name.as_str());
    for era in (first..=last).rev() {
        let found = ledger.one(
            "SELECT 1 FROM delivery WHERE number >> 12 = ?1 AND settled_key = ?2 AND settled_key IS NOT NULL AND lane = ?3
             AND settled_as = ?4",
            params![era, key, lane, name.as_str()],
            |_| Ok(()),
        )?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
