//! One running account, with an inbox in memory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sealbridge_contract::{
    AccountName, AnyTransport, Author, Cleartext, Clock, ConversationId, DeliveryError, DeliveryId, Destination,
    EndToEnd, Inbox, Intake, Message, Origin, PersonId, Receipt, Rule, SenderTrust, Slip, Verdict,
    conformance::{MemoryIntake, MemorySpool},
    gate::Encryption,
    inbox::AccountStore,
    judge,
};
use sealbridge_loopback::{Settings, connect};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::harness::{account, context};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Account {
    pub(crate) name: AccountName,
    pub(crate) intake: Arc<MemoryIntake>,
    pub(crate) transport: Arc<dyn EndToEnd>,
    task: JoinHandle<()>,
}

impl Account {
    pub(crate) async fn start(settings: Settings, name: &AccountName, intake: &Arc<MemoryIntake>) -> Self {
        let shared: Arc<dyn Intake> = Arc::<MemoryIntake>::clone(intake);
        let store = AccountStore::new(name.clone(), Arc::clone(&shared));
        let context = context(name, PathBuf::new(), store, Arc::new(MemorySpool::default()), Clock::system());
        let AnyTransport::EndToEnd(transport) = connect(context, settings).await.expect("it connects") else {
            panic!("it is an end-to-end encrypted network");
        };
        let (running, inbox) = (Arc::clone(&transport), Inbox::new(name.clone(), shared));
        let task = tokio::spawn(async move { running.run(inbox, CancellationToken::new()).await.expect("it runs") });
        Self { name: name.clone(), intake: Arc::clone(intake), transport, task }
    }

    pub(crate) async fn new(settings: Settings) -> Self {
        Self::start(settings, &account(), &Arc::new(MemoryIntake::default())).await
    }

    pub(crate) async fn speaks_in(&self, conversation: &ConversationId) {
        until("it is pinned", || self.transport.encryption(conversation) == Encryption::Pinned).await;
    }

    pub(crate) async fn deliver(&self, conversation: &ConversationId, words: &str) -> Result<Receipt, DeliveryError> {
        self.deliver_as(DeliveryId::random(), conversation, words).await
    }

    pub(crate) async fn deliver_as(
        &self,
        delivery: DeliveryId,
        conversation: &ConversationId,
        words: &str,
    ) -> Result<Receipt, DeliveryError> {
        let author = Author { id: PersonId::new("ann@elsewhere"), name: Some("Ann".into()) };
        let now = Clock::system().now();
        let message = Cleartext::new(Message::text(author, now, words));
        let to = Destination::EndToEnd(self.transport.encryption(conversation));
        let slip = Slip::new(conversation.clone(), delivery, now);
        match judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &Rule::default()) {
            Verdict::Speak(cleared) => self.transport.deliver(cleared, &slip).await,
            other => panic!("the gate says {other:?}"),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn until(what: &str, there: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !there() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
