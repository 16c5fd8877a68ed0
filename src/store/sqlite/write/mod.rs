//! The writer's side: what changes the file.

mod about;
mod accept;
mod accounts;
mod commands;
mod gaps;
mod group;
mod letters;
mod links;
mod mend;
mod names;
mod once;
mod order;
mod outbox;
mod pins;
mod shares;
mod unreadable;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use sealbridge_contract::{Address, Clock, Timestamp};

pub(super) use self::group::{Ask, Asked, Writer, nothing};
use self::names::Names;
use super::{
    Outcome,
    count::Count,
    keys::{self, Keys, Place},
    received,
};
use crate::store::{JournalError, Limits, LinkName, Router};

pub(super) use self::gaps::Bounds;
pub(super) use self::{
    accept::{batch, parcels},
    accounts::{forget, prune, write},
    commands::{begin, finish},
    gaps::fill,
    letters::{
        AT_ONCE as LETTERS_AT_ONCE, drop_letter, drop_letters, quarantine_delivery, quarantine_unreadable, retry,
        retry_letters,
    },
    links::{put_link, remove_link, replace_end, resume},
    mend::mend,
    order::expire,
    outbox::{bury, hold, leave_out, postpone, say, settle, sweep},
    unreadable::resolve,
};

/// The writer's connection and what it keeps in mind. What a job does to it is undone when the job fails.
pub(super) struct Ledger {
    pub(super) connection: Connection,
    count: Count,
    keys: Arc<Keys>,
    router: Arc<dyn Router>,
    limits: Limits,
    clock: Clock,
    number: i64,
    place: i64,
    totals: Totals,
    names: Names,
    conversations: HashMap<Address, i64>,
    links: HashMap<LinkName, i64>,
    /// What was put into the two maps since the last commit, to be forgotten if that fails.
    new_names: NewNames,
    /// Conversations that got something new in the outbox.
    woken: HashSet<Address>,
    /// Whether something was erased from the outbox.
    erased: bool,
    /// Whether something was said to the bridge itself.
    commanded: bool,
    /// Conversations in which more messages may be routed than one commit takes. Until they are, what arrives there
    /// waits behind them.
    unfinished: BTreeSet<i64>,
    /// The router has to learn of it once it is committed, and till then nothing more is routed.
    links_changed: bool,
    /// There are replay values outside of any series: of parcels, or of the first version of the file.
    lone_values: bool,
}

/// What is counted as it goes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    payload_bytes: u64,
    settled: u64,
}

#[derive(Default)]
struct NewNames {
    conversations: Vec<Address>,
    links: Vec<LinkName>,
}

impl Ledger {
    pub(super) fn new(
        connection: Connection,
        count: Count,
        keys: Arc<Keys>,
        router: Arc<dyn Router>,
        limits: Limits,
        clock: Clock,
    ) -> Outcome<Self> {
        let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let number = one("SELECT max(
                (SELECT coalesce(max(seq), 0) FROM sqlite_sequence),
                (SELECT coalesce(max(number), 0) FROM delivery),
                (SELECT coalesce(max(number), 0) FROM unreadable),
                (SELECT coalesce(max(number), 0) FROM letter),
                (SELECT coalesce(max(number), 0) FROM quarantine))")?;
        let place =
            one("SELECT max((SELECT coalesce(max(id), 0) FROM received), (SELECT coalesce(max(high), 0) FROM gap))")?;
        let totals = connection.query_row("SELECT payload_bytes, settled FROM total", [], |row| {
            Ok(Totals { payload_bytes: row.get(0)?, settled: row.get(1)? })
        })?;
        let lone_values = one("SELECT EXISTS (SELECT 1 FROM once)")? == 1;
        let names = Names::read(&connection)?;
        Ok(Self {
            connection,
            count,
            keys,
            router,
            limits,
            clock,
            number,
            place,
            totals,
            names,
            conversations: HashMap::new(),
            links: HashMap::new(),
            new_names: NewNames::default(),
            woken: HashSet::new(),
            erased: false,
            commanded: false,
            unfinished: BTreeSet::new(),
            links_changed: false,
            lone_values,
        })
    }

    fn run(&self, sql: &str, params: impl Params) -> Outcome<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Vec<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes what is counted as it goes, with the number of this commit, if anything changed in it.
    fn write_totals(&mut self, changed_before: u64) -> Outcome<Option<u64>> {
        if self.connection.total_changes() == changed_before {
            return Ok(None);
        }
        let Totals { payload_bytes, settled } = self.totals;
        let (commits, tag) = self.count.next(&self.keys);
        self.run(
            "UPDATE total SET payload_bytes = ?1, settled = ?2, commits = ?3, tag = ?4",
            params![payload_bytes, settled, commits, tag],
        )?;
        Ok(Some(commits))
    }

    /// It is committed, and durable.
    fn counted(&mut self, commits: Option<u64>) {
        if let Some(commits) = commits {
            self.count.committed(commits, &self.keys);
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The next number of a delivery, an unreadable, a letter or a quarantined row.
    fn next_number(&mut self) -> i64 {
        self.number += 1;
        self.number
    }

    /// The first of `many` new places at the end.
    fn next_places(&mut self, many: i64) -> Outcome<i64> {
        let first = self.place + 1;
        self.place = self.place.checked_add(many).ok_or_else(|| JournalError::Failed("out of places".into()))?;
        Ok(first)
    }

    /// Counts locked payload in, unless it would go over the bound.
    fn take_in(&mut self, bytes: usize) -> Outcome<()> {
        let total = self.totals.payload_bytes.saturating_add(bytes as u64);
        if total > self.limits.payload_bytes {
            return Err(JournalError::Full);
        }
        self.totals.payload_bytes = total;
        Ok(())
    }

    /// Counts locked payload in, over the bound too.
    fn take_in_anyway(&mut self, bytes: usize) {
        self.totals.payload_bytes = self.totals.payload_bytes.saturating_add(bytes as u64);
    }

    /// Counts erased payload out.
    fn let_go(&mut self, bytes: usize) {
        self.totals.payload_bytes = self.totals.payload_bytes.saturating_sub(bytes as u64);
    }

    /// A conversation's number, if it has one.
    fn known_conversation(&self, address: &Address) -> Outcome<Option<i64>> {
        if let Some(id) = self.conversations.get(address) {
            return Ok(Some(*id));
        }
        self.one(
            "SELECT id FROM conversation WHERE account = ?1 AND name = ?2",
            params![address.account.as_str(), address.conversation.as_str()],
            |row| row.get(0),
        )
    }

    /// A conversation's number; a new one if it has none.
    fn conversation(&mut self, address: &Address) -> Outcome<i64> {
        if let Some(id) = self.conversations.get(address) {
            return Ok(*id);
        }
        let id = match self.known_conversation(address)? {
            Some(id) => id,
            None => self.new_conversation(address)?,
        };
        self.conversations.insert(address.clone(), id);
        self.new_names.conversations.push(address.clone());
        Ok(id)
    }

    fn new_conversation(&self, address: &Address) -> Outcome<i64> {
        let last = self.one("SELECT coalesce(max(id), 0) FROM conversation", [], |row| row.get::<_, i64>(0))?;
        let id = last.unwrap_or(0) + 1;
        let (account, name) = (address.account.as_str(), address.conversation.as_str());
        let tag = self.keys.tag(&Place::conversation(id, account, name));
        self.run(
            "INSERT INTO conversation (id, account, name, tag) VALUES (?1, ?2, ?3, ?4)",
            params![id, account, name, tag],
        )?;
        Ok(id)
    }

    /// The conversation of a number.
    fn address(&self, conversation: i64) -> Outcome<Address> {
        self.one("SELECT account, name FROM conversation WHERE id = ?1", [conversation], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?
        .and_then(|(account, name)| keys::address(&account, name))
        .ok_or_else(|| JournalError::Damaged("a conversation has no name".into()))
    }

    /// A link's number; a new one if it has none.
    fn link(&mut self, name: &LinkName) -> Outcome<i64> {
        if let Some(id) = self.links.get(name) {
            return Ok(*id);
        }
        self.run("INSERT INTO link (name) VALUES (?1) ON CONFLICT (name) DO NOTHING", [name.as_str()])?;
        let id = self
            .one("SELECT id FROM link WHERE name = ?1", [name.as_str()], |row| row.get(0))?
            .ok_or_else(|| JournalError::Damaged("a link that was just written is not there".into()))?;
        self.links.insert(name.clone(), id);
        self.new_names.links.push(name.clone());
        Ok(id)
    }

    /// Forgets what a failed job put in mind.
    fn forget_new_names(&mut self) {
        for address in self.new_names.conversations.drain(..) {
            self.conversations.remove(&address);
        }
        for name in self.new_names.links.drain(..) {
            self.links.remove(&name);
        }
    }

    /// Makes a received row a content-free line.
    fn close_line(&mut self, place: i64, note: Option<&str>) -> Outcome<()> {
        let (held, pinned) = self
            .one("SELECT coalesce(length(payload), 0), pinned FROM received WHERE id = ?1", [place], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .ok_or_else(|| JournalError::Damaged("a received message is missing".into()))?;
        self.erase(place, held, pinned, note)
    }

    /// The same where it is known how long its content is, and for whom it counts.
    fn erase(&mut self, place: i64, held: usize, pinned: Option<i64>, note: Option<&str>) -> Outcome<()> {
        self.let_go(held);
        if let Some(sender) = pinned {
            pins::take(self, sender, held)?;
        }
        shares::give_back(self, place)?;
        self.run(
            "UPDATE received SET state = ?2, at = ?3, sender = NULL, sender_key = NULL, pinned = NULL, payload = NULL,
                                 about = NULL, spool = NULL, note = ?4
              WHERE id = ?1",
            params![place, received::DONE, self.now().0, note],
        )?;
        Ok(())
    }
}
