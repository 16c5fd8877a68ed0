//! What of all sources together the service would not start with: files that can't be read, and secrets that two have.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sealbridge_contract::Timestamp;

use super::{Dialect, SourceName, source::Source};
use crate::{
    config::Config,
    operator::{Failure, FailureKind},
};

/// Looks at what the service reads of its sources when it starts. Says which of their files only somebody else may look at:
/// of these nothing is known.
///
/// # Errors
/// [`FailureKind::Config`]: what the service would not start with.
pub fn look_at(config: &Config) -> Result<Vec<PathBuf>, Failure> {
    let (mut sources, mut unseen) = (BTreeMap::new(), Vec::new());
    for (name, section) in &config.sources {
        let files = section.secret_files.iter().chain(&section.template);
        let before = unseen.len();
        unseen.extend(files.filter(|file| is_somebody_elses(file)).cloned());
        if unseen.len() == before {
            sources.insert(name.clone(), Source::open(name, section, &config.notices, Timestamp(0))?);
        }
    }
    are_told_apart(&sources)?;
    Ok(unseen)
}

/// Whether a file is not for whoever asks. Root can look at it, and does not run the service.
fn is_somebody_elses(file: &Path) -> bool {
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match fs::metadata(file) {
        Ok(meta) if rustix::process::geteuid().is_root() => meta.uid() != 0,
        Ok(meta) => meta.is_file() && File::open(file).is_err_and(|error| is_denied(&error)),
        Err(error) => is_denied(&error),
    }
}

/// Where senders of a dialect have a path built in, at which a source is found by its secret.
const BUILT_IN: &[(Dialect, &str)] = &[
    (Dialect::Hookshot, "/webhook/SECRET"),
    (Dialect::Gotify, "/message"),
    (Dialect::Discord, "/api/webhooks/ID/SECRET"),
    (Dialect::Slack, "/services/SECRET"),
    (Dialect::Ping, "/ping/SECRET"),
    (Dialect::Ntfy, "/TOPIC"),
];

/// The path at which senders of a dialect find a source by its secret, if they have one built in.
#[must_use]
pub fn built_in(dialect: Dialect) -> Option<&'static str> {
    BUILT_IN.iter().find(|(of, _)| *of == dialect).map(|(_, path)| *path)
}

/// Whether each source is found by a secret of its own, where several could be found at one path.
///
/// # Errors
/// [`FailureKind::Config`]: two of them have the same.
pub(super) fn are_told_apart(sources: &BTreeMap<SourceName, Source>) -> Result<(), Failure> {
    for (place, (name, source)) in sources.iter().enumerate() {
        let Some(path) = built_in(source.dialect) else { continue };
        let others = sources.iter().take(place).filter(|(_, other)| other.dialect == source.dialect);
        if let Some((other, _)) = others.into_iter().find(|(_, other)| other.shares_a_secret_with(source)) {
            let words = format!(
                "[sources.{other}] and [sources.{name}] have the same secret, so nobody knows whose a request to {path} is: \
                 give each its own, or let one source speak in several conversations"
            );
            return Err(Failure::new(FailureKind::Config, words));
        }
    }
    Ok(())
}
