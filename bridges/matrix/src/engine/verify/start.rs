//! Beginning a verification, from either side.

use matrix_sdk_crypto::{UserIdentity, VerificationRequest, types::requests::OutgoingVerificationRequest};
use ruma::{
    DeviceId, EventId, RoomId, TransactionId, UserId,
    api::client::message::send_message_event,
    events::{AnyMessageLikeEvent, MessageLikeEventContent as _, room::message::RoomMessageEventContent},
};
use serde_json::{Value, value::RawValue};
use tracing::instrument;

use super::{
    super::{Engine, EngineError, InRoomStep, error::contained},
    InRoomStart, Verification, VerifyError, Ways,
};

impl Engine {
    /// All verifications that are not over, in rooms and between devices.
    pub fn verifications(&self) -> Vec<Verification> {
        self.inner
            .watched
            .users()
            .iter()
            .flat_map(|user| self.machine().get_verification_requests(user))
            .map(|request| Verification { engine: self.clone(), request })
            .filter(|verification| !verification.stage().is_final())
            .collect()
    }

    /// Asks one device of a user to verify.
    pub async fn verify_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        ways: Ways,
    ) -> Result<Verification, VerifyError> {
        let device = self.machine().get_device(user, device, None).await;
        let device = device.map_err(EngineError::from)?.ok_or(VerifyError::UnknownDevice)?;
        let (request, step) = device.request_verification_with_methods(ways.methods());
        self.begin(request, step).await
    }

    /// Asks all our own other devices to verify this one.
    pub async fn verify_own(&self) -> Result<Verification, VerifyError> {
        let identity = self.machine().get_identity(self.user_id(), None).await;
        let Some(UserIdentity::Own(own)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let asked = own.request_verification_with_methods(Ways::Emoji.methods()).await;
        let (request, step) = asked.map_err(EngineError::from)?;
        self.begin(request, step).await
    }

    async fn begin(
        &self,
        request: VerificationRequest,
        step: OutgoingVerificationRequest,
    ) -> Result<Verification, VerifyError> {
        self.watch(request.other_user().to_owned());
        let verification = Verification { engine: self.clone(), request };
        if let Err(error) = verification.carry_out(Some(step)).await {
            // They may have it all the same, though the homeserver could not say so.
            drop(verification.cancel().await);
            return Err(error);
        }
        Ok(verification)
    }

    /// Makes the request that asks a person in a room to verify. Send it there, then call [`started_in_room`].
    ///
    /// [`started_in_room`]: Self::started_in_room
    pub async fn verify_in_room(&self, user: &UserId, room: &RoomId, ways: Ways) -> Result<InRoomStart, VerifyError> {
        let identity = self.machine().get_identity(user, None).await;
        let Some(UserIdentity::Other(other)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let content = RoomMessageEventContent::new(other.verification_request_content(Some(ways.methods())));
        let event_type = content.event_type().to_string();
        let content = serde_json::value::to_raw_value(&content).map_err(|_| VerifyError::Malformed)?;
        let txn = TransactionId::new();
        let step = InRoomStep { room: room.to_owned(), txn, event_type, content };
        Ok(InRoomStart { user: user.to_owned(), ways, step })
    }

    /// Follows the request that was sent as this event.
    pub async fn started_in_room(&self, start: &InRoomStart, event: &EventId) -> Result<Verification, VerifyError> {
        let identity = self.machine().get_identity(&start.user, None).await;
        let Some(UserIdentity::Other(other)) = identity.map_err(EngineError::from)? else {
            return Err(VerifyError::UnknownUser);
        };
        let request = other.request_verification(&start.step.room, event, Some(start.ways.methods()));
        self.watch(start.user.clone());
        Ok(Verification { engine: self.clone(), request })
    }

    /// Tells the machine that a step was sent into its room.
    pub async fn in_room_sent(&self, step: &InRoomStep, event: &EventId) -> Result<(), EngineError> {
        let answer = send_message_event::v3::Response::new(event.to_owned());
        self.mark(self.machine().mark_request_as_sent(&step.txn, &answer)).await
    }

    /// Gives the machine a verification event from a room's timeline, in clear as it came or decrypted: an object with
    /// `type`, `sender`, `event_id`, `origin_server_ts` and `content`. Other events are ignored.
    #[instrument(skip_all)]
    pub async fn observe_in_room(&self, room: &RoomId, event: &RawValue) -> Result<(), VerifyError> {
        let mut event: Value = serde_json::from_str(event.get()).map_err(|_| VerifyError::Malformed)?;
        let object = event.as_object_mut().ok_or(VerifyError::Malformed)?;
        object.insert("room_id".to_owned(), room.as_str().into());
        let event: AnyMessageLikeEvent = serde_json::from_value(event).map_err(|_| VerifyError::Malformed)?;
        let sender = event.sender().to_owned();
        // The library ignores requests of people whose devices it has not read.
        self.track([&*sender]).await?;
        if self.inner.stale.contains(&sender)
            && let Some(error) = self.query_stale().await?.failed
        {
            return Err(error.into());
        }
        let turn = self.turn().await?;
        let receiving = self.machine().receive_verification_event(&event);
        contained(receiving).await?.map_err(EngineError::from)?;
        drop(turn);
        self.watch(sender);
        self.inner.wants_flush.notify_one();
        Ok(())
    }
}
