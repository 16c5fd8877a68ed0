//! What is next in a lane.

use rusqlite::{Row, params};
use sealbridge_contract::{Address, Cleartext, DeliveryId, RemoteId, SenderTrust, Timestamp};

use super::{
    super::{
        Outcome, delivery,
        keys::{self, Place, topic_key, trust_from_row},
    },
    Reader,
};
use crate::{
    notices,
    store::{LaneReport, LinkName, Pending, Spoken},
};

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

/// How each lane stands that has something in the outbox.
pub(in crate::store::sqlite) fn lane_reports(reader: &Reader) -> Outcome<Vec<LaneReport>> {
    let mut reports = Vec::new();
    for at in lanes(reader)? {
        let Some(lane) = reader.conversation(&at)? else { continue };
        let queued =
            reader.one("SELECT count(*) FROM delivery WHERE lane = ?1 AND state = 0", [lane], |row| row.get(0))?;
        let first = reader.one(
            "SELECT enqueued_at, attempts, reason FROM delivery WHERE lane = ?1 AND state = 0 ORDER BY number LIMIT 1",
            [lane],
            |row| Ok((Timestamp(row.get(0)?), row.get(1)?, row.get(2)?)),
        )?;
        if let (Some(queued), Some((since, attempts, cause))) = (queued, first) {
            reports.push(LaneReport { at, queued, since, attempts, cause });
        }
    }
    Ok(reports)
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
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let number = row.get(0)?;
        let Some(mut pending) = open(reader, to, number, row) else {
            head.broken.push(number);
            continue;
        };
        if !relate(reader, lane, &mut pending, &head.pending)? {
            return Ok(head);
        }
        head.pending.push(pending);
    }
    if let Some(pending) = head.pending.last_mut() {
        pending.last = looked_at < limit;
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
        thread: None,
        about: None,
        erased: None,
        attempt: row.get(3).ok()?,
        not_before: Timestamp(row.get(4).ok()?),
        enqueued_at: Timestamp(row.get(5).ok()?),
        last: false,
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

/// Names what a message answers and is about as its destination does. False: it is about one that is about to be
/// delivered itself, and its name there is known only then.
fn relate(reader: &Reader, lane: i64, pending: &mut Pending, before: &[Pending]) -> Outcome<bool> {
    let Some((from, _)) = &pending.from else {
        // What the bridge itself answers was said where the answer goes.
        pending.reply_to = pending.message.reply_to().cloned();
        return Ok(true);
    };
    let message = &pending.message;
    let relations = [message.reply_to(), message.thread(), message.about()];
    if relations.iter().all(Option::is_none) {
        return Ok(true);
    }
    let Some(origin) = reader.conversation(from)? else { return Ok(true) };
    let (mut names, mut answers_erased) = ([None, None, None], false);
    for (name, target) in names.iter_mut().zip(relations) {
        let Some(target) = target else { continue };
        match named(reader, origin, target, lane)? {
            Named::As(id) => *name = Some(id),
            Named::Pending(number) if before.iter().any(|before| before.number == number) => return Ok(false),
            Named::Erased(delivery, since) if message.takes_back() == Some(target) => {
                pending.erased = Some((delivery, since));
            }
            // Its words were taken back, and must not come along in a quotation.
            Named::Erased(..) => answers_erased |= message.reply_to() == Some(target),
            // The operator names what they answer as it is called where the answer goes.
            Named::Unknown if notices::is_operator(from) && message.about() != Some(target) => {
                *name = Some(target.clone())
            }
            Named::Pending(_) | Named::Unknown => {}
        }
    }
    if answers_erased {
        pending.message.forget_quote();
    }
    [pending.reply_to, pending.thread, pending.about] = names;
    Ok(true)
}

/// What a message is called in a lane.
enum Named {
    As(RemoteId),
    /// It is on its way there itself, as this number.
    Pending(i64),
    /// It was erased on its way there, enqueued then, and may have arrived.
    Erased(DeliveryId, Timestamp),
    Unknown,
}

fn named(reader: &Reader, origin: i64, target: &RemoteId, lane: i64) -> Outcome<Named> {
    // It was received here and carried there.
    if let Some(source) = reader.received_as(origin, target.as_str())? {
        return carried(reader, source, lane);
    }
    // It is one of ours here: it was received there, or was carried there beside.
    let Some(ours) = reader.delivered_as(origin, target.as_str())? else { return Ok(Named::Unknown) };
    let source: Option<Option<i64>> =
        reader.one("SELECT source FROM delivery WHERE number = ?1", [ours], |row| row.get(0))?;
    let Some(source) = source.flatten() else { return Ok(Named::Unknown) };
    let there: Option<String> =
        reader
            .one("SELECT remote FROM received WHERE id = ?1 AND conversation = ?2", [source, lane], |row| row.get(0))?;
    match there {
        Some(remote) => Ok(Named::As(RemoteId::new(remote))),
        None => carried(reader, source, lane),
    }
}

/// What a received message is called in a lane that it was carried to.
fn carried(reader: &Reader, source: i64, lane: i64) -> Outcome<Named> {
    let found = reader.one(
        "SELECT number, state, settled_as, id, enqueued_at FROM delivery
         WHERE source = ?1 AND lane = ?2 AND state IN (0, 3, 6)
         ORDER BY CASE state WHEN 3 THEN 0 WHEN 0 THEN 1 ELSE 2 END, number LIMIT 1",
        [source, lane],
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, [u8; 16]>(3)?,
                Timestamp(row.get(4)?),
            ))
        },
    )?;
    Ok(match found {
        Some((_, delivery::SETTLED, Some(id), ..)) => Named::As(RemoteId::new(id)),
        Some((number, delivery::QUEUED, ..)) => Named::Pending(number),
        Some((_, delivery::DROPPED, _, id, since)) => Named::Erased(DeliveryId::from_bytes(id), since),
        _ => Named::Unknown,
    })
}

/// What became of words that are said once.
pub(in crate::store::sqlite) fn said(reader: &Reader, to: &Address, topic: &str) -> Outcome<Spoken> {
    let number = reader
        .one("SELECT number FROM said WHERE key = ?1", [topic_key(to, topic)], |row| row.get::<_, Option<i64>>(0))?;
    let Some(number) = number else { return Ok(Spoken::Never) };
    let state = reader.one("SELECT state FROM delivery WHERE number = ?1", [number], |row| row.get::<_, i64>(0))?;
    Ok(match state {
        Some(delivery::QUEUED | delivery::HELD) => Spoken::OnItsWay,
        Some(delivery::SETTLED) => Spoken::Arrived,
        _ => Spoken::Lost,
    })
}

/// What a message is called at another conversation.
pub(in crate::store::sqlite) fn called(
    reader: &Reader,
    from: &Address,
    id: &RemoteId,
    at: &Address,
) -> Outcome<Option<RemoteId>> {
    let (Some(origin), Some(lane)) = (reader.conversation(from)?, reader.conversation(at)?) else { return Ok(None) };
    Ok(match named(reader, origin, id, lane)? {
        Named::As(id) => Some(id),
        _ => None,
    })
}
