//! An endpoint: takes what is posted, over TLS or not, and answers what it is told to.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status, with these further lines of a header.
    Says(u16, String),
    /// It takes it, and says nothing more.
    Nothing,
    /// It takes it, and never comes to an end with its answer.
    WithoutEnd,
}

/// What was posted.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Posted {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

#[derive(Default)]
struct Seen {
    connections: usize,
    posted: Vec<Posted>,
    next: VecDeque<Reply>,
}

/// An endpoint that runs until it is dropped.
pub(crate) struct Receiver {
    pub(crate) at: SocketAddr,
    tls: Option<TlsAcceptor>,
    seen: Arc<Mutex<Seen>>,
    running: Mutex<Option<(DropGuard, TaskTracker)>>,
}

impl Receiver {
    /// At this address, and this port or any.
    pub(crate) async fn start(ip: &str, port: u16, tls: Option<TlsAcceptor>) -> Self {
        let ip: IpAddr = ip.parse().expect("an address");
        let mut receiver = Self { at: (ip, port).into(), tls, seen: Arc::default(), running: Mutex::default() };
        receiver.at = receiver.listen().await;
        receiver
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind(self.at).await.expect("the port is free");
        let at = listener.local_addr().expect("it has an address");
        let stop = CancellationToken::new();
        let (seen, tls, token) = (Arc::clone(&self.seen), self.tls.clone(), stop.clone());
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.lock().expect("nobody panics here").connections += 1;
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                connections.spawn(token.clone().run_until_cancelled_owned(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &seen).await;
                            }
                        }
                        None => serve(stream, &seen).await,
                    }
                }));
            }
        }));
        *self.running.lock().expect("nobody panics here") = Some((stop.drop_guard(), tasks));
        at
    }

    /// Nobody listens any more, and no connection stays, once this returns.
    pub(crate) async fn go_away(&self) {
        let running = self.running.lock().expect("nobody panics here").take();
        let Some((stop, tasks)) = running else { return };
        drop(stop);
        tasks.close();
        tasks.wait().await;
        // Whoever held a connection hears of its end by then, too.
        assert!(TcpStream::connect(self.at).await.is_err(), "somebody listens");
    }

    /// At the same port again.
    pub(crate) async fn come_back(&self) {
        self.listen().await;
    }

    /// Answers the next so.
    pub(crate) fn next(&self, reply: Reply) {
        self.seen.lock().expect("nobody panics here").next.push_back(reply);
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.seen.lock().expect("nobody panics here").posted.clone()
    }

    /// How many have connected, without a word even.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().expect("nobody panics here").connections
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Mutex<Seen>) {
    while let Some(posted) = read(&mut stream).await {
        let reply = {
            let mut seen = seen.lock().expect("nobody panics here");
            let reply = seen.next.pop_front().unwrap_or(Reply::Says(204, String::new()));
            // What is refused is not taken.
            if !matches!(reply, Reply::Says(300.., _)) {
                seen.posted.push(posted);
            }
            reply
        };
        let answered = match reply {
            Reply::Says(status, lines) => {
                let answer = format!("HTTP/1.1 {status} Said\r\n{lines}Content-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await
            }
            Reply::Nothing => return,
            Reply::WithoutEnd => {
                let mut answer = stream.write_all(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                while answer.is_ok() {
                    answer = stream.write_all(&[b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat()).await;
                }
                answer
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Posted> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut posted = Posted { head: String::from_utf8_lossy(&bytes[..end]).into_owned(), body: bytes.split_off(end) };
    let length: usize = posted.header("content-length")?.parse().ok()?;
    while posted.body.len() < length {
        if stream.read_buf(&mut posted.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(posted)
}

/// An authority, and an endpoint's certificate by it for these names.
pub(crate) fn certified(names: &[&str]) -> (String, TlsAcceptor) {
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let own = CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("it signs");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.der().clone()], key);
    (authority.pem(), TlsAcceptor::from(Arc::new(config.expect("a certificate and its key"))))
}
