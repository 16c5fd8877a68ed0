//! Verification by emoji, step by step. Nothing confirms itself: a person compares.

mod stage;

use std::{collections::BTreeSet, sync::Mutex};

use futures_util::Stream;
use matrix_sdk_crypto::{
    Sas, UserIdentity, VerificationRequest, VerificationRequestState,
    types::requests::{OutgoingVerificationRequest, RoomMessageRequest},
};
use ruma::{
    DeviceId, EventId, OwnedUserId, RoomId, TransactionId, UserId,
    api::client::message::send_message_event,
    events::{
        AnyMessageLikeEvent, MessageLikeEventContent as _,
        key::verification::{VerificationMethod, cancel::CancelCode},
        room::message::RoomMessageEventContent,
    },
};
use serde_json::{Value, value::RawValue};
use tracing::instrument;

pub use self::stage::Stage;
use self::stage::{stage, stages};
use super::{Class, Engine, EngineError, InRoomStep, Retries, error::contained};

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    #[error("nothing is known about this user's identity yet")]
    UnknownUser,
    #[error("this device is not known")]
    UnknownDevice,
    #[error("this step is not possible now")]
    NotNow,
    #[error("this event can't be read")]
    Malformed,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One verification. Steps inside a room come back for the caller to send there; steps to a device are sent here.
#[derive(Clone, Debug)]
pub struct Verification {
    engine: Engine,
    request: VerificationRequest,
}

/// Our request to verify a person, to be sent into a room that they are in.
#[derive(Clone, Debug)]
pub struct InRoomStart {
    pub user: OwnedUserId,
    pub step: InRoomStep,
}

/// Users a verification event came from: the library lists requests by user only.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<BTreeSet<OwnedUserId>>);

impl Watched {
    pub(super) fn note(&self, user: OwnedUserId) {
        self.0
            .lock()
            .unwrap_or_else(|lock| lock.into_inner())
            .insert(user);
    }

    fn users(&self) -> BTreeSet<OwnedUserId> {
        self.0
            .lock()
            .unwrap_or_else(|lock| lock.into_inner())
            .clone()
    }
}

impl Engine {
    /// All verifications that are not over, in rooms and between devices.
    pub fn verifications(&self) -> Vec<Verification> {
        self.inner
            .watched
            .users()
            .iter()
            .flat_map(|user| self.machine().get_verification_requests(user))
            .map(|request| Verification {
                engine: self.clone(),
                request,
            })
            .filter(|verification| !verification.stage().is_final())
            .collect()
    }

    /// Asks one device of a user to verify.
    pub async fn verify_device(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Verification, VerifyError> {
        let device = self.machine().get_device(user, device, None).await;
        let device = device
            .map_err(EngineError::from)?
            .ok_or(VerifyError::UnknownDevice)?;
        let (request, step) = device.request_verification_with_methods(methods());
        self.begin(request, step).await
    }

    /// Asks all our own other devices to verify this one.
    pub async fn verify_own(&self) -> Result<Verification, VerifyError> {
        let identity = self.machine().get_identity(self.user_id(), None).await;
        let Some(UserIdentity::Own(own)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let asked = own.request_verification_with_methods(methods()).await;
        let (request, step) = asked.map_err(EngineError::from)?;
        self.begin(request, step).await
    }

    async fn begin(
        &self,
        request: VerificationRequest,
        step: OutgoingVerificationRequest,
    ) -> Result<Verification, VerifyError> {
        self.inner.watched.note(request.other_user().to_owned());
        let verification = Verification {
            engine: self.clone(),
            request,
        };
        verification.carry_out(Some(step)).await?;
        Ok(verification)
    }

    /// Makes the request that asks a person in a room to verify. Send it there, then call [`started_in_room`].
    ///
    /// [`started_in_room`]: Self::started_in_room
    pub async fn verify_in_room(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<InRoomStart, VerifyError> {
        let identity = self.machine().get_identity(user, None).await;
        let Some(UserIdentity::Other(other)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let content =
            RoomMessageEventContent::new(other.verification_request_content(Some(methods())));
        let event_type = content.event_type().to_string();
        let content =
            serde_json::value::to_raw_value(&content).map_err(|_| VerifyError::Malformed)?;
        let txn = TransactionId::new();
        let step = InRoomStep {
            room: room.to_owned(),
            txn,
            event_type,
            content,
        };
        Ok(InRoomStart {
            user: user.to_owned(),
            step,
        })
    }

    /// Follows the request that was sent as this event.
    pub async fn started_in_room(
        &self,
        start: &InRoomStart,
        event: &EventId,
    ) -> Result<Verification, VerifyError> {
        let identity = self.machine().get_identity(&start.user, None).await;
        let Some(UserIdentity::Other(other)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let request = other.request_verification(&start.step.room, event, Some(methods()));
        self.inner.watched.note(start.user.clone());
        Ok(Verification {
            engine: self.clone(),
            request,
        })
    }

    /// Tells the machine that a step was sent into its room.
    pub async fn in_room_sent(
        &self,
        step: &InRoomStep,
        event: &EventId,
    ) -> Result<(), EngineError> {
        let answer = send_message_event::v3::Response::new(event.to_owned());
        Ok(contained(self.machine().mark_request_as_sent(&step.txn, &answer)).await??)
    }

    /// Gives the machine a verification event from a room's timeline, in clear as it came or decrypted: an object with
    /// `type`, `sender`, `event_id`, `origin_server_ts` and `content`. Other events are ignored.
    #[instrument(skip_all)]
    pub async fn observe_in_room(
        &self,
        room: &RoomId,
        event: &RawValue,
    ) -> Result<(), VerifyError> {
        let mut event: Value =
            serde_json::from_str(event.get()).map_err(|_| VerifyError::Malformed)?;
        let object = event.as_object_mut().ok_or(VerifyError::Malformed)?;
        object.insert("room_id".to_owned(), room.as_str().into());
        let event: AnyMessageLikeEvent =
            serde_json::from_value(event).map_err(|_| VerifyError::Malformed)?;
        let sender = event.sender().to_owned();
        // The library ignores requests of people whose devices it has not read.
        self.track([&*sender]).await?;
        if self.inner.stale.contains(&sender)
            && let Some(error) = self.query_stale().await?.failed
        {
            return Err(error.into());
        }
        let receiving = self.machine().receive_verification_event(&event);
        contained(receiving).await?.map_err(EngineError::from)?;
        self.inner.watched.note(sender);
        self.inner.wants_flush.notify_one();
        Ok(())
    }
}

impl Verification {
    pub fn user(&self) -> &UserId {
        self.request.other_user()
    }

    pub fn room(&self) -> Option<&RoomId> {
        self.request.room_id()
    }

    /// The id that both sides know this verification by.
    pub fn flow(&self) -> &str {
        self.request.flow_id().as_str()
    }

    pub fn we_started(&self) -> bool {
        self.request.we_started()
    }

    pub fn stage(&self) -> Stage {
        stage(&self.request.state())
    }

    /// The stages from now on, each once, to the final one.
    pub fn stages(&self) -> impl Stream<Item = Stage> + Send + use<> {
        stages(&self.request)
    }

    /// Agrees to a request of theirs.
    pub async fn accept(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        let step = self
            .request
            .accept_with_methods(methods())
            .ok_or(VerifyError::NotNow)?;
        self.carry_out(Some(step)).await
    }

    /// Begins the comparison, or takes up theirs.
    pub async fn start_emoji(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        if let Some(sas) = self.sas() {
            let step = sas.accept().ok_or(VerifyError::NotNow)?;
            return self.carry_out(Some(step)).await;
        }
        let started = self.request.start_sas().await.map_err(EngineError::from)?;
        let (_, step) = started.ok_or(VerifyError::NotNow)?;
        self.carry_out(Some(step)).await
    }

    /// A person has compared, and all of it matched.
    pub async fn confirm(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        let sas = self
            .sas()
            .filter(Sas::can_be_presented)
            .ok_or(VerifyError::NotNow)?;
        let (steps, signature) = contained(sas.confirm()).await?.map_err(EngineError::from)?;
        let sent = self.carry_out(steps).await?;
        if let Some(signature) = signature {
            let http = self.engine.http();
            super::retrying(Retries::default(), || {
                http.send_any(signature.clone(), Class::Short)
            })
            .await
            .map_err(EngineError::from)?;
        }
        self.engine.inner.stale.moved();
        Ok(sent)
    }

    /// A person has compared, and it did not match.
    pub async fn mismatch(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        let sas = self.sas().ok_or(VerifyError::NotNow)?;
        let step = sas.cancel_with_code(CancelCode::MismatchedSas);
        self.carry_out(step).await
    }

    pub async fn cancel(&self) -> Result<Vec<InRoomStep>, VerifyError> {
        self.carry_out(self.request.cancel()).await
    }

    fn sas(&self) -> Option<Sas> {
        match self.request.state() {
            VerificationRequestState::Transitioned { verification, .. } => {
                verification.sas_v1().map(|sas| *sas)
            }
            _ => None,
        }
    }

    /// Sends the steps that go to devices; gives back those that go into the room.
    async fn carry_out(
        &self,
        steps: impl IntoIterator<Item = OutgoingVerificationRequest>,
    ) -> Result<Vec<InRoomStep>, VerifyError> {
        let mut in_room = Vec::new();
        for step in steps {
            match step {
                OutgoingVerificationRequest::ToDevice(request) => {
                    self.engine.send_to_device_patiently(&request).await?;
                }
                OutgoingVerificationRequest::InRoom(message) => in_room.push(room_step(&message)?),
            }
        }
        Ok(in_room)
    }
}

fn room_step(message: &RoomMessageRequest) -> Result<InRoomStep, VerifyError> {
    InRoomStep::of(message).ok_or(VerifyError::Malformed)
}

fn methods() -> Vec<VerificationMethod> {
    vec![VerificationMethod::SasV1]
}
