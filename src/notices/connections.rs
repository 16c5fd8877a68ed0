//! Connections of those who bring notices, however they speak: a bounded number at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::operator::{Failure, FailureKind};

/// An address that is listened at.
#[derive(Debug)]
pub(super) struct Connections {
    listener: TcpListener,
    /// Whoever comes beyond so many waits in the system's queue.
    most: usize,
}

impl Connections {
    /// Binds the address that this key of the config names.
    ///
    /// # Errors
    /// [`FailureKind::Config`]: it is taken, or is none of this machine's.
    pub(super) async fn bind(key: &str, at: SocketAddr, most: usize) -> Result<Self, Failure> {
        let listener = TcpListener::bind(at).await.map_err(|error| {
            Failure::new(FailureKind::Config, format!("`{key}`: {at} can't be listened at: {error}"))
        })?;
        Ok(Self { listener, most })
    }

    /// Has each of them spoken with by itself, until `stop`, and then until all have ended.
    pub(super) async fn each<F>(self, stop: &CancellationToken, speak: impl Fn(TcpStream, SocketAddr) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (room, tasks) = (Arc::new(Semaphore::new(self.most)), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&room) => accepted,
            };
            let (stream, from, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Connections are not accepted.");
                    // Out of file descriptors, most likely: without a pause this would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let spoken = speak(stream, from);
            tasks.spawn(async move {
                let _permit = permit;
                spoken.await;
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, from) = self.listener.accept().await?;
        // An answer is one small piece.
        let _ = stream.set_nodelay(true);
        Ok((stream, from, permit))
    }
}
