//! What the journal is given and what it tells, beside the contract's own types.

use std::time::Duration;

use sealbridge_contract::{AccountName, Address, Cleartext, DeliveryId, RemoteId, SenderTrust, Timestamp, gate::Hold};
use serde::{Deserialize, Serialize};

use super::LinkName;

/// One conversation that a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// By which link.
    pub link: LinkName,
    /// Where to.
    pub to: Address,
    /// The gate's first word; it speaks again at delivery.
    pub verdict: FirstVerdict,
    /// What its author is to be told about that, where it was written.
    pub tell: Option<String>,
}

/// What the gate said when the message came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstVerdict {
    /// Into the outbox. What only the destination lacks is waited for there, in order.
    Enqueue,
    /// Kept until somebody resumes the link.
    Hold(Hold),
    /// A dead letter.
    Refuse(String),
    /// Our own words come back, by our own mark: nothing to do, and a line that says so.
    Echo,
}

/// Two or more conversations whose messages are carried to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: LinkName,
    /// The conversations, each with the moment from which its messages cross.
    pub ends: Vec<LinkEnd>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Declared in the config, so commands can't remove it.
    pub fixed: bool,
    /// The circuit breaker paused it, not long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<Tripped>,
}

/// How the circuit breaker paused a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    /// How often in a row.
    pub times: u32,
    /// When, the last time.
    pub at: Timestamp,
    /// When it goes on by itself; `None`: when somebody resumes it.
    pub resume_at: Option<Timestamp>,
}

/// One conversation of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// Where.
    pub at: Address,
    /// Messages written before this moment do not cross.
    pub since: Timestamp,
}

/// A delivery at the head of its lane.
#[derive(Debug)]
pub struct Pending {
    /// Its number in the journal; lanes are in its order.
    pub number: i64,
    /// Which delivery it is.
    pub delivery: DeliveryId,
    /// By which link; `None` for words of the bridge itself.
    pub link: Option<LinkName>,
    /// Where it came from; `None` for words of the bridge itself.
    pub from: Option<(Address, RemoteId)>,
    /// The message, unlocked for this attempt.
    pub message: Cleartext,
    /// How sure we are of who wrote it.
    pub trust: SenderTrust,
    /// What it answers, by its name at the destination, if it is known there.
    pub reply_to: Option<RemoteId>,
    /// The message that began its thread, in the same way.
    pub thread: Option<RemoteId>,
    /// What it changes, takes back or reacts to, in the same way.
    pub about: Option<RemoteId>,
    /// What it takes back was itself on its way there as this delivery, enqueued then, when it was erased. Nobody here
    /// knows whether it arrived.
    pub erased: Option<(DeliveryId, Timestamp)>,
    /// How often it was tried before.
    pub attempt: u32,
    /// Not to be tried before.
    pub not_before: Timestamp,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// Nothing stood behind it in its lane. False: perhaps something does.
    pub last: bool,
}

/// A message that will not be delivered unless somebody says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Its number.
    pub number: i64,
    /// The delivery's id, or the event's name if it never became one.
    pub name: String,
    /// Where it came from.
    pub from: Option<Address>,
    /// Where it was to go, if it was known.
    pub to: Option<Address>,
    /// Who sent it, by the network's word.
    pub sender: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether it can be tried again: its content is still here, locked.
    pub kept: bool,
}

/// What became dead letters of one conversation within one hour, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Died {
    /// Where it came from.
    pub from: Address,
    /// Why.
    pub reason: String,
    /// In which hour since the epoch.
    pub hour: i64,
    /// How many.
    pub count: u64,
    /// When the last of them did.
    pub last: Timestamp,
}

/// What was done to some of the dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// To how many.
    pub done: usize,
    /// How many were left, since their content is gone.
    pub left: usize,
    /// After which number to go on; `None` if there is none left.
    pub go_on: Option<i64>,
}

/// What became of words that are said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// They were never said.
    Never,
    /// They wait to be delivered.
    OnItsWay,
    /// They arrived.
    Arrived,
    /// They will not arrive, or nobody remembers whether they did.
    Lost,
}

/// How full the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Deliveries in the outbox.
    pub queued: u64,
    /// Deliveries that are held.
    pub held: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that wait to be read.
    pub unreadable: u64,
    /// Gaps that are open.
    pub gaps: u64,
    /// Received messages that are not routed yet, behind a gap or an event that can't be read.
    pub unrouted: u64,
    /// Deliveries done in the last 30 days.
    pub settled: u64,
    /// Rows that do not open, set aside.
    pub quarantined: u64,
    /// When the oldest queued delivery was enqueued.
    pub oldest: Option<Timestamp>,
    /// Bytes of locked payload.
    pub payload_bytes: u64,
}

/// What waits of one conversation of a bounded account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which conversation.
    pub at: Address,
    /// How many of its messages wait.
    pub messages: u64,
    /// How many bytes they take, locked.
    pub bytes: u64,
    /// How many bytes their files have.
    pub files: u64,
    /// It is as much as may wait: nothing more is taken of it until some of it is delivered.
    pub is_taken: bool,
}

/// What waits to be read on one account, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which account.
    pub account: AccountName,
    /// Why it can't be read yet.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Since when the first of them waits.
    pub since: Timestamp,
}

/// How a lane stands, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneReport {
    /// Which conversation.
    pub at: Address,
    /// How many deliveries wait to go there.
    pub queued: u64,
    /// Since when the first of them does.
    pub since: Timestamp,
    /// How often that one was tried in vain.
    pub attempts: u32,
    /// Why, the last time.
    pub cause: Option<String>,
}

/// Why an edit or a reaction that still waited is dropped: what it said goes on its way in a newer one.
pub const REPLACED: &str = "a newer one took its place";

/// What became of one message, for `why` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// By which link.
    pub link: Option<LinkName>,
    /// Where to.
    pub to: Option<Address>,
    /// `queued`, `held`, `dead`, `delivered`, `echo`, `unreadable`, `waiting`; `quarantined` if its row does not open;
    /// `dropped` if an operator dropped it, or if it was certain not to be carried, with the reason.
    pub state: &'static str,
    /// Its number, if it is a dead letter.
    pub number: Option<i64>,
    /// Since when, as near as is kept.
    pub at: Timestamp,
    /// Why, if there is a reason.
    pub reason: Option<String>,
    /// What it is called there, once delivered.
    pub delivered_as: Option<RemoteId>,
}

/// Limits, from the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Locked payload at most, in bytes; over this nothing more is accepted. Of one sender, dead letters and events that
    /// can't be read take a sixteenth of it at most; beyond that only their lines and reasons are kept.
    pub payload_bytes: u64,
    /// Locked files at most, in bytes, of which one conversation of a bounded account may have a quarter waiting.
    pub files_bytes: u64,
    /// How long an event that can't be read waits.
    pub unreadable_for: Duration,
    /// How long later messages of the same sender wait for it.
    pub hold_sender_for: Duration,
    /// How long a content-free line is kept.
    pub lines_for: Duration,
    /// How long a dead letter is kept; then it is a content-free line with its reason.
    pub dead_letters_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            payload_bytes: 1 << 30,
            files_bytes: 4 << 30,
            unreadable_for: 7 * day,
            hold_sender_for: Duration::from_secs(30),
            lines_for: 30 * day,
            dead_letters_for: 30 * day,
        }
    }
}

impl Limits {
    /// So many messages of one conversation may always wait, however large they are.
    pub const LEAST_SHARE: u64 = 32;

    /// Whether a conversation of a bounded account has as much waiting as it may, when all that is kept takes `used`: half of
    /// the room that is left below three quarters. So one alone fills a quarter of the journal, several less each, and all of
    /// them leave a quarter to people.
    #[must_use]
    pub fn is_share_taken(&self, used: u64, (messages, bytes, files): (u64, u64, u64)) -> bool {
        let room = (self.payload_bytes / 4 * 3).saturating_sub(used);
        messages >= Self::LEAST_SHARE && (bytes >= room / 2 || files >= self.files_bytes / 4)
    }
}
