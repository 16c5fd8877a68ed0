//! Verification by emoji, or by a code that the other side scans, step by step. Nothing confirms itself: a person compares.

mod code;
mod stage;
mod start;

use std::{collections::BTreeSet, fmt, sync::Mutex};

use futures_util::Stream;
use matrix_sdk_crypto::{
    QrVerificationState, Sas, SasState, UserIdentityData, Verification as Method, VerificationRequest,
    VerificationRequestState,
    types::requests::{OutgoingVerificationRequest, RoomMessageRequest},
};
use ruma::{
    OwnedDeviceId, OwnedUserId, RoomId, UserId,
    events::key::verification::{VerificationMethod, cancel::CancelCode},
};

pub use self::stage::Stage;
use self::stage::{method_stage, sas_stage, stage, stages};
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
    #[error("what would be confirmed is not what was shown")]
    NotShown,
    #[error("this event can't be read")]
    Malformed,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What we say that we can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Compare emoji.
    Emoji,
    /// Show a code as well.
    EmojiAndCode,
}

/// One verification. Steps inside a room come back for the caller to send there; steps to a device are sent here.
#[derive(Clone)]
pub struct Verification {
    engine: Engine,
    request: VerificationRequest,
}

/// A comparison that was begun.
#[derive(Clone)]
pub struct Begun(Method);

impl fmt::Debug for Begun {
    /// The library would show the secret of the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

impl Begun {
    /// The master key of whom was compared, in unpadded base64, once it is done; `None` where only a device was. What a
    /// server shows before or after says nothing of it.
    pub fn identity(&self) -> Option<String> {
        let identities = match &self.0 {
            Method::SasV1(sas) => match sas.state() {
                SasState::Done { verified_identities, .. } => verified_identities,
                _ => return None,
            },
            Method::QrV1(code) => match code.state() {
                QrVerificationState::Done { verified_identities, .. } => verified_identities,
                _ => return None,
            },
            _ => return None,
        };
        let key = |identity: &UserIdentityData| identity.other()?.master_key().get_first_key();
        identities.iter().find_map(key).map(|key| key.to_base64())
    }
}

/// Our request to verify a person, to be sent into a room that they are in.
#[derive(Clone, Debug)]
pub struct InRoomStart {
    pub user: OwnedUserId,
    pub ways: Ways,
    pub step: InRoomStep,
}

impl fmt::Debug for Verification {
    /// The library would show the secret of the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification").field("user", &self.user()).finish_non_exhaustive()
    }
}

/// Users a verification event came from: the library lists requests by user only.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<BTreeSet<OwnedUserId>>);

/// From so many users on, those whose requests are gone are forgotten whenever there are twice as many.
const MANY: usize = 64;

impl Watched {
    /// Anybody can send such an event, so whoever has no request `still` is not kept for ever.
    fn note(&self, user: OwnedUserId, still: impl Fn(&UserId) -> bool) {
        let mut users = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if users.insert(user) && users.len() >= MANY && users.len().is_power_of_two() {
            users.retain(|user| still(user));
        }
    }

    fn users(&self) -> BTreeSet<OwnedUserId> {
        self.0.lock().unwrap_or_else(|lock| lock.into_inner()).clone()
    }
}

impl Engine {
    /// Looks for requests of this user from now on.
    pub(super) fn watch(&self, user: OwnedUserId) {
        self.inner.watched.note(user, |user| !self.machine().get_verification_requests(user).is_empty());
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

    /// The device that they ask with, while it is theirs to be answered.
    pub fn asked_from(&self) -> Option<OwnedDeviceId> {
        match self.request.state() {
            VerificationRequestState::Requested { other_device_data, .. } => {
                Some(other_device_data.device_id().to_owned())
            }
            _ => None,
        }
    }

    /// The other side says that it is done, whatever was compared here.
    pub fn is_called_done(&self) -> bool {
        self.request.is_done()
    }

    pub fn we_started(&self) -> bool {
        self.request.we_started()
    }

    /// Where it stands. The library takes it for done as soon as the other side says so; what was begun knows better.
    pub fn stage(&self) -> Stage {
        match (self.request.state(), self.method()) {
            (VerificationRequestState::Done, Some(method)) => method_stage(&method, &self.request),
            (state, _) => stage(&state, &self.request),
        }
    }

    /// The stages from now on, each once, to the final one.
    pub fn stages(&self) -> impl Stream<Item = Stage> + Send + use<> {
        stages(self)
    }

    /// Agrees to a request of theirs.
    pub async fn accept(&self, ways: Ways) -> Result<Vec<InRoomStep>, VerifyError> {
        let step = self.request.accept_with_methods(ways.methods()).ok_or(VerifyError::NotNow)?;
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

    /// A person has compared what was `shown` to them, and all of it matched. The other side, or a server between, can begin
    /// another comparison at any time, whose emoji nobody has seen: it is not confirmed by what was said of this one.
    pub async fn confirm(&self, shown: &Stage) -> Result<Vec<InRoomStep>, VerifyError> {
        let sas = self.sas().filter(Sas::can_be_presented).ok_or(VerifyError::NotNow)?;
        if sas_stage(&sas.state()) != *shown {
            return Err(VerifyError::NotShown);
        }
        let turn = self.engine.turn().await?;
        let (steps, signature) = contained(sas.confirm()).await?.map_err(EngineError::from)?;
        drop(turn);
        let sent = self.carry_out(steps).await?;
        if let Some(signature) = signature {
            let http = self.engine.http();
            super::retrying(Retries::default(), || http.send_any(signature.clone(), Class::Short))
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
        let method = self.method().filter(|method| !method.is_done());
        let of_method = || match method? {
            Method::SasV1(sas) => sas.cancel(),
            Method::QrV1(code) => code.cancel(),
            _ => None,
        };
        // One that is over for the request would cancel what was begun, and tell nobody.
        let step = if self.request.is_done() { of_method() } else { self.request.cancel() };
        self.carry_out(step).await
    }

    /// What was begun, which knows at its end whose identity was compared.
    pub fn begun(&self) -> Option<Begun> {
        self.method().map(Begun)
    }

    /// What was begun, for as long as the library remembers it.
    fn method(&self) -> Option<Method> {
        self.engine.machine().get_verification(self.user(), self.flow())
    }

    fn sas(&self) -> Option<Sas> {
        match self.request.state() {
            VerificationRequestState::Transitioned { verification, .. } => verification.sas_v1().map(|sas| *sas),
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

impl Ways {
    fn methods(self) -> Vec<VerificationMethod> {
        match self {
            Self::Emoji => vec![VerificationMethod::SasV1],
            Self::EmojiAndCode => {
                vec![VerificationMethod::SasV1, VerificationMethod::QrCodeShowV1, VerificationMethod::ReciprocateV1]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_whose_requests_are_gone_are_forgotten_however_many_come() {
        let watched = Watched::default();
        for number in 0..10 * MANY {
            let user = UserId::parse(format!("@u{number}:x")).expect("it is a user");
            watched.note(user, |user| user.as_str() == "@u7:x");
            assert!(watched.users().len() <= MANY && watched.users().len() <= number + 1);
        }
        assert!(watched.users().iter().any(|user| user.as_str() == "@u7:x"));
    }
}
