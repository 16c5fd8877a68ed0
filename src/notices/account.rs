//! The sources as an account of their own, so that what they bring goes the way of every message.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Ability, Cleared, ConversationId, Deduplication, DeliveryError, Fatal, Flow, Found, Inbox, Kind,
    OperatorRun, PersonId, Receipt, RemoteId, Screen, Slip, Transport, Verb,
    gate::{Encryption, OperatorRunFacts},
    names,
    transport::{ConversationInfo, Health},
};
use tokio_util::sync::CancellationToken;

use super::{ACCOUNT, Intake, SourceName, Who};

/// By which reactions somebody says that they look after something.
const ACKNOWLEDGES: &[&str] = &["✅", "☑", "✔", "👀", "👍"];

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
    intake: Arc<OnceLock<Arc<Intake>>>,
}

impl Account {
    /// The account of these sources. What is said of their notices goes to `intake`, once there is one.
    #[must_use]
    pub fn new(sources: Vec<SourceName>, intake: Arc<OnceLock<Arc<Intake>>>) -> Self {
        Self { sources, intake }
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
        let conversation =
            |id: ConversationId| ConversationInfo { id, name: None, encryption: Encryption::Absent, members: 1 };
        let each = |name: &SourceName| [name.conversation(), name.next_address().conversation];
        self.sources.iter().flat_map(each).map(conversation).collect()
    }

    async fn find(&self, _slip: &Slip) -> Result<Found, DeliveryError> {
        Ok(Found::NotThere)
    }

    async fn open_direct(&self, _with: &PersonId) -> Result<ConversationId, DeliveryError> {
        Err(DeliveryError::give_up("a source is nobody to talk to"))
    }

    fn comparison(&self, _with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
        None
    }
}

#[async_trait]
impl OperatorRun for Account {
    async fn run(&self, _inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        stop.cancelled().await;
        Ok(())
    }

    fn facts(&self, _of: &ConversationId) -> OperatorRunFacts {
        OperatorRunFacts { declared: true, host_allowed: true, private_channel: true }
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        let message = message.message();
        if let (Kind::Reaction(reaction), Some(about)) = (&message.kind, &slip.about) {
            let intake = self.intake.get().ok_or_else(|| DeliveryError::retry("the sources are not read yet"))?;
            let looks_after =
                reaction.all.iter().any(|emoji| ACKNOWLEDGES.contains(&emoji.as_str().trim_end_matches('\u{fe0f}')));
            let name = names::of(&message.author);
            let by = Who { id: message.author.id.as_str(), name: name.as_str() };
            let reacted = intake.reacted(slip.to.as_str(), about, by, looks_after).await;
            reacted.map_err(|why| DeliveryError::retry(why.to_string()))?;
        }
        Ok(Receipt { id: RemoteId::new(slip.delivery.to_string()) })
    }
}
