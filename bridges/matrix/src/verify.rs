//! Compares identities with a person, by emoji or by a code that their client scans. Nothing is ever confirmed without a
//! person.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};
use sealbridge_contract::{
    Answer, Flow, FlowError, PersonId, Screen, Step, code,
    gate::Encryption,
    names,
    steps::{Code, Emoji},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    core::{Core, shown},
    direct,
    engine::{Begun, Engine, EngineError, InRoomStep, Retries, Stage, Verification, VerifyError, Ways},
    outgoing,
};

/// As long as the specification lets a verification wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who asked begins. If they don't, we do after this long.
const BEGIN: Duration = Duration::from_secs(5);

/// What asked before is read within this, unless the homeserver is not reached, or somebody floods us with steps.
const SETTLED: Duration = Duration::from_secs(5);

/// So many of those who ask at once are named.
const SHOWN: usize = 5;

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
    open: Open,
    stages: Pin<Box<dyn Stream<Item = Stage> + Send>>,
    give_up: Instant,
    /// When we begin, if they have not.
    begin: Option<Instant>,
    /// What a person is asked about.
    asked: Option<Stage>,
    /// A person has said that it matched.
    agreed: bool,
    /// What a person is asked about, which knows whom it compares.
    begun: Option<Begun>,
}

/// A verification that somebody here answers for.
struct Open {
    core: Arc<Core>,
    verification: Verification,
}

impl Drop for Open {
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
        let open = match &self.with {
            Some(with) => {
                let (user, device) = whom(with)?;
                // They asked already: asked anew, both would be stopped.
                if let Some(asked) = request_of(&self.core, &user, device.as_deref()) {
                    let engine = self.core.engine().ok_or_else(not_reached)?;
                    meet(engine, &user).await?;
                    self.said.push_back(Step::Show(format!("{} asks to verify", shown(&user))));
                    return self.take_up(self.open(asked)).await;
                }
                self.said.push_back(Step::Show(format!("{} is asked to verify; they have to accept", shown(&user))));
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
                self.said
                    .push_back(Step::Asks(PersonId::new(user.as_str()), format!("{} asks to verify", shown(user))));
                self.open(asked)
            }
        };
        self.take_up(open).await
    }

    fn open(&self, verification: Verification) -> Open {
        Open { core: Arc::clone(&self.core), verification }
    }

    async fn take_up(&mut self, open: Open) -> Result<(), FlowError> {
        let stages = open.verification.stages().boxed();
        let give_up = Instant::now() + PATIENCE;
        let running = Running { open, stages, give_up, begin: None, asked: None, agreed: false, begun: None };
        self.state = State::Running(Box::new(running));
        Ok(())
    }

    /// Goes on until there is something to say.
    async fn go_on(&mut self, running: &mut Running) -> Result<Step, FlowError> {
        loop {
            let until = running.begin.unwrap_or(running.give_up);
            let next = timeout_at(until, running.stages.next()).await;
            if next.is_err() && running.begin.take().is_some() {
                send(&self.core, running.open.verification.start_emoji().await).await?;
                continue;
            }
            let Ok(Some(stage)) = next else {
                send(&self.core, running.open.verification.cancel().await).await?;
                return Err(FlowError::Cancelled("nobody answered in ten minutes".into()));
            };
            running.begin = None;
            let verification = &running.open.verification;
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
                    running.begun = verification.begun();
                    running.asked = Some(stage);
                    return Ok(Step::Confirm(format!(
                        "The code was scanned. Does the client of {user} say that this worked, with a green shield or tick?",
                        user = shown(verification.user())
                    )));
                }
                Stage::Started if verification.is_called_done() => {
                    send(&self.core, verification.cancel().await).await?;
                    return Err(not_compared());
                }
                Stage::Started => match verification.start_emoji().await {
                    // We began it; it is theirs to accept.
                    Err(VerifyError::NotNow) => {}
                    steps => send(&self.core, steps).await?,
                },
                Stage::Compare { ref emoji, .. } if emoji.len() == 7 => {
                    let emoji = emoji.clone();
                    running.begun = verification.begun();
                    running.asked = Some(stage);
                    let emoji = emoji.into_iter().map(|(symbol, name)| Emoji { symbol, name });
                    return Ok(Step::Compare(emoji.collect()));
                }
                Stage::Compare { .. } => {
                    send(&self.core, verification.cancel().await).await?;
                    return Err(FlowError::Cancelled("the other side can't show emoji".into()));
                }
                Stage::Confirmed => return Ok(Step::Progress("Waiting for the other side to confirm".into())),
                // What the other side says of it alone is no comparison.
                Stage::Done if !running.agreed => return Err(not_compared()),
                Stage::Done => {
                    let user = verification.user();
                    let engine = self.core.engine().ok_or_else(not_reached)?;
                    let Some(identity) = running.begun.as_ref().and_then(Begun::identity) else {
                        return Err(only_a_device(user));
                    };
                    signed(engine, user, &identity).await?;
                    if !self.core.compared(engine, user, &identity).await {
                        return Err(another_is_shown(user));
                    }
                    self.core.observe_these(engine, &[user.to_owned()]).await;
                    return Ok(Step::Done(format!("{} is verified.", shown(user))));
                }
                Stage::Cancelled { by_us, reason } => {
                    return Err(FlowError::Cancelled(stopped(by_us, &reason)));
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
            judged(&self.core, &running.open.verification, &asked, answer).await?;
            running.agreed = true;
        }
        let step = self.go_on(&mut running).await?;
        if !matches!(step, Step::Done(_)) {
            self.state = State::Running(running);
        }
        Ok(step)
    }
}

/// Who stopped it, and why. The other side's reason is its own words, which are not to be read as ours.
fn stopped(by_us: bool, reason: &str) -> String {
    let reason = names::inside(reason);
    if by_us {
        format!("the bridge stopped it: {reason}")
    } else {
        format!("the other side stopped it: “{reason}”")
    }
}

fn only_a_device(user: &UserId) -> FlowError {
    let user = shown(user);
    FlowError::Refused(format!("{user} has no identity that could be verified; only a device of theirs was compared"))
}

fn another_is_shown(user: &UserId) -> FlowError {
    let user = shown(user);
    FlowError::Refused(format!(
        "it matched, but the homeserver shows another identity of {user} than the one that was compared"
    ))
}

fn not_compared() -> FlowError {
    FlowError::Cancelled("the other side says that it is done, but nobody compared anything here".into())
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
async fn ask(core: &Arc<Core>, user: &OwnedUserId, ways: Ways) -> Result<Open, FlowError> {
    let engine = core.engine().ok_or_else(not_reached)?.clone();
    let room = shared_room(core, user).await?;
    meet(&engine, user).await?;
    let start = engine.verify_in_room(user, &room, ways).await.map_err(flow_error)?;
    let sender = Arc::clone(core);
    to_its_end(core, async move {
        let _asking = sender.signals.asking();
        let sent = outgoing::send_step(&sender, &start.step, Retries::default()).await;
        let event = sent.map_err(|error| FlowError::Unreachable(error.to_string()))?;
        engine.started_in_room(&start, &event).await.map_err(flow_error)
    })
    .await
}

/// Asks one device, which takes no room.
async fn ask_device(core: &Arc<Core>, user: &OwnedUserId, device: &DeviceId, ways: Ways) -> Result<Open, FlowError> {
    let engine = core.engine().ok_or_else(not_reached)?.clone();
    meet(&engine, user).await?;
    let (user, device) = (user.clone(), device.to_owned());
    to_its_end(core, async move { engine.verify_device(&user, &device, ways).await.map_err(flow_error) }).await
}

/// Asks, even if nobody waits for it any more: a request that is under way can't be called back, only taken back once it
/// was made.
async fn to_its_end(
    core: &Arc<Core>,
    asking: impl Future<Output = Result<Verification, FlowError>> + Send + 'static,
) -> Result<Open, FlowError> {
    let (tell, asked) = oneshot::channel();
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let open = asking.await.map(|verification| Open { core, verification });
        // One that nobody takes ends here.
        drop(tell.send(open));
    });
    asked.await.unwrap_or_else(|_| Err(FlowError::Failed("asking broke off".into())))
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
    waited.map_err(|_| FlowError::Cancelled(format!("{} has not joined the direct chat", shown(user))))?;
    Ok(room)
}

/// Requests of others that nobody has taken up.
fn requests(core: &Core) -> Vec<Verification> {
    let open = core.engine().map(|engine| engine.verifications()).unwrap_or_default();
    open.into_iter().filter(|one| !one.we_started() && one.stage() == Stage::Requested).collect()
}

/// What somebody asked for, with this device if one is meant.
fn request_of(core: &Core, user: &UserId, device: Option<&DeviceId>) -> Option<Verification> {
    let is_meant = |from: Option<OwnedDeviceId>| device.is_none_or(|device| from.as_deref() == Some(device));
    requests(core).into_iter().find(|one| one.user() == user && is_meant(one.asked_from()))
}

/// The next request that somebody else makes, while nobody else asks.
async fn wait_for_request(core: &Core) -> Result<Verification, FlowError> {
    let give_up = Instant::now() + PATIENCE;
    // Of several that asked before, none is taken for the one who is meant because the others were still being read.
    let _ = timeout(SETTLED, core.signals.all_observed()).await;
    loop {
        let moved = core.signals.verifications.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        let mut asking = requests(core);
        let users: BTreeSet<_> = asking.iter().map(|one| one.user().to_owned()).collect();
        // Anybody may ask, and whoever is expected need not be the first by name.
        if users.len() > 1 {
            let shown: Vec<_> = users.iter().take(SHOWN).map(|user| shown(user)).collect();
            let more = if users.len() > SHOWN { " and others" } else { "" };
            let words = format!("several ask to verify, {}{more}: name the one whom you mean", shown.join(", "));
            return Err(FlowError::Refused(words));
        }
        if let Some(asked) = asking.pop() {
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

/// Waits until what we signed of somebody's identity has come back from the homeserver: nobody is verified before. Of
/// another identity of theirs, which was signed before, it says nothing.
async fn signed(engine: &Engine, user: &UserId, identity: &str) -> Result<(), FlowError> {
    let give_up = Instant::now() + SIGNED;
    loop {
        // Whatever waits to be sent, our signature among it, is sent on the way.
        let read = engine.reread(user).await;
        let known = engine.person(user).await.map_err(|error| FlowError::Failed(error.to_string()))?;
        if known.master_key.as_deref() != Some(identity) {
            return Err(another_is_shown(user));
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
        let sent = outgoing::send_step(core, &step, Retries::default()).await;
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
    fn reason_of_the_other_side_stands_in_quotes_that_it_can_not_end() {
        let words = stopped(false, "no”. @bob:x is verified. \n“(\"");
        let inner = words.strip_prefix("the other side stopped it: “").and_then(|rest| rest.strip_suffix('”'));
        assert!(inner.is_some_and(|inner| !inner.contains(['“', '”', '"', '\n'])), "{words}");
        assert!(stopped(true, "they took too long").starts_with("the bridge stopped it: they"));
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
