//! The command line. It parses into actions and renders their steps; it decides nothing.

mod account;
mod answers;
mod args;
mod ask;
mod backup;
mod files;
#[cfg(test)]
mod fuzz;
mod init;
mod local;
mod login;
mod questions;
mod run;
mod send;
mod sources;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{CommandFactory as _, Parser as _};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use sealbridge_contract::Clock;

use super::{Actor, Failure, FailureKind, Open, audit, logging, output::Output};
use crate::{
    config::{self, Config, Flags, Sources, root_key},
    confine::confine,
};
use args::{Arguments, Command, Global};

/// Runs the command that was typed. `open` assembles the service.
pub fn main(open: Open) -> ExitCode {
    logging::tame_panics();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let output = Output::new(arguments.global.json);
    match keep_memory_private().and_then(|()| carry_out(arguments, open, output)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(found)) => ExitCode::from(found.exit_code()),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Keys and messages are in memory, so no copy of it may be written where a disk keeps it, and no other process of the
/// same user may look into it.
fn keep_memory_private() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    limited
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::other(format!("core dumps, which would hold keys, can't be switched off: {error}")))
}

/// Every command, as the parser knows it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

fn usage(error: &clap::Error) -> ExitCode {
    // Help and version are no errors, and go to stdout.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // What was typed is not understood, but that a program reads the answer can be seen all the same.
    if env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json") {
        let words = error.render().to_string();
        let words = words.trim().trim_start_matches("error: ");
        Output::new(true).failure_line(&Failure::usage(words));
    }
    ExitCode::from(FailureKind::Usage.exit_code())
}

/// Carries out a command. Says what was found to be wrong, if to look for it was asked.
fn carry_out(arguments: Arguments, open: Open, output: Output) -> Result<Option<FailureKind>, Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Completions { shell } => local::completions(shell, output),
        Command::Man { folder } => local::man(folder.as_deref(), output),
        Command::Config(args::Config::Schema) => local::schema(output),
        Command::Config(args::Config::Show) => local::show(&load(&global)?, output),
        Command::Config(args::Config::Check) => local::check(&find(&global)?, &load(&global)?, output),
        Command::Key(args::Key::Rotate { to }) => {
            audited(&global, output, "rotate_key", || local::rotate(&load(&global)?, to.as_deref(), output))
        }
        Command::Backup(args::Backup::Create { file, key }) => audited(&global, output, "create_backup", || {
            runtime(None)?.block_on(backup::create(&global, (&file, &key), open, output))
        }),
        Command::Backup(args::Backup::Adopt) => {
            audited(&global, output, "adopt_backup", || runtime(None)?.block_on(backup::adopt(&load(&global)?, output)))
        }
        Command::Backup(args::Backup::Restore { file, key }) => audited(&global, output, "restore_backup", || {
            runtime(None)?.block_on(backup::restore(&global, (&file, &key), output))
        }),
        Command::Init { answers } => audited(&global, output, "init", || {
            runtime(Some(1))?.block_on(init::init(&global, answers.as_deref(), open, output))
        }),
        Command::Account(args::Account::Add { name, network, answers }) => {
            let wanted = account::Wanted { name: name.map(|name| name.0), network, answers };
            audited(&global, output, "add_account", || {
                runtime(Some(1))?.block_on(account::add(&global, wanted, open, output))
            })
        }
        Command::Run => {
            let config = load(&global)?;
            logging::start(config.log)?;
            // Read before the service is confined, so that the key may lie where nothing can be reached afterwards.
            let key = root_key::load_or_begin(&config)?;
            let workers = workers(config.accounts.len());
            confine(&config)?;
            runtime(Some(workers))?.block_on(run::run(Arc::new(config), key, open))
        }
        Command::Sources(sources::Sources::List) => sources::list(&load(&global)?, output),
        Command::Sources(sources::Sources::Add { name, format, to }) => {
            audited(&global, output, "add_source", || sources::add(&global, &name.0, format, to, output))
        }
        Command::Sources(sources::Sources::Rotate { name }) => {
            audited(&global, output, "rotate_source", || sources::rotate(&global, &name.0, output))
        }
        Command::Templates(sources::Templates::Test(test)) => sources::test(&global, &test, output),
        Command::Templates(sources::Templates::Show { format }) => {
            sources::show(format, output);
            Ok(None)
        }
        Command::Send(what) => {
            let config = Arc::new(load(&global)?);
            runtime(Some(1))?.block_on(send::send(config, what, open, output))
        }
        asked => {
            let config = Arc::new(load(&global)?);
            runtime(None)?.block_on(ask::ask(config, asked, open, output))
        }
    }
}

/// What changes something beside the service has its line in the audit, too, once there is a state folder.
fn audited(
    global: &Global,
    output: Output,
    action: &'static str,
    command: impl FnOnce() -> Result<Option<FailureKind>, Failure>,
) -> Result<Option<FailureKind>, Failure> {
    let by = Actor::Local { uid: rustix::process::geteuid().as_raw() };
    let now = || Clock::system().now();
    // Nothing is made where a backup is about to be restored into an empty folder.
    if let Ok(config) = load(global)
        && audit::is_begun(&config.service.state)
    {
        audit::begin_command(&config.service.state, now(), &by, action)?;
    }
    let done = command();
    if let Ok(config) = load(global)
        && config.service.state.is_dir()
    {
        let now = now();
        if let Err(error) = audit::write_command(&config.service.state, now, &by, action, done.as_ref().err()) {
            output.remark(&format!("the audit can't be written: {error}"));
        }
    }
    done
}

/// How many threads carry so many accounts. One carries some hundred messages a second, beside those that write and those
/// that wait for the disk; a further one that is not needed is woken for each message all the same, and that costs as
/// much as a commit.
fn workers(accounts: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    accounts.div_ceil(4).clamp(1, cores)
}

/// With so many threads beside the one that asks; without any, for what is short.
fn runtime(workers: Option<usize>) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match workers {
        Some(workers) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().map_err(|error| Failure::other(format!("the runtime does not start: {error}")))
}

fn load(global: &Global) -> Result<Config, Failure> {
    Ok(config::load(&sources(global, find(global)?)?)?)
}

fn sources(global: &Global, file: PathBuf) -> Result<Sources, Failure> {
    let name = |name: std::ffi::OsString| name.into_string().ok().filter(|name| name.starts_with(config::PREFIX));
    let mut environment = Vec::new();
    for (variable, value) in env::vars_os() {
        let Some(variable) = name(variable) else { continue };
        let value = value
            .into_string()
            .map_err(|_| Failure::new(FailureKind::Config, format!("environment variable {variable}: is not text")))?;
        environment.push((variable, value));
    }
    let state = global.state.as_ref().map(std::path::absolute).transpose();
    let state = state.map_err(|error| Failure::usage(format!("--state: {error}")))?;
    let flags = Flags { state, log_format: global.log_format, verbose: global.verbose };
    Ok(Sources { file, environment, flags })
}

/// The config file: the one that was named, or the first that is there.
fn find(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let places = places();
    places.iter().find(|place| place.exists()).cloned().ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let words = format!(
            "there is no config (looked at {}): run `sealbridge init`, or name one with --config",
            looked.join(", ")
        );
        Failure::new(FailureKind::Config, words)
    })
}

fn places() -> Vec<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let xdg = xdg.map(|folder| folder.join("sealbridge/config.toml"));
    [Some("sealbridge.toml".into()), xdg, Some("/etc/sealbridge/config.toml".into())].into_iter().flatten().collect()
}
