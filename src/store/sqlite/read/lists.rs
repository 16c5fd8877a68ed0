//! What operators and transports ask for: links, gaps, waiting events, dead letters, and what became of a message.

use std::collections::HashSet;

use rusqlite::types::Value;
use sealbridge_contract::{
    AccountName, Address, PersonId, RemoteId, SpoolId, Timestamp, Vault,
    inbox::{OpenGap, Waiting, WaitingFor},
};

use super::{
    super::{
        Outcome, delivery,
        keys::{self, Place, trust_from_row},
        links, received, unreadable,
        write::Bounds,
    },
    Reader,
};
use crate::store::{Counts, DeadLetter, Died, Fact, JournalError, Limits, Link, LinkName, Share, Unread};

/// All links.
pub(in crate::store::sqlite) fn links(reader: &Reader) -> Outcome<Vec<Link>> {
    links::all(&reader.connection, &reader.keys)
}

/// Gaps that are open, of an account's linked conversations.
pub(in crate::store::sqlite) fn open_gaps(reader: &Reader, account: &AccountName) -> Outcome<Vec<OpenGap>> {
    let rows = reader.all(
        "SELECT g.id, c.name, g.low, g.content FROM gap g JOIN conversation c ON c.id = g.conversation
         WHERE c.account = ?1 ORDER BY g.id",
        [account.as_str()],
        |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?)),
    )?;
    let mut gaps = Vec::with_capacity(rows.len());
    for (id, name, low, content) in rows {
        let Some(at) = keys::address(account.as_str(), name) else { continue };
        let Some(not_before) = reader.router.linked_since(&at) else { continue };
        let content = reader.unlock(&Place::gap(&at, low), content, || "an open gap".into())?;
        let bounds: Bounds = serde_json::from_slice(content.expose())
            .map_err(|_| JournalError::Damaged("an open gap was written by another version".into()))?;
        gaps.push(OpenGap { id, conversation: at.conversation, from: bounds.from, until: bounds.until, not_before });
    }
    Ok(gaps)
}

/// Events that wait to be read, and the numbers of those that do not open.
pub(in crate::store::sqlite) fn waiting(
    reader: &Reader,
    account: &AccountName,
    filter: &WaitingFor,
    after: i64,
    limit: usize,
) -> Outcome<(Vec<Waiting>, Vec<i64>)> {
    let mut sql = String::from(
        "SELECT u.number, c.name, u.sender, u.raw, u.since, r.remote
         FROM unreadable u JOIN conversation c ON c.id = u.conversation LEFT JOIN received r ON r.id = u.received
         WHERE c.account = ? AND u.state = 0 AND u.number > ?",
    );
    let mut values = vec![Value::from(account.as_str().to_owned()), Value::from(after)];
    let conversation = filter.conversation.as_ref().map(|c| c.as_str());
    let narrowings = [
        (" AND c.name = ?", conversation),
        (" AND u.hint = ?", filter.hint.as_deref()),
        (" AND u.sender = ?", filter.sender.as_ref().map(PersonId::as_str)),
    ];
    for (condition, value) in narrowings {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(Value::from(value.to_owned()));
        }
    }
    sql.push_str(" ORDER BY u.number LIMIT ?");
    values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut statement = reader.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let (mut events, mut broken) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let open = || -> Option<Waiting> {
            let at = keys::address(account.as_str(), row.get(1).ok()?)?;
            let remote: String = row.get(5).ok()?;
            let locked = reader.keys.vault.from_row(row.get(3).ok()?);
            let raw = reader.keys.vault.unlock(Place::raw(&at, &remote).bytes(), &locked).ok()?;
            let sender = PersonId::new(row.get::<_, String>(2).ok()?);
            let since = Timestamp(row.get(4).ok()?);
            Some(Waiting { id: number, conversation: at.conversation, sender, raw, since })
        };
        match open() {
            Some(event) => events.push(event),
            None => broken.push(number),
        }
    }
    Ok((events, broken))
}

/// Dead letters and quarantined rows, oldest first, after number `after`.
pub(in crate::store::sqlite) fn dead_letters(reader: &Reader, after: i64, limit: usize) -> Outcome<Vec<DeadLetter>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut letters = Vec::new();
    let sources: [(&str, bool); 4] = [
        (
            "SELECT d.number, d.id, f.account, f.name, t.account, t.name, NULL, d.reason, d.done_at,
                    coalesce(r.payload, d.payload), r.remote, r.trust
             FROM delivery d JOIN conversation t ON t.id = d.lane
             LEFT JOIN received r ON r.id = d.source LEFT JOIN conversation f ON f.id = r.conversation
             WHERE d.state = 2 AND d.number > ?1 ORDER BY d.number LIMIT ?2",
            false,
        ),
        (
            "SELECT u.number, r.remote, f.account, f.name, NULL, NULL, u.sender, u.reason, u.dead_at
             FROM unreadable u JOIN received r ON r.id = u.received JOIN conversation f ON f.id = u.conversation
             WHERE u.state = 1 AND u.number > ?1 ORDER BY u.number LIMIT ?2",
            true,
        ),
        (
            "SELECT l.number, l.name, f.account, f.name, NULL, NULL, l.sender, l.reason, l.since
             FROM letter l LEFT JOIN conversation f ON f.id = l.conversation
             WHERE l.number > ?1 ORDER BY l.number LIMIT ?2",
            false,
        ),
        (
            "SELECT q.number, q.name, f.account, f.name, t.account, t.name, q.sender, q.reason, q.since
             FROM quarantine q LEFT JOIN conversation f ON f.id = q.origin LEFT JOIN conversation t ON t.id = q.lane
             WHERE q.number > ?1 ORDER BY q.number LIMIT ?2",
            false,
        ),
    ];
    for (place, (sql, kept)) in sources.into_iter().enumerate() {
        let read = |row: &rusqlite::Row<'_>| {
            let address = |at: usize| -> rusqlite::Result<Option<Address>> {
                let (account, name): (Option<String>, Option<String>) = (row.get(at)?, row.get(at + 1)?);
                Ok(account.zip(name).and_then(|(account, name)| keys::address(&account, name)))
            };
            let mut letter = DeadLetter {
                number: row.get(0)?,
                name: String::new(),
                from: address(2)?,
                to: address(4)?,
                sender: row.get(6)?,
                reason: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
                since: Timestamp(row.get::<_, Option<i64>>(8)?.unwrap_or_default()),
                kept,
            };
            if place == 0 {
                describe_delivery(&reader.keys.vault, &mut letter, row)?;
            } else {
                letter.name = row.get(1)?;
            }
            Ok(letter)
        };
        letters.extend(reader.all(sql, [after, limit], read)?);
    }
    letters.sort_by_key(|letter| letter.number);
    letters.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(letters)
}

/// Who wrote it is inside what is locked, so it is opened for a moment.
fn describe_delivery(vault: &Vault, letter: &mut DeadLetter, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
    let id: [u8; 16] = row.get(1)?;
    let delivery = sealbridge_contract::DeliveryId::from_bytes(id);
    letter.name = delivery.to_string();
    let remote: Option<String> = row.get(10)?;
    let trust = row.get::<_, Option<i64>>(11)?.and_then(trust_from_row);
    let place = match (&letter.from, &letter.to, remote, trust) {
        (Some(from), _, Some(remote), Some(trust)) => Place::message(from, &remote, trust),
        (None, Some(to), None, None) => Place::words(to, delivery),
        _ => return Ok(()),
    };
    let Some(payload) = row.get::<_, Option<Vec<u8>>>(9)? else { return Ok(()) };
    if let Ok(message) = vault.unlock_message(place.bytes(), &vault.from_row(payload)) {
        letter.kept = true;
        letter.sender = Some(message.author().as_str().to_owned());
    }
    Ok(())
}

/// As many kinds of dead letters are named at once.
const KINDS_AT_ONCE: usize = 1024;

/// What became dead letters since a moment, by conversation, reason and hour.
pub(in crate::store::sqlite) fn died_since(reader: &Reader, since: Timestamp) -> Outcome<Vec<Died>> {
    let read = |row: &rusqlite::Row<'_>| {
        let (account, name): (String, String) = (row.get(0)?, row.get(1)?);
        let (reason, hour, count) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let last = Timestamp(row.get(5)?);
        Ok(keys::address(&account, name).map(|from| Died { from, reason, hour, count, last }))
    };
    let died = reader.all(
        "SELECT c.account, c.name, coalesce(dead.reason, ''), dead.at / 3600000 AS hour, count(*), max(dead.at) AS last
         FROM (
             SELECT r.conversation AS conversation, d.reason AS reason, d.done_at AS at
             FROM delivery d JOIN received r ON r.id = d.source WHERE d.state = 2 AND d.done_at >= ?1
             UNION ALL
             SELECT conversation, reason, dead_at FROM unreadable WHERE state = 1 AND dead_at >= ?1
             UNION ALL
             SELECT conversation, reason, since FROM letter WHERE since >= ?1
         ) AS dead JOIN conversation c ON c.id = dead.conversation
         GROUP BY dead.conversation, dead.reason, hour ORDER BY last LIMIT ?2",
        rusqlite::params![since.0, KINDS_AT_ONCE],
        read,
    )?;
    Ok(died.into_iter().flatten().collect())
}

/// What became of a message: one that was received there, or one that we delivered there.
pub(in crate::store::sqlite) fn why(reader: &Reader, at: &Address, id: &RemoteId) -> Outcome<Vec<Fact>> {
    let Some(conversation) = reader.conversation(at)? else { return Ok(Vec::new()) };
    let row = match reader.received_as(conversation, id.as_str())? {
        Some(place) => reader.one("SELECT id, state, at, note FROM received WHERE id = ?1", [place], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, Timestamp(row.get(2)?), row.get::<_, Option<String>>(3)?))
        })?,
        None => None,
    };
    match row {
        Some((place, state, since, note)) => {
            let deliveries = facts(reader, "d.source = ?1", place)?;
            Ok(line(reader, place, (state, since), note)?.into_iter().chain(deliveries).collect())
        }
        None => match reader.delivered_as(conversation, id.as_str())? {
            Some(number) => facts(reader, "d.number = ?1", number),
            None => Ok(Vec::new()),
        },
    }
}

/// Whether somebody wrote a message that was received here.
pub(in crate::store::sqlite) fn wrote(reader: &Reader, by: &PersonId, at: &Address, id: &RemoteId) -> Outcome<bool> {
    let Some(conversation) = reader.conversation(at)? else { return Ok(false) };
    let Some(place) = reader.received_as(conversation, id.as_str())? else { return Ok(false) };
    let author = reader
        .one("SELECT author FROM received WHERE id = ?1", [place], |row| row.get::<_, Option<Vec<u8>>>(0))?
        .flatten();
    Ok(author.is_some_and(|tag| reader.keys.fits(&Place::author(at, by), &tag)))
}

fn facts(reader: &Reader, condition: &str, key: i64) -> Outcome<Vec<Fact>> {
    let sql = format!(
        "SELECT l.name, c.account, c.name, d.state, d.reason, d.settled_as, d.number,
                coalesce(d.done_at, CASE WHEN d.state = 3 AND r.state = 3 THEN r.at END, d.enqueued_at)
         FROM delivery d LEFT JOIN received r ON r.id = d.source LEFT JOIN link l ON l.id = d.link LEFT JOIN conversation c ON c.id = d.lane
         WHERE {condition} ORDER BY d.number"
    );
    reader.all(&sql, [key], |row| {
        let (account, name): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
        Ok(Fact {
            link: row.get::<_, Option<String>>(0)?.and_then(|name| LinkName::parse(&name).ok()),
            to: account.zip(name).and_then(|(account, name)| keys::address(&account, name)),
            state: state_name(row.get(3)?),
            number: (row.get::<_, i64>(3)? == delivery::DEAD).then(|| row.get(6)).transpose()?,
            at: Timestamp(row.get(7)?),
            reason: row.get(4)?,
            delivered_as: row.get::<_, Option<String>>(5)?.map(RemoteId::new),
        })
    })
}

/// What the line of a received event says by itself.
fn line(reader: &Reader, place: i64, (state, at): (i64, Timestamp), note: Option<String>) -> Outcome<Option<Fact>> {
    let numbered =
        |state, number, reason| Some(Fact { link: None, to: None, state, number, at, reason, delivered_as: None });
    let fact = |state, reason| numbered(state, None, reason);
    Ok(match state {
        received::WAITING => fact("waiting", Some("something earlier is missing or can't be read yet".into())),
        received::UNREADABLE => {
            let event =
                reader.one("SELECT state, reason, number FROM unreadable WHERE received = ?1", [place], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
                })?;
            match event {
                Some((unreadable::WAITING, reason, _)) => fact("unreadable", reason),
                Some((unreadable::QUARANTINED, ..)) => fact("quarantined", None),
                Some((_, reason, number)) => numbered("dead", Some(number), reason),
                None => None,
            }
        }
        _ => note.and_then(|note| fact("dropped", Some(note))),
    })
}

fn state_name(state: i64) -> &'static str {
    match state {
        delivery::QUEUED => "queued",
        delivery::HELD => "held",
        delivery::DEAD => "dead",
        delivery::SETTLED => "delivered",
        delivery::ECHO => "echo",
        delivery::QUARANTINED => "quarantined",
        _ => "dropped",
    }
}

/// The files that messages still need.
pub(in crate::store::sqlite) fn files(reader: &Reader) -> Outcome<HashSet<SpoolId>> {
    let lists: Vec<String> = reader.all("SELECT spool FROM received WHERE spool IS NOT NULL", [], |row| row.get(0))?;
    Ok(lists.iter().flat_map(|list| list.split(' ')).filter_map(|name| SpoolId::parse(name).ok()).collect())
}

/// How full it is.
/// So many reasons are told apart.
const REASONS: usize = 20;

/// What waits to be read, by account and reason.
pub(in crate::store::sqlite) fn unread(reader: &Reader) -> Outcome<Vec<Unread>> {
    let rows: Vec<(String, String, u64, i64)> = reader.all(
        "SELECT c.account, u.reason, count(*), min(u.since) FROM unreadable u JOIN conversation c ON c.id = u.conversation
         WHERE u.state = 0 GROUP BY c.account, u.reason ORDER BY count(*) DESC, u.reason LIMIT ?1",
        [REASONS],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let read = |(account, reason, count, since): (String, String, u64, i64)| {
        let account =
            AccountName::parse(&account).map_err(|_| JournalError::Damaged("an account has no name".into()))?;
        Ok(Unread { account, reason, count, since: Timestamp(since) })
    };
    rows.into_iter().map(read).collect()
}

/// What each conversation of a bounded account has waiting, by their names.
pub(in crate::store::sqlite) fn shares(reader: &Reader, limits: &Limits) -> Outcome<Vec<Share>> {
    let used = reader.one("SELECT payload_bytes FROM total", [], |row| row.get(0))?.unwrap_or(0);
    let rows = reader.all(
        "SELECT c.account, c.name, s.messages, s.bytes, s.files FROM share s JOIN conversation c ON c.id = s.conversation
         ORDER BY c.account, c.name",
        [],
        |row| Ok((row.get::<_, String>(0)?, row.get(1)?, (row.get(2)?, row.get(3)?, row.get(4)?))),
    )?;
    let share = |(account, name, held): (String, String, (u64, u64, u64))| {
        let (at, (messages, bytes, files)) = (keys::address(&account, name)?, held);
        Some(Share { at, messages, bytes, files, is_taken: limits.is_share_taken(used, held) })
    };
    Ok(rows.into_iter().filter_map(share).collect())
}

pub(in crate::store::sqlite) fn counts(reader: &Reader) -> Outcome<Counts> {
    let count = |sql: &str| -> Outcome<u64> { Ok(reader.one(sql, [], |row| row.get(0))?.unwrap_or(0)) };
    let (queued, first) = reader
        .one("SELECT count(*), min(number) FROM delivery WHERE state = 0", [], |row| {
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?))
        })?
        .unwrap_or((0, None));
    let oldest = match first {
        Some(first) => reader.one("SELECT enqueued_at FROM delivery WHERE number = ?1", [first], |row| row.get(0))?,
        None => None,
    };
    let (payload_bytes, settled) = reader
        .one("SELECT payload_bytes, settled FROM total", [], |row| Ok((row.get(0)?, row.get(1)?)))?
        .unwrap_or((0, 0));
    Ok(Counts {
        queued,
        held: count("SELECT count(*) FROM delivery WHERE state = 1")?,
        dead: count("SELECT count(*) FROM delivery WHERE state = 2")?
            + count("SELECT count(*) FROM unreadable WHERE state = 1")?
            + count("SELECT count(*) FROM letter")?,
        unreadable: count("SELECT count(*) FROM unreadable WHERE state = 0")?,
        gaps: count("SELECT count(*) FROM gap")?,
        unrouted: count("SELECT count(*) FROM received WHERE state = 0")?,
        settled,
        quarantined: count("SELECT count(*) FROM quarantine")?,
        oldest: oldest.map(Timestamp),
        payload_bytes,
    })
}
