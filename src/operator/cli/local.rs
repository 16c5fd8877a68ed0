//! Commands that need no running service: the config, completions, the manual.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use sealbridge_contract::{Rule, adapt::bytes};

use super::args::Arguments;
use crate::{
    config::{self, Config, FixedLink},
    notices,
    operator::{Failure, FailureKind, actions, output::Output},
    store::LinkName,
    transports,
};

type Found = Result<Option<FailureKind>, Failure>;

pub(super) fn completions(shell: Shell, output: Output) -> Found {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sealbridge", &mut script);
    output.bytes(&script);
    Ok(None)
}

pub(super) fn man(folder: Option<&Path>, output: Output) -> Found {
    let failed = |error: std::io::Error| Failure::other(format!("the manual can't be written: {error}"));
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(failed)?;
        clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)?;
        return Ok(None);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(failed)?;
    output.bytes(&page);
    Ok(None)
}

pub(super) fn schema(output: Output) -> Found {
    let schema = serde_json::to_string_pretty(&config::schema()).expect("a schema is texts, numbers and lists");
    output.data(&format!("{schema}\n"));
    Ok(None)
}

pub(super) fn show(config: &Config, output: Output) -> Found {
    output.document(&config::redacted_toml(config), &config::redacted(config));
    Ok(None)
}

/// The config is in order once it is loaded; the files that it names are looked at here.
pub(super) fn check(file: &Path, config: &Config, output: Output) -> Found {
    let made = config::root_key::is_made(config)?;
    let mut words = format!("{} is in order.\n", file.display());
    if made || config.journal_exists() {
        config::root_key::load(config)?;
    } else {
        words.push_str("It is not set up yet: run `sealbridge init`.\n");
    }
    let mut remarks: Vec<_> = config.links.iter().flat_map(|(name, link)| untakable(config, name, link)).collect();
    remarks.extend(notices::look_at(config)?.iter().map(|file| {
        let file = file.display();
        format!("{file} could not be looked at: ask as the user by which the service runs.")
    }));
    for (name, account) in &config.accounts {
        for secret in account.secret_files() {
            let whose = format!("[accounts.{name}]");
            match std::fs::File::open(secret) {
                Ok(_) => config::secrets::refuse_if_others_read(secret, 0o077)
                    .map_err(|failure| failure.while_doing(&whose))?,
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => remarks.push(format!(
                    "{} could not be looked at: ask as the user by which the service runs.",
                    secret.display()
                )),
                Err(error) => {
                    let words = format!("{whose}: {} can't be read: {error}", secret.display());
                    return Err(Failure::new(FailureKind::Config, words));
                }
            }
        }
    }
    for remark in &remarks {
        words.push_str(&format!("{remark}\n"));
    }
    let line = serde_json::json!({
        "config": file,
        "ok": true,
        "remarks": remarks,
        "accounts": config.accounts.len(),
        "links": config.links.len(),
        "set_up": made,
    });
    output.outcome(&actions::Outcome::new(words, vec![line]));
    Ok(None)
}

/// What a link is told to let through, beyond the default, and no end of it takes.
fn untakable(config: &Config, name: &LinkName, link: &FixedLink) -> Vec<String> {
    let networks: Vec<_> = link.ends.iter().filter_map(|end| config.accounts.get(&end.account)).collect();
    let sheets = transports::datasheets();
    let sheets = || sheets.iter().filter(|sheet| networks.iter().any(|account| account.network() == sheet.network));
    let words = sheets().map(|sheet| sheet.most_bytes as u64).max();
    let files = sheets().map(|sheet| sheet.most_file).max();
    let (said, usual) = (link.rule(false), Rule::default());
    let most = [
        ("most_bytes", said.most_bytes as u64, usual.most_bytes as u64, words),
        ("most_file", said.most_file, usual.most_file, files),
    ];
    let beyond = most.into_iter().filter_map(|(key, said, usual, taken)| {
        let taken = taken.filter(|taken| said > usual && said > *taken)?;
        let (said, taken) = (bytes(said), bytes(taken));
        Some(format!("links.{name}: `{key}` is {said}, and no conversation of it surely takes more than {taken}."))
    });
    beyond.collect()
}

pub(super) fn rotate(config: &Config, to: Option<&Path>, output: Output) -> Found {
    let done = config::root_key::rotate(config, to)?;
    let file = &done.holder;
    let words = match &done.before {
        Some(before) => format!(
            "The journal opens with the new root key, {file}, which has the number {}. The old one, number {before}, opens \
             nothing any more. Keep a copy of the new one: without it the journal does not open.\n",
            done.number
        ),
        None => {
            format!("The journal opens with the root key, {file}, already, which has the number {}.\n", done.number)
        }
    };
    let line =
        serde_json::json!({ "file": done.file, "holder": done.holder, "number": done.number, "before": done.before });
    output.outcome(&actions::Outcome::new(words, vec![line]));
    Ok(None)
}
