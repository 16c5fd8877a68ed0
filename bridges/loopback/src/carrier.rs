//! Somebody else's server: it brings and takes bytes, and nothing here could read them.

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Carrier, ConversationId, DeliveryError, Fatal, Flow, Found, PersonId, Receipt, Screen, Sealed,
    SealedInbox, Slip, Transport,
    inbox::{Parcel, StoreWrite},
    transport::{ConversationInfo, Finding, Health},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{CURSOR, Core},
    hub::{Bytes, Cargo, Item, Polled, What},
    incoming::{Ended, answer, insist, reached},
    translate::{self, Known},
};

/// A network that carries what is sealed, and sees nothing else.
#[derive(Debug)]
pub struct LoopbackCarrier {
    pub(crate) core: Core,
}

#[async_trait]
impl Transport for LoopbackCarrier {
    fn abilities(&self) -> &Abilities {
        &self.core.abilities
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        self.core.conversations()
    }

    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        self.core.find(slip).await
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        self.core.open_direct(with).await
    }

    fn comparison(&self, _with: Option<&PersonId>, _screen: Screen) -> Option<Box<dyn Flow>> {
        None
    }

    async fn doctor(&self) -> Vec<Finding> {
        self.core.findings()
    }
}

#[async_trait]
impl Carrier for LoopbackCarrier {
    async fn run(&self, inbox: SealedInbox, stop: CancellationToken) -> Result<(), Fatal> {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ended = receive(&self.core, &inbox) => ended,
        };
        self.core.stopped();
        match ended {
            Ok(()) | Err(Ended::Stopping) => Ok(()),
            Err(Ended::Fatal(fatal)) => Err(fatal),
        }
    }

    async fn carry(&self, parcel: &Sealed, slip: &Slip) -> Result<Receipt, DeliveryError> {
        self.core.send(slip, Cargo::Parcel(Bytes(parcel.as_bytes().to_vec()))).await
    }
}

async fn receive(core: &Core, inbox: &SealedInbox) -> Result<(), Ended> {
    let mut cursor = insist!(core.cursor());
    loop {
        reached(core).await?;
        let Some(polled) = answer(core, cursor, true).await? else { continue };
        let (parcels, news) = sort(core, &polled);
        let writes = || {
            let known = news.iter().map(|(conversation, known)| translate::remember(conversation, *known));
            known.chain([translate::put_json(CURSOR, &polled.cursor)]).collect::<Vec<StoreWrite>>()
        };
        insist!(inbox.accept(parcels.clone(), writes()));
        core.learn(&news);
        core.server.acknowledge(polled.cursor);
        cursor = polled.cursor;
    }
}

/// Only bytes become parcels. Whatever else this network has is not for us.
fn sort(core: &Core, polled: &Polled) -> (Vec<Parcel>, Vec<(ConversationId, Known)>) {
    let (mut parcels, mut news) = (Vec::new(), Vec::new());
    for item in &polled.items {
        let Item::Event(event) = item else { continue };
        let conversation = event.conversation.clone();
        if let What::Parcel(Bytes(bytes)) = &event.what {
            parcels.push(Parcel { conversation, id: event.id.clone(), sealed: Sealed::received(bytes.clone()) });
        } else if let Some(known) = translate::learnt(event, core.known(&conversation)) {
            news.push((conversation, known));
        }
    }
    (parcels, news)
}
