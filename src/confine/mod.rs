//! What the running service may reach of the machine: Landlock, where the kernel has it.
//!
//! It may write in its state folder and make its control socket; it may read what name resolution and TLS need; it may
//! run the engine of an account that has one, which is held to the same. It may not listen for TCP, nor signal a process
//! that is not its own child. Set once, before there is a second thread, and never taken back.

mod programs;

use std::{
    env,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use crate::{
    config::Config,
    operator::{Failure, FailureKind},
};

/// Where what is read lies that no config names: libraries, certificates, names of hosts and of time zones. Folders,
/// since what is in them is replaced by other files while the service runs.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/lib/ca-certificates",
    "/nix/store",
    "/dev",
    "/proc/self",
    "/sys/fs/cgroup",
];

/// Variables that name where certificates of authorities lie.
const CERTIFICATES: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What may be reached.
#[derive(Debug, Default)]
struct Reach {
    /// Folders in which anything may be written.
    writes: Vec<PathBuf>,
    /// Folders in which a socket may be made.
    sockets: Vec<PathBuf>,
    reads: Vec<PathBuf>,
    /// Programs, and folders of programs.
    runs: Vec<PathBuf>,
    /// Ports that are listened at.
    ports: Vec<u16>,
}

/// How much of it is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// All of it.
    Whole,
    /// What a kernel of this age knows: at least what is written, read and run.
    InPart,
    /// Nothing: the kernel has no Landlock, or one in which no file can be moved.
    NotAtAll,
}

/// Confines this thread and all that it starts.
///
/// # Errors
/// [`FailureKind::Config`] if the kernel has Landlock and does not take what is asked of it.
pub fn confine(config: &Config) -> Result<(), Failure> {
    if !config.service.confine {
        tracing::warn!("The service is not confined, as the config says.");
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| {
        let words = format!("the service can't be confined: {error} (`service.confine = false` runs it without)");
        Failure::new(FailureKind::Config, words)
    };
    let state = &config.service.state;
    // What is not there can't be named to the kernel.
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| failed(&error))?;
    match enforce(&reach(config)).map_err(|error| failed(&error))? {
        Level::Whole => tracing::info!(level = "whole", "Confined by Landlock."),
        Level::InPart => tracing::info!(level = "in part", "Confined by Landlock, as far as this kernel has it."),
        Level::NotAtAll => {
            tracing::warn!(level = "not at all", "Not confined: this kernel has no Landlock that serves.")
        }
    }
    Ok(())
}

fn reach(config: &Config) -> Reach {
    let mut reach = Reach { writes: vec![config.service.state.clone()], ..Reach::default() };
    // Whoever throws something away writes there.
    reach.writes.push("/dev/null".into());
    let listens = [config.notices.listen, config.notices.listen_mail, config.health.listen, config.metrics.listen];
    reach.ports.extend(listens.into_iter().flatten().map(|at| at.port()));
    for source in config.sources.values() {
        reach.reads.extend(source.secret_files.iter().chain(&source.template).cloned());
    }
    reach.sockets.extend(config.control_path().parent().map(Path::to_owned));
    reach.reads.extend(SYSTEM.iter().map(PathBuf::from));
    reach.reads.extend(CERTIFICATES.iter().filter_map(env::var_os).map(PathBuf::from));
    for account in config.accounts.values() {
        reach.writes.extend(account.folder().map(Path::to_owned));
        reach.reads.extend(account.files().into_iter().map(Path::to_owned));
        let programs = account.program().into_iter().flat_map(programs::of);
        reach.runs.extend(programs);
    }
    #[cfg(feature = "failpoints")]
    reach.reads.extend(env::var_os("FAILPOINT_CLOCK_FILE").map(PathBuf::from));
    reach
}

fn enforce(reach: &Reach) -> Result<Level, RulesetError> {
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let run = read | AccessFs::Execute;
    let socket = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    let write = read
        | make_bitflags!(AccessFs::{WriteFile | Truncate | RemoveFile | RemoveDir | MakeReg | MakeDir | MakeSock | MakeSym | Refer});
    let newest = ABI::V6;
    // The first Landlock forbids to move a file from one folder to another, and nobody can allow it.
    let moving = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
    let Ok(ruleset) = moving else { return Ok(Level::NotAtAll) };
    let mut rules = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(newest))?
        .create()?;
    for (paths, access) in [(&reach.writes, write), (&reach.sockets, socket), (&reach.reads, read), (&reach.runs, run)]
    {
        for path in paths {
            // What is not there needs no leave.
            let Ok(opened) = PathFd::new(path) else { continue };
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(newest) };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    for port in &reach.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    let RestrictionStatus { ruleset, .. } = rules.restrict_self()?;
    Ok(match ruleset {
        RulesetStatus::FullyEnforced => Level::Whole,
        RulesetStatus::PartiallyEnforced => Level::InPart,
        RulesetStatus::NotEnforced => Level::NotAtAll,
    })
}

#[cfg(test)]
mod tests;
