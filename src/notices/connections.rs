//! Connections of those who bring notices, however they speak: a bounded number at once, of which nobody has all.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::crowd::{Crowd, Place};
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

    /// Has each of them spoken with by itself, until `stop`, and then until all have ended. Whoever speaks says of a
    /// connection whose it is as soon as that is proven; until then it is its address's.
    pub(super) async fn each<F>(self, stop: &CancellationToken, speak: impl Fn(TcpStream, SocketAddr, Arc<Place>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (crowd, tasks) = (Crowd::new(self.most, self.most), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&crowd) => accepted,
            };
            let (stream, from, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Connections are not accepted.");
                    // Out of file descriptors, most likely: without a pause this would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let spoken = speak(stream, from, Arc::clone(&place));
            tasks.spawn(async move {
                tokio::select! {
                    () = spoken => {}
                    () = place.gives_way() => tracing::debug!("A connection gave way to others."),
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One is accepted when there is room for it, so that all others wait with the system.
    async fn accept(&self, crowd: &Crowd) -> std::io::Result<(TcpStream, SocketAddr, Arc<Place>)> {
        let (stream, from) = self.listener.accept().await?;
        // An answer is one small piece.
        let _ = stream.set_nodelay(true);
        let place = crowd.enter(neighbourhood(from.ip()));
        place.take(1).await;
        Ok((stream, from, Arc::new(place)))
    }
}

/// Who may be one and the same: with IPv6 everybody has as many addresses as they want.
pub(super) fn neighbourhood(at: IpAddr) -> String {
    match at.to_canonical() {
        IpAddr::V4(at) => at.to_string(),
        IpAddr::V6(at) => format!("{:x?}", &at.segments()[..4]),
    }
}
