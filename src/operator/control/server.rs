//! The service's end of the control socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealbridge_contract::Answer;
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Reply, Request, StepFrame, check_path, read_frame, write_frame};
use crate::operator::{Actor, Failure, FailureKind, Host, Progress, perform};

/// How long a command may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// The control socket, bound. It is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Binds the socket with mode 0600. A socket that a dead service left behind is replaced; one that answers is not.
    ///
    /// # Errors
    /// [`FailureKind::Temporary`] if a service answers there, [`FailureKind::Config`] if the path can't be used.
    pub async fn bind(path: &Path) -> Result<Self, Failure> {
        check_path(path)?;
        clear(path).await?;
        // Bound under another name and moved, so that nobody ever sees it with another mode.
        let hidden = path.with_extension("new");
        check_path(&hidden)?;
        let bind = || {
            if hidden.exists() {
                fs::remove_file(&hidden)?;
            }
            let listener = UnixListener::bind(&hidden)?;
            fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
            fs::rename(&hidden, path)?;
            Ok((listener, fs::symlink_metadata(path)?.ino()))
        };
        let (listener, inode) = bind().map_err(|error: io::Error| unusable(path, &error))?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Performs what commands ask for, until `stop`; then those that are under way are cut off.
    pub async fn serve(&self, host: Arc<dyn Host>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let own = rustix::process::geteuid().as_raw();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "The control socket does not accept.");
                    // Out of file descriptors, most likely: without a pause this would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (host, stop) = (Arc::clone(&host), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = attend(stream, host, own) => {}
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only our own: another service may have replaced it.
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a user may ask for anything: only the one that the service runs as.
#[must_use]
pub fn permits(peer: u32, own: u32) -> bool {
    peer == own
}

async fn attend(mut stream: UnixStream, host: Arc<dyn Host>, own: u32) {
    let peer = stream.peer_cred().map(|credentials| credentials.uid());
    let outcome = match peer {
        Ok(uid) if permits(uid, own) => converse(&mut stream, host, uid).await,
        Ok(uid) => {
            tracing::warn!(uid, "Another user tried the control socket.");
            let words = format!("the service runs as user {own}: run the command as that user, not as {uid}");
            Err(Failure::refused(words))
        }
        Err(_) => Err(Failure::refused("who is at the other end of the control socket can't be seen")),
    };
    let reply = match outcome {
        Ok(Some(outcome)) => Reply::Done(outcome),
        Ok(None) => return,
        Err(failure) => Reply::Failed(failure),
    };
    if let Err(error) = write_frame(&mut stream, reply).await {
        tracing::debug!(%error, "A command went away before it was answered.");
    }
}

async fn converse(
    stream: &mut UnixStream,
    host: Arc<dyn Host>,
    uid: u32,
) -> Result<Option<crate::operator::Outcome>, Failure> {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    let request = tokio::time::timeout(PATIENCE, read_frame(&mut from)).await;
    let action = match request.map_err(|_| Failure::usage("nothing was asked for"))?? {
        Some(Request::Perform(action)) => action,
        Some(Request::Answer(_)) => return Err(Failure::usage("nothing was asked")),
        None => return Ok(None),
    };
    let watched = action.has_steps();
    let mut performance = perform(host, Actor::Local { uid }, action);
    let mut answer = None;
    loop {
        let progress = {
            let next = performance.next(answer.take());
            tokio::pin!(next);
            // Nothing is due from the command now, so an end of its frames is the end of the command. A flow that nobody
            // watches is given up; what is done at once is finished all the same.
            let gone = async {
                if watched { drop(read_frame::<Request>(&mut from).await) } else { std::future::pending().await }
            };
            tokio::select! {
                progress = &mut next => progress?,
                () = gone => return Ok(None),
            }
        };
        let step = match progress {
            Progress::Done(outcome) => return Ok(Some(outcome)),
            Progress::Step(step) => StepFrame::from(step),
        };
        let waits = step.waits();
        let gone = |_| Failure::new(FailureKind::Other, "the command went away");
        write_frame(&mut to, Reply::Step(step)).await.map_err(gone)?;
        if waits {
            answer = match read_frame(&mut from).await? {
                Some(Request::Answer(frame)) => Some(frame.into()),
                Some(Request::Perform(_)) => return Err(Failure::usage("an answer was expected")),
                // Whoever was asked went away, which is no yes: the flow is told, so that the other side is told too.
                None => {
                    let _ = tokio::time::timeout(PATIENCE, performance.next(Some(Answer::No))).await;
                    return Ok(None);
                }
            };
        }
    }
}

async fn clear(path: &Path) -> Result<(), Failure> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(path, &error)),
    };
    if !meta.file_type().is_socket() {
        let words = format!("{} is not a socket; it is not overwritten", path.display());
        return Err(Failure::new(FailureKind::Config, words));
    }
    match UnixStream::connect(path).await {
        Ok(_) => {
            let words = format!("another Sealbridge answers at {}: stop it first", path.display());
            Err(Failure::new(FailureKind::Temporary, words))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| unusable(path, &error))
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("the control socket {} can't be used: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use sealbridge_contract::{Clock, Timestamp};
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::{
        config::Config,
        operator::host::Account,
        store::{JournalError, SharedJournal},
    };

    /// A service that must not be asked anything.
    struct Untouched;

    #[async_trait]
    impl Host for Untouched {
        fn config(&self) -> &Config {
            unreachable!("another user got through")
        }
        fn journal(&self) -> SharedJournal {
            unreachable!("another user got through")
        }
        fn clock(&self) -> &Clock {
            unreachable!("another user got through")
        }
        fn started_at(&self) -> Timestamp {
            unreachable!("another user got through")
        }
        fn accounts(&self) -> Vec<Account> {
            unreachable!("another user got through")
        }
        fn lanes(&self) -> std::collections::BTreeMap<sealbridge_contract::Address, crate::flow::LaneState> {
            unreachable!("another user got through")
        }
        fn trouble(&self) -> Option<String> {
            unreachable!("another user got through")
        }
        async fn export(&self, _: &sealbridge_contract::AccountName) -> Result<Option<PathBuf>, Failure> {
            unreachable!("another user got through")
        }
        async fn links_changed(&self) -> Result<(), JournalError> {
            unreachable!("another user got through")
        }
    }

    #[tokio::test]
    async fn another_user_is_told_whose_service_it_is_and_reaches_nothing() {
        let (ours, mut theirs) = UnixStream::pair().expect("the system gives a pair of sockets");
        let real = rustix::process::geteuid().as_raw();
        attend(ours, Arc::new(Untouched), real + 1).await;
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.expect("it is answered");
        assert!(answer.contains("\"kind\":\"refused\""), "{answer}");
        assert!(answer.contains(&format!("runs as user {}", real + 1)), "{answer}");
    }
}
