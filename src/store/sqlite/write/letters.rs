//! Dead letters, and rows that do not open.

use rusqlite::params;
use sealbridge_contract::PersonId;

use super::{
    super::{Outcome, delivery, received, unreadable as waiting},
    Ledger, order,
    outbox::{self, no_such},
    shares, unreadable,
};
use crate::store::{JournalError, Swept};

/// Writes a dead letter for something that never became a delivery and whose content is not kept.
pub(super) fn write(
    ledger: &mut Ledger,
    conversation: i64,
    name: &str,
    sender: Option<&str>,
    reason: &str,
) -> Outcome<()> {
    let number = ledger.next_number();
    ledger.run(
        "INSERT INTO letter (number, conversation, name, sender, reason, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![number, conversation, name, sender, reason, ledger.now().0],
    )?;
    Ok(())
}

/// Wakes lanes.
pub(super) fn wake(ledger: &mut Ledger, mut lanes: Vec<i64>) -> Outcome<()> {
    lanes.sort_unstable();
    lanes.dedup();
    for lane in lanes {
        let address = ledger.address(lane)?;
        ledger.woken.insert(address);
    }
    Ok(())
}

/// As many dead letters are sorted in one commit, and as many bytes of them erased: erasing writes them over.
pub(in crate::store::sqlite) const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: u64 = 16 << 20;

/// Puts back every dead letter after number `after` whose content is there.
pub(in crate::store::sqlite) fn retry_letters(ledger: &mut Ledger, after: i64) -> Outcome<Swept> {
    each(ledger, after, put_back)
}

/// Erases every dead letter after number `after`.
pub(in crate::store::sqlite) fn drop_letters(ledger: &mut Ledger, after: i64) -> Outcome<Swept> {
    each(ledger, after, |ledger, number| drop_letter(ledger, number).map(|()| true))
}

/// Does something to each of the next dead letters; each is met once, whatever becomes of it.
fn each(ledger: &mut Ledger, after: i64, mut act: impl FnMut(&mut Ledger, i64) -> Outcome<bool>) -> Outcome<Swept> {
    let numbers: Vec<i64> = ledger.all(
        "SELECT number FROM (
             SELECT * FROM (SELECT number FROM delivery WHERE state = 2 AND number > ?1 ORDER BY number LIMIT ?2)
             UNION SELECT * FROM (SELECT number FROM unreadable WHERE state = 1 AND number > ?1 ORDER BY number LIMIT ?2)
             UNION SELECT * FROM (SELECT number FROM letter WHERE number > ?1 ORDER BY number LIMIT ?2)
             UNION SELECT * FROM (SELECT number FROM quarantine WHERE number > ?1 ORDER BY number LIMIT ?2)
         ) ORDER BY number LIMIT ?2",
        params![after, AT_ONCE],
        |row| row.get(0),
    )?;
    let mut swept = Swept::default();
    let before = ledger.totals.payload_bytes;
    for number in numbers {
        if act(ledger, number)? {
            swept.done += 1;
        } else {
            swept.left += 1;
        }
        swept.go_on = Some(number);
        if before.saturating_sub(ledger.totals.payload_bytes) > BYTES_AT_ONCE {
            break;
        }
    }
    Ok(swept)
}

/// Puts a dead letter back.
pub(in crate::store::sqlite) fn retry(ledger: &mut Ledger, number: i64) -> Outcome<()> {
    if put_back(ledger, number)? {
        return Ok(());
    }
    let known = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM letter WHERE number = ?1) OR EXISTS (SELECT 1 FROM quarantine WHERE number = ?1)
             OR EXISTS (SELECT 1 FROM delivery WHERE number = ?1 AND state = 2)",
        [number],
        |row| row.get::<_, bool>(0),
    )?;
    if known == Some(true) {
        return Err(JournalError::NoSuch(format!(
            "the content of number {number} is not there, so it can't be retried"
        )));
    }
    Err(no_such(number))
}

/// Puts a dead letter back, if its content is there.
fn put_back(ledger: &mut Ledger, number: i64) -> Outcome<bool> {
    let lane: Option<i64> = ledger.one(
        "UPDATE delivery SET state = 0, not_before = 0, reason = NULL, done_at = NULL
         WHERE number = ?1 AND state = 2
           AND (payload IS NOT NULL OR EXISTS (SELECT 1 FROM received r WHERE r.id = source AND r.payload IS NOT NULL))
         RETURNING lane",
        [number],
        |row| row.get(0),
    )?;
    if let Some(lane) = lane {
        wake(ledger, vec![lane])?;
        return Ok(true);
    }
    let back = ledger.run(
        "UPDATE unreadable SET state = 0, dead_at = NULL, since = ?2 WHERE number = ?1 AND state = 1",
        params![number, ledger.now().0],
    )?;
    Ok(back == 1)
}

/// Why there is only a line of something.
const DROPPED: &str = "dropped by the operator";
const EXPIRED: &str = "kept as a dead letter for as long as they are kept";

/// Lets go of dead letters whose time is over. Says how many.
pub(super) fn expire(ledger: &mut Ledger, at_once: usize) -> Outcome<usize> {
    let before = ledger.now().minus(ledger.limits.dead_letters_for).0;
    let old = [
        "SELECT number FROM delivery WHERE state = 2 AND done_at < ?1 ORDER BY done_at LIMIT ?2",
        "SELECT number FROM unreadable WHERE state = 1 AND dead_at < ?1 ORDER BY dead_at LIMIT ?2",
    ];
    let numbers = |ledger: &Ledger, sql: &str| ledger.all(sql, params![before, at_once], |row| row.get::<_, i64>(0));
    let (deliveries, events) = (numbers(ledger, old[0])?, numbers(ledger, old[1])?);
    for number in &deliveries {
        drop_delivery(ledger, *number, EXPIRED)?;
    }
    for number in &events {
        drop_unreadable(ledger, *number, EXPIRED)?;
    }
    let letters = ledger.run(
        "DELETE FROM letter WHERE number IN (SELECT number FROM letter WHERE since < ?1 ORDER BY since LIMIT ?2)",
        params![before, at_once],
    )?;
    Ok(deliveries.len() + events.len() + letters)
}

/// Erases a dead letter for good.
pub(in crate::store::sqlite) fn drop_letter(ledger: &mut Ledger, number: i64) -> Outcome<()> {
    let quarantined = ledger.run("DELETE FROM quarantine WHERE number = ?1", [number])?;
    if drop_delivery(ledger, number, DROPPED)? || drop_unreadable(ledger, number, DROPPED)? {
        return Ok(());
    }
    let letter = ledger.run("DELETE FROM letter WHERE number = ?1", [number])?;
    if letter + quarantined > 0 { Ok(()) } else { Err(no_such(number)) }
}

fn drop_delivery(ledger: &mut Ledger, number: i64, why: &str) -> Outcome<bool> {
    let dropped = ledger.one(
        "SELECT source, length(payload) FROM delivery WHERE number = ?1 AND state IN (2, 5)",
        [number],
        |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<usize>>(1)?)),
    )?;
    let Some((source, words)) = dropped else { return Ok(false) };
    ledger.let_go(words.unwrap_or(0));
    ledger.run(
        "UPDATE delivery SET state = ?2, payload = NULL, done_at = ?3, reason = coalesce(?4 || ': ' || reason, ?4)
         WHERE number = ?1",
        params![number, delivery::DROPPED, ledger.now().0, why],
    )?;
    match source {
        Some(source) if exists(ledger, source)? => outbox::done_with(ledger, source)?,
        _ => {}
    }
    Ok(true)
}

/// Whether a received row is there: a changed byte may have made a delivery point to nothing.
fn exists(ledger: &Ledger, place: i64) -> Outcome<bool> {
    Ok(ledger.one("SELECT 1 FROM received WHERE id = ?1", [place], |_| Ok(()))?.is_some())
}

fn drop_unreadable(ledger: &mut Ledger, number: i64, why: &str) -> Outcome<bool> {
    let dropped = ledger.one(
        "SELECT received, conversation, sender, length(raw), reason FROM unreadable
         WHERE number = ?1 AND state IN (1, 2)",
        [number],
        |row| {
            let sender = PersonId::new(row.get::<_, String>(2)?);
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                sender,
                row.get::<_, usize>(3)?,
                row.get::<_, String>(4)?,
            ))
        },
    )?;
    let Some((place, conversation, sender, raw, reason)) = dropped else { return Ok(false) };
    unreadable::forget(ledger, number, conversation, &sender, raw)?;
    if exists(ledger, place)? {
        ledger.close_line(place, Some(&format!("{why}: {reason}")))?;
    }
    Ok(true)
}

/// Why a row is set aside.
pub(super) const DOES_NOT_OPEN: &str = "does not open: its row was changed, or belongs elsewhere";

/// Sets a delivery aside that does not open.
pub(in crate::store::sqlite) fn quarantine_delivery(ledger: &mut Ledger, number: i64) -> Outcome<()> {
    let aside = ledger.run(
        "UPDATE delivery SET state = ?2 WHERE number = ?1 AND state IN (0, 1)",
        params![number, delivery::QUARANTINED],
    )?;
    if aside == 0 {
        return Ok(());
    }
    tracing::error!(number, "A delivery does not open and is set aside.");
    ledger.run(
        "INSERT INTO quarantine (number, name, origin, lane, reason, since)
         SELECT d.number, 'delivery ' || lower(hex(d.id)), r.conversation, d.lane, ?2, ?3
         FROM delivery d LEFT JOIN received r ON r.id = d.source WHERE d.number = ?1",
        params![number, DOES_NOT_OPEN, ledger.now().0],
    )?;
    Ok(())
}

/// Sets an event aside that can't be read and does not open either.
pub(in crate::store::sqlite) fn quarantine_unreadable(ledger: &mut Ledger, number: i64) -> Outcome<()> {
    let conversation: Option<i64> = ledger.one(
        "UPDATE unreadable SET state = ?2, holding = 0 WHERE number = ?1 AND state = 0 RETURNING conversation",
        params![number, waiting::QUARANTINED],
        |row| row.get(0),
    )?;
    let Some(conversation) = conversation else { return Ok(()) };
    tracing::error!(number, "An event that waits does not open and is set aside.");
    ledger.run(
        "INSERT INTO quarantine (number, name, origin, sender, reason, since)
         SELECT u.number, coalesce(r.remote, 'an event'), u.conversation, u.sender, ?2, ?3
         FROM unreadable u LEFT JOIN received r ON r.id = u.received WHERE u.number = ?1",
        params![number, DOES_NOT_OPEN, ledger.now().0],
    )?;
    order::go_on(ledger, conversation)?;
    Ok(())
}

/// Sets a message aside that does not open when its turn comes to be routed.
pub(super) fn quarantine_received(ledger: &mut Ledger, place: i64) -> Outcome<()> {
    let number = ledger.next_number();
    tracing::error!(number, "A message that waits does not open and is set aside.");
    ledger.run(
        "INSERT INTO quarantine (number, name, origin, sender, reason, since)
         SELECT ?2, remote, conversation, sender, ?3, ?4 FROM received WHERE id = ?1",
        params![place, number, DOES_NOT_OPEN, ledger.now().0],
    )?;
    let held: Option<usize> =
        ledger.one("SELECT length(payload) FROM received WHERE id = ?1", [place], |row| row.get(0))?.flatten();
    ledger.let_go(held.unwrap_or(0));
    shares::give_back(ledger, place)?;
    ledger.run(
        "UPDATE received SET state = ?2, payload = NULL, note = ?3, at = ?4 WHERE id = ?1",
        params![place, received::DONE, DOES_NOT_OPEN, ledger.now().0],
    )?;
    Ok(())
}
