//! What comes in: a batch, committed whole.

use rusqlite::params;
use sealbridge_contract::{
    AccountName, Address, Cleartext, Message, RemoteId, SenderTrust, Timestamp,
    inbox::{Arrival, Arrived, Batch, Incoming, Parcel, StoreWrite, Unreadable},
};

use super::{
    super::{
        Outcome,
        keys::{Place, name_key, trust_to_row},
        received, unreadable as waiting,
    },
    Ledger,
    about::{self, Notes},
    accounts, commands, gaps, letters,
    once::{self, Fresh, Once},
    order::{self, Routes},
    outbox, pins, shares, unreadable,
};

/// What a conversation is like while something is put into it.
pub(super) struct Standing {
    pub(super) id: i64,
    pub(super) at: Address,
    /// Something earlier is missing, so whatever comes now waits.
    pub(super) blocked: bool,
    /// Some event waits to be read here, so it is worth asking whose.
    pub(super) unreadables: bool,
}

impl Standing {
    /// `None` if the conversation is not linked: then nothing of it is kept.
    pub(super) fn of(ledger: &mut Ledger, at: Address) -> Outcome<Option<Self>> {
        if ledger.router.linked_since(&at).is_none() {
            return Ok(None);
        }
        let id = ledger.conversation(&at)?;
        let (gap, unreadables) = ledger
            .one(
                "SELECT EXISTS (SELECT 1 FROM gap WHERE conversation = ?1),
                        EXISTS (SELECT 1 FROM unreadable WHERE conversation = ?1 AND state = 0)",
                [id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?
            .unwrap_or((false, false));
        if unreadables {
            order::end_holds(ledger, id)?;
        }
        Ok(Some(Self { id, at, blocked: gap, unreadables }))
    }
}

/// Commits a batch. False: nothing of it, since what it is of has as much waiting as it may.
pub(in crate::store::sqlite) fn batch(ledger: &mut Ledger, account: &AccountName, batch: &mut Batch) -> Outcome<bool> {
    if !shares::may_bring(ledger, account, &batch.arrivals)? {
        return Ok(false);
    }
    for echo in &batch.echoes {
        let at = Address { account: account.clone(), conversation: echo.conversation.clone() };
        outbox::echo(ledger, &at, echo)?;
    }
    let mut standing: Option<Standing> = None;
    let mut unlinked = None;
    for arrival in &mut batch.arrivals {
        if unlinked.as_ref() == Some(&arrival.conversation) {
            pass(ledger, account, arrival)?;
            continue;
        }
        if standing.as_ref().is_none_or(|s| s.at.conversation != arrival.conversation) {
            let at = Address { account: account.clone(), conversation: arrival.conversation.clone() };
            standing = Standing::of(ledger, at)?;
        }
        let Some(standing) = &mut standing else {
            unlinked = Some(arrival.conversation.clone());
            pass(ledger, account, arrival)?;
            continue;
        };
        arrived(ledger, standing, &mut arrival.what)?;
    }
    accounts::write(ledger, account.as_str(), &batch.store)?;
    Ok(true)
}

/// Passes over what nobody listens to, but for what is said to the bridge itself. Its replay value is remembered, so that
/// no homeserver can have it said anew once somebody does.
fn pass(ledger: &mut Ledger, account: &AccountName, arrival: &Arrival) -> Outcome<()> {
    let at = Address { account: account.clone(), conversation: arrival.conversation.clone() };
    let incoming = match &arrival.what {
        Arrived::Message(incoming) => incoming,
        Arrived::Unreadable(event) if ledger.router.attends(&at, &event.sender) => {
            let (id, place) = (ledger.conversation(&at)?, ledger.next_places(1)?);
            let mut standing = Standing { id, at, blocked: false, unreadables: true };
            return unread(ledger, &mut standing, event, place, false).map(drop);
        }
        _ => return Ok(()),
    };
    let said = ledger.router.said_to_us(&at, incoming, false);
    if incoming.once.is_none() && said.is_none() {
        return Ok(());
    }
    let conversation = ledger.conversation(&at)?;
    let once = incoming.once.as_ref().map(|once| Once::numbered(ledger, account, once));
    let fresh = once::remember(ledger, once.as_ref(), conversation, incoming.id.as_str())?;
    match said {
        Some(said) if fresh == Fresh::Yes => commands::take(ledger, &at, &incoming.id, &said),
        _ => Ok(()),
    }
}

fn arrived(ledger: &mut Ledger, standing: &mut Standing, what: &mut Arrived) -> Outcome<()> {
    if let Arrived::Gap { from, until } = what {
        return gaps::open(ledger, standing, from, until.as_deref());
    }
    let place = ledger.next_places(1)?;
    put(ledger, standing, what, place, None)?;
    Ok(())
}

/// Puts one arrival in its place; not a gap. `filled_since`: it was read backwards, and nothing written before that
/// moment crosses. Says whether the place was used.
pub(super) fn put(
    ledger: &mut Ledger,
    standing: &mut Standing,
    what: &mut Arrived,
    place: i64,
    filled_since: Option<Timestamp>,
) -> Outcome<bool> {
    match what {
        Arrived::Message(incoming) => {
            let once = incoming.once.as_ref().map(|once| Once::numbered(ledger, &standing.at.account, once));
            message(ledger, standing, incoming, once, place, filled_since)
        }
        Arrived::Unreadable(event) => unread(ledger, standing, event, place, filled_since.is_some()),
        Arrived::Refused { id, sender, reason } => {
            if seen(ledger, standing.id, id)?.is_some() {
                return Ok(false);
            }
            line(ledger, standing.id, id, place, Some(reason))?;
            letters::write(ledger, standing.id, id.as_str(), Some(sender.as_str()), reason)?;
            Ok(true)
        }
        Arrived::Gap { .. } => Ok(false),
    }
}

/// Where an event stands that was seen before: its place and state.
pub(super) fn seen(ledger: &Ledger, conversation: i64, id: &RemoteId) -> Outcome<Option<(i64, i64)>> {
    let key = name_key(conversation, id.as_str());
    for era in ledger.names.may_have(key) {
        let found = ledger.one(
            "SELECT id, state FROM received WHERE era = ?1 AND key = ?2 AND conversation = ?3 AND remote = ?4",
            params![era, key, conversation, id.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Why a message is refused whose replay value was seen under another name.
pub(super) const REPLAYED: &str = "replayed";
/// Why a message that was read backwards does not cross.
pub(super) const BEFORE_LINK: &str = "written before the conversation was linked";

fn message(
    ledger: &mut Ledger,
    standing: &Standing,
    incoming: &mut Incoming,
    once: Option<Once>,
    place: i64,
    filled_since: Option<Timestamp>,
) -> Outcome<bool> {
    match seen(ledger, standing.id, &incoming.id)? {
        None => {}
        Some((_, received::UNREADABLE)) => {
            // Read after all, on another way than by being asked for.
            unreadable::readable_by_name(ledger, standing.id, incoming)?;
            return Ok(false);
        }
        Some(_) => return Ok(false),
    }
    match once::remember(ledger, once.as_ref(), standing.id, incoming.id.as_str())? {
        Fresh::Yes => {}
        Fresh::Again => return Ok(false),
        Fresh::Replayed => {
            line(ledger, standing.id, &incoming.id, place, Some(REPLAYED))?;
            let sender = incoming.message.author().as_str();
            letters::write(ledger, standing.id, incoming.id.as_str(), Some(sender), REPLAYED)?;
            return Ok(true);
        }
    }
    if filled_since.is_some_and(|since| incoming.message.sent_at() < since) {
        line(ledger, standing.id, &incoming.id, place, Some(BEFORE_LINK))?;
        return Ok(true);
    }
    if filled_since.is_some() && about::is_taken_back(ledger, standing.id, &incoming.id, Some(&incoming.message))? {
        line(ledger, standing.id, &incoming.id, place, Some(about::TAKEN_BACK))?;
        return Ok(true);
    }
    if let Some(said) = ledger.router.said_to_us(&standing.at, incoming, filled_since.is_some()) {
        line(ledger, standing.id, &incoming.id, place, Some(commands::TAKEN))?;
        commands::take(ledger, &standing.at, &incoming.id, &said)?;
        return Ok(true);
    }
    let waits = standing.blocked
        || ledger.unfinished.contains(&standing.id)
        || standing.unreadables && order::is_held(ledger, standing.id, incoming.message.author(), place)?;
    let carried = Carried { id: &incoming.id, message: &incoming.message, trust: incoming.trust };
    let notes = Notes::of(ledger, standing.id, &standing.at, carried.message);
    about::follow(ledger, standing.id, &notes, carried.message)?;
    let routes = match waits {
        true => Routes { needed: true, died: false },
        false => order::route(ledger, standing.id, &standing.at, place, &carried)?,
    };
    store(ledger, standing, &carried, &notes, place, waits, routes.needed)?;
    if routes.died {
        pins::died(ledger, place)?;
    }
    Ok(true)
}

/// A message with its name and how sure we are of its sender.
pub(super) struct Carried<'a> {
    pub(super) id: &'a RemoteId,
    pub(super) message: &'a Cleartext,
    pub(super) trust: SenderTrust,
}

fn store(
    ledger: &mut Ledger,
    standing: &Standing,
    carried: &Carried<'_>,
    notes: &Notes,
    place: i64,
    waits: bool,
    needed: bool,
) -> Outcome<()> {
    let id = carried.id.as_str();
    let locked = needed.then(|| {
        let place = Place::message(&standing.at, id, carried.trust);
        ledger.keys.vault.lock_message(place.bytes(), carried.message)
    });
    let bytes = locked.as_ref().map_or(0, sealbridge_contract::Locked::size);
    ledger.take_in(bytes)?;
    let shared = shares::counts(ledger, &standing.at.account, carried.message).filter(|_| needed);
    if let Some(files) = shared {
        shares::add(ledger, standing.id, bytes, files)?;
    }
    let state = match (waits, needed) {
        (true, _) => received::WAITING,
        (false, true) => received::ROUTED,
        (false, false) => received::DONE,
    };
    let key = name_key(standing.id, id);
    let era = ledger.names.add(key);
    ledger.run(
        "INSERT INTO received (id, conversation, era, key, remote, state, at, trust, sender, sender_key, payload,
                               author, about, spool, shared)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            place,
            standing.id,
            era,
            key,
            id,
            state,
            ledger.now().0,
            trust_to_row(carried.trust),
            waits.then(|| carried.message.author().as_str()),
            needed.then(|| ledger.keys.sender(&standing.at.account, carried.message.author())),
            locked.as_ref().map(|locked| ledger.keys.vault.to_row(locked)),
            notes.author,
            notes.about.filter(|_| needed),
            notes.spool.as_ref().filter(|_| needed),
            shared,
        ],
    )?;
    Ok(())
}

/// Writes a line without content, so that the same event is passed over when it comes again.
fn line(ledger: &mut Ledger, conversation: i64, id: &RemoteId, place: i64, note: Option<&str>) -> Outcome<()> {
    put_line(ledger, conversation, id, place, received::DONE, note)
}

fn put_line(
    ledger: &mut Ledger,
    conversation: i64,
    id: &RemoteId,
    place: i64,
    state: i64,
    note: Option<&str>,
) -> Outcome<()> {
    let key = name_key(conversation, id.as_str());
    let era = ledger.names.add(key);
    ledger.run(
        "INSERT INTO received (id, conversation, era, key, remote, state, at, trust, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            place,
            conversation,
            era,
            key,
            id.as_str(),
            state,
            ledger.now().0,
            trust_to_row(SenderTrust::NotProven),
            note,
        ],
    )?;
    Ok(())
}

fn unread(ledger: &mut Ledger, standing: &mut Standing, event: &Unreadable, place: i64, filled: bool) -> Outcome<bool> {
    if seen(ledger, standing.id, &event.id)?.is_some() {
        return Ok(false);
    }
    if filled && about::is_taken_back(ledger, standing.id, &event.id, None)? {
        line(ledger, standing.id, &event.id, place, Some(about::TAKEN_BACK))?;
        return Ok(true);
    }
    let id = event.id.as_str();
    let locked = ledger.keys.vault.lock(Place::raw(&standing.at, id).bytes(), event.raw.expose());
    let sender = ledger.keys.sender(&standing.at.account, &event.sender);
    if !pins::may(ledger, sender, locked.size())? {
        line(ledger, standing.id, &event.id, place, Some(pins::TOO_MUCH))?;
        letters::write(ledger, standing.id, id, Some(event.sender.as_str()), pins::TOO_MUCH)?;
        return Ok(true);
    }
    ledger.take_in(locked.size())?;
    pins::add(ledger, sender, locked.size())?;
    put_line(ledger, standing.id, &event.id, place, received::UNREADABLE, None)?;
    let (number, now) = (ledger.next_number(), ledger.now());
    ledger.run(
        "INSERT INTO unreadable (number, received, conversation, sender, hint, reason, state, since, holding,
                                 hold_until, passed, filled, raw)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12)",
        params![
            number,
            place,
            standing.id,
            event.sender.as_str(),
            event.hint,
            event.reason,
            waiting::WAITING,
            now.0,
            event.holds_sender,
            now.plus(ledger.limits.hold_sender_for).0,
            filled,
            ledger.keys.vault.to_row(&locked),
        ],
    )?;
    standing.unreadables = true;
    Ok(true)
}

/// Commits what a carrier brought.
pub(in crate::store::sqlite) fn parcels(
    ledger: &mut Ledger,
    account: &AccountName,
    parcels: &[Parcel],
    cursor: &[StoreWrite],
) -> Outcome<()> {
    for parcel in parcels {
        let at = Address { account: account.clone(), conversation: parcel.conversation.clone() };
        let Some(standing) = Standing::of(ledger, at)? else { continue };
        if seen(ledger, standing.id, &parcel.id)?.is_some() {
            continue;
        }
        let place = ledger.next_places(1)?;
        match ledger.router.open(&standing.at, parcel) {
            Some((delivery, message)) => {
                // The peer vouches for its sender; where it does not, nobody does.
                let unproven = message.caveats().sender_not_proven;
                let trust = if unproven { SenderTrust::NotProven } else { SenderTrust::Proven };
                let once = Some(Once::delivery(account, delivery));
                let mut incoming = Incoming { id: parcel.id.clone(), message, trust, identity: None, once: None };
                self::message(ledger, &standing, &mut incoming, once, place, None)?;
            }
            None => {
                let reason = "it does not open with the key of the peer";
                line(ledger, standing.id, &parcel.id, place, Some(reason))?;
                letters::write(ledger, standing.id, parcel.id.as_str(), None, reason)?;
            }
        }
    }
    accounts::write(ledger, account.as_str(), cursor)
}

/// Marks a message as late, for its reader.
pub(super) fn mark_late(message: &mut Cleartext) {
    let empty = Cleartext::new(Message::notice(Timestamp(0), ""));
    let taken = std::mem::replace(message, empty);
    let mut caveats = taken.caveats();
    caveats.late = true;
    *message = taken.with_caveats(caveats);
}
