//! What was said to the bridge itself.

use rusqlite::params;
use sealbridge_contract::{Address, Cleartext, RemoteId};

use super::{
    super::{Outcome, command, keys::Place},
    Ledger, outbox,
};
use crate::store::Said;

/// What the line of such a message says.
pub(super) const TAKEN: &str = "it was said to the bridge itself";
/// As many of one person wait in one conversation at most. Whoever says more is not answered: an answer to each would be a
/// flood. Whoever floods takes nothing from the others.
const MOST_OF_ONE: usize = 8;
/// As many of all of them.
const MOST: usize = 1024;

/// Takes it in, once.
pub(super) fn take(ledger: &mut Ledger, at: &Address, id: &RemoteId, said: &Said) -> Outcome<()> {
    let conversation = ledger.conversation(at)?;
    let waiting = ledger.all(
        "SELECT remote, content FROM command WHERE conversation = ?1 AND state < 2 AND content IS NOT NULL",
        [conversation],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)),
    )?;
    let is_theirs = |(id, content): &(String, Vec<u8>)| {
        let vault = &ledger.keys.vault;
        let opened = vault.unlock(Place::command(at, id).bytes(), &vault.from_row(content.clone())).ok();
        opened.and_then(|bytes| Said::from_bytes(bytes.expose())).is_some_and(|waits| waits.by == said.by)
    };
    if waiting.len() >= MOST || waiting.iter().filter(|row| is_theirs(row)).count() >= MOST_OF_ONE {
        tracing::warn!(?at, "Too much is said to the bridge at once; some of it is passed over.");
        return Ok(());
    }
    let locked = ledger.keys.vault.lock(Place::command(at, id.as_str()).bytes(), said.to_bytes().expose());
    let number = ledger.next_number();
    let taken = ledger.run(
        "INSERT INTO command (number, conversation, remote, state, since, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (conversation, remote) DO NOTHING",
        params![number, conversation, id.as_str(), command::WAITS, ledger.now().0, ledger.keys.vault.to_row(&locked),],
    )?;
    if taken > 0 {
        ledger.take_in(locked.size())?;
        ledger.commanded = true;
    }
    Ok(())
}

/// Somebody does it now. Nobody does it again.
pub(in crate::store::sqlite) fn begin(ledger: &mut Ledger, number: i64) -> Outcome<()> {
    let begun =
        ledger.run("UPDATE command SET state = ?2 WHERE number = ?1 AND state = 0", params![number, command::BEGUN])?;
    if begun == 0 { Err(outbox::no_such(number)) } else { Ok(()) }
}

/// It is done with, and this is said to it, with the same meaning of `once` as in [`outbox::say`]. Says whether it was.
pub(in crate::store::sqlite) fn finish(
    ledger: &mut Ledger,
    number: i64,
    answer: Option<&Cleartext>,
    once: Option<&str>,
) -> Outcome<bool> {
    let row = ledger.one(
        "SELECT conversation, coalesce(length(content), 0) FROM command WHERE number = ?1 AND state < 2",
        [number],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, usize>(1)?)),
    )?;
    let Some((conversation, bytes)) = row else { return Err(outbox::no_such(number)) };
    ledger.let_go(bytes);
    ledger.run("UPDATE command SET state = ?2, content = NULL WHERE number = ?1", params![number, command::DONE])?;
    let Some(answer) = answer else { return Ok(false) };
    let at = ledger.address(conversation)?;
    outbox::say(ledger, &at, answer, once)
}

/// Forgets those that are done with and as old as lines may be.
pub(super) fn sweep(ledger: &Ledger, at_once: usize) -> Outcome<usize> {
    let before = ledger.now().minus(ledger.limits.lines_for).0;
    ledger.run(
        "DELETE FROM command WHERE number IN
         (SELECT number FROM command WHERE state = ?1 AND since < ?2 ORDER BY since LIMIT ?3)",
        params![command::DONE, before, at_once],
    )
}
