//! An action that is being done, step by step, and its line in the audit.

use std::{fmt, sync::Arc, time::Duration};

use sealbridge_contract::{Answer, Flow, Step};
use serde_json::Value;

use super::{
    Action, Actor, Outcome, audience, backup, conversations, doctor, letters, links, room, send, sources, status,
    transport_of,
};
use crate::operator::{Failure, Host, audit};

/// What is said of an action that panicked.
pub(crate) const BROKE: &str = "it broke; please report this as a bug";

/// Why somebody's own identity is not compared in a conversation.
const OWN_EMOJI: &str = "it is you who asks, and emoji that were shown in this chat would prove nothing to you: run \
                         `sealbridge verify` on the bridge's host, and compare what the terminal shows";

/// What a surface shows next.
#[derive(Debug)]
pub enum Progress {
    /// A step on the way; one that asks or compares waits for an answer.
    Step(Step),
    /// The end.
    Done(Outcome),
}

/// An action being done. It is asked for what comes next until it says [`Progress::Done`] or fails.
pub struct Performance {
    host: Arc<dyn Host>,
    actor: Actor,
    action: Action,
    state: State,
}

enum State {
    Start,
    Flow(Box<dyn Flow>),
    Send(Box<send::Saying>),
    Finished,
}

/// Does what was asked. Nothing happens before the first [`Performance::next`].
#[must_use]
pub fn perform(host: Arc<dyn Host>, actor: Actor, action: Action) -> Performance {
    Performance { host, actor, action, state: State::Start }
}

impl Performance {
    /// The next step. `answer` is what a person said to the step before, if that step waited for one.
    ///
    /// # Errors
    /// [`Failure`]: it was not done, and there is no next step.
    pub async fn next(&mut self, answer: Option<Answer>) -> Result<Progress, Failure> {
        let progress = self.advance(answer).await;
        let ended = !matches!(progress, Ok(Progress::Step(_)));
        if ended {
            if !matches!(self.state, State::Finished) {
                let outcome = progress.as_ref().map(|progress| match progress {
                    Progress::Done(outcome) => outcome.audited.as_ref(),
                    Progress::Step(_) => None,
                });
                note(&*self.host, &self.actor, &self.action, outcome);
            }
            self.state = State::Finished;
        }
        progress
    }

    async fn advance(&mut self, answer: Option<Answer>) -> Result<Progress, Failure> {
        if matches!(self.state, State::Start) && self.action.is_change() {
            let now = self.host.clock().now();
            audit::begin(&self.host.config().service.state, now, &self.actor, &self.action)?;
        }
        if let (State::Start, Action::Verify { account, person, screen }) = (&self.state, &self.action) {
            let transport = transport_of(&*self.host, account)?;
            let flow = transport.common().comparison(person.as_ref(), *screen).ok_or_else(|| {
                let network = transport.common().abilities().network;
                Failure::refused(format!("on {network} there are no identities to compare"))
            })?;
            self.state = State::Flow(flow);
            // Said at once: the flow may wait for minutes before it has a step of its own.
            let words = match person {
                Some(person) => {
                    format!("Asking {} to compare identities; their client shows the request.", person.as_str())
                }
                None => format!("Waiting for somebody to ask the account {account} to compare identities."),
            };
            return Ok(Progress::Step(Step::Progress(words)));
        }
        if let (State::Start, Action::Send(sending)) = (&self.state, &self.action) {
            self.state = State::Send(Box::new(send::Saying::new(Arc::clone(&self.host), sending.clone())));
        }
        match &mut self.state {
            State::Send(saying) => saying.next(answer).await,
            State::Start => {
                // It is done to its end, whether or not whoever asked waits for it.
                let (host, action) = (Arc::clone(&self.host), self.action.clone());
                let actor = self.actor.clone();
                self.state = State::Finished;
                let done = tokio::spawn(async move {
                    let done = do_at_once(&*host, &action).await;
                    if action.is_change() {
                        fail::fail_point!("audit::before-end");
                    }
                    note(&*host, &actor, &action, done.as_ref().map(|outcome| outcome.audited.as_ref()));
                    done
                });
                let broke = |_| {
                    let broke = Failure::other(BROKE);
                    note(&*self.host, &self.actor, &self.action, Err(&broke));
                    Err(broke)
                };
                done.await.unwrap_or_else(broke).map(Progress::Done)
            }
            State::Flow(flow) => match flow.next(answer).await? {
                Step::Done(words) => {
                    let line = serde_json::json!({ "step": "done", "words": words });
                    Ok(Progress::Done(Outcome::new(words, vec![line])))
                }
                Step::Asks(who, words) => {
                    if matches!(&self.actor, Actor::Person { person, .. } if *person == who) {
                        return Err(Failure::refused(OWN_EMOJI));
                    }
                    if let Action::Verify { person, .. } = &mut self.action {
                        *person = Some(who);
                    }
                    Ok(Progress::Step(Step::Show(words)))
                }
                step => Ok(Progress::Step(step)),
            },
            State::Finished => Err(Failure::other("this was finished already")),
        }
    }
}

/// Writes what was changed into the audit, or what was to be.
fn note(host: &dyn Host, actor: &Actor, action: &Action, done: Result<Option<&Value>, &Failure>) {
    if action.is_change() {
        audit::write(&host.config().service.state, host.clock().now(), actor, action, done);
    }
}

impl Drop for Performance {
    fn drop(&mut self) {
        // People may have agreed to something in its steps already.
        if matches!(self.state, State::Flow(_) | State::Send(_)) && self.action.is_change() {
            let state = &self.host.config().service.state;
            audit::write_left(state, self.host.clock().now(), &self.actor, &self.action);
        }
    }
}

impl fmt::Debug for Performance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Performance").field("action", &self.action.name()).finish_non_exhaustive()
    }
}

async fn do_at_once(host: &dyn Host, action: &Action) -> Result<Outcome, Failure> {
    match action {
        Action::Status => status::status(host).await,
        Action::Doctor => doctor::doctor(host).await,
        Action::ListLinks => links::list(host).await,
        Action::AddLink { name, ends } => links::add(host, name, ends).await,
        Action::RemoveLink { name } => links::remove(host, name).await,
        Action::ReplaceEnd { name, old, new } => links::replace(host, name, old, new).await,
        Action::PauseLink { name } => links::pause(host, name).await,
        Action::ResumeLink { name } => links::resume(host, name).await,
        Action::ListAccounts => Ok(status::list_accounts(host)),
        Action::Invite { at } => conversations::invite(host, at).await,
        Action::ListConversations { account } => conversations::list(host, account.as_ref()).await,
        Action::ListDeadLetters => letters::list(&*host.journal()).await,
        Action::ShowDeadLetter { number } => letters::show(&*host.journal(), *number).await,
        Action::RetryDeadLetter { number } => letters::retry(&*host.journal(), *number).await,
        Action::DropDeadLetter { number } => letters::drop_one(&*host.journal(), *number).await,
        Action::RetryDeadLetters => letters::retry_all(&*host.journal()).await,
        Action::DropDeadLetters => letters::drop_all(&*host.journal()).await,
        Action::Audience { of, from } => audience::show(host, of, from.as_ref()).await,
        Action::Approve { of, people, key, from } => {
            audience::approve(host, of, people, key.as_ref(), from.as_ref()).await
        }
        Action::ListTrust => audience::people(host, None).await,
        Action::ShowTrust { person } => audience::people(host, Some(person)).await,
        Action::ForgetTrust { account, person } => audience::forget(host, account, person).await,
        Action::ShowLink { name } => room::show_link(host, name).await,
        Action::Why { at, message, by, brief } => room::why(host, at, message, by.as_ref(), *brief).await,
        Action::RetryHere { at, number } => room::retry_here(host, at, *number).await,
        Action::RetryMessage { at, message } => room::retry_message(host, at, message).await,
        Action::Silence { at, message, for_ms, by } => {
            sources::silence(host, at, message, Duration::from_millis(*for_ms), by.as_str()).await
        }
        Action::Acknowledge { at, message, by } => sources::acknowledge(host, at, message, by.as_str()).await,
        Action::TestSource { name } => sources::test_source(host, name).await,
        Action::PrepareBackup => backup::prepare(host).await,
        Action::Verify { .. } | Action::Send(_) => Err(Failure::other("this takes more than one step")),
    }
}
