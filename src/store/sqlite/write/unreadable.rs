//! Events that waited to be read, and what became of them.

use rusqlite::params;
use sealbridge_contract::{
    AccountName, PersonId, Timestamp,
    inbox::{Incoming, Resolution},
};

use super::{
    super::{
        Outcome,
        keys::{Place, trust_to_row},
        received, unreadable as waiting,
    },
    Ledger,
    about::{self, Notes},
    accept, commands, letters,
    once::{self, Fresh, Once},
    order,
    outbox::no_such,
    pins,
};

/// A row of an event that waits, as far as steps need it.
struct Event {
    number: i64,
    place: i64,
    conversation: i64,
    sender: String,
    state: i64,
    passed: bool,
    filled: bool,
    raw: usize,
    remote: String,
    hold_until: i64,
}

fn event(ledger: &Ledger, condition: &str, key: i64) -> Outcome<Option<Event>> {
    let sql = format!(
        "SELECT u.number, u.received, u.conversation, u.sender, u.state, u.passed, u.filled, length(u.raw), r.remote,
                u.hold_until
         FROM unreadable u JOIN received r ON r.id = u.received WHERE {condition}"
    );
    ledger.one(&sql, [key], |row| {
        Ok(Event {
            number: row.get(0)?,
            place: row.get(1)?,
            conversation: row.get(2)?,
            sender: row.get(3)?,
            state: row.get(4)?,
            passed: row.get(5)?,
            filled: row.get(6)?,
            raw: row.get(7)?,
            remote: row.get(8)?,
            hold_until: row.get(9)?,
        })
    })
}

/// Commits what became of an event that waited.
pub(in crate::store::sqlite) fn resolve(
    ledger: &mut Ledger,
    account: &AccountName,
    number: i64,
    resolution: &mut Resolution,
) -> Outcome<()> {
    let event = event(ledger, "u.number = ?1", number)?.ok_or_else(|| no_such(number))?;
    // A key may come just after the event was given up; it is still good.
    let open = event.state == waiting::WAITING
        || event.state == waiting::DEAD && matches!(resolution, Resolution::Readable(_));
    if !open || ledger.address(event.conversation)?.account != *account {
        return Err(no_such(number));
    }
    match resolution {
        Resolution::Readable(incoming) => return readable(ledger, &event, incoming),
        Resolution::Still { hint, reason, holds_sender } => {
            let over = Timestamp(event.hold_until).has_come(ledger.now(), ledger.limits.hold_sender_for);
            let holds = *holds_sender && !event.passed && !over;
            let changed = ledger.run(
                "UPDATE unreadable SET hint = ?2, reason = ?3, holding = ?4
                 WHERE number = ?1 AND (hint, reason, holding) IS NOT (?2, ?3, ?4)",
                params![number, hint.as_str(), reason.as_str(), holds],
            )?;
            if changed == 0 {
                // What waits is tried again and again, and a commit of nothing costs the disk nothing.
                return Ok(());
            }
        }
        Resolution::Refused { reason } => {
            ledger.run(
                "UPDATE unreadable SET state = ?2, reason = ?3, holding = 0, dead_at = ?4 WHERE number = ?1",
                params![number, waiting::DEAD, reason.as_str(), ledger.now().0],
            )?;
        }
        Resolution::NotForUs => {
            event.forget(ledger)?;
            ledger.close_line(event.place, Some("not a message"))?;
        }
    }
    order::go_on(ledger, event.conversation)?;
    Ok(())
}

/// The same for an event that came again, readable now.
pub(super) fn readable_by_name(ledger: &mut Ledger, conversation: i64, incoming: &mut Incoming) -> Outcome<()> {
    let Some((place, _)) = accept::seen(ledger, conversation, &incoming.id)? else { return Ok(()) };
    match event(ledger, "u.received = ?1", place)? {
        Some(event) if event.state != waiting::QUARANTINED => readable(ledger, &event, incoming),
        _ => Ok(()),
    }
}

/// It takes the place it had, or crosses marked late if later messages of its sender have crossed.
fn readable(ledger: &mut Ledger, event: &Event, incoming: &mut Incoming) -> Outcome<()> {
    let at = ledger.address(event.conversation)?;
    event.forget(ledger)?;
    let once = incoming.once.as_ref().map(|once| Once::numbered(ledger, &at.account, once));
    let fresh = once::remember(ledger, once.as_ref(), event.conversation, &event.remote)?;
    if fresh == Fresh::Replayed {
        letters::write(ledger, event.conversation, &event.remote, Some(&event.sender), accept::REPLAYED)?;
    }
    let since = ledger.router.linked_since(&at);
    let too_old = event.filled && since.is_some_and(|since| incoming.message.sent_at() < since);
    let note = match fresh {
        Fresh::Replayed => Some(accept::REPLAYED),
        // It was carried so long ago that its line is gone.
        Fresh::Again => Some("seen before"),
        Fresh::Yes if too_old => Some(accept::BEFORE_LINK),
        Fresh::Yes => None,
    };
    if note.is_some() {
        ledger.close_line(event.place, note)?;
        order::go_on(ledger, event.conversation)?;
        return Ok(());
    }
    if event.passed {
        accept::mark_late(&mut incoming.message);
    }
    if let Some(said) = ledger.router.said_to_us(&at, incoming, event.filled) {
        ledger.close_line(event.place, Some(commands::TAKEN))?;
        commands::take(ledger, &at, &incoming.id, &said)?;
        order::go_on(ledger, event.conversation)?;
        return Ok(());
    }
    if since.is_none() && ledger.router.attends(&at, incoming.message.author()) {
        // It was kept since it might have been for the bridge, and is for nobody.
        return ledger.close_line(event.place, Some("the conversation is not linked"));
    }
    let notes = Notes::of(ledger, event.conversation, &at, &incoming.message);
    about::follow(ledger, event.conversation, &notes, &incoming.message)?;
    let place = Place::message(&at, &event.remote, incoming.trust);
    let locked = ledger.keys.vault.lock_message(place.bytes(), &incoming.message);
    if locked.size() > event.raw {
        ledger.take_in(locked.size())?;
    } else {
        // Smaller than what it takes the place of: a full journal is no reason to keep the larger one.
        ledger.take_in_anyway(locked.size());
    }
    ledger.run(
        "UPDATE received SET state = ?2, trust = ?3, sender = ?4, payload = ?5, at = ?6, sender_key = ?7, author = ?8,
                             about = ?9, spool = ?10
          WHERE id = ?1",
        params![
            event.place,
            received::WAITING,
            trust_to_row(incoming.trust),
            incoming.message.author().as_str(),
            ledger.keys.vault.to_row(&locked),
            ledger.now().0,
            ledger.keys.sender(&at.account, incoming.message.author()),
            notes.author,
            notes.about,
            notes.spool,
        ],
    )?;
    order::go_on(ledger, event.conversation)?;
    Ok(())
}

/// Erases an event that waited, or was given up, with what it counts for.
pub(super) fn forget(
    ledger: &mut Ledger,
    number: i64,
    conversation: i64,
    sender: &PersonId,
    raw: usize,
) -> Outcome<()> {
    ledger.let_go(raw);
    let account = ledger.address(conversation)?.account;
    pins::take(ledger, ledger.keys.sender(&account, sender), raw)?;
    ledger.run("DELETE FROM unreadable WHERE number = ?1", [number])?;
    Ok(())
}

impl Event {
    fn forget(&self, ledger: &mut Ledger) -> Outcome<()> {
        forget(ledger, self.number, self.conversation, &PersonId::new(self.sender.as_str()), self.raw)
    }
}
