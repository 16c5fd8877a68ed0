//! The outbox: what is on its way, and what became of it.

use rusqlite::params;
use sealbridge_contract::{
    Address, Cleartext, DeliveryId, Message, RemoteId, Target, Timestamp, gate::Hold, inbox::Echo,
};

use super::{
    super::{
        Outcome, delivery,
        keys::{Place, name_key, topic_key},
        received,
    },
    Ledger, commands, letters, links, pins,
};
use crate::store::{FirstVerdict, JournalError, Routed};

/// Writes one delivery of a received message.
pub(super) fn enqueue(ledger: &mut Ledger, from: &Address, id: &RemoteId, source: i64, routed: &Routed) -> Outcome<()> {
    let held;
    let (state, reason) = match &routed.verdict {
        FirstVerdict::Enqueue => (delivery::QUEUED, None),
        FirstVerdict::Hold(why) => {
            held = why.to_string();
            (delivery::HELD, Some(held.as_str()))
        }
        FirstVerdict::Refuse(reason) => (delivery::DEAD, Some(reason.as_str())),
        FirstVerdict::Echo => (delivery::ECHO, None),
    };
    let (lane, link) = (ledger.conversation(&routed.to)?, ledger.link(&routed.link)?);
    let (number, delivery) = (ledger.next_number(), DeliveryId::random());
    let origin = Some((from, id.as_str()));
    let place = Place::delivery(number, delivery.as_bytes(), &routed.to, Some(routed.link.as_str()), origin);
    let now = ledger.now().0;
    ledger.run(
        "INSERT INTO delivery (number, id, lane, source, link, state, enqueued_at, done_at, reason, tag)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            number,
            delivery.as_bytes(),
            lane,
            source,
            link,
            state,
            now,
            (state == delivery::DEAD).then_some(now),
            reason,
            ledger.keys.tag(&place),
        ],
    )?;
    if state == delivery::QUEUED {
        ledger.woken.insert(routed.to.clone());
    }
    if let Some(words) = &routed.tell {
        let reply_to = Some(Target::new(id.clone()));
        let notice = Cleartext::new(Message { reply_to, ..Message::notice(ledger.now(), words) });
        say(ledger, from, &notice, Some(&format!("refused {}", id.as_str())))?;
    }
    Ok(())
}

/// Enqueues words of the bridge itself.
pub(in crate::store::sqlite) fn say(
    ledger: &mut Ledger,
    to: &Address,
    message: &Cleartext,
    once: Option<&str>,
) -> Outcome<bool> {
    let number = ledger.next_number();
    if let Some(topic) = once {
        let known = params![topic_key(to, topic), number];
        if ledger.run("INSERT INTO said (key, number) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING", known)? == 0 {
            return Ok(false);
        }
    }
    let lane = ledger.conversation(to)?;
    let delivery = DeliveryId::random();
    let locked = ledger.keys.vault.lock_message(Place::words(to, delivery).bytes(), message);
    // The operator must hear that the journal is full, too.
    ledger.take_in_anyway(locked.size());
    let tag = ledger.keys.tag(&Place::delivery(number, delivery.as_bytes(), to, None, None));
    ledger.run(
        "INSERT INTO delivery (number, id, lane, state, enqueued_at, tag, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            number,
            delivery.as_bytes(),
            lane,
            delivery::QUEUED,
            ledger.now().0,
            tag,
            ledger.keys.vault.to_row(&locked)
        ],
    )?;
    ledger.woken.insert(to.clone());
    Ok(true)
}

/// A delivery of ours came back to us: it arrived, whatever we thought.
pub(super) fn echo(ledger: &mut Ledger, at: &Address, echo: &Echo) -> Outcome<()> {
    let Some(lane) = ledger.known_conversation(at)? else { return Ok(()) };
    let number = ledger.one(
        "SELECT number FROM delivery WHERE id = ?1 AND state < 3 AND lane = ?2",
        params![echo.delivery.as_bytes(), lane],
        |row| row.get(0),
    )?;
    match number {
        Some(number) => settle(ledger, number, &echo.id),
        None => Ok(()),
    }
}

/// A delivery's row, as far as steps need it.
struct Line {
    state: i64,
    lane: i64,
    source: Option<i64>,
    /// How long its own words are, and those of the message that it carries.
    words: usize,
    message: usize,
    /// For whom that message counts as a dead letter, if it does.
    pinned: Option<i64>,
    /// Whether another delivery needs that message.
    shared: bool,
}

fn line(ledger: &Ledger, number: i64) -> Outcome<Line> {
    ledger
        .one(
            "SELECT d.state, d.lane, d.source, coalesce(length(d.payload), 0), coalesce(length(r.payload), 0),
                    EXISTS (SELECT 1 FROM delivery o
                            WHERE o.source = d.source AND o.number <> d.number AND o.state IN (0, 1, 2, 5)), r.pinned
             FROM delivery d LEFT JOIN received r ON r.id = d.source WHERE d.number = ?1",
            [number],
            |row| {
                Ok(Line {
                    state: row.get(0)?,
                    lane: row.get(1)?,
                    source: row.get(2)?,
                    words: row.get(3)?,
                    message: row.get(4)?,
                    shared: row.get(5)?,
                    pinned: row.get(6)?,
                })
            },
        )?
        .ok_or_else(|| no_such(number))
}

pub(super) fn no_such(number: i64) -> JournalError {
    JournalError::NoSuch(format!("there is nothing with the number {number} that this could be done to"))
}

/// It arrived.
pub(in crate::store::sqlite) fn settle(ledger: &mut Ledger, number: i64, as_id: &RemoteId) -> Outcome<()> {
    let line = line(ledger, number)?;
    match line.state {
        delivery::QUEUED | delivery::HELD | delivery::DEAD => {}
        // The echo was faster than the answer, or the other way round.
        delivery::SETTLED => return Ok(()),
        // It was erased while it was on its way, and arrived all the same: its name is what deletes it there.
        delivery::DROPPED if line.source.is_some() => {}
        _ => return Err(no_such(number)),
    }
    ledger.let_go(line.words);
    ledger.totals.settled += 1;
    ledger.run(
        "UPDATE delivery SET state = ?2, settled_as = ?3, settled_key = ?4, reason = NULL, payload = NULL, done_at = ?5
         WHERE number = ?1",
        params![
            number,
            delivery::SETTLED,
            as_id.as_str(),
            name_key(line.lane, as_id.as_str()),
            line.source.is_none().then(|| ledger.now().0),
        ],
    )?;
    match line.source {
        Some(_) if line.state == delivery::DROPPED => Ok(()),
        Some(source) if line.shared => pins::died(ledger, source),
        Some(source) => ledger.erase(source, line.message, line.pinned, None),
        None => Ok(()),
    }
}

/// Erases a received message's content if nobody needs it any more. What only dead letters need counts as theirs.
pub(super) fn done_with(ledger: &mut Ledger, source: i64) -> Outcome<()> {
    let needed = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM delivery WHERE source = ?1 AND state IN (0, 1, 2, 5))",
        [source],
        |row| row.get::<_, bool>(0),
    )?;
    if needed == Some(true) { pins::died(ledger, source) } else { ledger.close_line(source, None) }
}

/// Changes a delivery that is queued or held.
fn change(ledger: &Ledger, number: i64, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Outcome<()> {
    if ledger.run(sql, params)? == 0 { Err(no_such(number)) } else { Ok(()) }
}

/// It did not arrive, and is tried again.
pub(in crate::store::sqlite) fn postpone(
    ledger: &mut Ledger,
    number: i64,
    not_before: Timestamp,
    cause: &str,
) -> Outcome<()> {
    let sql =
        "UPDATE delivery SET attempts = attempts + 1, not_before = ?2, reason = ?3 WHERE number = ?1 AND state = 0";
    change(ledger, number, sql, &[&number, &not_before.0, &cause])
}

/// It is not to arrive.
pub(in crate::store::sqlite) fn leave_out(ledger: &mut Ledger, number: i64, why: &str) -> Outcome<()> {
    let line = line(ledger, number)?;
    if !matches!(line.state, delivery::QUEUED | delivery::HELD) {
        return Err(no_such(number));
    }
    ledger.let_go(line.words);
    ledger.run(
        "UPDATE delivery SET state = ?2, reason = ?3, payload = NULL, done_at = ?4 WHERE number = ?1",
        params![number, delivery::DROPPED, why, ledger.now().0],
    )?;
    line.source.map_or(Ok(()), |source| done_with(ledger, source))
}

/// It waits until somebody resumes its link.
pub(in crate::store::sqlite) fn hold(ledger: &mut Ledger, number: i64, why: Hold) -> Outcome<()> {
    if why == Hold::Paused && links::goes_on(ledger, number)? {
        return Ok(());
    }
    let sql = "UPDATE delivery SET state = 1, reason = ?2 WHERE number = ?1 AND state IN (0, 1)";
    change(ledger, number, sql, &[&number, &why.to_string()])
}

/// It will not arrive.
pub(in crate::store::sqlite) fn bury(ledger: &mut Ledger, number: i64, reason: &str) -> Outcome<()> {
    let source: Option<i64> = ledger
        .one(
            "UPDATE delivery SET state = 2, reason = ?2, done_at = ?3 WHERE number = ?1 AND state IN (0, 1)
             RETURNING source",
            params![number, reason, ledger.now().0],
            |row| row.get(0),
        )?
        .ok_or_else(|| no_such(number))?;
    source.map_or(Ok(()), |source| pins::died(ledger, source))
}

/// As many lines are forgotten in one go.
const SWEPT_AT_ONCE: usize = 1000;

/// Forgets old lines.
pub(in crate::store::sqlite) fn sweep(ledger: &mut Ledger) -> Outcome<usize> {
    let before = ledger.now().minus(ledger.limits.lines_for).0;
    let places: Vec<i64> = ledger.all(
        "SELECT id FROM received WHERE state = ?1 AND at < ?2 ORDER BY at LIMIT ?3",
        params![received::DONE, before, SWEPT_AT_ONCE],
        |row| row.get(0),
    )?;
    for place in &places {
        let settled = ledger.one("SELECT count(*) FROM delivery WHERE source = ?1 AND state = 3", [place], |row| {
            row.get::<_, u64>(0)
        })?;
        ledger.totals.settled = ledger.totals.settled.saturating_sub(settled.unwrap_or(0));
        ledger.run("DELETE FROM delivery WHERE source = ?1", [place])?;
        ledger.run("DELETE FROM received WHERE id = ?1", [place])?;
    }
    if !places.is_empty() {
        let oldest = ledger.one("SELECT min(era) FROM received", [], |row| row.get::<_, Option<i64>>(0))?;
        // What a failed commit forgets here is only asked for in vain.
        ledger.names.forget_before(oldest.flatten().unwrap_or(i64::MAX));
    }
    let words: Vec<i64> = ledger.all(
        "DELETE FROM delivery WHERE number IN
         (SELECT number FROM delivery WHERE source IS NULL AND state IN (3, 6) AND done_at < ?1 ORDER BY done_at LIMIT ?2)
         RETURNING state",
        params![before, SWEPT_AT_ONCE],
        |row| row.get(0),
    )?;
    let settled = words.iter().filter(|state| **state == delivery::SETTLED).count();
    ledger.totals.settled = ledger.totals.settled.saturating_sub(settled as u64);
    let done = commands::sweep(ledger, SWEPT_AT_ONCE)?;
    Ok(places.len() + words.len() + done + letters::expire(ledger, SWEPT_AT_ONCE)?)
}
