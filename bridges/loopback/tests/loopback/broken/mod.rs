//! Transports that are right but for one defect.

mod inbox;
mod spool;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use sealbridge_contract::{
    Abilities, Ability, AccountName, AnyTransport, Carrier, Cleared, Cleartext, ConversationId, DeliveryError,
    DeliveryId, Destination, EndToEnd, Fatal, Fate, Flow, Found, Inbox, Kind, Message, Origin, PersonId, Picture,
    PictureId, Receipt, RemoteId, Rule, Screen, Sealed, SealedInbox, SenderTrust, Signal, Slip, Timestamp, Trail,
    Transport, Verb, Verdict,
    audience::Roll,
    gate::Encryption,
    judge,
    transport::{ConversationInfo, Health},
};
use tokio_util::sync::CancellationToken;

use inbox::Spoilt;
pub(crate) use spool::Credulous;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    DropsArrivals,
    DropsTheFirst,
    DoublesArrivals,
    SwapsArrivals,
    ForgetsTheRefused,
    RenamesArrivals,
    NeverStops,
    DropsGaps,
    DropsUnreadables,
    HidesReplays,
    EchoesAsArrivals,
    DropsRefusals,
    DoublesDeliveries,
    LosesDeliveries,
    ForgetsDeliveryIds,
    ForgetsAuthors,
    FindsEverything,
    FindsNothing,
    ForgetsPeople,
    ForgetsReplies,
    ForgetsTrails,
    ForgetsTargets,
    NamesFiles,
    PassesFormatting,
    BelievesFiles,
    CutsWords,
    DeclaresMore,
    RetriesForEver,
    GivesUpTooSoon,
    ForgetsTheWait,
    AlwaysPinned,
    TracesWords,
    TellsWords,
    ShowsWords,
    Panics,
    ChangesParcels,
}

/// The same transport, with a defect.
pub(crate) fn spoil(transport: AnyTransport, defect: Defect) -> AnyTransport {
    let mut abilities = transport.common().abilities().clone();
    abilities.verbs = match defect {
        Defect::DeclaresMore => &[(Verb::Text, Ability::Full), (Verb::Formatting, Ability::Full)],
        _ => abilities.verbs,
    };
    let (said, count) = Default::default();
    let inner = transport.clone();
    let broken = Arc::new(Broken { inner, defect, abilities, said, count });
    match transport {
        AnyTransport::EndToEnd(_) => AnyTransport::EndToEnd(broken),
        AnyTransport::Carrier(_) => AnyTransport::Carrier(broken),
        AnyTransport::OperatorRun(_) => transport,
    }
}

struct Broken {
    inner: AnyTransport,
    defect: Defect,
    abilities: Abilities,
    /// What was said last, for the one that tells it.
    said: Mutex<Option<String>>,
    count: AtomicU64,
}

impl Broken {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn end_to_end(&self) -> &dyn EndToEnd {
        match &self.inner {
            AnyTransport::EndToEnd(inner) => inner.as_ref(),
            _ => unreachable!("it is made of one of the same kind"),
        }
    }

    fn carrier(&self) -> &dyn Carrier {
        match &self.inner {
            AnyTransport::Carrier(inner) => inner.as_ref(),
            _ => unreachable!("it is made of one of the same kind"),
        }
    }

    fn spoil_error(&self, error: DeliveryError) -> DeliveryError {
        let fate = match (self.defect, error.fate) {
            (Defect::RetriesForEver, _) => Fate::Retry(None),
            (Defect::GivesUpTooSoon, _) => Fate::GiveUp,
            (Defect::ForgetsTheWait, Fate::Retry(_)) => Fate::Retry(None),
            (_, fate) => fate,
        };
        let said = self.said.lock().expect("nobody panics with it").clone();
        let cause = said.filter(|_| self.is(Defect::TellsWords)).unwrap_or(error.cause);
        DeliveryError { fate, cause }
    }

    fn spoil_slip(&self, slip: &Slip) -> Slip {
        let mut slip = slip.clone();
        match self.defect {
            Defect::ForgetsDeliveryIds => slip.delivery = DeliveryId::random(),
            Defect::ForgetsReplies => slip.reply_to = None,
            Defect::ForgetsTrails => slip.trail = Trail::default(),
            Defect::ForgetsTargets => slip.about = None,
            _ => {}
        }
        slip
    }

    /// Delivers another message than was asked for.
    async fn deliver_another(&self, message: Message, slip: &Slip) -> Result<Receipt, DeliveryError> {
        let (message, to) = (Cleartext::new(message), Destination::EndToEnd(Encryption::Pinned));
        match judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &Rule::default()) {
            Verdict::Speak(cleared) => self.end_to_end().deliver(cleared, slip).await,
            _ => Err(DeliveryError::give_up("the gate is shut")),
        }
    }
}

#[async_trait]
impl Transport for Broken {
    fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    fn health(&self) -> Health {
        let health = self.inner.common().health();
        let said = self.said.lock().expect("nobody panics with it").clone();
        if self.is(Defect::ShowsWords) { Health { trouble: said, ..health } } else { health }
    }

    fn conversations(&self) -> Vec<ConversationInfo> {
        self.inner.common().conversations()
    }

    async fn find(&self, slip: &Slip) -> Result<Found, DeliveryError> {
        match self.defect {
            Defect::FindsEverything => Ok(Found::There(RemoteId::new("made up"))),
            Defect::FindsNothing => Ok(Found::NotThere),
            _ => self.inner.common().find(slip).await,
        }
    }

    async fn open_direct(&self, with: &PersonId) -> Result<ConversationId, DeliveryError> {
        self.inner.common().open_direct(with).await
    }

    fn comparison(&self, with: Option<&PersonId>, screen: Screen) -> Option<Box<dyn Flow>> {
        self.inner.common().comparison(with, screen)
    }

    async fn signal(&self, to: &ConversationId, signal: &Signal) {
        self.inner.common().signal(to, signal).await;
    }

    async fn roll(&self, of: &ConversationId) -> Result<Option<Arc<Roll>>, DeliveryError> {
        match self.defect {
            Defect::ForgetsPeople => Ok(Some(Arc::default())),
            _ => self.inner.common().roll(of).await,
        }
    }

    async fn picture(&self, of: &PictureId) -> Option<Picture> {
        self.inner.common().picture(of).await
    }
}

#[async_trait]
impl EndToEnd for Broken {
    async fn run(&self, inbox: Inbox, stop: CancellationToken) -> Result<(), Fatal> {
        // The account's name is nobody's business here.
        let account = AccountName::parse("spoilt").expect("it is a name");
        let spoilt = Inbox::new(account, Arc::new(Spoilt::new(inbox, self.defect)));
        let stop = if self.is(Defect::NeverStops) { CancellationToken::new() } else { stop };
        self.end_to_end().run(spoilt, stop).await
    }

    fn encryption(&self, conversation: &ConversationId) -> Encryption {
        if self.is(Defect::AlwaysPinned) { Encryption::Pinned } else { self.end_to_end().encryption(conversation) }
    }

    async fn deliver(&self, message: Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
        let words = message.message().body().map_or("", |body| body.plain.as_str()).to_owned();
        *self.said.lock().expect("nobody panics with it") = Some(words.clone());
        let slip = &self.spoil_slip(slip);
        let author = || message.message().author.id.clone();
        let name = || message.message().author.name.as_ref().map(|name| name.as_str().into());
        let again = |words: &str| {
            Message::text(sealbridge_contract::Author { id: author(), name: name() }, Timestamp(0), words)
        };
        match self.defect {
            Defect::Panics => panic!("as it was told to"),
            Defect::LosesDeliveries => return Ok(Receipt { id: RemoteId::new("lost") }),
            Defect::TracesWords => tracing::trace!(%words, "Deliver."),
            Defect::DoublesDeliveries => {
                let twin = Slip { delivery: DeliveryId::random(), ..slip.clone() };
                self.deliver_another(again(&words), &twin).await?;
            }
            Defect::CutsWords if matches!(message.message().kind, Kind::Text(_)) => {
                let short: String = words.chars().take(100).collect();
                return self.deliver_another(again(&short), slip).await;
            }
            Defect::NamesFiles if matches!(message.message().kind, Kind::File(_)) => {
                return self.deliver_another(again(&words), slip).await;
            }
            Defect::ForgetsAuthors => return self.deliver_another(Message::notice(Timestamp(0), &words), slip).await,
            _ => {}
        }
        self.end_to_end().deliver(message, slip).await.map_err(|error| self.spoil_error(error))
    }
}

#[async_trait]
impl Carrier for Broken {
    async fn run(&self, inbox: SealedInbox, stop: CancellationToken) -> Result<(), Fatal> {
        let account = AccountName::parse("spoilt").expect("it is a name");
        let spoilt = SealedInbox::new(account, Arc::new(Spoilt::sealed(inbox, self.defect)));
        self.carrier().run(spoilt, stop).await
    }

    async fn carry(&self, parcel: &Sealed, slip: &Slip) -> Result<Receipt, DeliveryError> {
        if self.is(Defect::ChangesParcels) {
            let mut bytes = parcel.as_bytes().to_vec();
            bytes.push(u8::try_from(self.count.fetch_add(1, Ordering::Relaxed)).unwrap_or(0));
            return self.carrier().carry(&Sealed::received(bytes), slip).await;
        }
        self.carrier().carry(parcel, &self.spoil_slip(slip)).await.map_err(|error| self.spoil_error(error))
    }
}
