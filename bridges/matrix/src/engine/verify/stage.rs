//! Where a verification stands, as a person would say it.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use matrix_sdk_crypto::{
    CancelInfo, QrVerificationState, SasState, Verification as Method, VerificationRequest, VerificationRequestState,
};

use super::Verification;

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
    /// There is a code that the other side may scan. It may begin with emoji as well.
    Code,
    /// The other side gave back what is in the code. Whether that is the person's doing only a person can see.
    Scanned,
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
pub(super) fn stages(verification: &Verification) -> impl Stream<Item = Stage> + Send + use<> {
    let changes = verification.request.changes();
    let now = verification.request.state();
    let states = stream::once(async { now }).chain(changes).boxed();
    let course = Course { verification: verification.clone(), states, method: None };
    stream::unfold((Some(course), None), |(course, last)| async move {
        let mut course: Course = course?;
        loop {
            let stage = course.next().await?;
            if last.as_ref() != Some(&stage) {
                let rest = (!stage.is_final()).then_some(course);
                return Some((stage.clone(), (rest, Some(stage))));
            }
        }
    })
}

type Stages = Pin<Box<dyn Stream<Item = Stage> + Send>>;

/// What is looked at to see how a verification goes on.
struct Course {
    verification: Verification,
    states: Pin<Box<dyn Stream<Item = VerificationRequestState> + Send>>,
    /// The stages of what was begun. The other side may still choose another way.
    method: Option<Stages>,
}

impl Course {
    /// The next stage, or the last one again.
    async fn next(&mut self) -> Option<Stage> {
        loop {
            let of_method = async {
                match &mut self.method {
                    Some(stages) => stages.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                state = self.states.next() => match state? {
                    VerificationRequestState::Transitioned { verification, .. } => {
                        self.method = Some(stages_within(verification, &self.verification.request));
                    }
                    // The library says so as soon as the other side does; the method knows whether it is so here.
                    VerificationRequestState::Done if self.method.is_some() => {}
                    // It may have been begun and called done in one breath.
                    VerificationRequestState::Done => match self.verification.method() {
                        Some(method) => self.method = Some(stages_within(method, &self.verification.request)),
                        None => return Some(Stage::Done),
                    },
                    state => return Some(stage(&state, &self.verification.request)),
                },
                stage = of_method => return stage,
            }
        }
    }
}

/// The stages of a method. It is held, since it is no longer watched once the library has let go of it.
fn stages_within(method: Method, request: &VerificationRequest) -> Stages {
    match method {
        Method::SasV1(sas) => {
            let changes = sas.changes();
            let now = sas.state();
            let states = stream::once(async { now }).chain(changes);
            states
                .map(move |state| {
                    let _held = &sas;
                    sas_stage(&state)
                })
                .boxed()
        }
        Method::QrV1(code) => {
            let changes = code.changes();
            let now = code.state();
            let states = stream::once(async { now }).chain(changes);
            let request = request.clone();
            states
                .map(move |state| {
                    let _held = &code;
                    code_stage(&state, &request)
                })
                .boxed()
        }
        _ => stream::once(async { Stage::Started }).chain(stream::pending()).boxed(),
    }
}

pub(super) fn stage(state: &VerificationRequestState, request: &VerificationRequest) -> Stage {
    match state {
        VerificationRequestState::Created { .. } | VerificationRequestState::Requested { .. } => Stage::Requested,
        VerificationRequestState::Ready { .. } => Stage::Ready,
        VerificationRequestState::Transitioned { verification, .. } => method_stage(verification, request),
        VerificationRequestState::Done => Stage::Done,
        VerificationRequestState::Cancelled(info) => cancelled(info),
    }
}

pub(super) fn method_stage(method: &Method, request: &VerificationRequest) -> Stage {
    match method {
        Method::SasV1(sas) => sas_stage(&sas.state()),
        Method::QrV1(code) => code_stage(&code.state(), request),
        _ => Stage::Started,
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

fn code_stage(state: &QrVerificationState, request: &VerificationRequest) -> Stage {
    match state {
        QrVerificationState::Started => Stage::Code,
        QrVerificationState::Scanned => Stage::Scanned,
        // We scan nothing, so the last one never comes.
        QrVerificationState::Confirmed | QrVerificationState::Reciprocated => Stage::Confirmed,
        QrVerificationState::Done { .. } => Stage::Done,
        QrVerificationState::Cancelled(_) => code_cancelled(request),
    }
}

/// What either side stops, stops the request as well. What the library stops by itself it calls the other side's doing.
fn code_cancelled(request: &VerificationRequest) -> Stage {
    let reason = match request.cancel_info() {
        Some(info) => return cancelled(&info),
        // Both have confirmed, but there is nothing any more that could be signed.
        None if request.is_done() => "the identity that was in the code is another by now",
        None => "what was scanned is not the code that was shown",
    };
    Stage::Cancelled { by_us: true, reason: reason.into() }
}

fn cancelled(info: &CancelInfo) -> Stage {
    Stage::Cancelled { by_us: info.cancelled_by_us(), reason: info.reason().to_owned() }
}
