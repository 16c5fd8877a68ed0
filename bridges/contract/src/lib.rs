//! What a transport must do, and what it may see.
//!
//! Read in this order. The contract knows no network: Matrix is one transport among others.
//!
//! # What does not compile, and why
//! | act | why it is forbidden |
//! |---|---|
//! | printing or serialising a [`Cleartext`] | a log or a file would hold the message |
//! | queueing a [`Cleared`] | the gate's verdict is for now; trust may have changed when it is taken out |
//! | giving either to a [`Carrier`] | a carrier is somebody else's server |
//! | giving a [`Locked`] to anyone | it is the journal's own form, and nobody else has the key |
//!
//! Each has a doctest that must fail to compile, beside a twin that must compile, in [`forbidden`].

pub mod abilities;
pub mod adapt;
pub mod audience;
pub mod cleartext;
pub mod clock;
pub mod code;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod delivery;
pub mod forbidden;
pub mod gate;
pub mod html;
pub mod ids;
pub mod inbox;
pub mod message;
pub mod names;
pub mod pieces;
pub mod portrait;
pub mod sealed;
pub mod sheet;
pub mod signal;
pub mod spool;
pub mod steps;
pub mod text;
pub mod trail;
pub mod transport;
pub mod vault;
mod wire;
#[cfg(test)]
mod fuzz;

pub use abilities::{Abilities, Ability, Deduplication, Verb};
pub use adapt::{Adapted, Loss, Manner, adapt};
pub use cleartext::{Cleared, Cleartext};
pub use clock::{Clock, Timestamp};
pub use delivery::{DeliveryError, Fate, Found, Receipt, Slip};
pub use gate::{Destination, Hold, Origin, Refusal, Rule, SenderTrust, Verdict, judge};
pub use ids::{AccountName, Address, ConversationId, DeliveryId, PersonId, RemoteId};
pub use inbox::{Arrival, Arrived, Batch, Inbox, Intake, NotAccepted, SealedInbox};
pub use message::{Author, Body, Kind, Media, Message, Target};
pub use portrait::{Album, Picture, PictureId, Pictures, Portrait};
pub use sealed::{PeerKey, Sealed};
pub use sheet::{LoginSheet, Question};
pub use signal::Signal;
pub use spool::{Spool, SpoolError, SpoolId, Spooled};
pub use steps::{Answer, Field, Flow, FlowError, Invitation, Screen, Step};
pub use text::{SecretBytes, Text};
pub use trail::{Mark, Trail};
pub use transport::{AnyTransport, Carrier, Context, EndToEnd, Fatal, OperatorRun, Transport};
pub use vault::{Locked, RootKey, Vault};
