//! A stretch of wire before a mail server that ends TLS on both sides, and keeps what goes through in clear.

use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::MailServer;

/// One port that leads to another of a mail server, with that server's own certificate.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    whole: watch::Sender<bool>,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    to: u16,
    folder: PathBuf,
    accept: TlsAcceptor,
    connect: TlsConnector,
    connections: AtomicUsize,
    failed: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "to port {}", self.to)
    }
}

impl Wire {
    /// A wire before `port`, which speaks TLS from the first byte. What each connection asked and was answered stands
    /// in two files in `folder`.
    pub async fn before(server: &MailServer, port: u16, folder: &Path) -> Result<Self> {
        let chain: Vec<_> = CertificateDer::pem_file_iter(server.layout.chain())?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(server.layout.key())?;
        let accept = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.layout.authority())?)?;
        let connect = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("Open a port")?;
        let own = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            to: port,
            folder: folder.to_owned(),
            accept: Arc::new(accept).into(),
            connect: Arc::new(connect).into(),
            connections: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        let (whole, cut) = watch::channel(true);
        let carried = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, Arc::clone(&carried), cut.clone()));
            }
        });
        Ok(Self { port: own, whole, shared, listening })
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that it leads to.
    pub fn leads_to(&self) -> u16 {
        self.shared.to
    }

    /// A connection through it, as a mail program makes one.
    pub async fn dial(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port))).await?;
        Ok(self.shared.connect.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// Cuts every connection, and lets no new one through.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// How many connections went through. Fails if something did that is not in a file.
    pub fn captured(&self) -> Result<usize> {
        ensure!(!self.shared.failed.load(Ordering::SeqCst), "Not everything that went over the wire was kept");
        Ok(self.shared.connections.load(Ordering::SeqCst))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn carry(near: TcpStream, shared: Arc<Shared>, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let cut = async {
        // A wire that is gone carries nothing either.
        let _ = whole.wait_for(|whole| !whole).await;
    };
    tokio::select! {
        // A connection that breaks ends, whichever side broke it.
        _ = both_ways(near, &shared) => {}
        () = cut => {}
    }
}

async fn both_ways(near: TcpStream, shared: &Shared) -> Result<()> {
    let far = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], shared.to))).await?;
    let near = shared.accept.accept(near).await?;
    let far = shared.connect.connect(ServerName::try_from("localhost")?, far).await?;
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let kept = |what: &str| {
        let file = File::create(shared.folder.join(format!("{}-{number}-{what}", shared.to)));
        file.inspect_err(|_| shared.failed.store(true, Ordering::SeqCst))
    };
    let (asked, answered) = (kept("asked")?, kept("answered")?);
    let ((near_from, near_to), (far_from, far_to)) = (split(near), split(far));
    tokio::try_join!(one_way(near_from, far_to, asked, shared), one_way(far_from, near_to, answered, shared))?;
    Ok(())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut kept: File,
    shared: &Shared,
) -> Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        if let Err(error) = kept.write_all(&piece[..length]) {
            shared.failed.store(true, Ordering::SeqCst);
            return Err(error.into());
        }
        to.write_all(&piece[..length]).await?;
        to.flush().await?;
    }
}
