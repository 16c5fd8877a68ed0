//! A stretch of wire before a mail server that can be cut. What goes through it is TLS and is not looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One port that leads to another.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    whole: Arc<watch::Sender<bool>>,
    asked: Arc<Asked>,
    listening: JoinHandle<()>,
}

impl Relay {
    /// A relay before `port`.
    pub async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("Open a port")?;
        let own = listener.local_addr()?.port();
        let (whole, cut) = watch::channel(true);
        let asked = Arc::new(Asked { bytes: AtomicU64::new(0), most: watch::channel(u64::MAX).0 });
        let shared = Arc::clone(&asked);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, port, cut.clone(), Arc::clone(&shared)));
            }
        });
        Ok(Self { port: own, whole: Arc::new(whole), asked, listening })
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection, and lets no new one through.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// From now on, once so many more bytes went to the server, none of its answers comes back: it has heard everything
    /// and nobody knows.
    pub fn swallow_answers_after(&self, bytes: u64) {
        self.asked.bytes.store(0, Ordering::SeqCst);
        self.asked.most.send_replace(bytes);
    }

    /// Lets answers through again.
    pub fn answer(&self) {
        self.asked.most.send_replace(u64::MAX);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

/// What went to the server, over all connections, and after how much of it nothing comes back.
#[derive(Debug)]
struct Asked {
    bytes: AtomicU64,
    most: watch::Sender<u64>,
}

impl Asked {
    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return to.shutdown().await;
            }
            // Counted first: its answer may be back before the next line.
            self.bytes.fetch_add(length as u64, Ordering::SeqCst);
            to.write_all(&piece[..length]).await?;
        }
    }

    async fn answer(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut most = self.most.subscribe();
        let mut piece = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return to.shutdown().await;
            }
            // It lives as long as we do.
            let _ = most.wait_for(|most| self.bytes.load(Ordering::SeqCst) <= *most).await;
            to.write_all(&piece[..length]).await?;
        }
    }
}

async fn carry(near: TcpStream, port: u16, mut whole: watch::Receiver<bool>, asked: Arc<Asked>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await else { return };
    let cut = async {
        // A relay that is gone carries nothing either.
        let _ = whole.wait_for(|whole| !whole).await;
    };
    let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
    tokio::select! {
        // A connection that breaks ends, whichever side broke it.
        _ = async { tokio::try_join!(asked.carry(near_from, far_to), asked.answer(far_from, near_to)) } => {}
        () = cut => {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
