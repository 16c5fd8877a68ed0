//! One message on its way to one conversation: the slip that goes with it, and what becomes of it.

use std::time::Duration;

use crate::{ConversationId, DeliveryId, RemoteId, Timestamp, Trail, message::Absence};

/// What goes with a message to the transport.
#[derive(Clone, Debug)]
pub struct Slip {
    /// Where to.
    pub to: ConversationId,
    /// Which delivery it is; the same at every attempt.
    pub delivery: DeliveryId,
    /// How often it was tried before.
    pub attempt: u32,
    /// When it was enqueued: no attempt is older.
    pub enqueued_at: Timestamp,
    /// The marks to carry inside the ciphertext, ours last.
    pub trail: Trail,
    /// What it answers, by its name in the conversation it goes to; absent when that is not known there.
    pub reply_to: Option<RemoteId>,
    /// The message that began its thread, in the same way.
    pub thread: Option<RemoteId>,
    /// The earlier message that it changes, takes back or reacts to, in the same way.
    pub about: Option<RemoteId>,
}

impl Slip {
    /// A first attempt at something in no relation to anything.
    #[must_use]
    pub fn new(to: ConversationId, delivery: DeliveryId, enqueued_at: Timestamp) -> Self {
        let (trail, reply_to, thread, about) = Default::default();
        Self { to, delivery, attempt: 0, enqueued_at, trail, reply_to, thread, about }
    }
}

/// The network took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the network calls it now.
    pub id: RemoteId,
}

/// What looking for a delivery in doubt found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there: it was delivered.
    There(RemoteId),
    /// It is certain that it is not there: sending is safe.
    NotThere,
}

/// What is to become of a delivery that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not delivered, and may be later; not before this long, if the network said so.
    Retry(Option<Duration>),
    /// It was not delivered and never will be: a dead letter.
    GiveUp,
    /// It was not delivered, and this very message can't be in the form that it has, though the datasheet carries its
    /// kind. It is put into the next form that is nearer to words, as if the datasheet said [`Degrade`]; a dead letter
    /// if there is none.
    ///
    /// [`Degrade`]: crate::Ability::Degrade
    OtherForm,
    /// It was not delivered, and with its file it never will be. It is put into words that say so and tried again at
    /// once, and whoever sent it is told.
    WithoutFile(Absence),
    /// It was not delivered and never will be, since it is longer than what is taken: a dead letter, and whoever wrote it
    /// is told.
    TooLong {
        /// The most that is taken, in bytes of what is sent, where that is known.
        most: Option<u64>,
    },
    /// Nobody knows whether it was delivered. It is tried again only if the network deduplicates, or after a look.
    Unknown,
}

/// Why a delivery failed, and what is to become of it. Never holds words of a message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause}")]
pub struct DeliveryError {
    /// What is to become of it.
    pub fate: Fate,
    /// For the operator: what happened, without words of the message, tokens or keys.
    pub cause: String,
}

impl DeliveryError {
    /// Not delivered; try again.
    pub fn retry(cause: impl Into<String>) -> Self {
        Self { fate: Fate::Retry(None), cause: cause.into() }
    }

    /// Not delivered; try again, but not before `after`.
    pub fn retry_after(after: Duration, cause: impl Into<String>) -> Self {
        Self { fate: Fate::Retry(Some(after)), cause: cause.into() }
    }

    /// Not delivered, and never will be.
    pub fn give_up(cause: impl Into<String>) -> Self {
        Self { fate: Fate::GiveUp, cause: cause.into() }
    }

    /// Not delivered, and not in this form.
    pub fn other_form(cause: impl Into<String>) -> Self {
        Self { fate: Fate::OtherForm, cause: cause.into() }
    }

    /// Not delivered, and never with its file.
    #[must_use]
    pub fn without_file(why: Absence) -> Self {
        Self { fate: Fate::WithoutFile(why), cause: format!("its file does not cross: {why}") }
    }

    /// Not delivered, and never will be at this length.
    #[must_use]
    pub fn too_long(most: Option<u64>) -> Self {
        Self { fate: Fate::TooLong { most }, cause: crate::adapt::longer_than(most) }
    }

    /// Nobody knows.
    pub fn unknown(cause: impl Into<String>) -> Self {
        Self { fate: Fate::Unknown, cause: cause.into() }
    }
}
