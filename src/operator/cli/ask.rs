//! Commands that ask the running service; and what some of them can do when none runs.

use std::sync::Arc;

use super::args::Command;
use crate::{
    config::{Config, root_key},
    operator::{
        Action, Actor, Failure, FailureKind, Open, Outcome, Progress, actions,
        control::{Called, StepFrame, call},
        output::Output,
        perform,
    },
};

type Found = Result<Option<FailureKind>, Failure>;

pub(super) async fn ask(config: Arc<Config>, command: Command, open: Open, output: Output) -> Found {
    let asking = Asking { config, open, output };
    let mut found = None;
    for action in command.actions()? {
        let outcome = asking.perform(action.on(output.screen())).await?;
        output.outcome(&outcome);
        found = found.or(outcome.found);
    }
    Ok(found)
}

/// Asks for one thing that has no steps, and shows nothing.
pub(super) async fn ask_for(
    config: Arc<Config>,
    action: Action,
    open: Open,
    output: Output,
) -> Result<Outcome, Failure> {
    Asking { config, open, output }.perform(action).await
}

struct Asking {
    config: Arc<Config>,
    open: Open,
    output: Output,
}

impl Asking {
    async fn perform(&self, action: Action) -> Result<Outcome, Failure> {
        let output = self.output;
        let render = async move |step: StepFrame| {
            // Reading what a person types blocks; nothing else is to be done in the meantime.
            output.answer(&step)
        };
        match call(&self.config.control_path(), action.clone(), render).await? {
            Called::Done(outcome) => Ok(outcome),
            Called::NotRunning => self.without_service(action).await,
        }
    }

    async fn without_service(&self, action: Action) -> Result<Outcome, Failure> {
        let not_running = "the service is not running: start it with `sealbridge run`";
        match &action {
            Action::Status => {
                let line = serde_json::json!({ "running": false });
                let words = format!("Not running. ({not_running})\n");
                Ok(Outcome { found: Some(FailureKind::Unreachable), ..Outcome::new(words, vec![line]) })
            }
            Action::Doctor => {
                let mut checks = actions::on_disk(&self.config);
                checks.extend(self.journal_alone().await);
                checks.push(actions::service_not_running(not_running));
                Ok(actions::diagnosis(&checks, Some(FailureKind::Unreachable)))
            }
            action if !action.needs_service() => {
                if !self.config.journal_exists() {
                    let words = "nothing is set up yet: run `sealbridge init`";
                    return Err(Failure::new(FailureKind::Config, words));
                }
                self.with_journal_alone(action.clone()).await
            }
            _ => Err(Failure::new(FailureKind::Unreachable, not_running)),
        }
    }

    /// Whether the journal opens, if there is one and its key.
    async fn journal_alone(&self) -> Option<actions::Check> {
        let key = root_key::load(&self.config).ok().filter(|_| self.config.journal_exists())?;
        match (self.open)(Arc::clone(&self.config), key).await {
            Ok(service) => {
                service.close().await;
                None
            }
            Err(failure) => Some(actions::journal_does_not_open(&failure)),
        }
    }

    /// Opens the journal, whose lock keeps any service out meanwhile, and no account.
    async fn with_journal_alone(&self, action: Action) -> Result<Outcome, Failure> {
        let service = (self.open)(Arc::clone(&self.config), root_key::load(&self.config)?).await?;
        let actor = Actor::Local { uid: rustix::process::geteuid().as_raw() };
        let progress = perform(Arc::clone(&service).as_host(), actor, action).next(None).await;
        service.close().await;
        match progress? {
            Progress::Done(outcome) => Ok(outcome),
            Progress::Step(_) => Err(Failure::other("this takes the running service")),
        }
    }
}
