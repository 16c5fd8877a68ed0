//! An inbox that gets something else than the network brought.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sealbridge_contract::{
    AccountName, Arrival, Arrived, Author, Batch, Body, Cleartext, ConversationId, DeliveryId, Inbox, Intake, Kind,
    Message, NotAccepted, PersonId, RemoteId, SealedInbox, SecretBytes, SenderTrust, Signal, Timestamp,
    inbox::{Filling, Incoming, Keep, OpenGap, Parcel, Resolution, StoreWrite, Waiting, WaitingFor},
};

use super::Defect;

enum Behind {
    Open(Inbox),
    Sealed(SealedInbox),
}

pub(super) struct Spoilt {
    behind: Behind,
    defect: Defect,
    count: AtomicUsize,
    /// Another one at each start.
    prefix: DeliveryId,
}

impl Spoilt {
    pub(super) fn new(inbox: Inbox, defect: Defect) -> Self {
        Self { behind: Behind::Open(inbox), defect, count: AtomicUsize::new(0), prefix: DeliveryId::random() }
    }

    pub(super) fn sealed(inbox: SealedInbox, defect: Defect) -> Self {
        Self { behind: Behind::Sealed(inbox), defect, count: AtomicUsize::new(0), prefix: DeliveryId::random() }
    }

    fn open(&self) -> &Inbox {
        match &self.behind {
            Behind::Open(inbox) => inbox,
            Behind::Sealed(_) => unreachable!("a carrier has no such inbox"),
        }
    }

    /// Whether this one is dropped: every third, or the first alone.
    fn hit(&self) -> bool {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        match self.defect {
            Defect::DropsArrivals => number.is_multiple_of(3),
            Defect::DropsTheFirst => number == 0,
            _ => false,
        }
    }

    fn spoil(&self, mut batch: Batch) -> Batch {
        let gone = |what: &Arrived| match (self.defect, what) {
            (Defect::DropsGaps, Arrived::Gap { .. })
            | (Defect::DropsUnreadables, Arrived::Unreadable(_))
            | (Defect::DropsRefusals, Arrived::Refused { .. }) => true,
            (_, Arrived::Message(_)) => self.hit(),
            _ => false,
        };
        batch.arrivals.retain(|arrival| !gone(&arrival.what));
        match self.defect {
            Defect::DropsRefusals => batch.incidents.clear(),
            Defect::SwapsArrivals => batch.arrivals.reverse(),
            Defect::DoublesArrivals => {
                let twins: Vec<_> = batch.arrivals.iter().filter_map(twin).collect();
                batch.arrivals.extend(twins);
            }
            Defect::EchoesAsArrivals => {
                for echo in std::mem::take(&mut batch.echoes) {
                    let what = Arrived::Message(made_up(echo.id));
                    batch.arrivals.push(Arrival { conversation: echo.conversation, what });
                }
            }
            _ => {}
        }
        for arrival in &mut batch.arrivals {
            if let Arrived::Message(incoming) = &mut arrival.what {
                if self.defect == Defect::RenamesArrivals {
                    incoming.id = RemoteId::new(format!("{}{}", self.prefix, incoming.id.as_str()));
                }
                if self.defect == Defect::PassesFormatting {
                    let html = Some("<script>alert(1)</script>".into());
                    let author = Author { id: PersonId::new("somebody"), name: None };
                    let kind = Kind::Text(Body { html, ..Body::plain("something") });
                    incoming.message = Cleartext::new(Message::of(author, Timestamp(1), kind));
                }
                if self.defect == Defect::HidesReplays {
                    incoming.once = None;
                }
            }
        }
        batch
    }

    fn spoil_answer(&self, answer: Result<(), NotAccepted>) -> Result<(), NotAccepted> {
        if self.defect == Defect::ForgetsTheRefused { Ok(()) } else { answer }
    }
}

fn made_up(id: RemoteId) -> Incoming {
    let author = Author { id: PersonId::new("somebody"), name: None };
    let message = Cleartext::new(Message::text(author, Timestamp(1), "something"));
    Incoming { id, message, trust: SenderTrust::Proven, identity: None, once: None }
}

fn twin(arrival: &Arrival) -> Option<Arrival> {
    let Arrived::Message(incoming) = &arrival.what else { return None };
    let what = Arrived::Message(made_up(RemoteId::new(format!("twin {}", incoming.id.as_str()))));
    Some(Arrival { conversation: arrival.conversation.clone(), what })
}

#[async_trait]
impl Intake for Spoilt {
    async fn accept(&self, _account: &AccountName, batch: Batch) -> Result<(), NotAccepted> {
        // Its arrivals come together, so that they can be swapped.
        let batch = self.spoil(batch);
        self.spoil_answer(self.open().accept(batch).await)
    }

    async fn accept_sealed(
        &self,
        _account: &AccountName,
        mut parcels: Vec<Parcel>,
        cursor: Vec<StoreWrite>,
    ) -> Result<(), NotAccepted> {
        parcels.retain(|_| !self.hit());
        match &self.behind {
            Behind::Sealed(inbox) => inbox.accept(parcels, cursor).await,
            Behind::Open(_) => unreachable!("only a carrier brings parcels"),
        }
    }

    async fn open_gaps(&self, _account: &AccountName) -> Result<Vec<OpenGap>, NotAccepted> {
        self.open().open_gaps().await
    }

    async fn fill(&self, _account: &AccountName, filling: Filling) -> Result<(), NotAccepted> {
        self.open().fill(filling).await
    }

    async fn waiting(
        &self,
        _account: &AccountName,
        filter: WaitingFor,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Waiting>, NotAccepted> {
        self.open().waiting(filter, after, limit).await
    }

    async fn resolve(&self, _account: &AccountName, waiting: i64, resolution: Resolution) -> Result<(), NotAccepted> {
        self.open().resolve(waiting, resolution).await
    }

    async fn read(&self, _account: &AccountName, key: &str) -> Result<Option<SecretBytes>, NotAccepted> {
        match &self.behind {
            Behind::Open(inbox) => inbox.store().read(key).await,
            Behind::Sealed(inbox) => inbox.store().read(key).await,
        }
    }

    async fn read_all(&self, _account: &AccountName, prefix: &str) -> Result<Vec<(String, SecretBytes)>, NotAccepted> {
        match &self.behind {
            Behind::Open(inbox) => inbox.store().read_all(prefix).await,
            Behind::Sealed(inbox) => inbox.store().read_all(prefix).await,
        }
    }

    async fn write(&self, _account: &AccountName, writes: Vec<StoreWrite>) -> Result<(), NotAccepted> {
        match &self.behind {
            Behind::Open(inbox) => inbox.store().write(writes).await,
            Behind::Sealed(inbox) => inbox.store().write(writes).await,
        }
    }

    fn signal(&self, _account: &AccountName, conversation: &ConversationId, signal: Signal) {
        self.open().signal(conversation, signal);
    }

    fn listens(&self, _account: &AccountName) -> Vec<ConversationId> {
        self.open().listens()
    }

    async fn prune(&self, _account: &AccountName, prefix: &str, keep: Keep) -> Result<usize, NotAccepted> {
        match &self.behind {
            Behind::Open(inbox) => inbox.store().prune(prefix, keep).await,
            Behind::Sealed(inbox) => inbox.store().prune(prefix, keep).await,
        }
    }
}
