//! A command's end of the control socket.

use std::{io, path::Path};

use tokio::{io::BufReader, net::UnixStream};

use super::{Reply, Request, StepFrame, check_path, permits, read_frame, write_frame};
use crate::operator::{Action, Failure, FailureKind, Outcome};
use sealbridge_contract::Answer;

/// What became of a call.
#[derive(Debug)]
pub enum Called {
    /// The service did it.
    Done(Outcome),
    /// No service runs.
    NotRunning,
}

/// Asks the running service. `render` shows a step, and answers those that wait.
///
/// # Errors
/// [`Failure`]: the service's own, or the socket's.
pub async fn call<F>(path: &Path, action: Action, mut render: F) -> Result<Called, Failure>
where
    F: AsyncFnMut(StepFrame) -> Result<Option<Answer>, Failure>,
{
    check_path(path)?;
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(Called::NotRunning);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let words = format!(
                "{} belongs to another user: run the command as the user that the service runs as",
                path.display()
            );
            return Err(Failure::refused(words));
        }
        Err(error) => return Err(lost(&error)),
    };
    let peer = stream.peer_cred().map_err(|error| lost(&error))?.uid();
    if !permits(peer, rustix::process::geteuid().as_raw()) {
        let words = format!("the service runs as user {peer}: run the command as that user");
        return Err(Failure::refused(words));
    }
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    write_frame(&mut to, Request::Perform(action)).await.map_err(|error| lost(&error))?;
    loop {
        match read_frame(&mut from).await? {
            Some(Reply::Done(outcome)) => return Ok(Called::Done(outcome)),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(Reply::Step(step)) => {
                let waits = step.waits();
                let answer = render(step).await?;
                if waits {
                    let answer = answer.ok_or_else(|| Failure::usage("nobody answered"))?;
                    write_frame(&mut to, Request::Answer(answer.into())).await.map_err(|error| lost(&error))?;
                }
            }
            None => {
                return Err(Failure::new(FailureKind::Unreachable, "the service stopped before it answered"));
            }
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Unreachable, format!("the running service can't be reached: {error}"))
}
