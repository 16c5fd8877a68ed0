//! The sources as an account of their own, so that what they bring goes the way of every message.

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Ability, Cleared, ConversationId, Deduplication, DeliveryError, Fatal, Flow, Found, Inbox, OperatorRun,
    PersonId, Receipt, RemoteId, Slip, Transport, Verb,
    gate::{Encryption, OperatorRunFacts},
    transport::{ConversationInfo, Health},
};
use tokio_util::sync::CancellationToken;

use super::{ACCOUNT, SourceName};

/// What a source takes: nothing is sent to it. What is said of its notices ends here.
const ABILITIES: Abilities = Abilities {
    network: ACCOUNT,
    verbs: &[
        (Verb::Text, Ability::Full),
        (Verb::Notice, Ability::Full),
        (Verb::Reaction, Ability::Full),
        (Verb::Redaction, Ability::Full),
    ],
    deduplication: Deduplication::Always,
    finds: false,
    carries_marks: false,
    most_bytes: 64 * 1024,
    most_file: 0,
    reactions_in_clear: false,
};

/// The account of the sources. It is this process itself, so nothing leaves it by it.
#[derive(Debug)]
pub struct Account {
    sources: Vec<SourceName>,
}

impl Account {
    /// The account of these sources.
    #[must_use]
    pub fn new(sources: Vec<SourceName>) -> Self {
        Self { sources }
    }
}

#[async_trait]
impl Transport for Account {
    fn abilities(&self) -> &Abilities {
        &ABILITIES
    }

    fn health(&self) -> Health {
        Health { connected: true, ..Health::default() }
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        let conversation = |name: &SourceName| ConversationInfo {
            id: name.conversation(),
            name: None,
            encryption: Encryption::Absent,
            members: 1,
        };
        self.sources.iter().map(conversation).collect()
    }

    async fn find(&self, _slip: &Slip) -> Result<Found, DeliveryError> {
        Ok(Found::NotThere)
    }

    async fn open_direct(&self, _with: &PersonId) -> Result<ConversationId, DeliveryError> {
        Err(DeliveryError::give_up("a source is nobody to talk to"))
    }

    fn comparison(&self, _with: Option<&PersonId>) -> Option<Box<dyn Flow>> {
        None
    }
}

#[async_trait]
impl OperatorRun for Account {
    async fn run(&self, _inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        stop.cancelled().await;
        Ok(())
    }

    fn facts(&self) -> OperatorRunFacts {
        OperatorRunFacts { declared: true, host_allowed: true, private_channel: true }
    }

    async fn deliver(&self, _message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        Ok(Receipt { id: RemoteId::new(slip.delivery.to_string()) })
    }
}
