//! Outgoing webhooks: what is said in linked conversations, posted to endpoints that the config names.
//!
//! An endpoint that the operator runs reads what is posted. At any other, only the recipients can, for whom it is
//! encrypted. Nothing comes in here: what programs have to say comes by sources.
//!
//! `config` judges what the operator writes, `addresses` where may be connected to, `door` resolves and connects,
//! `document` is what is posted, `seal` and `sign` encrypt and sign it, `answer` says what becomes of it.

mod addresses;
mod answer;
mod config;
mod core;
mod document;
mod door;
mod outgoing;
mod seal;
mod sign;

use std::sync::Arc;

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, AnyTransport, Cleared, Context, ConversationId, DeliveryError, EndToEnd, Fatal, Flow, Found, Inbox,
    OperatorRun, PersonId, Receipt, RemoteId, Screen, Slip, Transport,
    audience::Audience,
    gate::{Encryption, OperatorRunFacts},
    transport::{ConversationInfo, Health},
};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "seam")]
pub use crate::door::Names;
use crate::{
    config::Reader,
    core::{Core, nobody_to_talk_to},
    door::SystemNames,
};
pub use crate::{
    config::{Endpoint, Settings},
    core::ABILITIES,
};

/// Makes an account's transport. Nobody is asked anything yet.
///
/// # Errors
/// [`Fatal::Policy`] for settings that can't be, and files that can't be read.
pub async fn connect(context: Context, settings: Settings) -> Result<AnyTransport, Fatal> {
    open(&context, &settings, Arc::new(SystemNames))
}

/// The same, with names that lead where a test says.
///
/// # Errors
/// As [`connect`].
#[cfg(feature = "seam")]
pub fn connect_with(context: &Context, settings: &Settings, names: Arc<dyn Names>) -> Result<AnyTransport, Fatal> {
    open(context, settings, names)
}

fn open(context: &Context, settings: &Settings, names: Arc<dyn door::Names>) -> Result<AnyTransport, Fatal> {
    let core = Core::connect(context, settings, &names)?;
    let sealed = core.conversations().iter().all(|info| info.encryption == Encryption::Pinned);
    Ok(match sealed {
        true => AnyTransport::EndToEnd(Arc::new(ToRecipients { core })),
        false => AnyTransport::OperatorRun(Arc::new(ToOperators { core })),
    })
}

/// Endpoints that the operator runs: they read.
#[derive(Debug)]
pub struct ToOperators {
    core: Core,
}

/// Endpoints of anybody: those read who have the keys.
#[derive(Debug)]
pub struct ToRecipients {
    core: Core,
}

macro_rules! transport {
    ($name:ident) => {
        #[async_trait]
        impl Transport for $name {
            fn abilities(&self) -> &Abilities {
                &ABILITIES
            }

            fn health(&self) -> Health {
                self.core.health()
            }

            fn conversations(&self) -> Vec<ConversationInfo> {
                self.core.conversations()
            }

            async fn find(&self, _slip: &Slip) -> Result<Found, DeliveryError> {
                Err(DeliveryError::retry("an endpoint does not say what it has"))
            }

            fn name_of(&self, slip: &Slip) -> Option<RemoteId> {
                Some(document::id(slip))
            }

            async fn open_direct(&self, _with: &PersonId) -> Result<ConversationId, DeliveryError> {
                Err(nobody_to_talk_to())
            }

            fn comparison(&self, _with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
                None
            }

            async fn audience(&self, of: &ConversationId) -> Result<Option<Audience>, DeliveryError> {
                Ok(self.core.audience(of))
            }

            fn may_have_moved(&self, _of: &ConversationId) -> bool {
                false
            }
        }
    };
}

transport!(ToOperators);
transport!(ToRecipients);

#[async_trait]
impl OperatorRun for ToOperators {
    async fn run(&self, _inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        self.core.run(&stop).await;
        Ok(())
    }

    fn facts(&self, of: &ConversationId) -> OperatorRunFacts {
        let declared = self.core.endpoint(of).map(|endpoint| &endpoint.declared);
        OperatorRunFacts {
            declared: declared.is_some_and(|declared| matches!(declared.reader, Reader::Operator)),
            host_allowed: declared.is_some(),
            private_channel: declared.is_some_and(config::Declared::is_private),
        }
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        outgoing::deliver(&self.core, &message, slip).await
    }
}

#[async_trait]
impl EndToEnd for ToRecipients {
    async fn run(&self, _inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        self.core.run(&stop).await;
        Ok(())
    }

    fn encryption(&self, conversation: &ConversationId) -> Encryption {
        self.core.encryption(conversation)
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        outgoing::deliver(&self.core, &message, slip).await
    }
}
