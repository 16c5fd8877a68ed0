//! A stretch of wire before a mail server that can be cut. What goes through it is TLS and is not looked at.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One port that leads to another.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    whole: Arc<watch::Sender<bool>>,
    listening: JoinHandle<()>,
}

impl Relay {
    /// A relay before `port`.
    pub async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("Open a port")?;
        let own = listener.local_addr()?.port();
        let (whole, cut) = watch::channel(true);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, port, cut.clone()));
            }
        });
        Ok(Self { port: own, whole: Arc::new(whole), listening })
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection, and lets no new one through.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, port: u16, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await else { return };
    let cut = async {
        // A relay that is gone carries nothing either.
        let _ = whole.wait_for(|whole| !whole).await;
    };
    tokio::select! {
        // A connection that breaks ends, whichever side broke it.
        _ = copy_bidirectional(&mut near, &mut far) => {}
        () = cut => {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
