//! What one sender may pin: dead letters and events that can't be read stay until somebody acts or their time is over,
//! so a share of the journal is all that one sender's may take. What is over it leaves its line and its reason alone.

use rusqlite::params;

use super::{super::Outcome, Ledger, shares};

/// One sender pins so much of the journal at most.
const SHARE: u64 = 16;

/// Why the content of a dead letter or of an event that can't be read is not kept.
pub(super) const TOO_MUCH: &str = "its sender has as much waiting here as one sender may";

/// Whether a sender may pin so many bytes more.
pub(super) fn may(ledger: &Ledger, sender: i64, bytes: usize) -> Outcome<bool> {
    let pinned = ledger.one("SELECT bytes FROM pinned WHERE sender = ?1", [sender], |row| row.get::<_, u64>(0))?;
    Ok(pinned.unwrap_or(0).saturating_add(bytes as u64) <= ledger.limits.payload_bytes / SHARE)
}

/// Counts bytes in.
pub(super) fn add(ledger: &Ledger, sender: i64, bytes: usize) -> Outcome<()> {
    ledger.run(
        "INSERT INTO pinned (sender, bytes) VALUES (?1, ?2) ON CONFLICT (sender) DO UPDATE SET bytes = bytes + ?2",
        params![sender, bytes],
    )?;
    Ok(())
}

/// Counts bytes out.
pub(super) fn take(ledger: &Ledger, sender: i64, bytes: usize) -> Outcome<()> {
    ledger.run("UPDATE pinned SET bytes = bytes - ?2 WHERE sender = ?1", params![sender, bytes])?;
    ledger.run("DELETE FROM pinned WHERE sender = ?1 AND bytes <= 0", [sender])?;
    Ok(())
}

/// A received message of which a delivery died. Once nothing else needs its content it counts, or its content goes if that is
/// too much; so this is to be asked again whenever another delivery of it comes to its end.
pub(super) fn died(ledger: &mut Ledger, source: i64) -> Outcome<()> {
    let found = ledger.one(
        "SELECT r.sender_key, coalesce(length(r.payload), 0), r.pinned IS NOT NULL,
                EXISTS (SELECT 1 FROM delivery d WHERE d.source = r.id AND d.state IN (0, 1, 5))
         FROM received r WHERE r.id = ?1",
        [source],
        |row| {
            let (sender, bytes) = (row.get::<_, Option<i64>>(0)?, row.get::<_, usize>(1)?);
            Ok((sender, bytes, row.get::<_, bool>(2)?, row.get::<_, bool>(3)?))
        },
    )?;
    let Some((Some(sender), bytes, is_pinned, false)) = found else { return Ok(()) };
    if !is_pinned && !may(ledger, sender, bytes)? {
        return ledger.erase(source, bytes, None, Some(TOO_MUCH));
    }
    // What is only a dead letter has this bound, and keeps nobody from bringing more.
    shares::give_back(ledger, source)?;
    if is_pinned {
        return Ok(());
    }
    ledger.run("UPDATE received SET pinned = sender_key WHERE id = ?1", [source])?;
    add(ledger, sender, bytes)
}
