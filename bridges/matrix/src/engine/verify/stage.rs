//! Where a verification stands, as a person would say it.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use matrix_sdk_crypto::{CancelInfo, SasState, Verification as Method, VerificationRequest, VerificationRequestState};

/// Where a verification stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Asked for, by us or them, and not accepted yet.
    Requested,
    /// Both sides agreed to verify; either may start.
    Ready,
    /// The exchange has begun.
    Started,
    /// Show these to the person: seven emoji with their names, or, if the other side has none, three numbers.
    Compare {
        emoji: Vec<(&'static str, &'static str)>,
        decimals: (u16, u16, u16),
    },
    /// We confirmed; the other side has not yet.
    Confirmed,
    Done,
    Cancelled {
        by_us: bool,
        reason: String,
    },
}

impl Stage {
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Cancelled { .. })
    }
}

/// The stages from now on, each once, to the final one.
pub(super) fn stages(request: &VerificationRequest) -> impl Stream<Item = Stage> + Send + use<> {
    let now = request.state();
    let states = stream::once(async { now }).chain(request.changes());
    let stages: Stages = states.flat_map(stages_within).boxed();
    stream::unfold((Some(stages), None), |(stages, last)| async move {
        let mut stages: Stages = stages?;
        loop {
            let stage = stages.next().await?;
            if last.as_ref() != Some(&stage) {
                let rest = (!stage.is_final()).then_some(stages);
                return Some((stage.clone(), (rest, Some(stage))));
            }
        }
    })
}

type Stages = Pin<Box<dyn Stream<Item = Stage> + Send>>;

fn stages_within(state: VerificationRequestState) -> Stages {
    match state {
        VerificationRequestState::Transitioned { verification: Method::SasV1(sas), .. } => {
            let now = sas.state();
            stream::once(async { now }).chain(sas.changes()).map(|state| sas_stage(&state)).boxed()
        }
        state => stream::once(async move { stage(&state) }).boxed(),
    }
}

pub(super) fn stage(state: &VerificationRequestState) -> Stage {
    match state {
        VerificationRequestState::Created { .. } | VerificationRequestState::Requested { .. } => Stage::Requested,
        VerificationRequestState::Ready { .. } => Stage::Ready,
        VerificationRequestState::Transitioned { verification: Method::SasV1(sas), .. } => sas_stage(&sas.state()),
        VerificationRequestState::Transitioned { .. } => Stage::Started,
        VerificationRequestState::Done => Stage::Done,
        VerificationRequestState::Cancelled(info) => cancelled(info),
    }
}

pub(super) fn sas_stage(state: &SasState) -> Stage {
    match state {
        SasState::Created { .. } | SasState::Started { .. } | SasState::Accepted { .. } => Stage::Started,
        SasState::KeysExchanged { emojis, decimals } => Stage::Compare {
            emoji: emojis
                .iter()
                .flat_map(|shown| &shown.emojis)
                .map(|emoji| (emoji.symbol, emoji.description))
                .collect(),
            decimals: *decimals,
        },
        SasState::Confirmed => Stage::Confirmed,
        SasState::Done { .. } => Stage::Done,
        SasState::Cancelled(info) => cancelled(info),
    }
}

fn cancelled(info: &CancelInfo) -> Stage {
    Stage::Cancelled { by_us: info.cancelled_by_us(), reason: info.reason().to_owned() }
}
