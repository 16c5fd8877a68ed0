//! `sealbridge account add`: one more account, asked for step by step, logged in, and only then written into the config.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use sealbridge_contract::{AccountName, Text};
use toml::{Table, Value};

use super::{
    Global,
    answers::Answers,
    files, find, init,
    login::{LogIn, LoggedIn},
    questions::{Described, ask_name},
    sources,
};
use crate::{
    config::{self, Config, edit, root_key},
    operator::{Failure, FailureKind, Open, Outcome, admin, output::Output},
};

/// What was said of the account on the command line.
pub(super) struct Wanted {
    pub(super) name: Option<AccountName>,
    pub(super) network: Option<String>,
    pub(super) answers: Option<PathBuf>,
}

/// An account that is to be added.
struct New {
    name: AccountName,
    section: Table,
    replies: BTreeMap<String, Text>,
}

pub(super) async fn add(
    global: &Global,
    wanted: Wanted,
    open: Open,
    output: Output,
) -> Result<Option<FailureKind>, Failure> {
    let path = find(global)?;
    let sources = sources(global, path.clone())?;
    let before = config::load(&sources)?;
    if !before.journal_exists() {
        return Err(Failure::new(FailureKind::Config, "nothing is set up yet: run `sealbridge init`"));
    }
    let interactive = wanted.answers.is_none();
    let New { name, section, replies } = match &wanted.answers {
        Some(file) => from_file(file, wanted.name.as_ref())?,
        None => ask(&wanted, &before, output)?,
    };
    if before.accounts.contains_key(&name) {
        let words = format!(
            "there is an account `{name}` in {} already; `sealbridge init` logs it in, if it is not",
            path.display()
        );
        return Err(Failure::usage(words));
    }
    let text = config::read(&path)?;
    let text = edit::with_account(&text, &name, &section).map_err(|words| by_hand(&path, &words))?;
    let config = Arc::new(config::load_as(&sources, &text)?);
    init::log_quietly(global, &config)?;
    let service = open(Arc::clone(&config), root_key::load_or_begin(&config)?).await?;
    let done = async {
        let flow = service.setup(&name).await?;
        let left = LogIn { config: &config, output, interactive }.play(&name, flow, replies).await?;
        let text = keep(&path, &config, &name, text, &left)?;
        files::replace(&path, &text)?;
        let told = admin::invite(&*service.journal(), service.clock().now(), &name, &left.invitations).await;
        Ok(told)
    };
    let done: Result<_, Failure> = done.await;
    service.close().await;
    let told = done.map_err(|failure| not_added(failure, &name, &path))?;
    finish(&path, &name, &config, output);
    told.map_err(|error| not_told(error.into(), &name))?;
    Ok(None)
}

/// What the answers file says of one account.
fn from_file(file: &Path, name: Option<&AccountName>) -> Result<New, Failure> {
    let Answers { config, mut replies } = Answers::read(file)?;
    let sections = config.get("accounts").and_then(Value::as_table).into_iter().flatten();
    let mut sections = sections.filter(|(known, _)| name.is_none_or(|name| name.as_str() == *known));
    let (Some((found, Value::Table(section))), None) = (sections.next(), sections.next()) else {
        let words = format!("{} is to have one [accounts.NAME]; name it if there are more", file.display());
        return Err(Failure::usage(words));
    };
    let name = AccountName::parse(found).map_err(|error| Failure::usage(error.to_string()))?;
    let replies = replies.remove(found).unwrap_or_default();
    Ok(New { name, section: section.clone(), replies })
}

fn ask(wanted: &Wanted, config: &Config, output: Output) -> Result<New, Failure> {
    let taken = |name: &str| config.accounts.keys().any(|known| known.as_str() == name);
    let name = match &wanted.name {
        Some(name) => name.as_str().to_owned(),
        None => ask_name(output, "", taken)?,
    };
    let mut described = Described::ask(output, name, wanted.network.as_deref())?;
    described.finish(output, config.admin.as_ref().map(|admin| admin.person.as_str()))?;
    let name = AccountName::parse(&described.name).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(New { name, section: described.section(), replies: BTreeMap::new() })
}

/// Keeps what was typed or made up, and names the files in the config.
fn keep(path: &Path, config: &Config, account: &AccountName, text: String, left: &LoggedIn) -> Result<String, Failure> {
    left.keep(config, account)?.iter().try_fold(text, |text, (key, file)| {
        edit::with_setting(&text, account, key, &file.to_string_lossy()).map_err(|words| by_hand(path, &words))
    })
}

fn by_hand(path: &Path, words: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{} can't be added to: {words}", path.display()))
}

/// Says how to go on after a failure.
fn not_added(mut failure: Failure, account: &AccountName, path: &Path) -> Failure {
    let words = failure.words.trim_end_matches('.');
    failure.words = format!(
        "account {account}: {words}. {} is as it was; `sealbridge account add {account}` tries again, and with --answers it \
         takes every setting that there is",
        path.display()
    );
    failure
}

/// The account is there, and its invitations are not on their way to the admin room.
fn not_told(mut failure: Failure, account: &AccountName) -> Failure {
    let words = failure.words.trim_end_matches('.');
    failure.words = format!(
        "the account {account} was added, and its invitations could not be put down for the admin room: {words}. Once it \
         runs, `sealbridge conversations invite` shows them"
    );
    failure
}

fn finish(path: &Path, account: &AccountName, config: &Config, output: Output) {
    let network = config.accounts.get(account).map(|section| section.network());
    let words = format!(
        "Added the account `{account}` to {}. Start the service to use it:\n  sealbridge run\nWhat it can reach then:\n  \
         sealbridge conversations list --account {account}\n",
        path.display()
    );
    let line = serde_json::json!({
        "step": "done", "words": words, "account": account, "network": network, "config": path,
    });
    output.outcome(&Outcome::new(words, vec![line]));
}
