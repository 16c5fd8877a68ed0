//! A network in memory, with two transports to it: the template for a new transport, and the service's test double.
//!
//! A real transport has the same files: `config` (what the operator writes), `incoming` (from the network to the
//! inbox), `outgoing` (from the gate to the network), `translate` (pure: their form to ours and back). Here `hub`
//! stands for the server and the people, and `disk` for a server that another process can look into.
//!
//! Its encryption is played: states and failures behave as a real network's, and nothing is encrypted.

mod carrier;
mod config;
mod core;
mod disk;
mod files;
mod hub;
mod incoming;
mod outgoing;
mod translate;

use std::sync::Arc;

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, AnyTransport, Cleared, Context, ConversationId, DeliveryError, EndToEnd, Fatal, Flow, Found, Inbox,
    PersonId, Picture, PictureId, Receipt, Screen, SecretBytes, Signal, Slip, Transport,
    audience::Roll,
    gate::Encryption,
    transport::{ConversationInfo, Finding, Health},
};
use tokio_util::sync::CancellationToken;

pub use carrier::LoopbackCarrier;
pub use config::{Datasheet, Deduplicates, NetworkKind, Settings};
pub use disk::{DiskPeer, HeardLine, SaidLine};
pub use hub::{Fault, Faults, Heard, How, LoopbackHub, LoopbackPerson, More, ParcelSeen, Saying, Says, SentFile};

/// Connects an account: to the hub or the directory that its settings name.
///
/// # Errors
/// [`Fatal::Policy`] for settings that can't be, [`Fatal::Journal`] if the account's store does not answer, and
/// [`Fatal::Broken`] if the directory can't be used.
pub async fn connect(context: Context, settings: Settings) -> Result<AnyTransport, Fatal> {
    let kind = settings.kind;
    let core = core::Core::connect(context, settings).await?;
    Ok(match kind {
        NetworkKind::EndToEnd => AnyTransport::EndToEnd(Arc::new(Loopback { core })),
        NetworkKind::Carrier => AnyTransport::Carrier(Arc::new(LoopbackCarrier { core })),
    })
}

/// A network with its own, played, end-to-end encryption.
#[derive(Debug)]
pub struct Loopback {
    core: core::Core,
}

#[async_trait]
impl Transport for Loopback {
    fn abilities(&self) -> &Abilities {
        &self.core.abilities
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        self.core.conversations()
    }

    fn standing(&self, conversation: &ConversationId, person: &PersonId) -> Option<i64> {
        self.core.server.standing(conversation, person)
    }

    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        self.core.find(slip).await
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        self.core.open_direct(with).await
    }

    fn comparison(&self, with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
        Some(Box::new(hub::Comparison::new(Arc::clone(&self.core.server), with)))
    }

    async fn signal(&self, to: &ConversationId, signal: &Signal) {
        if self.core.encryption(to) == Encryption::Pinned {
            self.core.server.signal(to, signal);
        }
    }

    async fn roll(&self, of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
        Ok(self.core.roll(of))
    }

    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        Picture::new(SecretBytes::new(self.core.server.picture(of)?))
    }

    async fn doctor(&self) -> Vec<Finding> {
        self.core.findings()
    }
}

#[async_trait]
impl EndToEnd for Loopback {
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        incoming::run(&self.core, &inbox, &stop).await
    }

    fn encryption(&self, conversation: &ConversationId) -> Encryption {
        self.core.encryption(conversation)
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        outgoing::deliver(&self.core, &message, slip).await
    }
}
