//! What one conversation of a bounded account may have waiting: a share of the journal, so that a program whose words
//! can't be delivered leaves room for everybody else's. What is over it is not taken in, and nothing of it is lost: whoever
//! brings it is told so.

use rusqlite::params;
use sealbridge_contract::{
    AccountName, Address, Cleartext,
    inbox::{Arrival, Arrived},
};

use super::{super::Outcome, Ledger};

/// Whether what arrives may be taken in as far as shares go. Deletions always may, since they make room. Looked at before
/// anything is written, so that nothing has to be undone for whoever is over theirs; one batch may go beyond.
pub(super) fn may_bring(ledger: &Ledger, account: &AccountName, arrivals: &[Arrival]) -> Outcome<bool> {
    if !ledger.router.is_bounded(account) {
        return Ok(true);
    }
    let mut judged = None;
    for arrival in arrivals {
        let Arrived::Message(incoming) = &arrival.what else { continue };
        if incoming.message.takes_back().is_some() || judged == Some(&arrival.conversation) {
            continue;
        }
        let at = Address { account: account.clone(), conversation: arrival.conversation.clone() };
        if is_taken(ledger, &at)? {
            return Ok(false);
        }
        judged = Some(&arrival.conversation);
    }
    Ok(true)
}

fn is_taken(ledger: &Ledger, at: &Address) -> Outcome<bool> {
    let Some(conversation) = ledger.known_conversation(at)? else { return Ok(false) };
    let held =
        ledger.one("SELECT messages, bytes, files FROM share WHERE conversation = ?1", [conversation], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    Ok(held.is_some_and(|held| ledger.limits.is_share_taken(ledger.totals.payload_bytes, held)))
}

/// How many bytes of files a message counts in the share of its conversation, if it counts there.
pub(super) fn counts(ledger: &Ledger, account: &AccountName, message: &Cleartext) -> Option<u64> {
    ledger.router.is_bounded(account).then(|| message.file_size().unwrap_or(0))
}

/// Counts a message in.
pub(super) fn add(ledger: &Ledger, conversation: i64, bytes: usize, files: u64) -> Outcome<()> {
    ledger.run(
        "INSERT INTO share (conversation, messages, bytes, files) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (conversation) DO UPDATE SET messages = messages + 1, bytes = bytes + ?2, files = files + ?3",
        params![conversation, bytes, files],
    )?;
    Ok(())
}

/// Counts a message out, while its content is still there.
pub(super) fn give_back(ledger: &Ledger, place: i64) -> Outcome<()> {
    let counted = ledger.one(
        "SELECT conversation, coalesce(length(payload), 0), shared FROM received WHERE id = ?1 AND shared IS NOT NULL",
        [place],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, usize>(1)?, row.get::<_, u64>(2)?)),
    )?;
    let Some((conversation, bytes, files)) = counted else { return Ok(()) };
    ledger.run("UPDATE received SET shared = NULL WHERE id = ?1", [place])?;
    ledger.run(
        "UPDATE share SET messages = messages - 1, bytes = bytes - ?2, files = files - ?3 WHERE conversation = ?1",
        params![conversation, bytes, files],
    )?;
    ledger.run("DELETE FROM share WHERE conversation = ?1 AND messages <= 0", [conversation])?;
    Ok(())
}
