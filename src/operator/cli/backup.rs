//! `sealbridge backup`: the command writes and reads the file itself, since the running service reaches no other folder
//! than its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sealbridge_contract::{AccountName, Clock};
use serde::Deserialize;

use super::{ask, files, find, load, places, sources};
use crate::{
    backup::{self, Export, JournalCopy, Restoring},
    config::{self, Config, root_key},
    operator::{Action, Failure, FailureKind, Open, Outcome, output::Output},
};

type Found = Result<Option<FailureKind>, Failure>;

/// What the service says that it wrote for a backup.
#[derive(Deserialize)]
struct Written {
    account: AccountName,
    file: PathBuf,
}

pub(super) async fn create(global: &super::Global, (file, key): (&Path, &Path), open: Open, output: Output) -> Found {
    let path = find(global)?;
    let config = Arc::new(load(global)?);
    let text = config::read(&path)?;
    for path in [file, key] {
        refuse_inside(&config, path)?;
    }
    let inner = root_key::load_inner(&config)?;
    let turn = backup::Turn::take(&config)?;
    let (key_file, (key, made_key)) = (key, backup::key_or_new(key)?);
    // The journal first: what an engine knows beyond it is looked at once more, and what it lacked would be lost.
    let journal = JournalCopy::take(&config, &turn, Clock::system().now())?;
    let taken = journal.taken;
    let prepared = ask::ask_for(Arc::clone(&config), Action::PrepareBackup, open, output).await?;
    let exports = prepared.lines.into_iter().map(serde_json::from_value::<Written>).collect::<Result<Vec<_>, _>>();
    let exports = exports.map_err(|_| Failure::other("what the service wrote for the backup is not understood"))?;
    let taken_in = |written: Written| Export::take(&config.service.state, written.account, &written.file);
    let exports: Vec<_> = exports.into_iter().map(taken_in).collect();
    // What can be taken is taken first, so that all of it goes again whatever becomes of the rest.
    let exports = exports.into_iter().collect::<Result<Vec<_>, _>>();
    let exports = exports.map_err(|error| Failure::refused(format!("{error}: no backup is made of it")))?;
    let made = backup::write(&config, &text, &inner, journal, &exports, (file, &key))?;
    let number = key.number();
    let keep = if made_key { "It was made now. " } else { "" };
    let words = format!(
        "Made the backup {}, {}.\nOnly the key in {}, which has the number {number}, opens it. {keep}Keep it apart from \
         the backup, and neither on this machine alone.\n",
        file.display(),
        config::Size(made.bytes),
        key_file.display(),
    );
    let line = serde_json::json!({
        "file": file, "bytes": made.bytes, "taken_at": taken, "waiting_files": made.files,
        "key_file": key_file, "key_number": number, "key_made": made_key,
    });
    output.outcome(&Outcome::new(words, vec![line]));
    Ok(None)
}

/// What lies in the state folder is lost with it.
fn refuse_inside(config: &Config, path: &Path) -> Result<(), Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::usage(error.to_string()))?;
    let folder = path.parent().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    let state = std::path::absolute(&config.service.state).unwrap_or_else(|_| config.service.state.clone());
    let state = state.canonicalize().unwrap_or(state);
    if folder.is_some_and(|folder| folder.starts_with(&state)) {
        let words =
            format!("{} lies in the state folder, and would be lost with it: name another place", path.display());
        return Err(Failure::usage(words));
    }
    Ok(())
}

pub(super) async fn restore(global: &super::Global, (file, key): (&Path, &Path), output: Output) -> Found {
    let key = backup::key(key)?;
    let restoring = Restoring::begin(file, &key)?;
    let path = find(global).unwrap_or_else(|_| places().swap_remove(0));
    let config_file = NewConfig::unless_there(&path, &restoring.config_text)?;
    let config = config::load(&sources(global, path.clone())?)?;
    let done = restoring.into(&config, Clock::system()).await?;
    let made_config = config_file.keep();
    let state = &config.service.state;
    let key_words = match done.root_key.made {
        true => {
            format!("Made the root key: {}. Keep a copy: without it the journal does not open.\n", done.root_key.from)
        }
        false => format!("The root key is the one of {}.\n", done.root_key.from),
    };
    let config_words = if made_config { format!("Wrote {} as it was.\n", path.display()) } else { String::new() };
    // Without these another folder would be set up, that knows nothing of what was restored.
    let named = |flag: &str, path: &Option<PathBuf>| {
        path.as_ref().map_or(String::new(), |path| format!(" --{flag} {}", path.display()))
    };
    let flags = format!("{}{}", named("config", &global.config), named("state", &global.state));
    let words = format!(
        "Restored {} into {}.\n{config_words}{key_words}Now say `sealbridge{flags} init`: it logs every account in as \
         a new device. What was said since the backup was made may have been carried already; it is not carried again by \
         itself, and `sealbridge dead-letters list` shows it.\n",
        file.display(),
        state.display(),
    );
    let line = serde_json::json!({
        "file": file, "state": state, "config": path, "config_made": made_config,
        "taken_at": done.restored.taken, "restored_at": done.restored.at,
        "root_key": done.root_key.from, "root_key_made": done.root_key.made,
        "accounts": config.accounts.keys().collect::<Vec<_>>(),
    });
    output.outcome(&Outcome::new(words, vec![line]));
    Ok(None)
}

pub(super) async fn adopt(config: &Config, output: Output) -> Found {
    let done = backup::adopt(config, root_key::load(config)?, Clock::system()).await?;
    let words = "This state folder is gone on with as with a backup. Now say `sealbridge init`: it logs every account in \
                 as a new device. What the copy does not know of is not carried again by itself, and `sealbridge \
                 dead-letters list` shows it.\n";
    let line = serde_json::json!({
        "state": config.service.state, "restored_at": done.at, "accounts": config.accounts.keys().collect::<Vec<_>>(),
    });
    output.outcome(&Outcome::new(words, vec![line]));
    Ok(None)
}

/// A config file that goes again unless it is kept.
struct NewConfig(Option<PathBuf>);

impl NewConfig {
    fn unless_there(path: &Path, text: &str) -> Result<Self, Failure> {
        if path.exists() {
            return Ok(Self(None));
        }
        files::write_new(path, text)?;
        Ok(Self(Some(path.to_owned())))
    }

    /// Says whether there is one.
    fn keep(mut self) -> bool {
        self.0.take().is_some()
    }
}

impl Drop for NewConfig {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}
