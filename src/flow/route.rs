//! Which conversations should hear a message, and the gate's first word on each. Asked by the journal in the moment of
//! the commit; answers from memory.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use sealbridge_contract::{
    AccountName, Address, AnyTransport, Cleartext, Clock, DeliveryId, Origin, PersonId, Refusal, RemoteId, Rule,
    SenderTrust, Timestamp, Verb, Verdict,
    adapt::bytes,
    gate::Hold,
    inbox::{Incoming, Parcel},
    judge,
    trail::MarkKey,
};
use tokio::sync::watch;

use super::{
    breaker::{Breaker, Loop},
    commands,
    table::{Table, TableHandle},
};
use crate::{
    config::Operator,
    notices,
    store::{FirstVerdict, Link, LinkName, Routed, Router, Said},
};

/// Routes by the table that is valid now.
#[derive(Debug)]
pub struct JourneyRouter {
    table: TableHandle,
    marks: MarkKey,
    breaker: Mutex<Breaker>,
    /// Links whose circuit breaker tripped, until the journal has them paused. Everything is held for them already.
    tripped: watch::Sender<HashMap<LinkName, Loop>>,
    /// Who may tell the bridge what to do.
    operator: Operator,
    /// What was said before this and is not known may have been carried by the service of which a backup was made.
    doubt: OnceLock<Timestamp>,
    clock: Clock,
}

/// Why what was said between a backup and its restoring does not cross by itself.
pub const IN_DOUBT: &str = "it was said before a backup was restored, and may have been carried already";

impl JourneyRouter {
    /// A router by this table.
    #[must_use]
    pub fn new(table: TableHandle, marks: MarkKey, operator: Operator, clock: Clock) -> Self {
        let (breaker, tripped, doubt) = Default::default();
        Self { table, marks, breaker, tripped, operator, doubt, clock }
    }

    /// What was said before this moment is not carried by itself. To be said before anything is routed.
    pub fn doubts(&self, before: Timestamp) {
        let _said_before = self.doubt.set(before);
    }

    fn is_in_doubt(&self, message: &Cleartext) -> bool {
        self.doubt.get().is_some_and(|before| message.sent_at() < *before)
    }

    /// Links whose circuit breaker tripped and that are to be paused.
    #[must_use]
    pub fn tripped(&self) -> watch::Receiver<HashMap<LinkName, Loop>> {
        self.tripped.subscribe()
    }

    /// Shows the breaker a message that crosses a link. True: the link goes no further.
    fn trips(&self, link: &LinkName, from: &Address, to: &[&Address], message: &Cleartext) -> bool {
        if self.tripped.borrow().contains_key(link) {
            return true;
        }
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = breaker.notes(link, (from, to), message, self.clock.now());
        let trips = seen.is_some();
        if let Some(seen) = seen {
            self.tripped.send_modify(|tripped| drop(tripped.insert(link.clone(), seen)));
        }
        trips
    }

    /// Whether we carried it ourselves.
    fn is_ours(&self, message: &Cleartext) -> bool {
        message.trail().marks().iter().any(|mark| self.marks.made(mark))
    }

    /// The gate's first word on one conversation.
    fn first_word(
        &self,
        table: &Table,
        to: &Address,
        message: &Cleartext,
        trust: SenderTrust,
        rule: &Rule,
    ) -> FirstVerdict {
        match table.destination(to, false) {
            None if table.knows(&to.account) => FirstVerdict::Enqueue,
            None => FirstVerdict::Refuse(format!("there is no account {}", to.account)),
            Some(destination) => match judge(message, Origin { sender: trust, said: message }, &destination, rule) {
                // Its file stays behind, and the rest of it is put into words when it is delivered.
                Verdict::Refuse(Refusal::FileTooLarge | Refusal::FileNotSealed) if rule.paused => {
                    FirstVerdict::Hold(Hold::Paused)
                }
                Verdict::Refuse(Refusal::FileTooLarge | Refusal::FileNotSealed) => FirstVerdict::Enqueue,
                Verdict::Refuse(why) => FirstVerdict::Refuse(why.to_string()),
                Verdict::Hold(why @ Hold::Paused) => FirstVerdict::Hold(why),
                // What only the destination lacks is waited for at the head of its lane, in order.
                Verdict::Hold(_) | Verdict::Speak(_) | Verdict::Seal(_) => FirstVerdict::Enqueue,
            },
        }
    }
}

/// What the author of a message is told that the gate refuses for something that they can mend.
fn told(verdict: &FirstVerdict, rule: &Rule) -> Option<String> {
    let FirstVerdict::Refuse(why) = verdict else { return None };
    let is_too_long = *why == Refusal::TooLong.to_string();
    is_too_long.then(|| format!("A message did not cross: {why}. The most is {}.", bytes(rule.most_bytes as u64)))
}

impl Router for JourneyRouter {
    fn is_bounded(&self, account: &AccountName) -> bool {
        account.as_str() == notices::ACCOUNT
    }

    fn linked_since(&self, from: &Address) -> Option<Timestamp> {
        self.table.now().linked_since(from)
    }

    fn route(&self, from: &Address, _id: &RemoteId, message: &Cleartext, trust: SenderTrust) -> Vec<Routed> {
        let table = self.table.now();
        let ours = self.is_ours(message);
        // Of what is said where notices are, those who brought them hear what is done to them, and nothing else.
        let heard = |to: &Address| !notices::is_source(to) || message.verb() == Verb::Reaction;
        let mut routes: Vec<_> = table
            .listeners(from, message.sent_at())
            .filter(|(_, to, _)| heard(to))
            .map(|(link, to, rule)| {
                let verdict = match () {
                    () if ours => FirstVerdict::Echo,
                    // What changes, takes back or reacts to an earlier message does the same twice as once.
                    () if message.about().is_none() && self.is_in_doubt(message) => {
                        FirstVerdict::Refuse(IN_DOUBT.into())
                    }
                    () => self.first_word(&table, to, message, trust, &rule),
                };
                Routed { link: link.clone(), to: to.clone(), tell: told(&verdict, &rule), verdict }
            })
            .collect();
        // A message is one turn of a loop, however many conversations of a link hear it.
        for routes in routes.chunk_by_mut(|one, next| one.link == next.link) {
            let crosses = |routed: &&Routed| routed.verdict == FirstVerdict::Enqueue;
            let to: Vec<_> = routes.iter().filter(crosses).map(|routed| &routed.to).collect();
            if !to.is_empty() && self.trips(&routes[0].link, from, &to, message) {
                for routed in routes.iter_mut().filter(|routed| routed.verdict == FirstVerdict::Enqueue) {
                    routed.verdict = FirstVerdict::Hold(Hold::Paused);
                }
            }
        }
        routes
    }

    fn said_to_us(&self, from: &Address, incoming: &Incoming, history: bool) -> Option<Said> {
        // One that was done already would be done again.
        if self.is_in_doubt(&incoming.message) {
            return None;
        }
        let said = commands::hear(incoming, history, self.clock.now())?;
        let table = self.table.now();
        // Where others than those who write can make words up, nobody is heard. Our own words are an echo.
        if !matches!(table.transport(&from.account), Some(AnyTransport::EndToEnd(_))) || self.is_ours(&incoming.message)
        {
            return None;
        }
        let listens = table.linked_since(from).is_some() || self.operator.attends(&from.account, &said.by);
        listens.then_some(said)
    }

    fn attends(&self, from: &Address, sender: &PersonId) -> bool {
        self.operator.attends(&from.account, sender)
    }

    fn open(&self, from: &Address, parcel: &Parcel) -> Option<(DeliveryId, Cleartext)> {
        self.table.now().peer(from)?.open(&parcel.sealed)
    }

    fn links_are(&self, links: Vec<Link>) {
        let before = self.table.now();
        for link in links.iter().filter(|link| link.paused.is_none()) {
            if before.rule(&link.name).is_some_and(|rule| rule.paused) {
                self.breaker.lock().unwrap_or_else(PoisonError::into_inner).forget(&link.name);
            }
        }
        let paused = |name: &LinkName| links.iter().all(|link| link.name != *name || link.paused.is_some());
        self.tripped.send_if_modified(|tripped| {
            let before = tripped.len();
            tripped.retain(|name, _| !paused(name));
            tripped.len() < before
        });
        self.table.links_are(links);
    }
}
