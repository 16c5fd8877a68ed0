//! What the engine keeps itself, for a backup and out of one.
//!
//! It writes and reads it by its own means, with its database locked under a key that only the journal's key gives. Files
//! that people sent are in there as they lie in its folder anyway, in clear, for as long as the backup is being made.

use std::{
    fmt::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbridge_child::{CallError, Child};
use sealbridge_contract::{
    Context, DeliveryError, Fatal, FlowError, NotAccepted, Timestamp,
    inbox::{AccountStore, StoreWrite},
    transport::StoreKey,
};
use zeroize::Zeroizing;

use crate::{
    config::Settings,
    engine::{self, Engine},
    files::{self, EXPORT},
};

/// Under this name it lies in the account's folder until the account is set up anew.
pub const IMPORT: &str = "import.tar";

/// The engine is to be given what the backup has of it.
const WAITS: &str = "import";
/// When the backup was restored, in milliseconds since the epoch.
const RESTORED: &str = "restored";
/// An engine with years of mail in it takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// What is written into the store of an account that came out of a backup, at that moment. `in_place`: the engine has its
/// folder, and is to be given nothing.
#[must_use]
pub fn restored(at: Timestamp, in_place: bool) -> Vec<StoreWrite> {
    let waits = if in_place { StoreWrite::delete(WAITS) } else { StoreWrite::put(WAITS, b"1".as_slice()) };
    vec![waits, StoreWrite::put(RESTORED, at.0.to_string().into_bytes())]
}

/// The first login of an account: no backup has anything of its engine.
pub(crate) fn first_login(identity: StoreWrite) -> Vec<StoreWrite> {
    vec![identity, StoreWrite::delete(WAITS)]
}

/// Whether the engine is still to be given what the backup has of it.
pub(crate) async fn waits(store: &AccountStore) -> Result<bool, NotAccepted> {
    Ok(store.read(WAITS).await?.is_some())
}

/// When the account came out of a backup, the last time. What the engine had sent since that was made, it does not know.
pub(crate) async fn restored_at(store: &AccountStore) -> Result<Option<Timestamp>, NotAccepted> {
    let Some(kept) = store.read(RESTORED).await? else { return Ok(None) };
    let read = std::str::from_utf8(kept.expose()).ok().and_then(|text| text.parse().ok());
    // What can't be read is no reason to send anything twice.
    Ok(Some(Timestamp(read.unwrap_or(i64::MAX))))
}

/// The words that lock the database in what is exported.
pub(crate) fn passphrase(key: &StoreKey) -> Zeroizing<String> {
    let mut words = Zeroizing::new(String::with_capacity(64));
    for byte in key.expose() {
        let _ = write!(words, "{byte:02x}");
    }
    words
}

/// Exports an account that is not running: its engine is run for that alone, and does not reach for the network.
///
/// # Errors
/// [`DeliveryError`]: nothing was exported.
pub async fn export(context: &Context, settings: &Settings) -> Result<Option<PathBuf>, DeliveryError> {
    let failed = |error: String| DeliveryError::retry(format!("the engine does not export its account: {error}"));
    files::sweep(&context.folder).map_err(|error| failed(error.to_string()))?;
    let program = engine::program(&settings.engine, &context.folder);
    let child = Child::start(&program).map_err(|error| failed(error.to_string()))?;
    let exporting = async {
        let account = Engine::account(&child).await.map_err(|error| failed(error.to_string()))?;
        let account = account.ok_or_else(|| failed("it has none".into()))?;
        let engine = Engine::new(child.clone(), account);
        write(&engine, &context.folder, &passphrase(&context.store_key)).await
    };
    let exported = exporting.await;
    child.stop().await;
    exported.map(Some)
}

/// Has an engine write its account into a folder of its own within the account's.
pub(crate) async fn write(engine: &Engine, account: &Path, passphrase: &str) -> Result<PathBuf, DeliveryError> {
    let folder = account.join(EXPORT);
    let failed = |error: &dyn std::fmt::Display| {
        DeliveryError::retry(format!("the engine does not export its account: {error}"))
    };
    // Of a call whose backup did not come to its end.
    files::sweep_export(account).map_err(|error| failed(&error))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| failed(&error))?;
    engine.export(&folder, passphrase).await.map_err(|error| failed(&error))?;
    let entries = std::fs::read_dir(&folder).map_err(|error| failed(&error))?;
    let written = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut written = written.filter(|path| path.extension().is_some_and(|ending| ending == "tar"));
    written.next().ok_or_else(|| failed(&"it says that it did, and there is no file"))
}

/// Removes what an engine was given of a backup, where a kill kept it from being removed at once.
pub(crate) async fn sweep(store: &AccountStore, account: &Path) -> Result<(), Fatal> {
    let file = account.join(IMPORT);
    if !file.exists() || waits(store).await.map_err(|_| Fatal::Journal)? {
        return Ok(());
    }
    files::erase(&file)
        .map_err(|error| Fatal::Broken(format!("what a backup had of the engine can't be removed: {error}")))
}

/// Gives a new engine what the backup has of it. Whatever an earlier call began is begun anew.
pub(crate) async fn import(child: &Child, context: &Context) -> Result<u32, FlowError> {
    let lost =
        |error: CallError| FlowError::Failed(format!("the engine does not take what the backup has of it: {error}"));
    let file = context.folder.join(IMPORT);
    if !file.exists() {
        let words = "the backup has nothing of this account's engine, and without it people would see another key; \
                     take the account out of the config, or set it up again under another name";
        return Err(FlowError::Policy(words.to_owned()));
    }
    let account = Engine::new_account(child).await.map_err(lost)?;
    let engine = Engine::new(child.clone(), account);
    engine.import(&file, &passphrase(&context.store_key)).await.map_err(lost)?;
    let kept = context.store.write(vec![StoreWrite::delete(WAITS)]).await;
    kept.map_err(|error| FlowError::Failed(error.to_string()))?;
    if let Err(error) = files::erase(&file) {
        tracing::warn!(%error, "What the backup had of the engine is still in the account's folder.");
    }
    Ok(account)
}
