//! Which conversations should hear a message, and the gate's first word on each. Asked by the journal in the moment of
//! the commit; answers from memory.

use std::sync::{Mutex, PoisonError};

use sealbridge_contract::{
    Address, Cleartext, Clock, DeliveryId, Origin, Refusal, RemoteId, Rule, SenderTrust, Timestamp, Verdict,
    adapt::bytes, gate::Hold, inbox::Parcel, judge, trail::MarkKey,
};
use tokio::sync::mpsc;

use super::{breaker::Breaker, table::TableHandle};
use crate::store::{FirstVerdict, Link, LinkName, Routed, Router};

/// Routes by the table that is valid now.
#[derive(Debug)]
pub struct JourneyRouter {
    table: TableHandle,
    marks: MarkKey,
    breaker: Mutex<Breaker>,
    trips: mpsc::UnboundedSender<LinkName>,
    clock: Clock,
}

impl JourneyRouter {
    /// A router; names of links whose circuit breaker tripped come out of the receiver.
    #[must_use]
    pub fn new(table: TableHandle, marks: MarkKey, clock: Clock) -> (Self, mpsc::UnboundedReceiver<LinkName>) {
        let (trips, tripped) = mpsc::unbounded_channel();
        (Self { table, marks, breaker: Mutex::new(Breaker::new()), trips, clock }, tripped)
    }

    fn tripped(&self, link: &LinkName, message: &Cleartext) -> bool {
        let now = self.clock.now();
        let trips = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).trips(link, message, now);
        if trips {
            // The receiver pauses the link for good; until it has, each further turn is held just the same.
            let _ = self.trips.send(link.clone());
        }
        trips
    }
}

/// What the author of a message is told that the gate refuses for something that they can mend.
fn told(verdict: &FirstVerdict, message: &Cleartext, rule: &Rule) -> Option<String> {
    let FirstVerdict::Refuse(why) = verdict else { return None };
    let most = match () {
        () if *why == Refusal::FileTooLarge.to_string() => bytes(rule.most_file),
        () if *why == Refusal::TooLong.to_string() => bytes(rule.most_bytes as u64),
        () => return None,
    };
    let what = if message.file_size().is_some() { "A file" } else { "A message" };
    Some(format!("{what} did not cross: {why}. The most is {most}."))
}

impl Router for JourneyRouter {
    fn linked_since(&self, from: &Address) -> Option<Timestamp> {
        self.table.now().linked_since(from)
    }

    fn route(&self, from: &Address, _id: &RemoteId, message: &Cleartext, trust: SenderTrust) -> Vec<Routed> {
        let table = self.table.now();
        let ours = message.trail().marks().iter().any(|mark| self.marks.made(mark));
        table
            .listeners(from, message.sent_at())
            .map(|(link, to, rule)| {
                let verdict = if ours {
                    FirstVerdict::Echo
                } else {
                    match table.destination(to) {
                        None if table.knows(&to.account) => FirstVerdict::Enqueue,
                        None => FirstVerdict::Refuse(format!("there is no account {}", to.account)),
                        Some(destination) => match judge(message, Origin { sender: trust }, &destination, &rule) {
                            Verdict::Refuse(why) => FirstVerdict::Refuse(why.to_string()),
                            Verdict::Hold(why @ Hold::Paused) => FirstVerdict::Hold(why),
                            _ if self.tripped(link, message) => FirstVerdict::Hold(Hold::Paused),
                            // What only the destination lacks is waited for at the head of its lane, in order.
                            Verdict::Hold(_) | Verdict::Speak(_) | Verdict::Seal(_) => FirstVerdict::Enqueue,
                        },
                    }
                };
                Routed { link: link.clone(), to: to.clone(), tell: told(&verdict, message, &rule), verdict }
            })
            .collect()
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
        self.table.links_are(links);
    }
}
