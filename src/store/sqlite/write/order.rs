//! Order: what may be routed now, and what waits for something earlier.
//!
//! Within a conversation, order is the order of places. Nothing behind an open gap is routed. Nothing of a sender is
//! routed behind an event of theirs that holds them. Both are true of every later place too, so what is routed is in
//! order by itself.

use rusqlite::params;
use sealbridge_contract::{Address, PersonId, RemoteId, Timestamp};

use super::{
    super::{
        Outcome,
        keys::{Place, trust_from_row},
        received, unreadable as waiting,
    },
    Ledger, about,
    accept::Carried,
    letters, outbox, pins,
};
use crate::store::FirstVerdict;

/// As many waiting messages are routed in one go. More follow in the next commit, so that others need not wait.
const AT_ONCE: usize = 256;

/// Whether an earlier event of the same sender holds this place.
pub(super) fn is_held(ledger: &Ledger, conversation: i64, sender: &PersonId, place: i64) -> Outcome<bool> {
    let held = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM unreadable WHERE conversation = ?1 AND sender = ?2 AND state = 0
                        AND holding = 1 AND received < ?3)",
        params![conversation, sender.as_str(), place],
        |row| row.get(0),
    )?;
    Ok(held.unwrap_or(false))
}

/// What became of a message's deliveries.
#[derive(Default)]
pub(super) struct Routes {
    /// Its content is still needed.
    pub(super) needed: bool,
    /// One of them is a dead letter from the start.
    pub(super) died: bool,
}

/// Asks where a message goes and enqueues it there.
pub(super) fn route(
    ledger: &mut Ledger,
    conversation: i64,
    at: &Address,
    place: i64,
    carried: &Carried<'_>,
) -> Outcome<Routes> {
    ledger.run(
        "UPDATE unreadable SET passed = 1
         WHERE conversation = ?1 AND sender = ?2 AND state = 0 AND received < ?3 AND passed = 0",
        params![conversation, carried.message.author().as_str(), place],
    )?;
    if about::is_a_strangers_edit(ledger, conversation, at, carried.message)? {
        let author = carried.message.author().as_str();
        letters::write(ledger, conversation, carried.id.as_str(), Some(author), about::NOT_THEIRS)?;
        return Ok(Routes::default());
    }
    let goes_nowhere = about::deletes_nothing(ledger, conversation, carried.message)?
        || about::is_about_a_command(ledger, conversation, carried.message)?;
    if goes_nowhere {
        return Ok(Routes::default());
    }
    let mut routes = Routes::default();
    for routed in ledger.router.clone().route(at, carried.id, carried.message, carried.trust) {
        outbox::enqueue(ledger, at, carried.id, place, &routed)?;
        routes.needed |= routed.verdict != FirstVerdict::Echo;
        routes.died |= matches!(routed.verdict, FirstVerdict::Refuse(_));
    }
    Ok(routes)
}

/// Routes what waits in a conversation and need not any more, in order. Says how many.
pub(super) fn go_on(ledger: &mut Ledger, conversation: i64) -> Outcome<usize> {
    let at = ledger.address(conversation)?;
    if ledger.router.linked_since(&at).is_none() {
        // Perhaps it is linked again; [`expire`] lets go what waits for that too long.
        ledger.unfinished.remove(&conversation);
        return Ok(0);
    }
    let ready = ledger.all(
        "SELECT id, remote, trust, length(payload), payload FROM received AS r
         WHERE conversation = ?1 AND state = 0
           AND id < coalesce((SELECT min(low) FROM gap WHERE conversation = ?1), 9223372036854775807)
           AND NOT EXISTS (SELECT 1 FROM unreadable AS u
                           WHERE u.conversation = ?1 AND u.sender = r.sender AND u.state = 0 AND u.holding = 1
                             AND u.received < r.id)
         ORDER BY id LIMIT ?2",
        params![conversation, AT_ONCE],
        |row| {
            let (remote, trust) = (row.get(1).ok(), row.get(2).ok());
            Ok(Ready { place: row.get(0)?, remote, trust, payload: row.get(4).ok() })
        },
    )?;
    let routed = ready.len();
    for row in ready {
        let place = row.place;
        match row.open(ledger, &at) {
            Some((id, trust, message)) => {
                let carried = Carried { id: &id, message: &message, trust };
                let routes = route(ledger, conversation, &at, place, &carried)?;
                if routes.needed {
                    ledger.run(
                        "UPDATE received SET state = ?2, sender = NULL WHERE id = ?1",
                        params![place, received::ROUTED],
                    )?;
                } else {
                    ledger.close_line(place, None)?;
                }
                if routes.died {
                    pins::died(ledger, place)?;
                }
            }
            None => letters::quarantine_received(ledger, place)?,
        }
    }
    if routed < AT_ONCE {
        ledger.unfinished.remove(&conversation);
    } else {
        ledger.unfinished.insert(conversation);
    }
    Ok(routed)
}

/// A row whose turn it is. What can't even be read is `None`, so that one broken row holds up no conversation.
struct Ready {
    place: i64,
    remote: Option<String>,
    trust: Option<i64>,
    payload: Option<Vec<u8>>,
}

impl Ready {
    fn open(
        self,
        ledger: &Ledger,
        at: &Address,
    ) -> Option<(RemoteId, sealbridge_contract::SenderTrust, sealbridge_contract::Cleartext)> {
        let (remote, trust) = (self.remote?, trust_from_row(self.trust?)?);
        let place = Place::message(at, &remote, trust);
        let locked = ledger.keys.vault.from_row(self.payload?);
        let message = ledger.keys.vault.unlock_message(place.bytes(), &locked).ok()?;
        Some((RemoteId::new(remote), trust, message))
    }
}

/// Lets through what a hold kept whose time is over, before anything new is put behind it.
pub(super) fn end_holds(ledger: &mut Ledger, conversation: i64) -> Outcome<()> {
    let now = ledger.now();
    // One that holds for longer than any does was made before the clock was moved back.
    let over = ledger.run(
        "UPDATE unreadable SET holding = 0
         WHERE conversation = ?1 AND state = 0 AND holding = 1 AND hold_until NOT BETWEEN ?2 + 1 AND ?3",
        params![conversation, now.0, now.plus(ledger.limits.hold_sender_for).0],
    )?;
    if over > 0 {
        go_on(ledger, conversation)?;
    }
    Ok(())
}

/// As many events are given up in one go.
const GIVEN_UP_AT_ONCE: usize = 512;

/// Lets through what need not wait any more and gives up what waited too long. Says when to call again.
pub(in crate::store::sqlite) fn expire(ledger: &mut Ledger) -> Outcome<Option<Timestamp>> {
    let now = ledger.now();
    // As above.
    let longest = now.plus(ledger.limits.hold_sender_for);
    let mut free: Vec<i64> = ledger.all(
        "SELECT DISTINCT conversation FROM unreadable WHERE holding = 1 AND hold_until NOT BETWEEN ?1 + 1 AND ?2",
        [now.0, longest.0],
        |row| row.get(0),
    )?;
    ledger.run(
        "UPDATE unreadable SET holding = 0 WHERE holding = 1 AND hold_until NOT BETWEEN ?1 + 1 AND ?2",
        [now.0, longest.0],
    )?;
    let oldest = now.minus(ledger.limits.unreadable_for);
    let given_up: Vec<i64> = ledger.all(
        "UPDATE unreadable SET state = ?1, holding = 0, dead_at = ?2 WHERE number IN
         (SELECT number FROM unreadable WHERE state = 0 AND since <= ?3 ORDER BY since LIMIT ?4)
         RETURNING conversation",
        params![waiting::DEAD, now.0, oldest.0, GIVEN_UP_AT_ONCE],
        |row| row.get(0),
    )?;
    free.extend(given_up);
    // A crash may have come between a commit and the next that would have gone on with it.
    free.extend(
        ledger.all("SELECT DISTINCT conversation FROM received WHERE state = 0", [], |row| row.get::<_, i64>(0))?,
    );
    free.sort_unstable();
    free.dedup();
    for conversation in free {
        let at = ledger.address(conversation)?;
        if ledger.router.linked_since(&at).is_some() {
            // The commit that this is part of goes on with them, as far as there is time.
            ledger.unfinished.insert(conversation);
        } else {
            let_go(ledger, conversation, oldest)?;
        }
    }
    let next = ledger
        .one("SELECT min(hold_until) FROM unreadable WHERE holding = 1", [], |row| row.get::<_, Option<i64>>(0))?;
    let since =
        ledger.one("SELECT min(since) FROM unreadable WHERE state = 0", [], |row| row.get::<_, Option<i64>>(0))?;
    let given_up_at = since.flatten().map(|since| Timestamp(since).plus(ledger.limits.unreadable_for));
    Ok(next.flatten().map(Timestamp).into_iter().chain(given_up_at).min())
}

/// What waited in a conversation that is not linked any more, for as long as an unreadable would.
fn let_go(ledger: &mut Ledger, conversation: i64, oldest: Timestamp) -> Outcome<()> {
    let places: Vec<i64> = ledger.all(
        "SELECT id FROM received WHERE conversation = ?1 AND state = 0 AND at <= ?2 ORDER BY id LIMIT ?3",
        params![conversation, oldest.0, GIVEN_UP_AT_ONCE],
        |row| row.get(0),
    )?;
    for place in places {
        ledger.close_line(place, Some("the conversation is not linked any more"))?;
    }
    Ok(())
}
