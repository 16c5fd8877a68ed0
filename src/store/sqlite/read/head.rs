//! What is next in a lane.

use rusqlite::{Row, params};
use sealbridge_contract::{Address, Cleartext, DeliveryId, RemoteId, SenderTrust, Timestamp};

use super::{
    super::{
        Outcome, delivery,
        keys::{self, Place, trust_from_row},
    },
    Reader,
};
use crate::store::{LinkName, Pending};

/// The head of a lane, and the numbers of those that do not open.
#[derive(Default)]
pub(in crate::store::sqlite) struct Head {
    pub(in crate::store::sqlite) pending: Vec<Pending>,
    pub(in crate::store::sqlite) broken: Vec<i64>,
}

/// Conversations that have something in the outbox.
pub(in crate::store::sqlite) fn lanes(reader: &Reader) -> Outcome<Vec<Address>> {
    // From one lane to the next through the index, not through every delivery.
    let names = reader.all(
        "WITH RECURSIVE step (here) AS (
             SELECT min(lane) FROM delivery WHERE state = 0
             UNION ALL
             SELECT (SELECT min(d.lane) FROM delivery d WHERE d.state = 0 AND d.lane > step.here)
             FROM step WHERE step.here IS NOT NULL
         )
         SELECT c.account, c.name FROM step JOIN conversation c ON c.id = step.here",
        [],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    Ok(names.into_iter().filter_map(|(account, name)| keys::address(&account, name)).collect())
}

/// The next deliveries of a lane after number `after`, oldest first.
pub(in crate::store::sqlite) fn head(reader: &Reader, to: &Address, after: i64, limit: usize) -> Outcome<Head> {
    let mut head = Head::default();
    let Some(lane) = reader.conversation(to)? else { return Ok(head) };
    let mut statement = reader.connection.prepare_cached(
        "SELECT d.number, d.id, l.name, d.attempts, d.not_before, d.enqueued_at, d.tag, d.payload, d.source,
                r.remote, r.trust, r.payload, c.account, c.name
         FROM delivery d
         LEFT JOIN received r ON r.id = d.source
         LEFT JOIN conversation c ON c.id = r.conversation
         LEFT JOIN link l ON l.id = d.link
         WHERE d.lane = ?1 AND d.state = 0 AND d.number > ?2 ORDER BY d.number LIMIT ?3",
    )?;
    let mut rows = statement.query(params![lane, after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let Some(mut pending) = open(reader, to, number, row) else {
            head.broken.push(number);
            continue;
        };
        match answered(reader, lane, &pending)? {
            Answered::As(id) => pending.reply_to = Some(id),
            Answered::Unknown => {}
            // Its name there is known once it is delivered, and it is about to be.
            Answered::Pending(target) if head.pending.iter().any(|before| before.number == target) => break,
            Answered::Pending(_) => {}
        }
        head.pending.push(pending);
    }
    Ok(head)
}

/// `None` if anything in the row is not as it was written.
fn open(reader: &Reader, to: &Address, number: i64, row: &Row<'_>) -> Option<Pending> {
    let id: Vec<u8> = row.get(1).ok()?;
    let link: Option<String> = row.get(2).ok()?;
    let source: Option<i64> = row.get(8).ok()?;
    let from = match source {
        Some(_) => {
            let account: String = row.get(12).ok()?;
            Some((keys::address(&account, row.get(13).ok()?)?, RemoteId::new(row.get::<_, String>(9).ok()?)))
        }
        None => None,
    };
    let origin = from.as_ref().map(|(at, id)| (at, id.as_str()));
    let tag: Vec<u8> = row.get(6).ok()?;
    if !reader.keys.fits(&Place::delivery(number, &id, to, link.as_deref(), origin), &tag) {
        return None;
    }
    let delivery = DeliveryId::from_bytes(id.try_into().ok()?);
    let (message, trust) = words(reader, to, delivery, from.as_ref(), row)?;
    Some(Pending {
        number,
        delivery,
        link: link.map(|name| LinkName::parse(&name)).transpose().ok()?,
        from,
        message,
        trust,
        reply_to: None,
        attempt: row.get(3).ok()?,
        not_before: Timestamp(row.get(4).ok()?),
        enqueued_at: Timestamp(row.get(5).ok()?),
    })
}

fn words(
    reader: &Reader,
    to: &Address,
    delivery: DeliveryId,
    from: Option<&(Address, RemoteId)>,
    row: &Row<'_>,
) -> Option<(Cleartext, SenderTrust)> {
    let (place, bytes, trust): (_, Vec<u8>, _) = match from {
        Some((at, id)) => {
            let trust = trust_from_row(row.get(10).ok()?)?;
            (Place::message(at, id.as_str(), trust), row.get(11).ok()?, trust)
        }
        None => (Place::words(to, delivery), row.get(7).ok()?, SenderTrust::Local),
    };
    let locked = reader.keys.vault.from_row(bytes);
    Some((reader.keys.vault.unlock_message(place.bytes(), &locked).ok()?, trust))
}

/// What a message answers, at its destination.
enum Answered {
    As(RemoteId),
    /// It is on its way there itself, as this number.
    Pending(i64),
    Unknown,
}

fn answered(reader: &Reader, lane: i64, pending: &Pending) -> Outcome<Answered> {
    let (Some((from, _)), Some(target)) = (&pending.from, pending.message.reply_to()) else {
        return Ok(Answered::Unknown);
    };
    let Some(origin) = reader.conversation(from)? else { return Ok(Answered::Unknown) };
    // It was received here and carried there.
    if let Some(source) = reader.received_as(origin, target.as_str())? {
        return carried(reader, source, lane);
    }
    // It is one of ours here: it was received there, or was carried there beside.
    let Some(ours) = reader.delivered_as(origin, target.as_str())? else { return Ok(Answered::Unknown) };
    let source: Option<Option<i64>> =
        reader.one("SELECT source FROM delivery WHERE number = ?1", [ours], |row| row.get(0))?;
    let Some(source) = source.flatten() else { return Ok(Answered::Unknown) };
    let there: Option<String> =
        reader
            .one("SELECT remote FROM received WHERE id = ?1 AND conversation = ?2", [source, lane], |row| row.get(0))?;
    match there {
        Some(remote) => Ok(Answered::As(RemoteId::new(remote))),
        None => carried(reader, source, lane),
    }
}

/// What a received message is called in a lane that it was carried to.
fn carried(reader: &Reader, source: i64, lane: i64) -> Outcome<Answered> {
    let found = reader.one(
        "SELECT number, state, settled_as FROM delivery
         WHERE source = ?1 AND lane = ?2 AND state IN (0, 3) ORDER BY state DESC, number LIMIT 1",
        [source, lane],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<String>>(2)?)),
    )?;
    Ok(match found {
        Some((_, delivery::SETTLED, Some(id))) => Answered::As(RemoteId::new(id)),
        Some((number, delivery::QUEUED, _)) => Answered::Pending(number),
        _ => Answered::Unknown,
    })
}
