//! Logging an account in: the flow of its network, played at the terminal or from answers, and what is kept of it.

use std::{collections::BTreeMap, path::PathBuf};

use sealbridge_contract::{AccountName, Answer, Field, Flow, Invitation, Step, Text};

use super::files;
use crate::{
    config::{Config, Known},
    operator::{Failure, control::StepFrame, output::Output},
};

/// Plays login flows.
#[derive(Clone, Copy)]
pub(super) struct LogIn {
    pub(super) output: Output,
    /// Whether somebody is there to be asked.
    pub(super) interactive: bool,
}

/// What a login left to be kept and shown.
#[derive(Default)]
pub(super) struct LoggedIn {
    /// What was typed or made up, by the name of its question.
    secrets: Vec<(&'static str, Text)>,
    /// Invitations to its conversations.
    pub(super) invitations: Vec<Invitation>,
}

impl LogIn {
    /// Plays the flow to its end. `replies` are answers that were given before, by the names of the questions.
    pub(super) async fn play(
        self,
        account: &AccountName,
        mut flow: Box<dyn Flow>,
        mut replies: BTreeMap<String, Text>,
    ) -> Result<LoggedIn, Failure> {
        let (mut left, mut answer) = (LoggedIn::default(), None);
        loop {
            match flow.next(answer.take()).await? {
                Step::Done(words) => {
                    self.output.step(&StepFrame::Show { words: format!("account {account}: {words}") });
                    return Ok(left);
                }
                Step::Ask(field) if !self.interactive => {
                    let reply = replies.remove(field.name);
                    // No password is an answer of its own: the account may have a token instead, or get a new one.
                    let reply = reply.or_else(|| (field.name == "password").then(Text::default));
                    answer = Some(Answer::Text(reply.ok_or_else(|| Failure::usage(missing(account, &field)))?));
                }
                Step::Compare(_) | Step::Confirm(_) if !self.interactive => {
                    return Err(Failure::refused("identities are compared by a person, not by an answers file"));
                }
                Step::Ask(field) => {
                    let (name, secret) = (field.name, field.secret);
                    answer = self.output.answer(&StepFrame::from(Step::Ask(field)))?;
                    if let (true, Some(Answer::Text(typed))) = (secret, &answer)
                        && !typed.is_empty()
                    {
                        left.secrets.push((name, Text::new(typed.as_str())));
                    }
                }
                Step::Invitation(invitation) => {
                    self.output.step(&StepFrame::from(&invitation));
                    left.invitations.push(invitation);
                }
                step => {
                    if let Step::Secret { name: Some(name), value, .. } = &step {
                        left.secrets.push((*name, Text::new(value.as_str())));
                    }
                    answer = self.output.answer(&StepFrame::from(step))?;
                }
            }
        }
    }
}

impl LoggedIn {
    /// Writes each secret, for which the network's settings have a key, into a file that only its owner reads. Gives the
    /// keys, with the files.
    pub(super) fn keep(&self, config: &Config, account: &AccountName) -> Result<Vec<(String, PathBuf)>, Failure> {
        let network = config.accounts.get(account).map(|section| section.network().to_owned());
        let has = |key: &str| {
            let path = ["accounts", account.as_str(), key].map(str::to_owned);
            Known::default().find(&path, &|_| network.clone()).is_ok()
        };
        let folder = config.service.state.join("secrets");
        let mut kept = Vec::new();
        for (name, secret) in &self.secrets {
            let key = format!("{name}_file");
            if has(&key) {
                files::private_folder(&folder)?;
                let file = folder.join(format!("{account}.{name}"));
                files::write_secret(&file, secret)?;
                kept.push((key, file));
            }
        }
        Ok(kept)
    }
}

/// What an answers file lacks, and how it is written there.
fn missing(account: &AccountName, field: &Field) -> String {
    let Field { name, label, secret } = field;
    let how = match secret {
        true => format!("`{name}_file = \"FILE\"`, with a file that only you can read, or `{name}` itself,"),
        false => format!("`{name}`"),
    };
    format!("the answers file has no `{name}`, which is asked: {label}. Write {how} into its [accounts.{account}]")
}
