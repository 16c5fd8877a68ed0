//! Compares identities with a person, by emoji or by a code that their client scans. Nothing is ever confirmed without a
//! person.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};
use sealbridge_contract::{
    Answer, Flow, FlowError, PersonId, Screen, Step, code,
    gate::Encryption,
    steps::{Code, Emoji},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    core::Core,
    direct,
    engine::{Engine, EngineError, InRoomStep, Stage, Verification, VerifyError, Ways},
    outgoing,
};

/// As long as the specification lets a verification wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who asked begins. If they don't, we do after this long.
const BEGIN: Duration = Duration::from_secs(5);

/// How long the homeserver has to give back what was signed, and how often it is asked.
const SIGNED: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(250);

/// One comparison.
pub(crate) struct Comparison {
    core: Arc<Core>,
    with: Option<String>,
    ways: Ways,
    state: State,
    /// Said before the flow goes on.
    said: VecDeque<Step>,
}

enum State {
    Begin,
    Running(Box<Running>),
    Over,
}

struct Running {
    core: Arc<Core>,
    verification: Verification,
    stages: Pin<Box<dyn Stream<Item = Stage> + Send>>,
    give_up: Instant,
    /// When we begin, if they have not.
    begin: Option<Instant>,
    /// What a person is asked about.
    asked: Option<Stage>,
    /// Who they were when it began: that is what is compared.
    identity: Option<String>,
}

impl Drop for Running {
    /// Whoever compared went away: the other side is told, and what comes of it later verifies nobody.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.verification.stage().is_final() {
            return;
        }
        let (core, verification) = (Arc::clone(&self.core), self.verification.clone());
        runtime.spawn(async move { send(&core, verification.cancel().await).await });
    }
}

impl Comparison {
    pub(crate) fn new(core: Arc<Core>, with: Option<&PersonId>, screen: Screen) -> Self {
        let with = with.map(|person| person.as_str().to_owned());
        let ways = match screen {
            Screen::Words => Ways::Emoji,
            Screen::Scannable => Ways::EmojiAndCode,
        };
        Self { core, with, ways, state: State::Begin, said: VecDeque::new() }
    }

    async fn begin(&mut self) -> Result<(), FlowError> {
        let verification = match &self.with {
            Some(with) => {
                let (user, device) = whom(with)?;
                self.said.push_back(Step::Show(format!("{user} is asked to verify; they have to accept")));
                match device {
                    Some(device) => ask_device(&self.core, &user, &device, self.ways).await?,
                    None => ask(&self.core, &user, self.ways).await?,
                }
            }
            None => {
                let asked = wait_for_request(&self.core).await?;
                let user = asked.user();
                let engine = self.core.engine().ok_or_else(not_reached)?;
                let_go(engine, user).await?;
                self.said.push_back(Step::Asks(PersonId::new(user.as_str()), format!("{user} asks to verify")));
                asked
            }
        };
        let engine = self.core.engine().ok_or_else(not_reached)?;
        let known = engine.person(verification.user()).await.map_err(|error| FlowError::Failed(error.to_string()))?;
        let identity = known.master_key;
        let stages = verification.stages().boxed();
        let give_up = Instant::now() + PATIENCE;
        let core = Arc::clone(&self.core);
        self.state = State::Running(Box::new(Running {
            core,
            verification,
            stages,
            give_up,
            begin: None,
            asked: None,
            identity,
        }));
        Ok(())
    }

    /// Goes on until there is something to say.
    async fn go_on(&mut self, running: &mut Running) -> Result<Step, FlowError> {
        loop {
            let until = running.begin.unwrap_or(running.give_up);
            let next = timeout_at(until, running.stages.next()).await;
            if next.is_err() && running.begin.take().is_some() {
                send(&self.core, running.verification.start_emoji().await).await?;
                continue;
            }
            let Ok(Some(stage)) = next else {
                send(&self.core, running.verification.cancel().await).await?;
                return Err(FlowError::Cancelled("nobody answered in ten minutes".into()));
            };
            running.begin = None;
            let verification = &running.verification;
            match stage {
                Stage::Requested if !verification.we_started() => {
                    send(&self.core, verification.accept(self.ways).await).await?;
                }
                Stage::Ready => match code_for(verification).await? {
                    // Theirs to scan it, or to begin with emoji.
                    Some(code) => return Ok(Step::Code(code)),
                    None if verification.we_started() => send(&self.core, verification.start_emoji().await).await?,
                    None => running.begin = Some(Instant::now() + BEGIN),
                },
                Stage::Code => {}
                Stage::Scanned => {
                    running.asked = Some(stage);
                    return Ok(Step::Confirm(format!(
                        "The code was scanned. Does the client of {user} say that this worked, with a green shield or tick?",
                        user = verification.user()
                    )));
                }
                Stage::Started => match verification.start_emoji().await {
                    // We began it; it is theirs to accept.
                    Err(VerifyError::NotNow) => {}
                    steps => send(&self.core, steps).await?,
                },
                Stage::Compare { ref emoji, .. } if emoji.len() == 7 => {
                    let emoji = emoji.clone();
                    running.asked = Some(stage);
                    let emoji = emoji.into_iter().map(|(symbol, name)| Emoji { symbol, name });
                    return Ok(Step::Compare(emoji.collect()));
                }
                Stage::Compare { .. } => {
                    send(&self.core, verification.cancel().await).await?;
                    return Err(FlowError::Cancelled("the other side can't show emoji".into()));
                }
                Stage::Confirmed => return Ok(Step::Progress("Waiting for the other side to confirm".into())),
                Stage::Done => {
                    let user = verification.user();
                    let engine = self.core.engine().ok_or_else(not_reached)?;
                    signed(engine, user).await?;
                    self.core.compared(engine, user, running.identity.as_deref()).await;
                    self.core.observe_these(engine, &[user.to_owned()]).await;
                    return Ok(Step::Done(format!("{user} is verified.")));
                }
                Stage::Cancelled { by_us, reason } => {
                    let who = if by_us { "the bridge" } else { "the other side" };
                    return Err(FlowError::Cancelled(format!("{who} stopped it: {reason}")));
                }
                Stage::Requested => {}
            }
        }
    }
}

#[async_trait]
impl Flow for Comparison {
    async fn next(&mut self, answer: Option<Answer>) -> Result<Step, FlowError> {
        if matches!(self.state, State::Begin) {
            self.begin().await?;
        }
        if let Some(said) = self.said.pop_front() {
            return Ok(said);
        }
        let State::Running(mut running) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(FlowError::Cancelled("it is over".into()));
        };
        if let Some(asked) = running.asked.take() {
            judged(&self.core, &running.verification, &asked, answer).await?;
        }
        let step = self.go_on(&mut running).await?;
        if !matches!(step, Step::Done(_)) {
            self.state = State::Running(running);
        }
        Ok(step)
    }
}

/// Takes what a person says of emoji or of a scan.
async fn judged(
    core: &Core,
    verification: &Verification,
    asked: &Stage,
    answer: Option<Answer>,
) -> Result<(), FlowError> {
    let steps = match answer {
        Some(Answer::Yes) if *asked == Stage::Scanned => verification.confirm_scan().await,
        Some(Answer::No) if *asked == Stage::Scanned => {
            send(core, verification.cancel().await).await?;
            return Err(FlowError::Cancelled("the other side does not show that it worked: nobody is verified".into()));
        }
        Some(Answer::Yes) => match verification.confirm(asked).await {
            Err(why @ VerifyError::NotShown) => {
                send(core, verification.mismatch().await).await?;
                return Err(FlowError::Cancelled(why.to_string()));
            }
            steps => steps,
        },
        Some(Answer::No) => {
            send(core, verification.mismatch().await).await?;
            return Err(FlowError::Cancelled("the emoji did not match: somebody may be in between".into()));
        }
        _ => return Err(FlowError::BadAnswer("the question wants yes or no".into())),
    };
    send(core, steps).await
}

/// A person, and the device of theirs behind a slash, if only that is meant. No server's name has a slash.
fn whom(with: &str) -> Result<(OwnedUserId, Option<OwnedDeviceId>), FlowError> {
    let server = with.find(':').unwrap_or_default();
    let (user, device) = match with[server..].find('/') {
        Some(slash) => (&with[..server + slash], Some(with[server + slash + 1..].into())),
        None => (with, None),
    };
    let user = UserId::parse(user).map_err(|_| FlowError::BadAnswer("not a Matrix user id".into()))?;
    Ok((user, device))
}

/// Asks in a room that we share, where every client shows it.
async fn ask(core: &Arc<Core>, user: &OwnedUserId, ways: Ways) -> Result<Verification, FlowError> {
    let engine = core.engine().ok_or_else(not_reached)?;
    let room = shared_room(core, user).await?;
    meet(engine, user).await?;
    let start = engine.verify_in_room(user, &room, ways).await.map_err(flow_error)?;
    let step = &start.step;
    let sent = outgoing::send_step(core, &room, &step.event_type, &step.content, &step.txn).await;
    let event = sent.map_err(|error| FlowError::Unreachable(error.to_string()))?;
    engine.started_in_room(&start, &event).await.map_err(flow_error)
}

/// Asks one device, which takes no room.
async fn ask_device(
    core: &Arc<Core>,
    user: &OwnedUserId,
    device: &DeviceId,
    ways: Ways,
) -> Result<Verification, FlowError> {
    let engine = core.engine().ok_or_else(not_reached)?;
    meet(engine, user).await?;
    engine.verify_device(user, device, ways).await.map_err(flow_error)
}

/// Reads who they are now.
async fn meet(engine: &Engine, user: &OwnedUserId) -> Result<(), FlowError> {
    engine.track([user.as_ref()]).await.map_err(|error| FlowError::Failed(error.to_string()))?;
    engine.flush().await;
    let_go(engine, user).await
}

fn not_reached() -> FlowError {
    FlowError::Unreachable("the homeserver was not reached yet".into())
}

/// Takes back that somebody was verified of whom that can't be seen any more: to them the library would send nothing at
/// all. Until it is compared, the pin keeps another identity from reading anything but the steps of that. With the
/// identity that was pinned they are who they were, and the homeserver only lost our signature.
async fn let_go(engine: &Engine, user: &UserId) -> Result<(), FlowError> {
    let failed = |error: EngineError| FlowError::Failed(error.to_string());
    if engine.person(user).await.map_err(failed)?.violation {
        engine.give_up_verification(user).await.map_err(failed)?;
    }
    Ok(())
}

async fn shared_room(core: &Core, user: &OwnedUserId) -> Result<OwnedRoomId, FlowError> {
    let id = direct::open(core, &PersonId::new(user.as_str())).await;
    let id = id.map_err(|error| FlowError::Unreachable(error.to_string()))?;
    let room = OwnedRoomId::try_from(id.as_str()).map_err(|_| FlowError::Failed("not a room".into()))?;
    let joined = core.rooms.wait_for(&room, |facts| {
        (facts.encryption() == Encryption::Pinned && facts.people.joined.contains_key(user)).then_some(())
    });
    let waited = tokio::time::timeout(PATIENCE, joined).await;
    waited.map_err(|_| FlowError::Cancelled(format!("{user} has not joined the direct chat")))?;
    Ok(room)
}

/// The next request that somebody else makes.
async fn wait_for_request(core: &Core) -> Result<Verification, FlowError> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let moved = core.signals.verifications.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        let open = core.engine().map(|engine| engine.verifications()).unwrap_or_default();
        let theirs = |one: &Verification| !one.we_started() && one.stage() == Stage::Requested;
        if let Some(asked) = open.into_iter().find(theirs) {
            return Ok(asked);
        }
        if timeout_at(give_up, moved).await.is_err() {
            return Err(FlowError::Cancelled("nobody asked to verify in ten minutes".into()));
        }
    }
}

/// A code for the other side to scan, if that is possible.
async fn code_for(verification: &Verification) -> Result<Option<Code>, FlowError> {
    let content = verification.show_code().await.map_err(flow_error)?;
    let picture = content.and_then(|content| code::drawn(content.expose()));
    let how = "Have the other side scan this, or begin to compare emoji there.";
    Ok(picture.map(|picture| Code { how, picture }))
}

/// Waits until what we signed of somebody's identity has come back from the homeserver: nobody is verified before.
async fn signed(engine: &Engine, user: &UserId) -> Result<(), FlowError> {
    let give_up = Instant::now() + SIGNED;
    loop {
        // Whatever waits to be sent, our signature among it, is sent on the way.
        let read = engine.reread(user).await;
        let known = engine.person(user).await.map_err(|error| FlowError::Failed(error.to_string()))?;
        if known.master_key.is_none() {
            let words = format!("{user} has no identity that could be verified; only a device of theirs was compared");
            return Err(FlowError::Refused(words));
        }
        if known.verified {
            return Ok(());
        }
        if Instant::now() > give_up {
            let why = read.err().map_or_else(|| "it does not give our signature back".to_owned(), |e| e.to_string());
            return Err(FlowError::Unreachable(format!("it matched, but the homeserver did not take that: {why}")));
        }
        sleep(AGAIN).await;
    }
}

/// Sends steps into their room; those to devices were sent.
async fn send(core: &Core, steps: Result<Vec<InRoomStep>, VerifyError>) -> Result<(), FlowError> {
    for step in steps.map_err(flow_error)? {
        let sent = outgoing::send_step(core, &step.room, &step.event_type, &step.content, &step.txn).await;
        sent.map_err(|error| FlowError::Unreachable(error.to_string()))?;
    }
    Ok(())
}

fn flow_error(error: VerifyError) -> FlowError {
    match error {
        VerifyError::Engine(error) => FlowError::Unreachable(error.to_string()),
        VerifyError::NotNow | VerifyError::NotShown => FlowError::Cancelled("the other side moved on".into()),
        error => FlowError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(with: &str, user: &str, device: Option<&str>) {
        let (found, of) = whom(with).expect("it is somebody");
        assert_eq!((found.as_str(), of.as_ref().map(|device| device.as_str())), (user, device), "{with}");
    }

    #[test]
    fn one_device_of_a_person_can_be_meant() {
        check("@bob:one.example", "@bob:one.example", None);
        check("@bob:one.example:8448/ABC", "@bob:one.example:8448", Some("ABC"));
        check("@a/b:one.example", "@a/b:one.example", None);
        check("@a/b:one.example/C/D", "@a/b:one.example", Some("C/D"));
        for nobody in ["", "bob", "/ABC", "@bob/ABC", "!room:one.example"] {
            assert!(whom(nobody).is_err(), "{nobody}");
        }
    }
}
