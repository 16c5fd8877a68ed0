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
pub(super) struct LogIn<'a> {
    pub(super) config: &'a Config,
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

impl LogIn<'_> {
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
                    if let Step::Secret { name, label, value } = &step {
                        left.secrets.extend(name.map(|name| (name, Text::new(value.as_str()))));
                        if !self.output.is_seen() {
                            self.keep(account, label, name.unwrap_or("shown-once"), value)?;
                            continue;
                        }
                    }
                    answer = self.output.answer(&StepFrame::from(step))?;
                }
            }
        }
    }
}

impl LogIn<'_> {
    /// Puts what would be shown into a file, where nobody looks but a program.
    fn keep(self, account: &AccountName, label: &str, name: &str, value: &Text) -> Result<(), Failure> {
        let folder = secrets_of(self.config);
        files::private_folder(&folder)?;
        let file = files::keep_secret(&folder.join(format!("{account}.{name}")), value)?;
        self.output.step(&StepFrame::Kept { label: label.to_owned(), file });
        Ok(())
    }
}

fn secrets_of(config: &Config) -> PathBuf {
    config.service.state.join("secrets")
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
        let folder = secrets_of(config);
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use async_trait::async_trait;
    use sealbridge_contract::FlowError;

    use super::*;
    use crate::config;

    /// Shows a secret, and has done.
    struct Shows(Option<&'static str>);

    #[async_trait]
    impl Flow for Shows {
        async fn next(&mut self, _: Option<Answer>) -> Result<Step, FlowError> {
            Ok(match self.0.take() {
                Some(secret) => Step::Secret { name: None, label: "A key".into(), value: Text::new(secret) },
                None => Step::Done("in order".into()),
            })
        }
    }

    #[tokio::test]
    async fn secret_that_only_a_program_would_see_is_kept_in_a_file_and_over_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("sealbridge.toml");
        let config = config::load_text(
            &file,
            "[service]\nstate = \"state\"\n[accounts.a]\nnetwork = \"loopback\"\nhub = \"h\"\n",
        );
        let config = config.expect("it is a config");
        let account = AccountName::parse("a").expect("it is a name");
        let log_in = LogIn { config: &config, output: Output::new(true), interactive: false };
        let kept = config.service.state.join("secrets");
        for (secret, name, files) in
            [("one", "a.shown-once", 1), ("two", "a.shown-once.2", 2), ("one", "a.shown-once", 2)]
        {
            log_in.play(&account, Box::new(Shows(Some(secret))), BTreeMap::new()).await.expect("it is done");
            let file = kept.join(name);
            assert_eq!(fs::read_to_string(&file).expect("it is there"), format!("{secret}\n"));
            assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(&kept).expect("it is there").count(), files, "{secret}");
        }
        assert!(!Output::new(true).is_seen());
    }
}
